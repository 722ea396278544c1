"""Hard negatives: texts that a model takes for the answer, and that are not.

The nearest wrong texts teach most, but among them stand right answers that nobody wrote
down, and a model that is taught to push those away gets worse.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import Vectors
from sbert_lab.datasets.pairs import plain
from sbert_lab.index.exact import exact_search, normalized
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder

Rows = NDArray[np.int64]
#: Numbers of anchors ``[q]`` and k to scores and numbers of texts ``[q, k]``.
Search = Callable[[Rows, int], tuple[Vectors, Rows]]

_ANCHORS_AT_ONCE = 1_024


class NoNegativesError(ValueError):
    """No anchor has a negative."""


@dataclass(frozen=True, eq=False)
class Mined:
    """What was mined for n pairs. Pairs of one anchor have the same negatives."""

    anchors: Sequence[str] = field(repr=False)
    positives: Sequence[str] = field(repr=False)
    corpus: Sequence[str] = field(repr=False)
    #: Corpus rows, int64 ``[n, per_anchor]``, nearest first, -1 where there are fewer.
    negatives: Rows = field(repr=False)
    #: How many candidates were passed over, and why.
    removed: dict[str, int]

    @property
    def rows(self) -> Rows:
        """Numbers of the pairs that have a negative, rising."""
        return np.flatnonzero((self.negatives >= 0).any(1))

    def columns(self) -> dict[str, list[str] | list[list[str]]]:
        """Return ``anchor``, ``positive`` and a list of ``negative`` for each pair."""
        lists = [[self.corpus[i] for i in row if i >= 0] for row in self.negatives]
        return {
            "anchor": list(self.anchors),
            "positive": list(self.positives),
            "negative": lists,
        }


def mine(
    encoder: SentenceEncoder,
    anchors: Sequence[str],
    positives: Sequence[str],
    *,
    corpus: Sequence[str] | None = None,
    per_anchor: int = 1,
    rank: tuple[int, int] = (0, 10),
    relative_margin: float | None = None,
    seed: int = 0,
    cache: EmbeddingCache | None = None,
) -> Mined:
    """Find hard negatives for n pairs of texts that belong together row by row.

    An anchor's nearest texts of `corpus`, by default the positives, are its candidates,
    but for itself and its positives in all pairs in which it stands. Negatives are
    drawn from the first rank of these, 0 is the nearest, up to and without the last.
    Each has at most the cosine of the anchor's lowest positive, minus `relative_margin`
    of its absolute value. Texts are the same if `pairs.plain` makes them so.

    A `NoNegativesError` says what was in the way of all.

    Sources: Karpukhin et al. 2020, section 3.2 (negatives from a search); Moreira et
    al. 2024, section 3.2 (margins relative to the positive, TopK-PercPos).
    """
    corpus = positives if corpus is None else corpus
    first, last = rank
    if len(anchors) != len(positives) or not len(anchors) or not len(corpus):
        raise ValueError(
            f"{len(anchors)} anchors, {len(positives)} positives and {len(corpus)} "
            "texts: each anchor needs its positive, row by row, and a corpus"
        )
    if not 0 <= first < first + per_anchor <= last:
        raise ValueError(f"rank={rank}, per_anchor={per_anchor}: no room between")
    names, anchor_of, first_pair = _different(anchors)
    numbers, _, first_row = _different(corpus)
    # Right for an anchor are itself and its answers; -1 is a text that is not searched.
    known = [{numbers.get(name, -1)} for name in names]
    for anchor, positive in zip(anchor_of.tolist(), positives, strict=True):
        known[anchor].add(numbers.get(plain(positive), -1))
    texts = [corpus[row] for row in first_row]
    wanted = list(dict.fromkeys([*texts, *positives]))
    asked = [anchors[pair] for pair in first_pair]
    queries = normalized(encoder.encode_query(asked, cache=cache))
    documents = normalized(encoder.encode_document(wanted, cache=cache))

    def search(anchors: Rows, k: int) -> tuple[Vectors, Rows]:
        return exact_search(queries[anchors], documents[: len(texts)], k, "dot")

    last = max(first + per_anchor, min(last, len(texts)))
    highest = np.full(len(asked), np.inf)
    if relative_margin is not None:
        at = {text: row for row, text in enumerate(wanted)}
        own = documents[[at[text] for text in positives]]
        scores = np.einsum("nd,nd->n", queries[anchor_of], own)
        np.minimum.at(highest, anchor_of, scores)
        highest -= np.abs(highest) * relative_margin
    key = np.random.default_rng(seed).random((len(highest), last - first))
    removed = {"known": 0, "relative_margin": 0}
    rows = np.full((len(highest), per_anchor), -1)
    for anchor, found, scores in _windows(search, known, (first, last), removed):
        left = np.flatnonzero(scores <= highest[anchor])
        removed["relative_margin"] += len(found) - len(left)
        chosen = np.sort(left[np.argsort(key[anchor, left])[:per_anchor]])
        rows[anchor, : len(chosen)] = first_row[found[chosen]]
    if (rows < 0).all():
        raise NoNegativesError(
            f"no negative is left; removed were {removed}. Give a larger corpus, look "
            f"deeper than rank={rank}, or loosen what removed most"
        )
    return Mined(anchors, positives, corpus, rows[anchor_of], removed)


def _windows(
    search: Search,
    known: list[set[int]],
    rank: tuple[int, int],
    removed: dict[str, int],
) -> Iterator[tuple[int, Rows, Vectors]]:
    """Yield for each anchor the texts in a range of ranks, and their scores.

    `known` are the numbers of each anchor's answers, which have no rank: a search is
    deep enough for whoever of a block has most of them.
    """
    first, last = rank
    for start in range(0, len(known), _ANCHORS_AT_ONCE):
        block = range(start, min(start + _ANCHORS_AT_ONCE, len(known)))
        depth = last + max(len(known[anchor]) for anchor in block)
        both = search(np.array(block), depth)
        for anchor, scores, texts in zip(block, *both, strict=True):
            right = np.isin(texts, list(known[anchor]))
            allowed = np.flatnonzero(~right)[:last]
            passed = right[: allowed[-1] if len(allowed) == last else None]
            removed["known"] += int(passed.sum())
            taken = allowed[first:]
            yield anchor, texts[taken], scores[taken]


def _different(texts: Sequence[str]) -> tuple[dict[str, int], Rows, Rows]:
    """Return the number of each `plain` text, those of all texts, and its first row."""
    numbers: dict[str, int] = {}
    of = [numbers.setdefault(plain(text), len(numbers)) for text in texts]
    return numbers, np.array(of, np.int64), np.unique(of, return_index=True)[1]
