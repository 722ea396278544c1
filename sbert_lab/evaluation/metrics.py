"""One number a query, or one for a set of pairs.

Retrieval metrics take the ids that came back, nearest first, and give one value for
each query, so that `statistics` can say how sure their mean is.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: What answers a query: ids, or how well each id does, ``{id: grade}``. Grades of 0 and
#: below mean "judged, and not relevant", as in TREC's files of judgements.
Relevant = Collection[Any] | Mapping[Any, float]


def ndcg_at_k(
    found: Sequence[Sequence[Any]], relevant: Sequence[Relevant], k: int = 10
) -> Values:
    """Return normalised discounted cumulative gain, per query, ``[queries]``.

    ``DCG = Σ_i rel_i / log2(i + 1)`` over the first k places, over that of an ideal
    order; ``rel_i`` is the grade, or 1 where only ids are given. The gain is linear, as
    in trec_eval's ``ndcg_cut``; some libraries take ``2^rel − 1``. A query with nothing
    relevant gets 0. Source: Järvelin and Kekäläinen 2002.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    values = []
    for row, wanted in zip(found, relevant, strict=True):
        if isinstance(wanted, Mapping):  # first: a mapping is a collection too
            values.append(_graded_ndcg(row[:k], wanted, k))
            continue
        gain = sum(discount[i] for i, key in enumerate(row[:k]) if key in wanted)
        values.append(gain / discount[: len(wanted)].sum() if len(wanted) else 0.0)
    return np.array(values, np.float64)


def average_precision_at_k(
    found: Sequence[Sequence[Any]], relevant: Sequence[Relevant], k: int = 1_000
) -> Values:
    """Return average precision, per query, ``[queries]``; its mean is MAP.

    The precision at each relevant id among the first k, summed, over the number of
    relevant ids, found or not, as in trec_eval's ``map_cut``. (Some libraries divide by
    at most k, which is larger.) A query with nothing relevant gets 0.
    Source: Buckley and Voorhees 2000.
    """
    values = []
    for row, wanted in zip(found, relevant, strict=True):
        positive = _positive(wanted)
        hits, total = 0, 0.0
        for place, key in enumerate(row[:k], 1):
            if key in positive:
                hits += 1
                total += hits / place
        values.append(total / len(positive) if len(positive) else 0.0)
    return np.array(values, np.float64)


def reciprocal_rank_at_k(
    found: Sequence[Sequence[Any]], relevant: Sequence[Relevant], k: int = 10
) -> Values:
    """Return one over the place of the first relevant id, ``[queries]``; 0 beyond k.

    Its mean is MRR. Source: Voorhees 1999.
    """
    values = []
    for row, wanted in zip(found, relevant, strict=True):
        positive = _positive(wanted)
        places = (1 / i for i, key in enumerate(row[:k], 1) if key in positive)
        values.append(next(places, 0.0))
    return np.array(values, np.float64)


def recall_at_k(
    found: Sequence[Sequence[Any]], relevant: Sequence[Relevant], k: int = 10
) -> Values:
    """Return the share of relevant ids among the first k, per query."""
    return np.array(
        [
            len(set(row[:k]) & set(wanted)) / max(1, len(wanted))
            for row, wanted in zip(found, map(_positive, relevant), strict=True)
        ]
    )


def overlap_at_k(
    found: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]], k: int = 10
) -> Values:
    """Return the share of the first k ids that two rankings have in common."""
    return np.array(
        [
            len(set(a[:k]) & set(b[:k])) / max(1, len(set(a[:k])))
            for a, b in zip(found, other, strict=True)
        ]
    )


def spearman(predicted: Values, gold: Values) -> float:
    """Return Spearman's rank correlation, ties sharing their mean rank."""
    from scipy import stats

    return float(stats.spearmanr(predicted, gold).statistic)


def pairwise_cosine(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the cosine of each row with its partner, ``[n, d], [n, d] -> [n]``."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: NDArray[np.float64] = (a * b).sum(1) / np.maximum(norms, 1e-12)
    return cosines


def _positive(wanted: Relevant) -> Collection[Any]:
    """Return the ids that answer the query: of graded ones, those above 0."""
    if isinstance(wanted, Mapping):
        return {key for key, grade in wanted.items() if grade > 0}
    return wanted


def _graded_ndcg(row: Sequence[Any], grades: Mapping[Any, float], k: int) -> float:
    """Sum in order and with the C library's log2: trec_eval's value to the bit."""

    def gain(sequence: Sequence[float]) -> float:
        total = 0.0
        for place, grade in enumerate(sequence, 1):
            if grade > 0:
                total += grade / math.log2(place + 1)
        return total

    ideal = gain(sorted(grades.values(), reverse=True)[:k])
    return gain([grades.get(key, 0) for key in row]) / ideal if ideal else 0.0
