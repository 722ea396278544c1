"""Average precision with an interval and a p-value: pairs as items, drawn together.

It needs no threshold: pairs are sorted by nearness, and precision is averaged over the
places where one of like meaning is found.
"""

import numpy as np
from numpy.typing import ArrayLike

from sbert_lab.evaluation.statistics import (
    Floats,
    Interval,
    drawn_estimates,
    group_numbers,
    percentile_interval,
)


def average_precision(scores: Floats, same: Floats, counts: Floats) -> Floats:
    """Return average precision of pairs that stand `counts` times each, ``[draws]``.

    ``Σ (R_i − R_{i−1}) P_i`` over the different scores, from the largest: precision and
    recall of all pairs that score as much. A draw without a pair of like meaning is 0.

    Parameters
    ----------
    scores, same
        ``[n]``.
    counts
        ``[draws, n]``.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    weights = counts[:, order]
    hits = (weights * same[order]).cumsum(1)[:, ends]
    above = weights.cumsum(1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0)
    precision = np.divide(hits, above, out=np.zeros_like(hits), where=above > 0)
    total = hits[:, -1]
    area = (gained * precision).sum(1)
    precisions: Floats = np.divide(
        area, total, out=np.zeros_like(area), where=total > 0
    )
    return precisions


def bootstrap_average_precision(
    scores: ArrayLike,
    same: ArrayLike,
    *,
    baseline: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    draws: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return average precision, or a paired difference, with its percentile interval.

    Parameters
    ----------
    scores
        Nearness of each pair, ``[n]``.
    same
        1 for pairs of like meaning, 0 for others, ``[n]``.
    baseline
        Another model's scores; the interval is then of the difference.
    groups, draws, confidence, seed
        As in `bootstrap_mean`.
    """
    models = [np.asarray(scores, np.float64)]
    if baseline is not None:
        models.append(np.asarray(baseline, np.float64))
    y = np.asarray(same, np.float64)
    if any(m.shape != y.shape for m in models) or set(np.unique(y)) != {0.0, 1.0}:
        raise ValueError("scores and labels must be [n], labels 1 and 0, both there")
    owner = group_numbers(len(y), groups)
    signs = (1.0, -1.0)[: len(models)]

    def estimate(counts: Floats) -> Floats:
        times = counts[:, owner]
        values: Floats = sum(
            (
                sign * average_precision(m, y, times)
                for sign, m in zip(signs, models, strict=True)
            ),
            np.zeros(len(counts)),
        )
        return values[None]

    size = int(owner.max()) + 1
    mean = float(estimate(np.ones((1, size)))[0, 0])
    drawn = drawn_estimates(estimate, size, draws, seed, width=len(y))
    return percentile_interval(mean, drawn, confidence, len(y))


def permutation_average_precision(
    ours: ArrayLike,
    theirs: ArrayLike,
    same: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    draws: int = 2_000,
    seed: int = 0,
) -> float:
    """Return the two-sided p-value of a difference of two average precisions.

    The two models' ranks of a pair are swapped at random, groups as a whole, as in
    `permutation_spearman`.
    """
    from scipy.stats import rankdata

    y = np.asarray(same, np.float64)
    a, b = rankdata(ours), rankdata(theirs)
    owner = group_numbers(len(y), groups)
    rng = np.random.default_rng(seed)

    def difference(first: Floats, second: Floats) -> float:
        one = np.ones((1, len(y)))
        return float(
            (average_precision(first, y, one) - average_precision(second, y, one))[0]
        )

    measured, as_far = abs(difference(a, b)), 0
    for _ in range(draws):
        swap = rng.integers(2, size=int(owner.max()) + 1).astype(bool)[owner]
        drawn = difference(np.where(swap, b, a), np.where(swap, a, b))
        as_far += abs(drawn) >= measured * (1 - 1e-9)
    return (as_far + 1) / (draws + 1)
