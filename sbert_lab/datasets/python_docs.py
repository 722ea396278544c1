"""Python API search: what a function does, in its author's words, finds the function.

The *query* is the first sentence of a documentation string; the *document* is the
qualified name, the parameters, and the beginning of what the string says after it:

    query     Turns an image by an angle
    document  library.Image.rotate(angle, expand)
              angle: In degrees, against the clock. expand: Whether …

The files of installed `LIBRARIES` are parsed, never imported.
"""

import ast
import hashlib
import json
import logging
import platform
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np

from sbert_lab._utils import write_json
from sbert_lab.datasets.icd10cm import RetrievalTask, drawn_task
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.models.registry import cache_home

log = logging.getLogger(__name__)

#: Of this code: raise it when the same files would give other entries.
VERSION = 2

#: Words of the docstring, after the first sentence, that a document holds.
DETAIL_WORDS = 40

#: Share of common words from which on two texts count as one (`near_rows`).
NEAR = 0.6
_ROWS_AT_ONCE = 256  # rows compared with all others together


#: Libraries of each split, by their names on PyPI. Those on one subject stand on one
#: side: pandas and polars describe the same operations in much the same words.
SPLITS = {
    "train": "numpy scipy pandas polars torch transformers sympy huggingface_hub "
    "tornado fsspec".split(),
    "dev": ["scikit-learn"],
    "test": ["networkx", "matplotlib", "pillow"],
}
LIBRARIES = tuple(library for split in SPLITS.values() for library in split)

#: What is imported, where it has another name.
_PACKAGES = {"scikit-learn": "sklearn", "pillow": "PIL"}

#: The folders to read of what is very large.
_PARTS = {
    "torch": "amp autograd cuda distributions fft func jit linalg nn optim profiler "
    "signal sparse special utils/data",
    "transformers": "data generation pipelines utils",
    "sympy": "calculus combinatorics core discrete functions geometry matrices ntheory "
    "sets simplify solvers stats vector",
}


@dataclass(frozen=True)
class ApiEntry:
    """One public function, class, method or property, without markup.

    `name` is qualified and unique; `details` are what follows the first sentence.
    """

    name: str
    library: str
    signature: str
    sentence: str
    details: str

    @property
    def document(self) -> str:
        """What is searched; the sentence does not stand in it."""
        return f"{self.signature}\n{self.details}".rstrip()


@cache
def load(libraries: tuple[str, ...] = LIBRARIES) -> tuple[ApiEntry, ...]:
    """Return all documented entries, library by library, in the order of the names.

    The first call parses the libraries, in about half a minute; the result is kept
    under `cache_home` for the versions at hand.
    """
    try:
        versions = [(library, metadata.version(library)) for library in libraries]
    except metadata.PackageNotFoundError as error:
        name = error.name
        raise FileNotFoundError(
            f"{name} is missing; type: pip install -c constraints.txt {name}"
        ) from None
    told = json.dumps([VERSION, platform.python_version(), versions])
    key = hashlib.sha256(told.encode()).hexdigest()
    kept = cache_home() / "python_docs" / f"{key[:16]}.json"
    try:
        return tuple(ApiEntry(**row) for row in json.loads(kept.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):  # none yet, or damaged
        log.info("reading the docstrings of %d libraries", len(libraries))
    entries: list[ApiEntry] = []
    for library in libraries:
        package = _PACKAGES.get(library, library)
        folder = metadata.distribution(library).locate_file(package)
        entries += read_library(library, Path(str(folder)))
    write_json(kept, [asdict(entry) for entry in entries])
    return tuple(entries)


# Pairs and tasks


@lru_cache(maxsize=8)  # it takes seconds, and pairs and task ask for the same
def split_pairs(split: str, data: tuple[ApiEntry, ...]) -> tuple[ApiEntry, ...]:
    """Return the entries of one split whose sentence can be a query.

    A sentence is no query if it is too short or too long, holds formulas or
    placeholders, says nothing of the function ("See …"), stands for several, differs
    from two others in names only, or gives away a name such as ``read_csv``.

    Left out is what stands in a split before it: entries whose sentence or details
    share `NEAR` of their words with those of an entry there.
    """
    same = Counter(bare(each.sentence) for each in data)
    alike = [bare(_NAME_OR_NUMBER.sub(" 0 ", each.sentence)) for each in data]
    times = Counter(alike)
    chosen = [
        each
        for each, template in zip(data, alike, strict=True)
        if each.library in SPLITS[split]
        and 4 <= len(each.sentence.split()) <= 40
        and same[bare(each.sentence)] == 1
        and times[template] < 3
        and each.sentence.isascii()
        and not _UNREADABLE.search(each.sentence)
        and not _UNHELPFUL.match(each.sentence)
        and not _names_itself(each)
        and not _within(each.sentence, each.document)
    ]
    before = LIBRARIES[: LIBRARIES.index(SPLITS[split][0])]
    seen = [each for each in data if each.library in before]
    near = {
        *near_rows([e.sentence for e in chosen], [e.sentence for e in seen], NEAR),
        *near_rows([e.details for e in chosen], [e.details for e in seen], NEAR),
    }
    return tuple(each for row, each in enumerate(chosen) if row not in near)


def training_pairs(split: str, data: tuple[ApiEntry, ...]) -> Pairs:
    """Return a split as anchors, the queries, and positives, their documents."""
    chosen = split_pairs(split, data)
    return Pairs(tuple(e.sentence for e in chosen), tuple(e.document for e in chosen))


def retrieval_task(
    split: str,
    data: tuple[ApiEntry, ...],
    queries: int | None = None,
    documents: int | None = None,
) -> RetrievalTask:
    """Return the queries of a split, and the corpus of all entries of its libraries.

    `queries` and `documents` are how many to draw, as in `icd10cm.drawn_task`.
    """
    pairs = [(each.sentence, each.name) for each in split_pairs(split, data)]
    corpus = [(e.name, e.document) for e in data if e.library in SPLITS[split]]
    return drawn_task(pairs, corpus, queries, documents)


#: Words as they are written in code: ``read_csv``, ``DataFrame``, ``log1p``.
_CODE_WORD = re.compile(r"\w*(?:_\w|[a-z][A-Z]|[A-Za-z]\d\w)\w*")
_NAME_OR_NUMBER = re.compile(rf"{_CODE_WORD.pattern}|\S*\w\.\w\S*|\b\d+\b")
_UNREADABLE = re.compile(r"[\\{}%$<>|=]|::|https?:|\.\.\s|---")
_UNHELPFUL = re.compile(
    r"(deprecated|internal|alias|see|todo|fixme|same as|like|refer to|wrapper|"
    r"a wrapper|helper|base class|abstract|mixin|private|not implemented|this is the|"
    r"these are|constructor|initiali[sz]e self|overrid|overload|placeholder|"
    r"call signature|equivalent to|calls|\W|parameters|returns:)\b",
    re.IGNORECASE,
)


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

    `threshold` is a share of the words of both (Jaccard's index).
    """
    from sklearn.preprocessing import MultiLabelBinarizer

    words = [frozenset(bare(text).split()) for text in (*texts, *others)]
    table = MultiLabelBinarizer(sparse_output=True).fit_transform(words)
    sizes, known = np.array([len(own) for own in words]), table[len(texts) :].T
    found: set[int] = set()
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        end = min(start + _ROWS_AT_ONCE, len(texts))
        shared = (table[start:end] @ known).tocoo()
        row, other = start + shared.row, len(texts) + shared.col
        union = sizes[row] + sizes[other] - shared.data
        found |= {*row[shared.data >= threshold * union - 1e-9].tolist()}
    return sorted(found)


# The text of a docstring

_SIGNATURE = re.compile(r"\A[\w.]+\s*\((.|\n(?!\s*\n))*?\)(\s*->.*)?\s*(\n\s*\n|\Z)")
_STOP = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\betc)(?<!\bcf)[.!?](?=\s)|\n\s*\n|[.:]?$"
)
#: What comes after these is about something else, or is code.
_LATER = re.compile(
    r"^ *(?:>>>|```|(?:Examples?|Notes?|References?|Raises|Warns|Warnings?|See Also|"
    r"Attributes|Methods|Yields)\s*:?\s*$)",
    re.IGNORECASE | re.MULTILINE,
)
#: Headings with the lines under them, and directives.
_FURNITURE = re.compile(
    r"^ *(?:(?:Other )?Parameters|Arg(?:ument)?s|Returns?|[-=~^]{3,}|\.\. .*):?\s*$",
    re.MULTILINE,
)
#: Marks of reStructuredText and Markdown, and what stays: the last part of a reference.
_MARKS = (
    (re.compile(r":(?:param|type|returns?|rtype|raises?)(?: [\w ]*?(\w+:)|:)"), r"\1"),
    (re.compile(r"\[(`[^`]+`|[^\[\]`]+(?=\]\())\](?:\([^()\s]*\))?"), r"\1"),
    (
        re.compile(r"(?::[\w:+-]+:)?`+(?:~[\w.]*\.)?!?([^`<]+?)\s*(?:<[^`]*>)?`+_*"),
        r"\1",
    ),
    (re.compile(r"(?<!\w)(\*{1,2})(?=\S)([^*]+?)(?<=\S)\1(?!\w)"), r"\2"),
)


def sentence_and_details(docstring: str) -> tuple[str, str]:
    """Return the first sentence, and the beginning of what follows, without markup."""
    text = _SIGNATURE.sub("", docstring.strip(), count=1)
    stop = _STOP.search(text)
    assert stop, "the end of the text is one"
    rest = _LATER.split(text[stop.end() :][:2000], maxsplit=1)[0]
    details = _unmarked(_FURNITURE.sub("", rest)).split()[:DETAIL_WORDS]
    return _unmarked(text[: stop.start()]).rstrip(":"), " ".join(details)


def _unmarked(text: str) -> str:
    for mark, kept in _MARKS:
        text = mark.sub(kept, text)
    return " ".join(text.split())


# The public names of a library, read from its files without running them

#: Folders and files that hold no interface of the library's own.
_SKIPPED = frozenset(
    "test tests testing conftest _vendor vendor vendored externals extern third_party "
    "examples benchmarks distutils f2py _lib testing_utils".split()
)

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def read_library(library: str, folder: Path) -> list[ApiEntry]:
    """Return the documented entries of an installed library that are not deprecated.

    Private parts of a module's path are ``core`` and those with an underscore in front.
    What has none itself is public if its path has no private part, or if an ``__all__``
    or a public package's ``from`` import names it; ``numpy._core.numeric.ones`` is then
    called ``numpy.numeric.ones``. A method belongs to the class that defines it.
    """
    exported: set[str] = set()
    entries: list[tuple[bool, str, ApiEntry]] = []
    for path, body in _files(library, folder):
        exported |= set(_exported(path, body))
        parts = path.relative_to(folder.parent).with_suffix("").parts
        place = [p for p in parts if not p.startswith("_") and p != "core"]
        private = len(place) + (parts[-1] == "__init__") < len(parts)
        for names, node in _definitions(body):
            if entry := _entry(library, ".".join((*place, *names)), node):
                entries.append((private, names[0], entry))
    found: dict[str, ApiEntry] = {}
    for private, name, entry in entries:
        if not private or name in exported:
            found.setdefault(entry.name, entry)
    return [found[name] for name in sorted(found)]


def _files(library: str, folder: Path) -> Iterator[tuple[Path, list[ast.stmt]]]:
    """Yield the library's files with what stands in each."""
    paths = set(folder.glob("*.py"))
    for part in _PARTS.get(library, ".").split():
        paths |= set((folder / part).rglob("*.py"))
    for path in sorted(paths):
        inside = path.relative_to(folder).with_suffix("")
        if _SKIPPED.isdisjoint(inside.parts):
            with warnings.catch_warnings(action="ignore"):  # of others' escapes
                try:
                    yield path, list(_statements(ast.parse(path.read_bytes()).body))
                except (SyntaxError, ValueError):
                    log.info("%s is not Python of this version: left out", path)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements, also those under ``if``, ``try`` and ``with``."""
    for node in body:
        if isinstance(node, ast.If | ast.Try | ast.With):
            yield from _statements(node.body)
        else:
            yield node


def _exported(path: Path, body: Iterable[ast.stmt]) -> Iterator[str]:
    """Yield the names that an ``__all__`` lists, or a package imports."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and path.name == "__init__.py":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AugAssign):
            parts = list(ast.walk(node))
            if any(isinstance(p, ast.Name) and p.id == "__all__" for p in parts):
                yield from (str(p.value) for p in parts if isinstance(p, ast.Constant))


def _definitions(
    body: Iterable[ast.stmt], outer: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], _Definition]]:
    """Yield functions and classes with their names, the class of a method before it."""
    for node in _statements(body):
        if isinstance(node, _Definition) and not node.name.startswith("_"):
            yield (*outer, node.name), node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, (*outer, node.name))


def _entry(library: str, name: str, node: _Definition) -> ApiEntry | None:
    """Return an entry; None if nothing is documented, or it is deprecated."""
    docstring = ast.get_docstring(node) or ""
    decorators = " ".join(map(ast.unparse, node.decorator_list))
    sentence, details = sentence_and_details(docstring)
    old = re.search(r"\bdeprecated?\b", decorators) or "\n.. deprecated::" in docstring
    if old or not bare(sentence):
        return None
    made: ast.FunctionDef | ast.AsyncFunctionDef | None
    if isinstance(node, ast.ClassDef):
        methods = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
        made = methods.get("__init__") or methods.get("__new__")
    else:
        made = node
    signature = name
    if made and "property" not in decorators:
        parts = ast.iter_child_nodes(made.args)
        given = [part.arg for part in parts if isinstance(part, ast.arg)]
        named = [n for n in given if n not in ("self", "cls") and n[0] != "_"]
        signature += f"({', '.join(named)})"
    if _within(sentence, details):
        details = ""  # the sentence again: it would find itself
    return ApiEntry(name, library, signature, sentence, details)
