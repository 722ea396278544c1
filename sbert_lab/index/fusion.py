"""Several retrievers, one ranking: fused by their scores, or by their ranks alone.

Weights are to be chosen on labelled queries (`Passages.tune`): equal ones often make
the better retriever worse.
"""

from collections import defaultdict
from collections.abc import Sequence
from math import fsum

import numpy as np
from numpy.typing import ArrayLike, NDArray

Fused = tuple[NDArray[np.float64], NDArray[np.int64]]


def convex_combination(
    found: Sequence[tuple[ArrayLike, ArrayLike]],
    weights: Sequence[float],
    *,
    floors: Sequence[float | None] | None = None,
    k: int | None = None,
) -> Fused:
    """Merge rankings by a weighted mean of scores, each scaled to a query's 0 to 1.

    `found` has for each retriever its scores and row numbers ``[q, k_r]``, -1 where
    nothing was found; all are of the same q queries and documents. A retriever's best
    row gets 1; 0 is its worst one or, where `floors` says so, that score and less:
    BM25's is 0, no word in common. What it did not find gets 0. Weight 0 leaves it out.

    Returns scores and rows of the best `k`, or of all, ``[q, k']``, equal scores sorted
    by row; minus infinity and -1 where fewer were found.

    Examples
    --------
    >>> by_vectors, by_words = ([[0.9, 0.8, 0.5]], [[3, 7, 5]]), ([[12.0, 3]], [[7, 9]])
    >>> scores, rows = convex_combination([by_vectors, by_words], [0.8, 0.2])
    >>> rows.tolist(), scores.round(2).tolist()
    ([[3, 7, 5, 9]], [[0.8, 0.8, 0.0, 0.0]])

    Source: Bruch, Gai and Ingber 2023, section 3 (convex combination, min-max scaled).
    """
    floors = [None] * len(found) if floors is None else floors
    sides = []
    for (scores, rows), weight, floor in zip(found, weights, floors, strict=True):
        ids, values = np.asarray(rows), np.asarray(scores, np.float64)
        known = (ids >= 0) & (weight != 0)
        top = values.max(1, initial=-np.inf, where=known, keepdims=True)
        low = values.min(1, initial=np.inf, where=known, keepdims=True)
        low = low if floor is None else np.full_like(low, floor)
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = (np.maximum(values, low) - low) / (top - low)
            scaled = np.where(top > low, scaled, floor is None)  # equal: all the best
        sides.append((np.where(known, ids, -1), weight * scaled))
    return _merged(sides, k)


def reciprocal_rank_fusion(
    rankings: Sequence[ArrayLike],
    *,
    weights: Sequence[float] | None = None,
    k: int | None = None,
) -> Fused:
    """Merge rankings by ranks, where scores have no common scale.

    Each ranking holds row numbers ``[q, k_r]``, best first, -1 where nothing was found;
    all are of the same q queries and documents. A row scores the sum of
    ``weight / (60 + rank)`` over those that found it, ranks counted from 1, where it
    stands first. Weights, by default 1, and what returns are `convex_combination`'s.

    Examples
    --------
    Two retrievers answer one query; row 7 is found by both:

    >>> scores, rows = reciprocal_rank_fusion([[[3, 7, 5]], [[7, 9, -1]]])
    >>> rows.tolist()
    [[7, 3, 9, 5]]

    Source: Cormack, Clarke and Buettcher 2009.
    """
    weights = [1.0] * len(rankings) if weights is None else weights
    sides = []
    for ranking, weight in zip(rankings, weights, strict=True):
        rows = np.where(weight != 0, np.asarray(ranking), -1)
        places = np.arange(1, rows.shape[1] + 1)
        sides.append((rows, np.broadcast_to(weight / (60 + places), rows.shape)))
    return _merged(sides, k)


def _merged(
    sides: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]], k: int | None
) -> Fused:
    """Sum the shares ``[q, k_r]`` of each row and sort; of a row's two the first."""
    best = []
    for answers in zip(*(zip(*side, strict=True) for side in sides), strict=True):
        parts: dict[int, list[float]] = defaultdict(list)
        for rows, shares in answers:
            first = dict(zip(rows[::-1].tolist(), shares[::-1].tolist(), strict=True))
            for row, share in first.items():
                if row >= 0:
                    parts[row].append(share)
        # Summed exactly and compared rounded: the order of retrievers changes nothing.
        scored = [(row, fsum(own)) for row, own in parts.items()]
        best.append(sorted(scored, key=lambda one: (-round(one[1], 12), one[0]))[:k])
    width = max(map(len, best), default=0)
    merged = np.full((len(best), width), -1, np.int64)
    scores = np.full((len(best), width), -np.inf)
    for query, pairs in enumerate(best):
        for place, (row, score) in enumerate(pairs):
            merged[query, place], scores[query, place] = row, score
    return scores, merged
