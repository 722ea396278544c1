"""ICD-10-CM: 98,505 medical codes with descriptions, a hierarchy and synonyms.

The lab bench: public domain, in one small package, and real. Chapters hold blocks,
blocks hold categories (three characters), categories hold ever finer codes. An
*inclusion term* is what a clinician writes for a code ("Classical cholera" for A00.0);
finding the code from the term is the retrieval task.
"""

import csv
import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np

from sbert_lab._utils import project_root
from sbert_lab.models.registry import BY_NAME, locate, verify

#: Terms that describe no disease but point at other codes.
_CROSS_REFERENCE = re.compile(
    r"\b(classifi|condition|categor|listed|as in)\w*\b.*\b[A-Z]\d[0-9A-Z]",
    re.IGNORECASE,
)

#: Of 1,000 categories, how many are kept for testing.
TEST_PER_MILLE = 180


@dataclass(frozen=True)
class Code:
    """One entry of the classification.

    Parameters
    ----------
    code
        Unique, dots included. Where a block holds a single category of the same name,
        the block is called ``"B20-B20"``, as in the printed edition.
    kind
        ``"chapter"``, ``"block"``, ``"category"`` or ``"subcategory"``.
    description
        What it means.
    parent
        Code one step up; empty for a chapter.
    category
        The three-character category it belongs to; empty above that level.
    chapter
        Its chapter, ``"1"`` to ``"22"``.
    inclusion_terms
        Synonyms and examples.
    """

    code: str
    kind: str
    description: str
    parent: str
    category: str
    chapter: str
    inclusion_terms: tuple[str, ...]


@dataclass(frozen=True)
class RetrievalTask:
    """Terms, and the code that each must find in a corpus.

    Parameters
    ----------
    queries
        The terms.
    relevant
        For each query, the code it belongs to.
    corpus_codes, corpus_texts
        The codes to search in, and their descriptions.
    """

    queries: tuple[str, ...]
    relevant: tuple[str, ...]
    corpus_codes: tuple[str, ...]
    corpus_texts: tuple[str, ...]


@cache
def load() -> tuple[Code, ...]:
    """Return every entry in the order of the book, checksums verified.

    Raises
    ------
    FileNotFoundError
        The package is not installed; says what to type.
    ChecksumError
        Another edition than the one the results belong to.
    """
    entry = BY_NAME["icd10cm"]
    folder = locate(entry)
    if folder is None:
        raise FileNotFoundError(f"{entry.package} is missing; type: {entry.install}")
    verify(entry, folder)
    import simple_icd_10_cm as icd

    listed: list[str] = icd.get_all_codes(True)
    times = Counter(listed)
    codes: list[Code] = []
    above: dict[str, Code] = {}
    for name in listed:
        # A name that stands twice is a block and the one category inside it.
        is_block = name not in above and (times[name] == 2 or icd.is_block(name))
        kind = (
            "chapter"
            if icd.is_chapter(name)
            else "block"
            if is_block
            else "category"
            if icd.is_category(name)
            else "subcategory"
        )
        parent = icd.get_parent(name, is_block)
        if kind == "category" and times[parent] == 2:
            parent = f"{parent}-{parent}"
        category = name[:3] if kind in ("category", "subcategory") else ""
        code = Code(
            code=f"{name}-{name}" if is_block and times[name] == 2 else name,
            kind=kind,
            description=icd.get_description(name, is_block),
            parent=parent,
            category=category,
            chapter=name if kind == "chapter" else above[parent].chapter,
            inclusion_terms=tuple(icd.get_inclusion_term(name, is_block)),
        )
        codes.append(code)
        above[name] = above[code.code] = code
    return tuple(codes)


def sample(count: int | None, seed: int = 0) -> tuple[Code, ...]:
    """Return `count` entries drawn at random, in the order of the book; None is all."""
    codes = load()
    if count is None or count >= len(codes):
        return codes
    drawn = np.random.default_rng(seed).choice(len(codes), count, replace=False)
    return tuple(codes[row] for row in sorted(drawn))


def typed_queries() -> list[tuple[str, frozenset[str], str]]:
    """Return what a person would type, the categories that answer it, and the trap.

    Written for this project (data/authored/typed_queries.csv); the categories were
    looked up in the classification by hand.
    """
    with (project_root() / "data" / "authored" / "typed_queries.csv").open(
        encoding="utf-8", newline=""
    ) as file:
        rows = list(csv.DictReader(file))
    return [(r["query"], frozenset(r["categories"].split()), r["trap"]) for r in rows]


def ancestors(code: Code) -> list[Code]:
    """Return the codes above, the parent first, the chapter last."""
    line: list[Code] = []
    while code.parent:
        code = by_code()[code.parent]
        line.append(code)
    return line


@cache
def by_code() -> dict[str, Code]:
    """Return the entries by their unique code."""
    return {code.code: code for code in load()}


def retrieval_pairs() -> list[tuple[str, Code]]:
    """Return each inclusion term with its code: 12,403 pairs.

    Left out are cross-references ("Conditions classifiable to C50.-"), which name
    codes instead of diseases, and repetitions.
    """
    pairs: dict[tuple[str, str], tuple[str, Code]] = {}
    for code in load():
        for term in code.inclusion_terms:
            if not _CROSS_REFERENCE.search(term):
                pairs.setdefault((term.lower(), code.code), (term, code))
    return list(pairs.values())


def split_of(category: str) -> str:
    """Return ``"test"`` or ``"train"`` for a category, by a hash of its name.

    The split is by category, so that no code, nor a near relative of it, stands on
    both sides; and by hash, so that no seed and no order can change it.
    """
    number = int.from_bytes(hashlib.sha256(category.encode()).digest()[:4], "big")
    return "test" if number % 1000 < TEST_PER_MILLE else "train"


def split_pairs(split: str) -> list[tuple[str, Code]]:
    """Return the pairs of one split, ``"train"`` or ``"test"``.

    Pairs of codes above category level belong to train. A term that is written for
    codes of both splits is left out of test: it would have been seen.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r}: 'train' or 'test'")
    sides: dict[str, list[tuple[str, Code]]] = {"train": [], "test": []}
    for term, code in retrieval_pairs():
        side = split_of(code.category) if code.category else "train"
        sides[side].append((term, code))
    if split == "train":
        return sides["train"]
    seen = {term.lower() for term, _ in sides["train"]}
    return [(term, code) for term, code in sides["test"] if term.lower() not in seen]


def retrieval_corpus() -> list[Code]:
    """Return the codes to search in.

    Those with at most five characters, dot included, or with an inclusion term. Finer
    ones repeat their parent's description with an encounter or a side added.
    """
    return [c for c in load() if len(c.code) <= 5 or c.inclusion_terms]


def retrieval_task(
    split: str = "test",
    queries: int | None = None,
    codes: int | None = None,
    seed: int = 0,
) -> RetrievalTask:
    """Return the terms of a split, and the corpus in which to find their codes.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``.
    queries
        Terms to draw at random; None takes all.
    codes
        Size of the corpus: the codes that answer, filled up at random; None takes all.
    seed
        Of both draws.
    """
    pairs, corpus = split_pairs(split), retrieval_corpus()
    rng = np.random.default_rng(seed)
    if queries is not None and queries < len(pairs):
        chosen = rng.choice(len(pairs), queries, replace=False)
        pairs = [pairs[row] for row in sorted(chosen)]
    if codes is not None and codes < len(corpus):
        wanted = {code.code for _, code in pairs}
        others = [row for row, code in enumerate(corpus) if code.code not in wanted]
        more = rng.choice(len(others), max(0, codes - len(wanted)), replace=False)
        kept = {others[row] for row in more}
        corpus = [
            code
            for row, code in enumerate(corpus)
            if row in kept or code.code in wanted
        ]
    return RetrievalTask(
        queries=tuple(term for term, _ in pairs),
        relevant=tuple(code.code for _, code in pairs),
        corpus_codes=tuple(code.code for code in corpus),
        corpus_texts=tuple(code.description for code in corpus),
    )
