"""Several retrievers, one ranking: reciprocal rank fusion.

A cosine and a BM25 score have no common scale, so their sum means little. Ranks have
one: fusion looks at the place at which each retriever puts a document, and at nothing
else.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float64]
Rows = NDArray[np.int64]

_NEAR = 1e-12  # relative; rounding moves a sum by less, other ranks by more


def reciprocal_rank_fusion(
    rankings: Sequence[ArrayLike],
    *,
    constant: float = 60,
    weights: Sequence[float] | None = None,
    k: int | None = None,
) -> tuple[Scores, Rows]:
    """Merge the rankings of several retrievers by the ranks that they give.

    A document scores the sum of ``weight / (constant + rank)`` over the retrievers that
    found it, ranks counted from 1. Equal scores are sorted by row number, the smaller
    first. The order of the retrievers changes nothing, not even the last bit.

    Parameters
    ----------
    rankings
        One array a retriever: row numbers ``[q, k_r]``, best first, -1 where nothing
        was found. All of the same q queries, and numbers of the same documents.
    constant
        How little the first places stand out, 0 or more. 60 is the paper's.
    weights
        One a retriever, 0 or more; all 1 by default. A retriever of weight 0 is left
        out.
    k
        Keep the best `k`; None keeps every document that was found.

    Returns
    -------
    scores
        float64 ``[q, k']``, falling; minus infinity where fewer were found.
    rows
        int64 ``[q, k']``; -1 there.

    Raises
    ------
    ValueError
        No ranking, one of another shape or of other numbers, a document twice in one
        ranking, or an option out of range.

    Examples
    --------
    Two retrievers answer one query; row 7 is found by both:

    >>> scores, rows = reciprocal_rank_fusion([[[3, 7, 5]], [[7, 9, -1]]])
    >>> rows.tolist()
    [[7, 3, 9, 5]]
    >>> bool(scores[0, 0] == 1 / 62 + 1 / 61)
    True

    Source: Cormack, Clarke and Buettcher 2009.
    """
    found = [_checked(ranking, place) for place, ranking in enumerate(rankings)]
    if not found:
        raise ValueError("no ranking to merge; pass one array of rows a retriever")
    if len(counts := {len(rows) for rows in found}) > 1:
        raise ValueError(
            f"the rankings answer {sorted(counts)} queries; all must answer the same"
        )
    weighed = _weights(weights, len(found))
    if not 0 <= constant < np.inf:
        raise ValueError(f"constant={constant}: 0 or more; the paper takes 60")
    if k is not None and k < 1:
        raise ValueError(f"k={k}: one or more, or None for all")
    parts = [
        _shares(rows, constant, weight)
        for rows, weight in zip(found, weighed, strict=True)
    ]
    query, row, share = map(np.concatenate, zip(*parts, strict=True))
    query, row, score = _sums(query, row, share)
    score = _tied(query, score)
    order = np.lexsort((row, -score, query))
    query, row, score = query[order], row[order], score[order]
    sizes = np.bincount(query)
    place = np.arange(len(query)) - (np.cumsum(sizes) - sizes)[query]
    width = int(sizes.max(initial=0)) if k is None else min(k, sizes.max(initial=0))
    kept = place < width
    scores = np.full((len(found[0]), width), -np.inf)
    rows = np.full(scores.shape, -1, np.int64)
    scores[query[kept], place[kept]] = score[kept]
    rows[query[kept], place[kept]] = row[kept]
    return scores, rows


def _shares(rows: Rows, constant: float, weight: float) -> tuple[Rows, Rows, Scores]:
    """Return query, row and share of the score of whatever one retriever found."""
    query, place = np.nonzero((rows >= 0) & (weight > 0))
    shares = np.float64(weight) / (constant + 1 + place)
    return query.astype(np.int64), rows[query, place], shares


def _sums(query: Rows, row: Rows, share: Scores) -> tuple[Rows, Rows, Scores]:
    """Add the shares of each document of each query.

    They are added in order of size: the same shares then give the same sum, whichever
    retriever each came from, and a tie stays a tie.
    """
    order = np.lexsort((share, row, query))
    query, row, share = query[order], row[order], share[order]
    if not len(query):
        return query, row, share
    new = (np.diff(query, prepend=-1) != 0) | (np.diff(row, prepend=-1) != 0)
    first = np.flatnonzero(new)
    return query[first], row[first], np.add.reduceat(share, first)


def _tied(query: Rows, score: Scores) -> Scores:
    """Return scores that are equal where their fractions are.

    1/3 + 1/3 + 1/2 and 1/2 + 1/2 + 1/6 differ in their last bit, and are a tie.
    """
    order = np.lexsort((-score, query))
    who, ranked = query[order], score[order]
    new = np.ones(len(score), bool)
    new[1:] = (who[1:] != who[:-1]) | (ranked[1:] < ranked[:-1] * (1 - _NEAR))
    equal = np.empty_like(score)
    equal[order] = ranked[np.flatnonzero(new)][np.cumsum(new) - 1]
    return equal


def _checked(ranking: ArrayLike, place: int) -> Rows:
    """Return a ranking as int64 ``[q, k]``, or say what is wrong with it."""
    rows = np.asarray(ranking)
    if rows.ndim != 2 or (rows.dtype.kind not in "iu" and rows.size):
        raise ValueError(
            f"rankings[{place}] must be row numbers of shape [q, k], not {rows.dtype} "
            f"of shape {list(rows.shape)}; one query is [[…]]"
        )
    rows = rows.astype(np.int64)
    if (rows < -1).any():
        raise ValueError(
            f"rankings[{place}] holds {rows.min()}: row numbers are 0 or more, and -1 "
            "where nothing was found"
        )
    ordered = np.sort(rows, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        query, at = np.argwhere(twice)[0]
        raise ValueError(
            f"rankings[{place}] names row {ordered[query, at]} twice for query "
            f"{query}; keep the better place of the two"
        )
    return rows


def _weights(weights: Sequence[float] | None, count: int) -> Scores:
    if weights is None:
        return np.ones(count)
    weighed = np.asarray(weights, np.float64)
    if weighed.shape != (count,):
        raise ValueError(f"{count} rankings and weights of shape {weighed.shape}")
    if not (np.isfinite(weighed).all() and (weighed >= 0).all()):
        raise ValueError(f"weights={weighed.tolist()}: each is finite and 0 or more")
    return weighed
