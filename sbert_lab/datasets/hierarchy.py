"""Similarity graded by the hierarchy of ICD-10-CM.

How alike two entries are is read off the book, not off their words: the fewer steps
lead to a common heading, the more alike they are. Each anchor has six partners, one
for every score, so that the scores are balanced:

====== ======================= ==============================================
score  relation                example
====== ======================= ==============================================
5      ``synonym``             a code and one of its inclusion terms
4      ``parent``              a code and the heading right above it
3      ``sibling``             two codes of one heading, one category
2      ``block``               two categories of one block
1      ``chapter``             two blocks of one chapter
0      ``other chapter``       two chapters
====== ======================= ==============================================
"""

from dataclasses import dataclass

import numpy as np

from sbert_lab.datasets.icd10cm import (
    Code,
    ancestors,
    by_code,
    retrieval_corpus,
    split_of,
    split_pairs,
)
from sbert_lab.datasets.similarity import ScoredPairs

RELATIONS = ("other chapter", "chapter", "block", "sibling", "parent", "synonym")


@dataclass(frozen=True)
class GradedPair:
    """An entry, another one, and how many steps of the hierarchy they share.

    Parameters
    ----------
    anchor, partner
        What the two say.
    score
        5 (same meaning) to 0 (another chapter): the place in `RELATIONS`.
    category
        Three-character category of the anchor: pairs of one category are related.
    """

    anchor: str
    partner: str
    score: int
    category: str

    @property
    def relation(self) -> str:
        """Where the partner stands."""
        return RELATIONS[self.score]


def graded_pairs(
    split: str = "test", anchors: int | None = None, seed: int = 0
) -> tuple[GradedPair, ...]:
    """Return six pairs for each anchor, scores 5 to 0.

    An anchor is a subcategory with an inclusion term and a sibling. All partners are
    of the same split, so that no code, nor a near relative of it, stands on both sides
    (headings above category level apart, which belong to no split). A pair whose two
    texts are equal is left out, with its anchor.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``.
    anchors
        How many to draw at random; None takes all.
    seed
        Of the draw, and of the partners.
    """
    terms: dict[str, list[str]] = {}
    for term, code in split_pairs(split):
        if code.kind == "subcategory":
            terms.setdefault(code.code, []).append(term)
    rng = np.random.default_rng(seed)
    nearby = _Nearby([c for c in retrieval_corpus() if split_of(c.category) == split])
    pairs: list[GradedPair] = []
    for row in rng.permutation(len(terms)):
        if anchors is not None and len(pairs) >= 6 * anchors:
            break
        name = list(terms)[row]
        code = by_code()[name]
        partners = nearby.partners(code, rng)
        if partners is None:
            continue
        term = terms[name][rng.integers(len(terms[name]))]
        texts = [*(p.description for p in partners), term]
        if code.description.lower() in {text.lower() for text in texts}:
            continue
        pairs += [
            GradedPair(code.description, text, score, code.category)
            for score, text in reversed(list(enumerate(texts)))
        ]
    return tuple(pairs)


def scored_pairs(
    split: str = "test", anchors: int | None = None, seed: int = 0
) -> ScoredPairs:
    """Return `graded_pairs` in the form of the other similarity sets."""
    pairs = graded_pairs(split, anchors, seed)
    return ScoredPairs(
        first=tuple(pair.anchor for pair in pairs),
        second=tuple(pair.partner for pair in pairs),
        score=tuple(float(pair.score) for pair in pairs),
        group=tuple(pair.category for pair in pairs),
    )


class _Nearby:
    """The codes of a split, by the headings they stand under."""

    def __init__(self, codes: list[Code]) -> None:
        self.codes = [code for code in codes if code.category]
        self.block = {code.code: _block(code) for code in self.codes}
        self.pools: dict[tuple[str, str], list[Code]] = {}

    def partners(self, code: Code, rng: np.random.Generator) -> list[Code] | None:
        """Draw a partner for scores 0 to 4, or None where one does not exist."""
        pools = [
            self._pool("other chapter", code.chapter),
            self._pool("chapter", _block(code)),
            self._pool("block", code.category),
            [c for c in self._pool("sibling", code.parent) if c.code != code.code],
        ]
        if not all(pools):
            return None
        drawn = [pool[rng.integers(len(pool))] for pool in pools]
        return [*drawn, by_code()[code.parent]]

    def _pool(self, relation: str, key: str) -> list[Code]:
        """Return the codes that stand in this relation to what `key` names."""
        if (relation, key) not in self.pools:
            self.pools[relation, key] = self._related(relation, key)
        return self.pools[relation, key]

    def _related(self, relation: str, key: str) -> list[Code]:
        if relation == "other chapter":
            return [c for c in self.codes if c.chapter != key]
        if relation == "sibling":
            return [c for c in self.codes if c.parent == key]
        if relation == "chapter":
            chapter, block = by_code()[key].chapter, key
            near = [c for c in self.codes if c.chapter == chapter]
            return [c for c in near if self.block[c.code] != block]
        block = _block(by_code()[key])
        near = [c for c in self.codes if self.block[c.code] == block]
        return [c for c in near if c.category != key]


def _block(code: Code) -> str:
    """Return the block that a code stands in."""
    return next(c.code for c in ancestors(code) if c.kind == "block")
