"""Six tasks made of ICD-10-CM, one for each kind that MTEB knows: `TASKS`.

What is tested is of the test split of `icd10cm.split_of`. Where a few of many are
taken, a hash of their names says which, or a generator with a fixed seed.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import numpy as np

from sbert_lab.datasets.icd10cm import (
    Code,
    RetrievalTask,
    ancestors,
    block_of,
    by_code,
    drawn_task,
    retrieval_corpus,
    retrieval_task,
    split_of,
    split_pairs,
)
from sbert_lab.datasets.sts import LabelledTexts, ScoredPairs

#: Texts of a chapter at most: for testing, for training, and for clustering.
TEST_PER_CHAPTER, TRAIN_PER_CHAPTER, CLUSTERED_PER_CHAPTER = 64, 128, 128

#: Codes to choose from in reranking, and how many of them are near ones, if there are.
CANDIDATES, NEAR = 20, 10


@dataclass(frozen=True)
class RerankingTask:
    """Terms, and for each the few codes to put in order, by name; one is right."""

    task: RetrievalTask
    candidates: tuple[tuple[str, ...], ...]


def content_hash(data: object) -> str:
    """Return the sha256 of a task's data, 64 hexadecimal digits."""
    told = json.dumps(data, default=asdict, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()


def term_retrieval(queries: int | None = None) -> RetrievalTask:
    """Return `icd10cm.retrieval_task`; of some `queries`, in five times the codes."""
    return retrieval_task("test", queries, None if queries is None else 5 * queries)


def graded_hierarchy(anchors: int | None = None, seed: int = 0) -> ScoredPairs:
    """Return pairs of descriptions, graded by the steps to a common heading.

    An anchor is a subcategory with an inclusion term and a sibling; it has six
    partners, all of the test split: 5 is one of its inclusion terms, 4 the heading
    right above it, 3 a sibling under that heading, 2 a code of another category of its
    block, 1 of another block of its chapter, and 0 of another chapter. `anchors` is how
    many to draw at random; None takes all.
    """
    terms: dict[Code, list[str]] = defaultdict(list)
    for term, code in split_pairs("test"):
        if code.kind == "subcategory":
            terms[code].append(term)
    rng = np.random.default_rng(seed)
    every, chapters = list(terms.items()), _groups("chapter", "test")
    rows: list[tuple[str, str, float, str]] = []
    for place in rng.permutation(len(terms)):
        if anchors is not None and len(rows) >= 6 * anchors:
            break
        code, own = every[place]
        block = _groups("block", "test")[block_of(code).code]
        pools = [
            [c for name in chapters if name != code.chapter for c in chapters[name]],
            [c for c in chapters[code.chapter] if block_of(c) != block_of(code)],
            [c for c in block if c.category != code.category],
            [c for c in _groups("parent", "test")[code.parent] if c is not code],
        ]
        if not all(pools):
            continue
        texts = [pool[rng.integers(len(pool))].description for pool in pools]
        texts += [by_code()[code.parent].description, own[rng.integers(len(own))]]
        if code.description.lower() not in {text.lower() for text in texts}:
            rows += [
                (code.description, texts[score], float(score), code.category)
                for score in range(5, -1, -1)
            ]
    return ScoredPairs(*zip(*rows, strict=True))


def chapter_classes(per_chapter: int | None = None) -> dict[str, LabelledTexts]:
    """Return descriptions with their chapter, of train and of test categories.

    A chapter gives at most `TRAIN_PER_CHAPTER` and `TEST_PER_CHAPTER` of as many
    categories as it has, or `per_chapter`: at least 16, for mteb draws eight of each.
    """
    few = per_chapter or TRAIN_PER_CHAPTER
    train = _by_chapter("train", min(TRAIN_PER_CHAPTER, few))
    test = _by_chapter("test", min(TEST_PER_CHAPTER, few), train.texts)
    return {"train": train, "test": test}


def synonym_pairs(terms: int | None = None) -> ScoredPairs:
    """Return two pairs of each inclusion term: with its code 1, with a sibling 0.

    Left out are terms that repeat a description, and siblings that say the same.
    """
    rows: list[tuple[str, str, float, str]] = []
    for term, code in _terms(terms):
        siblings = _drawn("parent", term, code)
        wrong = next((c for c in siblings if _is_wrong(c, term, code)), None)
        if wrong:
            rows += [
                (term, code.description, 1.0, code.category),
                (term, wrong.description, 0.0, code.category),
            ]
    return ScoredPairs(*zip(*rows, strict=True))


def candidate_reranking(queries: int | None = None) -> RerankingTask:
    """Return terms of the test split, each with `CANDIDATES` codes to put in order.

    Besides the right code: up to `NEAR` of its siblings, then of its category; then
    codes whose descriptions share most words with the term, then others of its chapter.
    """
    terms = _terms(queries)
    candidates = tuple(_candidates(term, code) for term, code in terms)
    names = {name for each in candidates for name in each}
    corpus = [(c.code, c.description) for c in retrieval_corpus() if c.code in names]
    task = drawn_task([(term, code.code) for term, code in terms], corpus)
    return RerankingTask(task, candidates)


@dataclass(frozen=True)
class Task:
    """One of the six tasks, in mteb's terms, with `options` of its protocol.

    `make` returns the data, of a given size for a quick look or in full (None).
    """

    kind: str
    name: str
    main_score: str
    description: str
    make: Callable[[int | None], Any]
    options: dict[str, Any] = field(default_factory=dict)


#: In the order of the benchmark.
TASKS = (
    Task(
        "Retrieval",
        "ICD10CMTermRetrieval",
        "ndcg_at_10",
        "Find the code that an inclusion term, what a clinician writes, belongs to.",
        term_retrieval,
    ),
    Task(
        "STS",
        "ICD10CMHierarchySTS",
        "cosine_spearman",
        "Pairs of descriptions, 5 (synonym) to 0 (another chapter) by the hierarchy.",
        graded_hierarchy,
        {"min_score": 0, "max_score": 5},
    ),
    Task(
        "Classification",
        "ICD10CMChapterClassification",
        "accuracy",
        "The chapter of a description; no category is in both training and test.",
        chapter_classes,
        {"samples_per_label": 8, "n_experiments": 10},
    ),
    Task(
        "Clustering",
        "ICD10CMChapterClustering",
        "v_measure",
        "Descriptions, to be clustered by chapter.",
        lambda size: _by_chapter("test", size or CLUSTERED_PER_CHAPTER),
        {  # every text is embedded; mteb would take 4 %
            "max_fraction_of_documents_to_embed": None,
            "max_document_to_embed": None,
            "max_documents_per_cluster": 2048,
            "n_clusters": 10,
        },
    ),
    Task(
        "PairClassification",
        "ICD10CMSynonymPairClassification",
        "max_ap",
        "Does a term belong to this code, or to a sibling under the same heading?",
        synonym_pairs,
    ),
    Task(
        "Reranking",
        "ICD10CMCandidateReranking",
        "map_at_1000",
        "The code of a term among 19 others that are near it or share its words.",
        candidate_reranking,
    ),
)

KINDS = tuple(task.kind for task in TASKS)


def _candidates(term: str, code: Code) -> tuple[str, ...]:
    """Return the names of the right code and of wrong ones, in alphabetical order."""
    chosen = {code.description.lower(): code.code}
    near = ("parent", NEAR + 1), ("category", NEAR + 1)
    for level, limit in (*near, ("words", CANDIDATES), ("chapter", CANDIDATES)):
        if len(chosen) >= limit:
            continue
        pool = _most_alike(term) if level == "words" else _drawn(level, term, code)
        for other in pool:
            if len(chosen) < limit and _is_wrong(other, term, code):
                chosen.setdefault(other.description.lower(), other.code)
    return tuple(sorted(chosen.values()))


def _by_chapter(split: str, most: int, without: Sequence[str] = ()) -> LabelledTexts:
    """Return descriptions of a split with their chapter, at most so many of each."""
    seen = {text.lower() for text in without}
    chosen: list[Code] = []
    for chapter, codes in _groups("chapter", split).items():
        if chapter == "22":
            continue  # "Codes for special purposes": it has one category
        taken: Counter[str] = Counter()
        turns: list[tuple[int, Code]] = []
        fresh = {c.description.lower(): c for c in codes[::-1]}  # of two, the first
        fresh = {text: code for text, code in fresh.items() if text not in seen}
        seen |= fresh.keys()
        for code in sorted(fresh.values(), key=lambda c: _number(c.code)):
            turns.append((taken[code.category], code))
            taken[code.category] += 1
        # The first code of every category, then the second of those that have one …
        chosen += [code for _, code in sorted(turns, key=lambda t: t[0])[:most]]
    return LabelledTexts(
        texts=tuple(code.description for code in chosen),
        labels=tuple(by_code()[code.chapter].description for code in chosen),
        group=tuple(code.category for code in chosen),
    )


def _terms(count: int | None) -> list[tuple[str, Code]]:
    """Return terms of the test split that do not simply repeat their description."""
    pairs = [
        (term, code)
        for term, code in split_pairs("test")
        if term.lower() != code.description.lower()
    ]
    return sorted(pairs, key=lambda p: _number((p[0], p[1].code)))[:count]


def _is_wrong(other: Code, term: str, code: Code) -> bool:
    """Return whether a code is no answer: neither heading, finer code nor synonym."""
    texts = {text.lower() for text in (other.description, *other.inclusion_terms)}
    return (
        not texts & {term.lower(), code.description.lower()}
        and other not in ancestors(code)
        and code not in ancestors(other)
    )


@cache
def _groups(level: str, split: str = "") -> dict[str, list[Code]]:
    """Return the codes of the corpus, or of a split, by chapter, block … or parent."""
    groups: dict[str, list[Code]] = defaultdict(list)
    for code in retrieval_corpus():
        if code.category and (not split or split_of(code.category) == split):
            key = block_of(code).code if level == "block" else getattr(code, level)
            groups[key].append(code)
    return groups


def _drawn(level: str, term: str, code: Code) -> list[Code]:
    """Return the codes beside a code, in an order that differs from term to term."""
    codes = _groups(level)[getattr(code, level)]
    return sorted(codes, key=lambda other: _number((term, code.code, other.code)))


def _number(name: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(name).encode()).digest()[:8], "big")


def _most_alike(text: str) -> list[Code]:
    """Return the codes that share a word with a text, by Jaccard's index."""
    codes, words_of, rows_of = _word_index()
    words = _words(text)
    shared = Counter(row for word in words for row in rows_of.get(word, ()))
    jaccard = {row: n / len(words | words_of[row]) for row, n in shared.items()}
    return [codes[row] for row in sorted(jaccard, key=lambda r: (-jaccard[r], r))]


@cache
def _word_index() -> tuple[list[Code], list[frozenset[str]], dict[str, list[int]]]:
    """Return the codes, the words of each description, and the rows of each word."""
    codes = [code for code in retrieval_corpus() if code.category]
    words_of = [_words(code.description) for code in codes]
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, words in enumerate(words_of):
        for word in words:
            rows_of[word].append(row)
    return codes, words_of, rows_of


def _words(text: str) -> frozenset[str]:
    """Return the words of a text that say something: three letters or more."""
    return frozenset(re.findall(r"[a-z0-9]{3,}", text.lower())) - {"and", "the", "with"}
