"""Several retrievers, one ranking: reciprocal rank fusion."""

from collections import defaultdict
from collections.abc import Sequence
from math import fsum

import numpy as np
from numpy.typing import ArrayLike, NDArray


def reciprocal_rank_fusion(
    rankings: Sequence[ArrayLike], *, k: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge rankings by ranks, for scores of several retrievers have no common scale.

    Each ranking holds row numbers ``[q, k_r]``, best first, -1 where nothing was found;
    all are of the same q queries and documents. A row scores the sum of
    ``1 / (60 + rank)`` over those that found it, ranks counted from 1, where it stands
    first. Returns scores and rows of the best `k`, or of all, ``[q, k']``, equal scores
    sorted by row; minus infinity and -1 where fewer were found.

    Examples
    --------
    Two retrievers answer one query; row 7 is found by both:

    >>> scores, rows = reciprocal_rank_fusion([[[3, 7, 5]], [[7, 9, -1]]])
    >>> rows.tolist()
    [[7, 3, 9, 5]]

    Source: Cormack, Clarke and Buettcher 2009.
    """
    found = [np.asarray(ranking) for ranking in rankings]
    best = []
    for answers in zip(*found, strict=True):
        shares: dict[int, list[float]] = defaultdict(list)
        for rows in answers:
            places = reversed([*enumerate(rows.tolist(), 1)])  # the first one stays
            for row, rank in {row: rank for rank, row in places}.items():
                if row >= 0:
                    shares[row].append(1 / (60 + rank))
        # Summed exactly and compared rounded: the order of retrievers changes nothing.
        scored = [(row, fsum(parts)) for row, parts in shares.items()]
        best.append(sorted(scored, key=lambda one: (-round(one[1], 12), one[0]))[:k])
    width = max(map(len, best), default=0)
    scores = np.full((len(best), width), -np.inf)
    merged = np.full((len(best), width), -1, np.int64)
    for query, pairs in enumerate(best):
        for place, (row, score) in enumerate(pairs):
            merged[query, place], scores[query, place] = row, score
    return scores, merged
