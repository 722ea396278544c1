"""One number a query, or one for a set of pairs.

Retrieval metrics take the ids that came back, nearest first, and give one value for
each query, so that `statistics` can say how sure their mean is.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def ndcg_at_k(
    found: Sequence[Sequence[Any]], relevant: Sequence[Collection[Any]], k: int = 10
) -> Values:
    """Return normalised discounted cumulative gain, binary relevance, per query.

    ``DCG = Σ_i rel_i / log2(i + 1)`` over the first k places, over that of an ideal
    order. Source: Järvelin and Kekäläinen 2002.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    values = []
    for row, wanted in zip(found, relevant, strict=True):
        gain = sum(discount[i] for i, key in enumerate(row[:k]) if key in wanted)
        values.append(gain / discount[: len(wanted)].sum() if len(wanted) else 0.0)
    return np.array(values)


def recall_at_k(
    found: Sequence[Sequence[Any]], relevant: Sequence[Collection[Any]], k: int = 10
) -> Values:
    """Return the share of relevant ids among the first k, per query."""
    return np.array(
        [
            len(set(row[:k]) & set(wanted)) / max(1, len(wanted))
            for row, wanted in zip(found, relevant, strict=True)
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
