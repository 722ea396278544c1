"""Metrics: one number a query, so that `statistics` can say how sure their mean is.

Retrieval metrics take the ids that came back, nearest first. What answers a query are
ids, or grades by id; a grade of 0 or below means "judged, and not relevant". An id that
comes back again gains nothing, and takes its place.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sbert_lab._utils import whole_number
from sbert_lab.index.exact import checked

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
            total += grade / math.log2(place + 1)
        return total

    values = []
    for row, graded in _judged(found, relevant, k):
        ideal = gain(sorted(graded.values(), reverse=True)[:k])
        got = gain(graded.pop(key, 0) for key in row)
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
    for row, graded in _judged(found, relevant, k):
        hits, total, answers = 0, 0.0, len(graded)
        for place, key in enumerate(row, 1):
            if graded.pop(key, 0):
                hits += 1
                total += hits / place
        values.append(total / max(1, answers))
    return np.array(values, np.float64)


def recall_at_k(found: Found, relevant: Sequence[Relevant], k: int = 10) -> Values:
    """Return the share of relevant ids among the first k, per query."""
    rows = _judged(found, relevant, k)
    return np.array([len(g.keys() & set(row)) / max(1, len(g)) for row, g in rows])


def overlap_at_k(found: Found, other: Found, k: int = 10) -> Values:
    """Return the share of the first k ids that two rankings have in common."""
    return recall_at_k(other, [row[:k] for row in found], k)


def spearman(predicted: ArrayLike, gold: ArrayLike) -> float:
    """Return Spearman's rank correlation, ties sharing their mean rank.

    It is 0 where one side never varies.
    """
    both = np.stack([np.asarray(side, np.float64) for side in (predicted, gold)])
    if both.ndim != 2 or both.shape[1] < 2 or not np.isfinite(both).all():
        raise ValueError(f"{both.shape[1:]} are not two or more finite scores a side")
    if not np.ptp(both, axis=1).all():
        return 0.0
    return float(stats.spearmanr(predicted, gold).statistic)


def pairwise_cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> Values:
    """Return the cosine of each row with its partner, ``[n, d], [n, d] -> [n]``."""
    shapes = checked(first, "first").shape, checked(second, "second").shape
    if shapes[0] != shapes[1]:
        raise ValueError(f"{shapes[0]} and {shapes[1]}: give each row its partner")
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: Values = (a * b).sum(1) / np.where(norms > 0, norms, 1)
    return cosines


def positive(wanted: Relevant) -> dict[Any, float]:
    """Return the ids that answer a query and their grades, 1 where none are given."""
    if not isinstance(wanted, Mapping):
        return dict.fromkeys(_ids(wanted), 1)
    if not all(map(math.isfinite, wanted.values())):
        raise ValueError(f"grades must be finite numbers: {dict(wanted)}")
    return {key: grade for key, grade in wanted.items() if grade > 0}


def _judged(
    found: Found, relevant: Sequence[Relevant], k: int
) -> Iterator[tuple[list[Any], dict[Any, float]]]:
    """Yield the first k ids and the answers of each query, or say what is wrong."""
    k = whole_number(k, "k")
    try:
        for row, wanted in zip(found, relevant, strict=True):
            if isinstance(row, Set | Mapping):
                raise TypeError(f"a {type(row).__name__} has no order")
            ids, answers = _ids(row), positive(wanted)
            text = [{isinstance(key, str) for key in keys} for keys in (ids, answers)]
            if all(text) and text[0].isdisjoint(text[1]):
                raise TypeError(f"{ids[0]!r} and {min(answers)!r} differ in kind")
            yield ids[:k], answers
    except (TypeError, ValueError) as error:
        cure = "give for each query a list of ids, and the answers' ids or grades"
        raise ValueError(f"{error}: {cure}") from error


def _ids(values: Iterable[Any]) -> list[Any]:
    """Return ids as a list, those of arrays and tensors as Python's own."""
    if isinstance(values, str | bytes | Iterator):  # an iterator is read but once
        raise TypeError(f"{values!r:.40} is no list of ids")
    listed = list(getattr(values, "tolist", lambda: values)())
    if any(key != key for key in {*listed}):
        raise TypeError("NaN is no id")
    return listed


def anisotropy(vectors: ArrayLike) -> float:
    """Return the mean cosine over all pairs of different rows, ``[n, D]``.

    Near 1 in a narrow cone. With unit rows u_i it is ``(|Σ u_i|² − n) / (n (n − 1))``,
    worked out in float64. Source: Ethayarajh 2019, section 3.3.
    """
    x = np.asarray(vectors, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError("the shape of a space needs two vectors or more, [n, D]")
    unit = x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)
    n, total = len(unit), unit.sum(0)
    return float((total @ total - n) / (n * (n - 1)))
