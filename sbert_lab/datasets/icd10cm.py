"""ICD-10-CM: 98,505 medical codes with descriptions, a hierarchy and synonyms.

Chapters hold blocks, blocks hold categories (three characters), categories hold ever
finer codes. An *inclusion term* is what a clinician writes for a code ("Classical
cholera" for A00.0); finding the code from the term is the retrieval task.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from sbert_lab._utils import no_collections
from sbert_lab.models.registry import resolve

#: Terms that describe no disease but point at other codes.
_CROSS_REFERENCE = re.compile(
    r"\b(classifi|condition|categor|listed|as in)\w*\b.*\b[A-Z]\d[0-9A-Z]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Code:
    """One entry of the classification; what does not exist is empty.

    `kind` is ``"chapter"``, ``"block"``, ``"category"`` or ``"subcategory"``. A block
    with a single category of the same name is called ``"B20-B20"``, as in print.
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
    """Queries, and the one document that each must find in a corpus."""

    queries: tuple[str, ...]
    relevant: tuple[str, ...]  #: the name of each query's document
    corpus_codes: tuple[str, ...]  #: the names of all documents
    corpus_texts: tuple[str, ...]


@cache
def load() -> tuple[Code, ...]:
    """Return every entry in the order of the book, its checksums verified."""
    resolve("icd10cm")
    with no_collections():
        import simple_icd_10_cm  # which reads 10 MB of XML

        return tuple(_entries(simple_icd_10_cm))


def _entries(icd: Any) -> list[Code]:  # noqa: ANN401
    listed: list[str] = icd.get_all_codes(True)
    times = Counter(listed)
    codes: list[Code] = []
    found: dict[str, Code] = {}
    for name in listed:
        # A name that stands twice is a block and the one category inside it.
        is_block = name not in found and (times[name] == 2 or icd.is_block(name))
        if icd.is_chapter(name):
            kind = "chapter"
        elif is_block:
            kind = "block"
        else:
            kind = "category" if icd.is_category(name) else "subcategory"
        parent = icd.get_parent(name, is_block)
        if kind == "category" and times[parent] == 2:
            parent = f"{parent}-{parent}"
        code = Code(
            code=f"{name}-{name}" if is_block and times[name] == 2 else name,
            kind=kind,
            description=icd.get_description(name, is_block),
            parent=parent,
            category=name[:3] if kind in ("category", "subcategory") else "",
            chapter=found[parent].chapter if parent else name,
            inclusion_terms=tuple(icd.get_inclusion_term(name, is_block)),
        )
        codes.append(code)
        found[name] = found[code.code] = code
    return codes


@cache
def by_code() -> dict[str, Code]:
    """Return the entries by their unique code."""
    return {code.code: code for code in load()}


def sample(count: int | None, seed: int = 0) -> tuple[Code, ...]:
    """Return `count` entries drawn at random, in the order of the book; None is all."""
    codes = load()
    if count is None or count >= len(codes):
        return codes
    drawn = np.random.default_rng(seed).choice(len(codes), count, replace=False)
    return tuple(codes[row] for row in sorted(drawn))


def ancestors(code: Code) -> list[Code]:
    """Return the codes above, the parent first, the chapter last."""
    line: list[Code] = []
    while code.parent:
        code = by_code()[code.parent]
        line.append(code)
    return line


@cache
def block_of(code: Code) -> Code:
    """Return the block that a category or a finer code stands in."""
    return next(above for above in ancestors(code) if above.kind == "block")


@cache
def split_of(category: str) -> str:
    """Return ``"test"`` or ``"train"`` for a category, by a hash of its name.

    By category, so that no near relative of a code stands on the other side.
    """
    number = int.from_bytes(hashlib.sha256(category.encode()).digest()[:4], "big")
    return "test" if number % 1000 < 180 else "train"


def split_pairs(split: str) -> list[tuple[str, Code]]:
    """Return each inclusion term of ``"train"`` or ``"test"`` with its code.

    Left out are repetitions, cross-references ("Conditions classifiable to C50.-"), and
    of test what train has. Terms of codes above category level belong to train.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r}: 'train' or 'test'")
    sides: dict[str, dict[tuple[str, str], tuple[str, Code]]] = defaultdict(dict)
    for code in load():
        side = sides[split_of(code.category) if code.category else "train"]
        for term in code.inclusion_terms:
            if not _CROSS_REFERENCE.search(term):
                side.setdefault((term.lower(), code.code), (term, code))
    seen = {term for term, _ in sides["train"]} if split == "test" else ()
    return [pair for (term, _), pair in sides[split].items() if term not in seen]


def retrieval_corpus() -> list[Code]:
    """Return the codes of at most five characters, or with an inclusion term.

    Finer ones repeat their parent's description with an encounter or a side added.
    """
    return [c for c in load() if len(c.code) <= 5 or c.inclusion_terms]


def retrieval_task(
    split: str = "test",
    queries: int | None = None,
    codes: int | None = None,
    seed: int = 0,
) -> RetrievalTask:
    """Return the terms of a split, and the corpus in which to find their codes."""
    pairs = [(term, code.code) for term, code in split_pairs(split)]
    corpus = [(code.code, code.description) for code in retrieval_corpus()]
    return drawn_task(pairs, corpus, queries, codes, seed)


def drawn_task(
    pairs: Sequence[tuple[str, str]],
    corpus: Sequence[tuple[str, str]],
    queries: int | None = None,
    documents: int | None = None,
    seed: int = 0,
) -> RetrievalTask:
    """Return a retrieval task, or a smaller one drawn from it, in the same order.

    `pairs` are queries and the names of their documents, `corpus` names and texts.
    `queries` and `documents` are how many to draw, the corpus filled up; None is all.
    """
    rng = np.random.default_rng(seed)
    if queries is not None and queries < len(pairs):
        chosen = rng.choice(len(pairs), queries, replace=False)
        pairs = [pairs[row] for row in sorted(chosen)]
    if documents is not None and documents < len(corpus):
        wanted = {name for _, name in pairs}
        others = [row for row, (name, _) in enumerate(corpus) if name not in wanted]
        more = rng.choice(len(others), max(0, documents - len(wanted)), replace=False)
        left_out = set(others) - {others[row] for row in more}
        corpus = [each for row, each in enumerate(corpus) if row not in left_out]
    return RetrievalTask(
        queries=tuple(query for query, _ in pairs),
        relevant=tuple(name for _, name in pairs),
        corpus_codes=tuple(name for name, _ in corpus),
        corpus_texts=tuple(text for _, text in corpus),
    )
