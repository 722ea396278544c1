"""Metrics: one number a query, so that `statistics` can say how sure their mean is.

Retrieval metrics take the ids that came back, nearest first. What answers a query are
ids, or grades by id; a grade of 0 or below means "judged, and not relevant".
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Values = NDArray[np.float64]
Found = Sequence[Sequence[Any]]
Relevant = Collection[Any] | Mapping[Any, float]


def ndcg_at_k(found: Found, relevant: Sequence[Relevant], k: int = 10) -> Values:
    """Return normalised discounted cumulative gain, per query, ``[queries]``.

    ``DCG = sum of rel_i / log2(i + 1)`` over the first k places, over that of an ideal
    order; 0 with nothing relevant. Source: Järvelin and Kekäläinen 2002, the gain
    linear as in trec_eval.
    """

    def gain(grades: Iterable[float]) -> float:
        # In order and with the C library's log2: trec_eval's value to the bit.
        total = 0.0
        for place, grade in enumerate(grades, 1):
            total += max(0, grade) / math.log2(place + 1)
        return total

    values = []
    for row, wanted in zip(found, relevant, strict=True):
        graded = wanted if isinstance(wanted, Mapping) else dict.fromkeys(wanted, 1)
        ideal = gain(sorted(graded.values(), reverse=True)[:k])
        got = gain(graded.get(key, 0) for key in row[:k])
        values.append(got / ideal if ideal else 0.0)
    return np.array(values, np.float64)


def average_precision_at_k(
    found: Found, relevant: Sequence[Relevant], k: int = 1_000
) -> Values:
    """Return average precision, per query, ``[queries]``; its mean is MAP.

    The precision at each relevant id among the first k, summed, over the number of all
    relevant ids, as in trec_eval. Source: Buckley and Voorhees 2000.
    """
    values = []
    for row, wanted in zip(found, map(_positive, relevant), strict=True):
        hits, total = 0, 0.0
        for place, key in enumerate(row[:k], 1):
            if key in wanted:
                hits += 1
                total += hits / place
        values.append(total / max(1, len(wanted)))
    return np.array(values, np.float64)


def recall_at_k(found: Found, relevant: Sequence[Relevant], k: int = 10) -> Values:
    """Return the share of relevant ids among the first k, per query."""
    rows = zip(found, map(_positive, relevant), strict=True)
    return np.array([len(set(row[:k]) & w) / max(1, len(w)) for row, w in rows])


def overlap_at_k(found: Found, other: Found, k: int = 10) -> Values:
    """Return the share of the first k ids that two rankings have in common."""
    return recall_at_k(other, [row[:k] for row in found], k)


def spearman(predicted: ArrayLike, gold: ArrayLike) -> float:
    """Return Spearman's rank correlation, ties sharing their mean rank."""
    return float(stats.spearmanr(predicted, gold).statistic)


def pairwise_cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> Values:
    """Return the cosine of each row with its partner, ``[n, d], [n, d] -> [n]``."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: Values = (a * b).sum(1) / np.maximum(norms, 1e-12)
    return cosines


def _positive(wanted: Relevant) -> set[Any]:
    """Return the ids that answer the query: of graded ones, those above 0."""
    if isinstance(wanted, Mapping):
        return {key for key, grade in wanted.items() if grade > 0}
    return set(wanted)
