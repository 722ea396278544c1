"""Python API search: what a function does, in its author's words, finds the function.

The second domain, to show that what works on medical codes was not tuned to them. The
*query* is the first sentence of a documentation string; the *document* is the qualified
name, the parameters, and the beginning of what the string says after that sentence:

    query     Turns an image by an angle
    document  library.Image.rotate(angle, expand)
              angle: In degrees, against the clock. expand: Whether …

All is read from the files of installed libraries (`python_libraries.LIBRARIES`); none
is imported (`docstrings.read_library`), and nothing of their texts is kept in this
repository. The split is by library, and what is nearly the same in two libraries of
different sides stays on the first one only.

The data depend on what is installed: another version has other docstrings, and a
missing library is left out. A result is thus one on an `edition`, which names the
versions and a checksum; on the same files the data are always the same.

An encoder that counts words takes ``read_csv`` for one word: compared fairly, it is
given the texts after `docstring_text.spaced`.

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
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from sbert_lab._utils import sha256_file, write_json
from sbert_lab.datasets import docstring_text, docstrings
from sbert_lab.datasets.docstring_text import (
    CODE_WORD,
    bare,
    body,
    first_sentence,
    near_rows,
    says_something,
    template,
)
from sbert_lab.datasets.docstrings import Documented, read_library
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.datasets.python_libraries import (
    LIBRARIES,
    Library,
    Side,
    folder_of,
    installed,
    versions,
)
from sbert_lab.models.registry import cache_home

log = logging.getLogger(__name__)

#: Words of the docstring, after the first sentence, that a document holds.
DETAIL_WORDS = 40

#: A sentence with fewer words says too little, one with more is a paragraph.
QUERY_WORDS = (4, 40)

#: Share of common words from which on two texts count as one (`near_rows`).
NEAR = 0.6

#: For each split, the ones before it: what they hold, it must not hold again.
_BEFORE: dict[str, tuple[Side, ...]] = {
    "train": (),
    "dev": ("train",),
    "test": ("train", "dev"),
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
    side
        ``"train"``, ``"dev"`` or ``"test"``: that of the library.
    signature
        The name, with the names of the parameters in parentheses.
    sentence
        The first sentence of the documentation, without markup and full stop.
    details
        What the documentation says after it, cut to `DETAIL_WORDS` words.
    """

    name: str
    library: str
    side: Side
    signature: str
    sentence: str
    details: str

    @property
    def document(self) -> str:
        """What is searched; the sentence does not stand in it."""
        return f"{self.signature}\n{self.details}" if self.details else self.signature


Pair = tuple[str, ApiEntry]


@dataclass(frozen=True)
class Edition:
    """Which data a result belongs to.

    Parameters
    ----------
    versions
        Name and version, of Python and of each library that was read.
    missing
        Libraries that are not installed.
    sha256
        Of all entries. A number that was measured on one edition may not hold on
        another.
    """

    versions: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    sha256: str


@cache
def load(libraries: tuple[Library, ...] = LIBRARIES) -> tuple[ApiEntry, ...]:
    """Return all documented entries, library by library, in the order of the names.

    The first call parses the libraries, in about half a minute; the result is kept
    under `cache_home` for the versions at hand. Libraries that are not installed are
    left out.

    Raises
    ------
    FileNotFoundError
        Too few are installed; says what to type.
    """
    parts = (__file__, docstrings.__file__, docstring_text.__file__)
    rules = [sha256_file(Path(str(each))) for each in parts]
    key = _digest([versions(libraries), [asdict(each) for each in libraries], rules])
    kept = cache_home() / "python_api" / f"{key[:16]}.json"
    try:
        stored = json.loads(kept.read_bytes())
        if stored["sha256"] == _digest(stored["entries"]):
            return tuple(ApiEntry(**row) for row in stored["entries"])
        log.warning("%s was changed: the libraries are read again", kept)
    except FileNotFoundError:
        log.info("reading the docstrings of %d libraries", len(libraries))
    except (ValueError, TypeError, KeyError):
        log.warning("%s is damaged: the libraries are read again", kept)
    entries = tuple(e for each in installed(libraries) for e in entries_of(each))
    rows = [asdict(entry) for entry in entries]
    write_json(kept, {"sha256": _digest(rows), "entries": rows})
    return entries


def edition(libraries: tuple[Library, ...] = LIBRARIES) -> Edition:
    """Return the versions and the checksum of the data at hand."""
    here = versions(libraries)
    names = {name for name, _ in here}
    return Edition(
        versions=here,
        missing=tuple(
            each.distribution for each in libraries if each.distribution not in names
        ),
        sha256=_digest([asdict(entry) for entry in load(libraries)]),
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def entries_of(library: Library) -> tuple[ApiEntry, ...]:
    """Return the documented entries of one library, in the order of the names.

    Left out is what is deprecated, and what has no sentence to start with.

    Raises
    ------
    FileNotFoundError
        It is not installed; says what to type.
    """
    folder = folder_of(library)
    if folder is None:
        raise FileNotFoundError(
            f"{library.distribution} is not installed; type: pip install "
            f"-c constraints.txt {library.distribution}"
        )
    found = read_library(folder, library.parts, library.internal)
    made = (entry(each, library) for each in found if not each.deprecated)
    return tuple(each for each in made if each is not None)


def entry(documented: Documented, library: Library) -> ApiEntry | None:
    """Return the entry of a documented name; None if it has no first sentence."""
    sentence, rest = first_sentence(documented.docstring)
    if not bare(sentence):
        return None
    given = documented.parameters
    signature = documented.name + ("" if given is None else f"({', '.join(given)})")
    details = " ".join(body(rest).split()[:DETAIL_WORDS])
    if _within(sentence, details):
        details = ""  # the sentence again: it would find itself
    return ApiEntry(
        documented.name,
        library.distribution,
        library.side,
        signature,
        sentence,
        details,
    )


def _within(sentence: str, text: str) -> bool:
    return f" {bare(sentence)} " in f" {bare(text)} "


def retrieval_pairs(data: Sequence[ApiEntry] | None = None) -> list[Pair]:
    """Return each sentence that can be a query, with its entry.

    A sentence is no query if it is too short or too long, holds formulas or
    placeholders, says nothing of the function ("See …", "Alias of …"), stands for
    several functions, differs from two others in names only, or gives away a name that
    nobody would type without knowing it, such as ``read_csv``.

    Parameters
    ----------
    data
        Entries; the default is all of `load`.
    """
    data = load() if data is None else data
    same = Counter(bare(each.sentence) for each in data)
    templates = Counter(template(each.sentence) for each in data)
    return [
        (each.sentence, each)
        for each in data
        if QUERY_WORDS[0] <= len(each.sentence.split()) <= QUERY_WORDS[1]
        and same[bare(each.sentence)] == 1
        and templates[template(each.sentence)] < 3
        and says_something(each.sentence)
        and not _names_itself(each)
        and not _within(each.sentence, each.document)
    ]


def _names_itself(entry: ApiEntry) -> bool:
    """Whether the sentence holds the entry's name, or its class's, where it is code."""
    own = {
        part.casefold()
        for part in entry.name.split(".")[1:]
        if CODE_WORD.fullmatch(part)
    }
    return not own.isdisjoint(re.findall(r"\w+", entry.sentence.casefold()))


def split_pairs(split: str, data: Sequence[ApiEntry] | None = None) -> list[Pair]:
    """Return the pairs of one split, ``"train"``, ``"dev"`` or ``"test"``.

    Left out of dev is what stands in libraries of train, and of test what stands in
    those of train or dev: pairs whose sentence or whose details share `NEAR` of their
    words with those of an entry there, be it a query or not.
    """
    _check(split)
    return list(_pairs_of(split, load() if data is None else tuple(data)))


@lru_cache(maxsize=8)  # it takes seconds, and pairs and task ask for the same
def _pairs_of(split: str, data: tuple[ApiEntry, ...]) -> tuple[Pair, ...]:
    pairs = [pair for pair in retrieval_pairs(data) if pair[1].side == split]
    seen = [each for each in data if each.side in _BEFORE[split]]
    near = {
        *near_rows([q for q, _ in pairs], [e.sentence for e in seen], NEAR),
        *near_rows([e.details for _, e in pairs], [e.details for e in seen], NEAR),
    }
    return tuple(pair for row, pair in enumerate(pairs) if row not in near)


def _check(split: str) -> None:
    if split not in _BEFORE:
        raise ValueError(f"split={split!r}: {', '.join(map(repr, _BEFORE))}")


def training_pairs(
    split: str = "train", data: Sequence[ApiEntry] | None = None
) -> Pairs:
    """Return a split as anchors, the queries, and positives, their documents.

    That is what `TrainingData.from_pairs` and `check_no_leak` take.
    """
    pairs = split_pairs(split, data)
    return Pairs(
        anchor=tuple(query for query, _ in pairs),
        positive=tuple(each.document for _, each in pairs),
        negative=None,
        label=None,
        source=Path(f"python_api {split}"),
        rows=tuple(range(1, len(pairs) + 1)),
    )


def retrieval_corpus(
    split: str = "test", data: Sequence[ApiEntry] | None = None
) -> list[ApiEntry]:
    """Return the entries to search in: all of the split's libraries, queries or not."""
    _check(split)
    return [each for each in (load() if data is None else data) if each.side == split]


def leaks(train: Iterable[Pair], test: Iterable[Pair]) -> dict[str, list[str]]:
    """Return what stands on both sides, and queries that stand in their own document.

    Texts are compared by their words: case, punctuation and spacing do not count. Empty
    lists prove that there is none of a kind.

    Returns
    -------
    dict
        ``"library"``, ``"query"``, ``"document"`` (equal details), ``"near query"``,
        ``"near document"`` (by `NEAR`), ``"own document"``.
    """
    train, test = list(train), list(test)
    found: dict[str, list[str]] = {}
    for kind, of in (("query", lambda pair: pair[0]), ("document", _details)):
        left, right = ([of(pair) for pair in side] for side in (train, test))
        known = set(map(bare, left)) - {""}
        found[kind] = [text for text in right if bare(text) in known]
        found[f"near {kind}"] = [right[row] for row in near_rows(right, left, NEAR)]
    libraries = {each.library for _, each in train}
    found["library"] = sorted(libraries & {each.library for _, each in test})
    found["own document"] = [
        query for query, each in (*train, *test) if _within(query, each.document)
    ]
    return found


def _details(pair: Pair) -> str:
    return pair[1].details


def retrieval_task(
    split: str = "test",
    queries: int | None = None,
    documents: int | None = None,
    seed: int = 0,
    data: Sequence[ApiEntry] | None = None,
) -> RetrievalTask:
    """Return the sentences of a split, and the corpus that holds their entries.

    Parameters
    ----------
    split
        ``"train"``, ``"dev"`` or ``"test"``.
    queries
        Sentences to draw at random; None takes all.
    documents
        Size of the corpus: the answers, filled up at random; None takes all.
    seed
        Of both draws.
    data
        Entries; the default is all of `load`.
    """
    pairs, corpus = split_pairs(split, data), retrieval_corpus(split, data)
    rng = np.random.default_rng(seed)
    if queries is not None and queries < len(pairs):
        chosen = rng.choice(len(pairs), queries, replace=False)
        pairs = [pairs[row] for row in sorted(chosen)]
    if documents is not None and documents < len(corpus):
        wanted = {each.name for _, each in pairs}
        others = [row for row, each in enumerate(corpus) if each.name not in wanted]
        more = rng.choice(len(others), max(0, documents - len(wanted)), replace=False)
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
