"""Protocols on pairs of sentences: graded similarity, and same meaning or not.

Each equals MTEB's main score to the last digit on the same vectors.
Source: Muennighoff et al. 2023, section 3.2, and the library mteb 2.26.
"""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbert_lab._utils import METRICS, Metric
from sbert_lab.evaluation.result import ProtocolResult
from sbert_lab.evaluation.sparse import (
    Rows,
    as_measured,
    checked_sparse,
    is_sparse,
    row_products,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]

_Checked: TypeAlias = "NDArray[np.float32] | csr_array"


def sts(first: Rows, second: Rows, gold: ArrayLike) -> ProtocolResult:
    """Score semantic textual similarity; ``cosine_spearman`` counts.

    All pairs are ranked together, even where a set has parts: published tables that
    average over the parts hold other numbers.

    Parameters
    ----------
    first, second
        Vectors of the two sentences, ``[n, d]``; both may be of `scipy.sparse`.
    gold
        How similar people found them, ``[n]``; the scale makes no difference.

    Returns
    -------
    ProtocolResult
        Scores: Spearman's and Pearson's correlation of the gold with the cosine and
        with the negative Manhattan and Euclidean distances. Items: those three, by
        pair, ``"cosine"``, ``"manhattan"``, ``"euclidean"``. For an interval use
        `bootstrap_spearman`.

    Source: Reimers and Gurevych 2019, section 4.
    """
    from scipy.stats import pearsonr, spearmanr

    left, right = _pairs(first, second)
    wanted = _per_pair(gold, left.shape[0], "gold scores")
    items = _nearness(left, right)
    scores = {}
    for name, values in items.items():
        scores[f"{name}_spearman"] = float(spearmanr(wanted, values).statistic)
        scores[f"{name}_pearson"] = float(pearsonr(wanted, values).statistic)
    return ProtocolResult("cosine_spearman", scores, items)


def pair_classification(
    first: Rows,
    second: Rows,
    labels: ArrayLike,
    *,
    metric: Metric = "cosine",
) -> ProtocolResult:
    """Score how well nearness tells pairs of like meaning; ``max_ap`` counts.

    Average precision needs no threshold. ``max_ap`` is the best over five ways to
    compare, chosen on the pairs that it is measured on: a little too high by design.
    ``cosine_accuracy`` and ``cosine_f1`` take the best threshold likewise. It lies
    between two neighbouring scores: equal ones stay together, and at least one pair
    falls below, so that calling all pairs alike is no choice.

    Parameters
    ----------
    first, second
        Vectors of the two sentences, ``[n, d]``; both may be of `scipy.sparse`.
    labels
        1 for pairs of like meaning, 0 for others, ``[n]``; both must occur.
    metric
        The model's own measure, ``"cosine"`` or ``"dot"``: the fifth way. In float32
        it may tie pairs that ``"cosine"`` tells apart.

    Returns
    -------
    ProtocolResult
        Scores: ``max_ap``; ``{way}_ap`` for ``similarity`` (the model's own),
        ``cosine``, ``manhattan``, ``euclidean`` and ``dot``; of the cosine also
        ``_accuracy``, ``_f1``, ``_precision`` and ``_recall`` (at the best F1), and the
        thresholds, ``_accuracy_threshold`` and ``_f1_threshold``. Items: the five
        scores by pair, higher for nearer.
    """
    from sklearn.metrics import average_precision_score

    if metric not in METRICS:
        raise ValueError(f"metric={metric!r}: one of {', '.join(METRICS)}")
    left, right = _pairs(first, second)
    same = _per_pair(labels, left.shape[0], "labels")
    if set(np.unique(same)) != {0.0, 1.0}:
        raise ValueError(
            f"labels {np.unique(same)[:5].tolist()}: average precision needs pairs of "
            "both kinds, marked 1 (like) and 0 (unlike)"
        )
    items = {
        "similarity": _own_measure(left, right, metric),
        **_nearness(left, right),
        "dot": _products(left, right),
    }
    kind = same.astype(np.int64)
    scores = {
        f"{name}_ap": float(average_precision_score(kind, values))
        for name, values in items.items()
    }
    best = max(scores.values())
    at_threshold = _best_thresholds(items["cosine"], kind)
    scores |= {f"cosine_{name}": value for name, value in at_threshold.items()}
    return ProtocolResult("max_ap", {"max_ap": best, **scores}, items)


def _best_thresholds(scores: Floats, kind: NDArray[np.int64]) -> dict[str, float]:
    """Return the best accuracy and the best F1 over thresholds between two scores.

    Where no threshold exists (all scores are equal) or none finds a pair of like
    meaning, the values are 0 and the threshold NaN.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], kind[order].cumsum()
    ends = np.flatnonzero(ranked[:-1] != ranked[1:])  # last place above a threshold
    above, found = ends + 1, hits[ends]
    total, count = int(hits[-1]), len(scores)
    accuracy = (found + (count - total) - (above - found)) / count
    found_any = found > 0
    precision, recall = found / above, found / total
    f1 = np.zeros(len(ends))
    np.divide(2 * precision * recall, precision + recall, out=f1, where=found_any)

    def middle(i: int) -> float:
        return float((ranked[ends[i]] + ranked[ends[i] + 1]) / 2)

    best = dict.fromkeys(("accuracy", "f1", "precision", "recall"), 0.0)
    best |= dict.fromkeys(("accuracy_threshold", "f1_threshold"), float("nan"))
    if len(ends) and accuracy.max() > 0:
        i = int(accuracy.argmax())
        best |= {"accuracy": float(accuracy[i]), "accuracy_threshold": middle(i)}
    if found_any.any():
        i = int(f1.argmax())
        best |= {"f1": float(f1[i]), "f1_threshold": middle(i)}
        best |= {"precision": float(precision[i]), "recall": float(recall[i])}
    return best


def _nearness(left: _Checked, right: _Checked) -> dict[str, Floats]:
    """Compare row by row, in the vectors' own precision: that decides what is tied."""
    from sklearn.metrics import pairwise

    return {
        "cosine": _float64(1 - pairwise.paired_cosine_distances(left, right)),
        "manhattan": _float64(-pairwise.paired_manhattan_distances(left, right)),
        "euclidean": _float64(-pairwise.paired_euclidean_distances(left, right)),
    }


def _products(left: _Checked, right: _Checked) -> Floats:
    if is_sparse(left):
        return _float64(row_products(left, right))
    # One by one: a product of all rows at once rounds its last bit otherwise.
    return np.array(
        [np.dot(a, b) for a, b in zip(left, right, strict=True)], np.float64
    )


def _own_measure(left: _Checked, right: _Checked, metric: Metric) -> Floats:
    """Compare row by row as a model does by itself, in float32: with torch if dense."""
    if is_sparse(left):
        return _products(as_measured(left, metric), as_measured(right, metric))
    import torch

    a, b = (torch.from_numpy(v.astype(np.float32)) for v in (left, right))
    if metric == "cosine":
        a, b = (torch.nn.functional.normalize(v, dim=1) for v in (a, b))
    return _float64((a * b).sum(-1).numpy())


def _float64(values: NDArray[np.float32]) -> Floats:
    return np.asarray(values, np.float64)


def _pairs(first: Rows, second: Rows) -> tuple[_Checked, _Checked]:
    """Return both, dense ones in their own precision, or say what is wrong."""
    if is_sparse(first) != is_sparse(second):
        raise ValueError("one side is sparse, the other is not: give two of a kind")
    left, right = (v if is_sparse(v) else np.asarray(v) for v in (first, second))
    if left.ndim != 2 or left.shape != right.shape or left.shape[0] < 2:
        raise ValueError(
            f"vectors of shape {list(left.shape)} and {list(right.shape)}: give two or "
            "more pairs, [n, d] twice"
        )
    if is_sparse(left):
        return checked_sparse(left, "first"), checked_sparse(right, "second")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError("a vector is not finite: encode that text again, or drop it")
    return left, right


def _per_pair(values: ArrayLike, count: int, name: str) -> Floats:
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ValueError(
            f"{name} of shape {list(numbers.shape)} for {count} pairs: give one finite "
            "number a pair"
        )
    return numbers
