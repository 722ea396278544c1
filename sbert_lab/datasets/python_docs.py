"""Python API search: what a function does, in its author's words, finds the function.

The *query* is the first sentence of a documentation string; the *document* is the
qualified name, the parameters, and the beginning of what the string says after it:

    query     Turns an image by an angle
    document  library.Image.rotate(angle, expand)
              angle: In degrees, against the clock. expand: Whether …

The files of installed libraries (`LIBRARIES`) are parsed, never imported. The split is
by library; a missing library is left out.
"""

import ast
import hashlib
import json
import logging
import platform
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache
from importlib import metadata
from math import ceil
from pathlib import Path

from sbert_lab._utils import write_json
from sbert_lab.datasets.icd10cm import RetrievalTask, drawn_task
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.models.registry import cache_home

log = logging.getLogger(__name__)

#: Of this code: raise it when the same files would give other entries.
VERSION = 1

#: Words of the docstring, after the first sentence, that a document holds.
DETAIL_WORDS = 40

#: A sentence with fewer words says too little, one with more is a paragraph.
QUERY_WORDS = (4, 40)

#: Share of common words from which on two texts count as one (`near_rows`).
NEAR = 0.6

#: For each split, the ones before it: what they hold, it must not hold again.
_BEFORE = {"train": (), "dev": ("train",), "test": ("train", "dev")}


@dataclass(frozen=True)
class Library:
    """A library that is read where it is installed.

    `distribution` is its name on PyPI, `package` what is imported, and `side` its
    split. Of large ones only the subfolders `parts` are read; `internal` modules are
    left out.
    """

    distribution: str
    package: str
    side: str
    parts: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()


_TORCH = tuple(
    "amp autograd cuda distributions fft func jit linalg nn optim profiler signal "
    "sparse special utils/data".split()
)
_SYMPY = tuple(
    "calculus combinatorics core discrete functions geometry matrices ntheory sets "
    "simplify solvers stats vector".split()
)

_TRANSFORMERS = ("data", "generation", "pipelines", "utils")

#: Libraries on one subject stand on one side: pandas and polars describe the same
#: operations in much the same words. Three are read in part, for they are large.
LIBRARIES = (
    Library("numpy", "numpy", "train", (), ("numpy.distutils", "numpy.f2py")),
    Library("scipy", "scipy", "train"),
    Library("pandas", "pandas", "train", (), ("pandas.core",)),
    Library("polars", "polars", "train"),
    Library("torch", "torch", "train", _TORCH),
    Library("transformers", "transformers", "train", _TRANSFORMERS),
    Library("sympy", "sympy", "train", _SYMPY),
    Library("huggingface_hub", "huggingface_hub", "train"),
    Library("tornado", "tornado", "train"),
    Library("fsspec", "fsspec", "train"),
    Library("scikit-learn", "sklearn", "dev"),
    Library("networkx", "networkx", "test"),
    Library("matplotlib", "matplotlib", "test"),
    Library("pillow", "PIL", "test"),
)


@dataclass(frozen=True)
class ApiEntry:
    """One public function, class, method or property, without markup.

    `name` is qualified, as in ``"networkx.shortest_path"``, and unique; `details` are
    the first `DETAIL_WORDS` words after the first sentence.
    """

    name: str
    library: str
    side: str
    signature: str
    sentence: str
    details: str

    @property
    def document(self) -> str:
        """What is searched; the sentence does not stand in it."""
        return f"{self.signature}\n{self.details}" if self.details else self.signature


Pair = tuple[str, ApiEntry]


@cache
def load(libraries: tuple[Library, ...] = LIBRARIES) -> tuple[ApiEntry, ...]:
    """Return all documented entries, library by library, in the order of the names.

    The first call parses the libraries, in about half a minute; the result is kept
    under `cache_home` for the versions at hand. An error says what to type where less
    than half of the libraries of a side are installed.
    """
    found = installed(libraries)
    versions = [metadata.version(each.distribution) for each in found]
    told = [VERSION, platform.python_version(), versions, [asdict(e) for e in found]]
    key = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    kept = cache_home() / "python_docs" / f"{key[:16]}.json"
    try:
        return tuple(ApiEntry(**row) for row in json.loads(kept.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):  # none yet, or damaged
        log.info("reading the docstrings of %d libraries", len(found))
    entries = tuple(entry for library in found for entry in entries_of(library))
    write_json(kept, [asdict(entry) for entry in entries])
    return entries


def installed(libraries: Sequence[Library] = LIBRARIES) -> tuple[Library, ...]:
    """Return those libraries that are installed; an error if they are too few."""
    found = tuple(each for each in libraries if _folder_of(each))
    wanted, here = (Counter(e.side for e in some) for some in (libraries, found))
    if any(2 * here[side] < wanted[side] for side in wanted):
        missing = " ".join(e.distribution for e in libraries if e not in found)
        raise FileNotFoundError(
            f"too few libraries; type: pip install -c constraints.txt {missing}"
        )
    return found


def _folder_of(library: Library) -> Path | None:
    try:
        found = metadata.distribution(library.distribution)
    except metadata.PackageNotFoundError:
        return None
    folder = Path(str(found.locate_file(library.package)))
    return folder if folder.is_dir() else None


def entries_of(library: Library) -> tuple[ApiEntry, ...]:
    """Return the entries of one library that are not deprecated, by name."""
    folder = _folder_of(library)
    if folder is None:
        raise FileNotFoundError(f"{library.distribution} is not installed")
    entries = []
    for name, definition in read_library(folder, library.parts, library.internal):
        sentence, rest = first_sentence(definition.docstring)
        if definition.deprecated or not bare(sentence):
            continue
        given = definition.parameters
        signature = name if given is None else f"{name}({', '.join(given)})"
        details = " ".join(body(rest).split()[:DETAIL_WORDS])
        if _within(sentence, details):
            details = ""  # the sentence again: it would find itself
        where = (library.distribution, library.side)
        entries.append(ApiEntry(name, *where, signature, sentence, details))
    return tuple(entries)


# Pairs and tasks


def split_pairs(split: str, data: Sequence[ApiEntry] | None = None) -> list[Pair]:
    """Return each sentence that can be a query, with its entry, of one split.

    A sentence is no query if it is too short or too long, holds formulas or
    placeholders, says nothing of the function ("See …"), stands for several, differs
    from two others in names only, or gives away a name such as ``read_csv``.

    Left out of dev is what stands in train, and of test what stands in train or dev:
    pairs whose sentence or details share `NEAR` of their words with those of an entry
    there. `data` are entries; the default is all of `load`.
    """
    if split not in _BEFORE:
        raise ValueError(f"split={split!r}: {', '.join(map(repr, _BEFORE))}")
    return list(_pairs_of(split, load() if data is None else tuple(data)))


@lru_cache(maxsize=8)  # it takes seconds, and pairs and task ask for the same
def _pairs_of(split: str, data: tuple[ApiEntry, ...]) -> tuple[Pair, ...]:
    same = Counter(bare(each.sentence) for each in data)
    templates = Counter(_template(each.sentence) for each in data)
    pairs = [
        (each.sentence, each)
        for each in data
        if each.side == split
        and QUERY_WORDS[0] <= len(each.sentence.split()) <= QUERY_WORDS[1]
        and same[bare(each.sentence)] == 1
        and templates[_template(each.sentence)] < 3
        and each.sentence.isascii()
        and not _UNREADABLE.search(each.sentence)
        and not _UNHELPFUL.match(each.sentence)
        and not _names_itself(each)
        and not _within(each.sentence, each.document)
    ]
    seen = [each for each in data if each.side in _BEFORE[split]]
    near = {
        *near_rows([q for q, _ in pairs], [e.sentence for e in seen], NEAR),
        *near_rows([e.details for _, e in pairs], [e.details for e in seen], NEAR),
    }
    return tuple(pair for row, pair in enumerate(pairs) if row not in near)


def training_pairs(
    split: str = "train", data: Sequence[ApiEntry] | None = None
) -> Pairs:
    """Return a split as anchors, the queries, and positives, their documents."""
    pairs = split_pairs(split, data)
    return Pairs(tuple(q for q, _ in pairs), tuple(e.document for _, e in pairs))


def retrieval_task(
    split: str = "test",
    queries: int | None = None,
    documents: int | None = None,
    seed: int = 0,
    data: Sequence[ApiEntry] | None = None,
) -> RetrievalTask:
    """Return the sentences of a split, and the corpus of all entries of its libraries.

    The parameters are those of `split_pairs` and `icd10cm.drawn_task`.
    """
    data = load() if data is None else data
    pairs = [(query, each.name) for query, each in split_pairs(split, data)]
    corpus = [(each.name, each.document) for each in data if each.side == split]
    return drawn_task(pairs, corpus, queries, documents, seed)


#: Words as they are written in code: ``read_csv``, ``DataFrame``, ``log1p``.
_CODE_WORD = re.compile(r"\w*(?:_\w|[a-z][A-Z]|[A-Za-z]\d\w)\w*")
_TEMPLATE_WORD = re.compile(rf"{_CODE_WORD.pattern}|\S*\w\.\w\S*|\b\d+\b")
_UNREADABLE = re.compile(r"[\\{}%$<>|=]|::|https?:|\.\.\s")
_UNHELPFUL = re.compile(
    r"(deprecated|internal|alias|see|todo|fixme|same as|like|refer to|wrapper|"
    r"a wrapper|helper|base class|abstract|mixin|private|not implemented|this is the|"
    r"these are|constructor|initiali[sz]e self|overrid|overload|placeholder|"
    r"call signature|equivalent to|calls)\b",
    re.IGNORECASE,
)


def _template(sentence: str) -> str:
    """Return a sentence with all names and numbers alike."""
    return bare(_TEMPLATE_WORD.sub(" 0 ", sentence))


def _names_itself(entry: ApiEntry) -> bool:
    """Return whether the sentence holds the entry's name, or its class's, as code."""
    parts = entry.name.split(".")[1:]
    own = {part.casefold() for part in parts if _CODE_WORD.fullmatch(part)}
    return not own.isdisjoint(re.findall(r"\w+", entry.sentence.casefold()))


def _within(sentence: str, text: str) -> bool:
    return f" {bare(sentence)} " in f" {bare(text)} "


def bare(text: str) -> str:
    """Return the words of a text: case, punctuation and spacing do not count."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def near_rows(
    texts: Sequence[str], others: Iterable[str], threshold: float
) -> list[int]:
    """Return the rows of `texts` that have nearly the words of one of `others`.

    `threshold` is a share of the words of both (Jaccard's index). Two such texts share
    a word among the rarest of each, so only those are looked up (Chaudhuri et al. 2006,
    section 4).
    """
    rows = [frozenset(bare(text).split()) for text in texts]
    known = list({frozenset(bare(text).split()) for text in others})
    often = Counter(word for words in (*rows, *known) for word in words)

    def rarest(words: frozenset[str]) -> list[str]:
        shared = ceil(threshold * len(words) - 1e-9)  # at least, by any near text
        in_order = sorted(words, key=lambda word: (often[word], word))
        return in_order[: len(words) - shared + 1]

    places = defaultdict(set)
    for number, each in enumerate(known):
        for word in rarest(each):
            places[word].add(number)

    def is_near(words: frozenset[str]) -> bool:
        met = set[int]().union(*(places.get(word, ()) for word in rarest(words)))
        return any(
            len(words & known[n]) >= threshold * len(words | known[n]) - 1e-9
            for n in met
        )

    return [row for row, words in enumerate(rows) if is_near(words)]


# The text of a docstring

_SIGNATURE = re.compile(r"[\w.]+\s*\(.*\)(\s*->.*)?", re.DOTALL)
_FIELD = re.compile(
    r":(?:param|type|returns?|rtype|meta|raises?)\b\s*(?:\w+\s+)?(\w*):"
)
_UNDERLINE = re.compile(r"\s*([-=~^])\1{2,}\s*")
_STOP = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\betc)(?<!\bcf)[.!?](?=\s+\S|$)"
)
_ROLE = re.compile(r"(?::[\w:+-]+:)?`+([^`]+)`+_*")
_LINK = re.compile(r"\[([^\[\]]+)\]\([^()\s]*\)")
_BRACKETS = re.compile(r"\[(`[^`]+`)\]")
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,2})(?=\S)([^*]+?)(?<=\S)\1(?!\w)")

#: What comes after these headings is about something else, or is code.
_LATER = frozenset(
    "example examples note notes reference references raises warns warning warnings "
    "attributes methods yields".split()
) | {"see also"}
_HEADINGS = frozenset(
    ["parameters", "other parameters", "returns", "args", "arguments", "return"]
)


def first_sentence(docstring: str) -> tuple[str, str]:
    """Return the first sentence of a docstring, without markup, and what follows it.

    It is empty if the docstring is, or begins with a heading or a field.
    """
    paragraph, rest = _first_paragraph(docstring)
    if _SIGNATURE.fullmatch(paragraph):
        paragraph, rest = _first_paragraph(rest)
    if paragraph.startswith((":returns", ":return", ":param", ":meta", "..")) or any(
        map(_UNDERLINE.fullmatch, paragraph.splitlines())
    ):
        return "", rest
    text = " ".join(paragraph.split())
    stop = _STOP.search(text)
    if stop is None:
        return unmarked(text).rstrip(".:"), rest
    return unmarked(text[: stop.start()]), f"{text[stop.end() :].strip()}\n\n{rest}"


def _first_paragraph(text: str) -> tuple[str, str]:
    first, *others = re.split(r"\n\s*\n", text.strip(), maxsplit=1)
    return first, others[0] if others else ""


def unmarked(text: str) -> str:
    """Return a text without the marks of reStructuredText and Markdown.

    Of a reference the last part stays: ``:func:`~numpy.linalg.norm` `` is ``norm``.
    """
    text = _LINK.sub(r"\1", _BRACKETS.sub(r"\1", text))
    text = _ROLE.sub(lambda found: _target(found[1]), text)
    return " ".join(_EMPHASIS.sub(r"\2", text).split())


def _target(text: str) -> str:
    title, _, address = text.partition("<")
    if address and title.strip():
        return title.strip()
    return text.split(".")[-1] if text.startswith("~") else text.lstrip("!")


def body(text: str) -> str:
    """Return what a docstring says up to its examples, without headings and code."""
    lines = []
    for line in text.splitlines():
        title = line.strip().rstrip(":").lower()
        if title in _LATER:
            break
        is_code = line.lstrip().startswith((">>>", "...", "..", "```", "~~~"))
        if title in _HEADINGS or _UNDERLINE.fullmatch(line) or is_code:
            continue
        line = _FIELD.sub(lambda found: f"{found[1]}:".lstrip(":"), line)
        lines.append(re.sub(r"^(\s*\*{0,2}\w+)\s+:\s", r"\1: ", line))
    return unmarked(" ".join(lines))


# The public names of a library, read from its files without running them

#: Folders that hold no interface of the library's own.
_SKIPPED = frozenset(
    "test tests testing conftest _vendor vendor vendored externals extern third_party "
    "examples benchmarks".split()
)

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Origin = tuple[str, str]  # the module and the name of a definition


@dataclass(frozen=True)
class Definition:
    """A function, class, method or property, as its file defines it.

    `parameters` are None for a property, and for a class without a constructor.
    """

    docstring: str
    parameters: tuple[str, ...] | None
    deprecated: bool
    bases: tuple[str, ...] = ()
    members: dict[str, "Definition"] = field(default_factory=dict)


@dataclass
class _Module:
    """What a file binds: definitions, ``from`` imports, and its ``__all__``."""

    is_package: bool
    definitions: dict[str, Definition]
    listed: list[str] | None
    imports: dict[str, _Origin] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)


_Modules = dict[str, _Module]


def read_library(
    folder: Path, parts: Sequence[str] = (), internal: Sequence[str] = ()
) -> list[tuple[str, Definition]]:
    """Return what a library offers, by name, in the order of the names.

    Public are the names in ``__all__``, or those without an underscore, under every
    module without one, each once, under its shortest name. Not seen: names that are
    assigned, and what a library makes while it is imported.
    """
    modules = _modules(folder.resolve(), parts)
    names = _public_names(modules, internal)
    found: dict[str, Definition] = {}
    taken: set[tuple[str, str, str]] = set()
    for origin, name in sorted(names.items(), key=lambda item: _place(item[1])):
        found.setdefault(name, modules[origin[0]].definitions[origin[1]])
        # A private base is seen through its public subclass, the first by name.
        for owner in _line(modules, origin, names):
            for member, each in modules[owner[0]].definitions[owner[1]].members.items():
                if not member.startswith("_") and (*owner, member) not in taken:
                    taken.add((*owner, member))
                    found.setdefault(f"{name}.{member}", each)
    return sorted(found.items())


def _place(name: str) -> tuple[int, int, str]:
    return name.count("."), len(name), name


def _line(
    modules: _Modules, origin: _Origin, public: dict[_Origin, str]
) -> list[_Origin]:
    """Return a class and the bases that have no public name of their own."""
    line = [origin]
    for owner in line:
        for base in modules[owner[0]].definitions[owner[1]].bases:
            found = _origin(modules, owner[0], base)
            if found and found not in public and found not in line:
                line.append(found)
    return line


def _public_names(modules: _Modules, internal: Sequence[str]) -> dict[_Origin, str]:
    """Return the shortest public name of each definition that has one."""
    best: dict[_Origin, str] = {}
    for module in modules:
        hidden = any(part.startswith("_") for part in module.split("."))
        if hidden or any(f"{module}.".startswith(f"{each}.") for each in internal):
            continue
        for name in _exported(modules, module):
            origin = _origin(modules, module, name)
            if origin is not None:
                full = f"{module}.{name}"
                best[origin] = min(best.get(origin, full), full, key=_place)
    return best


def _exported(
    modules: _Modules, module: str, seen: frozenset[str] = frozenset()
) -> set[str]:
    """Return a module's public names; what a package imports, it offers."""
    here = modules.get(module)
    if here is None or module in seen:
        return set()
    names = set(here.definitions if here.listed is None else here.listed)
    if here.is_package and here.listed is None:
        names |= set(here.imports)
        for star in here.stars:
            names |= _exported(modules, star, seen | {module})
    return {name for name in names if not name.startswith("_")}


def _origin(
    modules: _Modules, module: str, name: str, seen: frozenset[_Origin] = frozenset()
) -> _Origin | None:
    """Follow imports to the definition of a name; None if it is of another library."""
    here = modules.get(module)
    if here is None or (module, name) in seen:
        return None
    if name in here.definitions:
        return module, name
    sources = [(star, name) for star in here.stars]
    if name in here.imports:
        sources.insert(0, here.imports[name])
    ways = (_origin(modules, *each, seen | {(module, name)}) for each in sources)
    return next((found for found in ways if found is not None), None)


def _modules(folder: Path, parts: Sequence[str]) -> _Modules:
    paths = list(folder.glob("*.py")) if parts else list(folder.rglob("*.py"))
    for part in parts:
        paths += (folder / part).rglob("*.py")
    modules = {}
    for path in sorted(paths):
        inside = path.relative_to(folder)
        if _SKIPPED.isdisjoint((*inside.parts[:-1], inside.stem)):
            name = ".".join((folder.name, *inside.with_suffix("").parts))
            name = name.removesuffix(".__init__")
            if (module := _parsed(path, name)) is not None:
                modules[name] = module
    return modules


def _parsed(path: Path, name: str) -> _Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's escape sequences
        try:
            body_of_file = ast.parse(path.read_bytes()).body
        except (SyntaxError, ValueError):
            log.info("%s is not Python of this version: left out", path)
            return None
    module = _Module(
        path.name == "__init__.py", _definitions(body_of_file), _listed(body_of_file)
    )
    for node in _statements(body_of_file):
        if isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = name.split(".")
                above = above[: len(above) - node.level + module.is_package]
                source = ".".join([*above, source]).rstrip(".")
            for alias in node.names:
                if alias.name == "*":
                    module.stars.append(source)
                else:
                    origin = (source, alias.name)
                    module.imports.setdefault(alias.asname or alias.name, origin)
    return module


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements, also those under ``if``, ``try`` and ``with``."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for block in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, block, ()))
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body)


def _listed(body: Sequence[ast.stmt]) -> list[str] | None:
    """Return ``__all__``; None if there is none, or it must be computed."""
    names: list[str] | None = None
    for node in _statements(body):
        match node:
            case (
                ast.Assign(targets=[ast.Name("__all__")], value=value)
                | ast.AnnAssign(target=ast.Name("__all__"), value=ast.expr() as value)
            ):
                names = []
            case ast.AugAssign(target=ast.Name("__all__"), value=value) | ast.Expr(
                ast.Call(ast.Attribute(ast.Name("__all__"), "extend"), [value])
            ):
                pass
            case ast.Expr(ast.Call(ast.Attribute(ast.Name("__all__")))):
                return None
            case _:
                continue
        try:
            names = [*(names or []), *(str(each) for each in ast.literal_eval(value))]
        except (ValueError, TypeError):
            return None
    return names


def _definitions(
    body: Sequence[ast.stmt], in_class: bool = False
) -> dict[str, Definition]:
    """Return the functions of a block by name, and its classes unless it is one.

    Of several with one name (overloads, setters) the first with a docstring stays.
    """
    found: dict[str, Definition] = {}
    for node in _statements(body):
        if not isinstance(node, _Function | ast.ClassDef):
            continue
        known = found.get(node.name)
        if known is not None and known.docstring:
            continue
        if isinstance(node, _Function):
            found[node.name] = _function(node, in_class)
        elif not in_class:
            found[node.name] = _class(node)
    return found


def _class(node: ast.ClassDef) -> Definition:
    members = _definitions(node.body, in_class=True)
    made = members.get("__init__") or members.get("__new__")
    return Definition(
        ast.get_docstring(node) or "",
        made.parameters if made else None,
        _deprecated(node),
        tuple(base.id for base in node.bases if isinstance(base, ast.Name)),
        members,
    )


def _function(node: _Function, in_class: bool) -> Definition:
    decorators = {_last_name(each) for each in node.decorator_list}
    parameters = None
    if not (in_class and any("property" in name for name in decorators)):
        given = node.args
        bound = in_class and "staticmethod" not in decorators
        named = [each.arg for each in (*given.posonlyargs, *given.args)][bound:]
        named += [f"*{given.vararg.arg}"] if given.vararg else []
        named += [each.arg for each in given.kwonlyargs]
        named += [f"**{given.kwarg.arg}"] if given.kwarg else []
        parameters = tuple(n for n in named if not n.lstrip("*").startswith("_"))
    return Definition(ast.get_docstring(node) or "", parameters, _deprecated(node))


def _deprecated(node: _Function | ast.ClassDef) -> bool:
    decorators = {_last_name(each) for each in node.decorator_list}
    lines = (ast.get_docstring(node) or "").splitlines()
    return not decorators.isdisjoint(("deprecated", "deprecate")) or any(
        line.startswith(".. deprecated::") for line in lines
    )


def _last_name(node: ast.expr) -> str:
    """Return ``"c"`` of a decorator ``@a.b.c(...)``."""
    return ast.unparse(node).partition("(")[0].rpartition(".")[2]
