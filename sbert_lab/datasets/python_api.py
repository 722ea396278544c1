"""Python API search: what a function does, in its author's words, finds the function.

The second domain, to show that what works on medical codes was not tuned to them. The
*query* is the first sentence of a documentation string; the *document* is the qualified
name, the parameters, and the beginning of what the string says after that sentence:

    query     Turns an image by an angle
    document  library.Image.rotate(angle, expand)
              angle: In degrees, against the clock. expand: Whether …

All is read from the files of libraries that stand in constraints.txt; none is imported
(`docstrings.read_library`), and nothing of their texts is kept in this repository. The
split is by library: no library stands on both sides.
Train: numpy, scipy, pandas, torch, transformers, sympy, huggingface_hub, tornado,
fsspec, and scikit-learn, which is also dev. Test: networkx, matplotlib, polars, pillow.
All have permissive licences, which `LIBRARIES` names.

What numpy and torch have in C is not here. The libraries are widely used: a model that
was pretrained on code or on the web may have read them, test side included.
"""

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np

from sbert_lab.catalogue import cache_home
from sbert_lab.datasets import docstring_text, docstrings
from sbert_lab.datasets.docstring_text import (
    CODE_WORD,
    bare,
    body,
    first_sentence,
    says_something,
    template,
)
from sbert_lab.datasets.docstrings import Documented, Kind, read_library
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.files import sha256_file, write_json

log = logging.getLogger(__name__)

Side = Literal["train", "dev", "test"]

#: Words of the docstring, after the first sentence, that a document holds.
DETAIL_WORDS = 40

#: A sentence with fewer words says too little, one with more is a paragraph.
QUERY_WORDS = (4, 40)


@dataclass(frozen=True)
class Library:
    """An installed library that is read.

    Parameters
    ----------
    distribution, package
        Its name on PyPI, and what is imported.
    side
        ``"train"``, ``"test"``, or ``"dev"``: the part of train kept for choices.
    licence
        Of the texts, as SPDX names it where it does.
    parts
        Subfolders that are read; empty reads all.
    internal
        Modules without underscore that are not meant for users.
    """

    distribution: str
    package: str
    side: Side
    licence: str
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

#: Torch, transformers and sympy are read in part, for they are large.
LIBRARIES = (
    Library("numpy", "numpy", "train", "BSD-3-Clause"),
    Library("scipy", "scipy", "train", "BSD-3-Clause"),
    Library("pandas", "pandas", "train", "BSD-3-Clause", (), ("pandas.core",)),
    Library("torch", "torch", "train", "BSD-3-Clause", _TORCH),
    Library("transformers", "transformers", "train", "Apache-2.0", _TRANSFORMERS),
    Library("sympy", "sympy", "train", "BSD-3-Clause", _SYMPY),
    Library("huggingface_hub", "huggingface_hub", "train", "Apache-2.0"),
    Library("tornado", "tornado", "train", "Apache-2.0"),
    Library("fsspec", "fsspec", "train", "BSD-3-Clause"),
    Library("scikit-learn", "sklearn", "dev", "BSD-3-Clause"),
    Library("networkx", "networkx", "test", "BSD-3-Clause"),
    Library("matplotlib", "matplotlib", "test", "PSF-based"),
    Library("polars", "polars", "test", "MIT"),
    Library("pillow", "PIL", "test", "MIT-CMU"),
)

_SIDES: dict[str, tuple[Side, ...]] = {
    "train": ("train", "dev"),
    "dev": ("dev",),
    "test": ("test",),
}


@dataclass(frozen=True)
class ApiEntry:
    """One public function, class, method or property.

    Parameters
    ----------
    name
        Qualified: ``"networkx.shortest_path"``. Unique.
    library
        The distribution it is of.
    kind
        ``"function"``, ``"class"``, ``"method"`` or ``"property"``.
    signature
        The name, with the names of the parameters in parentheses.
    sentence
        The first sentence of the documentation, without markup and full stop.
    details
        What the documentation says after it, cut to `DETAIL_WORDS` words.
    """

    name: str
    library: str
    kind: Kind
    signature: str
    sentence: str
    details: str

    @property
    def document(self) -> str:
        """What is searched; the sentence does not stand in it."""
        return f"{self.signature}\n{self.details}" if self.details else self.signature


@dataclass(frozen=True)
class Edition:
    """Which data a result belongs to.

    Parameters
    ----------
    versions
        Of each library, in the order of `LIBRARIES`.
    sha256
        Of all entries. Other versions have other docstrings; a number that was
        measured on one edition may not hold on another.
    """

    versions: tuple[tuple[str, str], ...]
    sha256: str


@cache
def load() -> tuple[ApiEntry, ...]:
    """Return all documented entries, library by library, in the order of the names.

    The first call parses the libraries, in about 15 seconds; the result is kept under
    `cache_home` for the versions at hand.

    Raises
    ------
    FileNotFoundError
        A library is not installed; says what to type.
    """
    parts = (__file__, docstrings.__file__, docstring_text.__file__)
    rules = [sha256_file(Path(str(each))) for each in parts]
    key = hashlib.sha256(f"{versions()}{LIBRARIES}{rules}".encode()).hexdigest()[:16]
    kept = cache_home() / "python_api" / f"{key}.json"
    try:
        return tuple(ApiEntry(**row) for row in json.loads(kept.read_bytes()))
    except FileNotFoundError:
        log.info("reading the docstrings of %d libraries", len(LIBRARIES))
    except (ValueError, TypeError):
        log.warning("%s is damaged: the libraries are read again", kept)
    entries = tuple(entry for each in LIBRARIES for entry in entries_of(each))
    write_json(kept, [asdict(entry) for entry in entries])
    return entries


def versions() -> tuple[tuple[str, str], ...]:
    """Return the installed version of each library.

    Raises
    ------
    FileNotFoundError
        Some are not installed; says what to type.
    """
    found, missing = [], []
    for each in LIBRARIES:
        try:
            found.append((each.distribution, metadata.version(each.distribution)))
        except metadata.PackageNotFoundError:
            missing.append(each.distribution)
    if missing:
        raise FileNotFoundError(
            f"not installed: {', '.join(missing)}; type: make setup, or "
            f"pip install -c constraints.txt {' '.join(missing)}"
        )
    return tuple(found)


def edition() -> Edition:
    """Return the versions and the checksum of the data at hand."""
    rows = json.dumps([asdict(entry) for entry in load()], sort_keys=True)
    return Edition(versions(), hashlib.sha256(rows.encode()).hexdigest())


def entries_of(library: Library) -> tuple[ApiEntry, ...]:
    """Return the documented entries of one library, in the order of the names.

    Left out is what is deprecated, and what has no sentence to start with.
    """
    place = metadata.distribution(library.distribution).locate_file(library.package)
    found = read_library(Path(str(place)), library.parts, library.internal)
    made = (entry(each, library.distribution) for each in found if not each.deprecated)
    return tuple(each for each in made if each is not None)


def entry(documented: Documented, library: str) -> ApiEntry | None:
    """Return the entry of a documented name; None if it has no first sentence."""
    sentence, rest = first_sentence(documented.docstring)
    if not sentence:
        return None
    given = documented.parameters
    signature = documented.name + ("" if given is None else f"({', '.join(given)})")
    words = body(rest).split()
    if f" {bare(sentence)} " in f" {bare(' '.join(words))} ":
        words = []  # the sentence again: it would find itself
    details = " ".join(words[:DETAIL_WORDS])
    return ApiEntry(
        documented.name, library, documented.kind, signature, sentence, details
    )


def retrieval_pairs() -> list[tuple[str, ApiEntry]]:
    """Return each sentence that can be a query, with its entry.

    A sentence is no query if it is too short or too long, holds formulas or
    placeholders, says nothing of the function ("See …", "Alias of …"), stands for
    several functions, differs from two others in names only, or gives away a name that
    nobody would type without knowing it, such as ``read_csv``.
    """
    return _pairs(load())


def _pairs(entries: Sequence[ApiEntry]) -> list[tuple[str, ApiEntry]]:
    same = Counter(bare(each.sentence) for each in entries)
    templates = Counter(template(each.sentence) for each in entries)
    return [
        (each.sentence, each)
        for each in entries
        if QUERY_WORDS[0] <= len(each.sentence.split()) <= QUERY_WORDS[1]
        and same[bare(each.sentence)] == 1
        and templates[template(each.sentence)] < 3
        and says_something(each.sentence)
        and not _names_itself(each)
    ]


def _names_itself(entry: ApiEntry) -> bool:
    """Whether the sentence holds the entry's name, or its class's, where it is code."""
    own = {
        part.casefold()
        for part in entry.name.split(".")[1:]
        if CODE_WORD.fullmatch(part)
    }
    return not own.isdisjoint(re.findall(r"\w+", entry.sentence.casefold()))


def side_of(library: str) -> Side:
    """Return ``"train"``, ``"dev"`` or ``"test"`` for the name of a distribution."""
    for each in LIBRARIES:
        if each.distribution == library:
            return each.side
    known = ", ".join(each.distribution for each in LIBRARIES)
    raise ValueError(f"{library!r} is not read; the libraries are {known}")


def split_pairs(split: str) -> list[tuple[str, ApiEntry]]:
    """Return the pairs of one split: ``"train"``, ``"test"``, or ``"dev"``.

    Dev is a part of train: libraries to make choices on. Train without it is what
    stands in ``"train"`` and not in ``"dev"``. Left out of test is what train has seen
    in another library: an equal sentence cannot be (`retrieval_pairs`), equal details
    can.
    """
    sides = _sides(split)
    pairs = [pair for pair in retrieval_pairs() if side_of(pair[1].library) in sides]
    if split != "test":
        return pairs
    seen = {bare(each.details) for each in retrieval_corpus("train")}
    return [
        pair
        for pair in pairs
        if not pair[1].details or bare(pair[1].details) not in seen
    ]


def _sides(split: str) -> tuple[Side, ...]:
    if split not in _SIDES:
        raise ValueError(f"split={split!r}: 'train', 'test', or 'dev', a part of train")
    return _SIDES[split]


def retrieval_corpus(split: str = "test") -> list[ApiEntry]:
    """Return the entries to search in: all of the split's libraries, queries or not."""
    sides = _sides(split)
    return [each for each in load() if side_of(each.library) in sides]


def leaks(
    train: Iterable[tuple[str, ApiEntry]], test: Iterable[tuple[str, ApiEntry]]
) -> dict[str, list[str]]:
    """Return what stands on both sides, and queries that stand in their own document.

    Texts are compared by their words: case, punctuation and spacing do not count. Empty
    lists prove that there is none of a kind.

    Returns
    -------
    dict
        ``"library"``, ``"query"``, ``"document"`` (equal details), ``"own document"``.
    """
    train, test = list(train), list(test)
    found: dict[str, list[str]] = {}
    for kind, of in (
        ("library", lambda pair: {pair[1].library}),
        ("query", lambda pair: {bare(pair[0])}),
        ("document", lambda pair: {bare(pair[1].details)} - {""}),
    ):
        left, right = (set().union(*map(of, side)) for side in (train, test))
        found[kind] = sorted(left & right)
    found["own document"] = [
        query
        for query, each in (*train, *test)
        if f" {bare(query)} " in f" {bare(each.document)} "
    ]
    return found


def retrieval_task(
    split: str = "test",
    queries: int | None = None,
    entries: int | None = None,
    seed: int = 0,
) -> RetrievalTask:
    """Return the sentences of a split, and the corpus that holds their entries.

    Parameters
    ----------
    split
        ``"train"``, ``"test"`` or ``"dev"``.
    queries
        Sentences to draw at random; None takes all.
    entries
        Size of the corpus: the answers, filled up at random; None takes all.
    seed
        Of both draws.
    """
    pairs, corpus = split_pairs(split), retrieval_corpus(split)
    rng = np.random.default_rng(seed)
    if queries is not None and queries < len(pairs):
        chosen = rng.choice(len(pairs), queries, replace=False)
        pairs = [pairs[row] for row in sorted(chosen)]
    if entries is not None and entries < len(corpus):
        wanted = {each.name for _, each in pairs}
        others = [row for row, each in enumerate(corpus) if each.name not in wanted]
        more = rng.choice(len(others), max(0, entries - len(wanted)), replace=False)
        kept = {others[row] for row in more}
        corpus = [
            each
            for row, each in enumerate(corpus)
            if row in kept or each.name in wanted
        ]
    return RetrievalTask(
        queries=tuple(query for query, _ in pairs),
        relevant=tuple(each.name for _, each in pairs),
        corpus_codes=tuple(each.name for each in corpus),
        corpus_texts=tuple(each.document for each in corpus),
    )
