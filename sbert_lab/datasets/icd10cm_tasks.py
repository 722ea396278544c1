"""Six tasks made of ICD-10-CM, as plain data: one for each kind that MTEB knows.

==================== =========================================================
retrieval            an inclusion term must find its code among 15,708
hierarchy            pairs graded by the steps to a common heading
classification       the chapter of a description; new categories in the test
clustering           descriptions by chapter
synonym pairs        a term with its code, and with a sibling of that code
reranking            a term's code among 19 others that are near or look alike
==================== =========================================================

What is tested is of the test split of `icd10cm.split_of`: by category, so that a model
trained on the other split has seen no code of these, nor a near relative. Where a few
of many are taken, a hash of their names says which, so that no seed and no order can
change a task (the first two come from generators with a fixed seed). `content_hash`
names an edition.
"""

import dataclasses
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from sbert_lab.datasets import hierarchy
from sbert_lab.datasets.icd10cm import (
    Code,
    RetrievalTask,
    ancestors,
    by_code,
    load,
    retrieval_corpus,
    retrieval_task,
    split_of,
    split_pairs,
)
from sbert_lab.datasets.intents import LabelledTexts
from sbert_lab.datasets.similarity import ScoredPairs

Item = TypeVar("Item")

#: Texts of a chapter at most: for testing, for training, and for clustering.
TEST_PER_CHAPTER, TRAIN_PER_CHAPTER, CLUSTERED_PER_CHAPTER = 64, 128, 128

#: A chapter takes part with at least so many categories on either side. Chapter 22
#: ("Codes for special purposes") has one, and nothing could be learned from it.
LEAST_CATEGORIES = 4

#: Codes to choose from in reranking, and how many of them are near ones, if there are.
CANDIDATES, NEAR = 20, 10


@dataclass(frozen=True)
class RerankingTask:
    """Terms, and for each the few codes to put in order.

    Parameters
    ----------
    task
        Queries, the code that answers each, and the codes that occur.
    candidates
        For each query, the codes to order, by name; one of them is the right one.
    """

    task: RetrievalTask
    candidates: tuple[tuple[str, ...], ...]


def content_hash(data: object) -> str:
    """Return the sha256 of a task's data, 64 hexadecimal digits.

    Takes the dataclasses of `sbert_lab.datasets`, and mappings of them.
    """

    def plain(value: object) -> Any:  # noqa: ANN401  (whatever json takes)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        raise TypeError(f"no data of a task: {value!r}")

    written = json.dumps(data, default=plain, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(written.encode()).hexdigest()


def term_retrieval(queries: int | None = None) -> RetrievalTask:
    """Return `icd10cm.retrieval_task` of the test split.

    `queries` is for a quick look: so many terms, and five times as many codes; a small
    corpus is an easier one.
    """
    return retrieval_task("test", queries, None if queries is None else 5 * queries)


def graded_hierarchy(anchors: int | None = None) -> ScoredPairs:
    """Return `hierarchy.scored_pairs` of the test split, six pairs an anchor."""
    return hierarchy.scored_pairs("test", anchors)


def chapter_classes(per_chapter: int | None = None) -> dict[str, LabelledTexts]:
    """Return descriptions with their chapter, of train and of test categories.

    Chapters differ tenfold in size: a chapter gives at most `TRAIN_PER_CHAPTER` and
    `TEST_PER_CHAPTER` descriptions, of as many categories as it has, so that no few
    diseases with many codes speak for it. A test description that is also one of
    training is left out.

    Parameters
    ----------
    per_chapter
        A lower limit for both, for a quick look; at least 16, since the protocol draws
        eight of each class.
    """
    if per_chapter is not None and per_chapter < 16:
        raise ValueError(f"per_chapter={per_chapter}: 16 or more")
    most = {"train": TRAIN_PER_CHAPTER, "test": TEST_PER_CHAPTER}
    least = {split: min(n, per_chapter or n) for split, n in most.items()}
    train = _by_chapter("train", least["train"])
    return {
        "train": train,
        "test": _by_chapter("test", least["test"], frozenset(train.texts)),
    }


def chapter_clusters(per_chapter: int | None = None) -> LabelledTexts:
    """Return descriptions of test categories with their chapter, to be clustered."""
    most = CLUSTERED_PER_CHAPTER if per_chapter is None else per_chapter
    return _by_chapter("test", most)


def synonym_pairs(terms: int | None = None) -> ScoredPairs:
    """Return two pairs for each inclusion term: score 1 with its code, 0 with another.

    The other one is a sibling: a code under the same heading. Term and heading are
    the same in both pairs, so that neither tells the answer. Left out are terms that
    repeat a description, and siblings that say the same or carry the term too.

    Parameters
    ----------
    terms
        How many to draw from; None takes all.
    """
    rows: list[tuple[str, str, float, str]] = []
    for term, code in _terms(terms):
        siblings = _children()[code.parent]
        others = [c for c in _drawn(siblings, term, code) if _is_wrong(c, term, code)]
        if others:
            rows += [
                (term, code.description, 1.0, code.category),
                (term, others[0].description, 0.0, code.category),
            ]
    first, second, score, group = zip(*rows, strict=True)
    return ScoredPairs(first, second, score, group)


def candidate_reranking(queries: int | None = None) -> RerankingTask:
    """Return terms of the test split, each with `CANDIDATES` codes to put in order.

    Besides the right code: up to `NEAR` of its siblings, then of its category; then
    codes whose descriptions share most words with the term (Jaccard's index), and where
    these are too few, others of its chapter. All have different descriptions, and each
    is a wrong answer beyond doubt: neither a heading of the right code nor under it,
    and without the term.

    Parameters
    ----------
    queries
        How many terms to take; None takes all.
    """
    search = _WordIndex([code for code in retrieval_corpus() if code.category])
    kept = [(t, code, _candidates(t, code, search)) for t, code in _terms(queries)]
    names = {name for _, _, candidates in kept for name in candidates}
    corpus = [code for code in retrieval_corpus() if code.code in names]
    return RerankingTask(
        RetrievalTask(
            queries=tuple(term for term, _, _ in kept),
            relevant=tuple(code.code for _, code, _ in kept),
            corpus_codes=tuple(code.code for code in corpus),
            corpus_texts=tuple(code.description for code in corpus),
        ),
        candidates=tuple(candidates for _, _, candidates in kept),
    )


def _candidates(term: str, code: Code, search: "_WordIndex") -> tuple[str, ...]:
    """Return the names of the right code and of wrong ones, in alphabetical order."""
    chosen = {code.description.lower(): code.code}

    def add(pool: Sequence[Code], limit: int) -> None:
        for other in pool:
            if len(chosen) >= limit:
                break
            if _is_wrong(other, term, code):
                chosen.setdefault(other.description.lower(), other.code)

    add(_drawn(_children()[code.parent], term, code), NEAR + 1)
    add(_drawn(_categories()[code.category], term, code), NEAR + 1)
    add(search.alike(term), CANDIDATES)
    if len(chosen) < CANDIDATES:
        add(_drawn(_chapters()[code.chapter], term, code), CANDIDATES)
    return tuple(sorted(chosen.values()))


def _by_chapter(
    split: str, most: int, without: frozenset[str] = frozenset()
) -> LabelledTexts:
    """Return descriptions of a split with their chapter, at most so many of each."""
    chapters: dict[str, dict[str, list[Code]]] = defaultdict(lambda: defaultdict(list))
    seen = {text.lower() for text in without}
    for code in retrieval_corpus():
        if code.category and split_of(code.category) == split:
            key = code.description.lower()
            if key not in seen and code.chapter in _large_chapters():
                seen.add(key)
                chapters[code.chapter][code.category].append(code)
    chosen: list[Code] = []
    for categories in chapters.values():
        # The first code of every category, then the second of those that have one …
        turns = [
            (turn, _number(code.code), code)
            for members in categories.values()
            for turn, code in enumerate(_pick(members, None, lambda c: c.code))
        ]
        chosen += [code for _, _, code in sorted(turns, key=lambda t: t[:2])[:most]]
    return LabelledTexts(
        texts=tuple(code.description for code in chosen),
        labels=tuple(by_code()[code.chapter].description for code in chosen),
        group=tuple(code.category for code in chosen),
    )


@cache
def _large_chapters() -> frozenset[str]:
    """Return the chapters with `LEAST_CATEGORIES` in train and in test."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for code in load():
        if code.kind == "category":
            found[code.chapter, split_of(code.code)] += 1
    chapters = {chapter for chapter, _ in found}
    return frozenset(
        chapter
        for chapter in chapters
        if min(found[chapter, s] for s in ("train", "test")) >= LEAST_CATEGORIES
    )


def _terms(count: int | None) -> list[tuple[str, Code]]:
    """Return terms of the test split that do not simply repeat their description."""
    pairs = [
        (term, code)
        for term, code in split_pairs("test")
        if term.lower() != code.description.lower()
    ]
    return _pick(pairs, count, lambda pair: (pair[0], pair[1].code))


def _is_wrong(other: Code, term: str, code: Code) -> bool:
    """Return whether a code is no answer to the term of another, beyond doubt.

    A heading of the right code is half an answer, and so is what stands under it.
    """
    texts = {text.lower() for text in (other.description, *other.inclusion_terms)}
    return (
        not texts & {term.lower(), code.description.lower()}
        and other not in ancestors(code)
        and code not in ancestors(other)
    )


@cache
def _children() -> dict[str, list[Code]]:
    """Return the codes of the corpus by the heading right above them."""
    return _grouped(lambda code: code.parent)


@cache
def _categories() -> dict[str, list[Code]]:
    """Return the codes of the corpus by category."""
    return _grouped(lambda code: code.category)


@cache
def _chapters() -> dict[str, list[Code]]:
    """Return the codes of the corpus by chapter."""
    return _grouped(lambda code: code.chapter)


def _grouped(key: Callable[[Code], str]) -> dict[str, list[Code]]:
    groups: dict[str, list[Code]] = defaultdict(list)
    for code in retrieval_corpus():
        if code.category:
            groups[key(code)].append(code)
    return groups


def _drawn(codes: Sequence[Code], term: str, code: Code) -> list[Code]:
    """Return codes in an order that differs from term to term."""
    return _pick(codes, None, lambda other: (term, code.code, other.code))


def _pick(
    items: Sequence[Item], count: int | None, name: Callable[[Item], Hashable]
) -> list[Item]:
    """Return `count` items, or all, in the order of the hashes of their names."""
    return sorted(items, key=lambda item: _number(name(item)))[:count]


def _number(name: Hashable) -> int:
    return int.from_bytes(hashlib.sha256(repr(name).encode()).digest()[:8], "big")


class _WordIndex:
    """Codes by the words of their descriptions."""

    def __init__(self, codes: Sequence[Code]) -> None:
        self.codes = codes
        self.words = [_words(code.description) for code in codes]
        self.rows: dict[str, list[int]] = defaultdict(list)
        for row, words in enumerate(self.words):
            for word in words:
                self.rows[word].append(row)

    def alike(self, text: str) -> list[Code]:
        """Return the codes that share a word with a text, most alike first."""
        words = _words(text)
        shared: dict[int, int] = defaultdict(int)
        for word in words:
            for row in self.rows.get(word, ()):
                shared[row] += 1

        def place(row: int) -> tuple[float, int]:
            union = len(words) + len(self.words[row]) - shared[row]
            return (-shared[row] / union, row)

        return [self.codes[row] for row in sorted(shared, key=place)]


def _words(text: str) -> frozenset[str]:
    """Return the words of a text that say something: three letters or more."""
    return frozenset(re.findall(r"[a-z0-9]{3,}", text.lower())) - {"and", "the", "with"}
