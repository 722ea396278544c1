"""Several retrievers, one ranking: reciprocal rank fusion.

A cosine and a BM25 score have no common scale, so their sum means little. Ranks have
one: fusion looks at the place at which each retriever puts a document.
"""

from collections import defaultdict
from collections.abc import Sequence
from math import fsum

import numpy as np
from numpy.typing import ArrayLike, NDArray


def reciprocal_rank_fusion(
    rankings: Sequence[ArrayLike],
    *,
    constant: float = 60,
    weights: Sequence[float] | None = None,
    k: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge the rankings of several retrievers by the ranks that they give.

    A document scores the sum of ``weight / (constant + rank)`` over the retrievers that
    found it, ranks counted from 1. Equal scores are sorted by row number.

    Parameters
    ----------
    rankings
        One array a retriever: row numbers ``[q, k_r]``, best first, -1 where nothing
        was found. All of the same q queries, and numbers of the same documents.
    constant
        How little the first places stand out; 60 is the paper's.
    weights
        One a retriever; all 1 by default. At weight 0 a retriever is left out.
    k
        Keep the best `k`; None keeps every document that was found.

    Returns
    -------
    scores, rows
        float64 and int64 ``[q, k']``, best first; minus infinity and -1 where fewer
        were found.

    Examples
    --------
    Two retrievers answer one query; row 7 is found by both:

    >>> scores, rows = reciprocal_rank_fusion([[[3, 7, 5]], [[7, 9, -1]]])
    >>> rows.tolist()
    [[7, 3, 9, 5]]

    Source: Cormack, Clarke and Buettcher 2009.
    """
    found = [np.asarray(ranking) for ranking in rankings]
    if not found or {rows.shape[:1] for rows in found} != {found[0].shape[:1]}:
        raise ValueError("rankings must be arrays [q, k] for the same q queries")
    weights = [1.0] * len(found) if weights is None else list(weights)
    best = []
    for answers in zip(*found, strict=True):
        shares: dict[int, list[float]] = defaultdict(list)
        for rows, weight in zip(answers, weights, strict=True):
            for rank, row in enumerate(rows.tolist(), 1):
                if row >= 0 and weight > 0:
                    shares[row].append(weight / (constant + rank))
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
