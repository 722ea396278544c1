"""How sure: bootstrap intervals, permutation tests, and how many items it takes.

`groups` are labels of items, ``[n]``: those of one group resemble each other (the terms
of one disease), and are drawn, or flipped, together. Values are ``[n]``, or
``[runs, n]``, one row for each seed of a training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import permutation_test, rankdata

Floats = NDArray[np.float64]

#: Scores of pairs that have an interval and a test.
Score = Literal["spearman", "average_precision"]

_QUANTILES = 2.801585218112968  # of the normal, at 0.975 and at 0.8
_DRAWS_AT_ONCE = 2_000_000  # numbers in memory while resampling


@dataclass(frozen=True)
class Interval:
    """A mean and the range that holds the true one in 95 % of cases."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Show as ``0.475 [0.458, 0.492]``."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def signed(self) -> str:
        """Show a difference, as ``+0.013 [-0.002, +0.028]``."""
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def bootstrap_mean(
    values: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    draws: int = 2_000,
) -> Interval:
    """Return the mean of per-item values with its 95 % interval.

    For a paired comparison pass the differences. Runs are the outer level of drawing.
    Source: Efron and Tibshirani 1993, chapters 8 and 13.
    """
    items = _rows(values)
    owner = _group_numbers(items.shape[1], groups)
    sizes = np.bincount(owner)
    sums = np.stack([np.bincount(owner, row) for row in items])  # [runs, groups]

    def estimate(counts: Floats) -> Floats:
        means: Floats = (sums @ counts.T) / (counts @ sizes)
        return means

    return _bootstrap(estimate, owner, seed, draws)


def bootstrap_score(
    predicted: ArrayLike,
    gold: ArrayLike,
    *,
    score: Score = "spearman",
    baseline: ArrayLike | None = None,
    cells: int = 1,
    groups: ArrayLike | None = None,
    seed: int = 0,
    draws: int = 2_000,
) -> Interval:
    """Return a score of pairs' similarities, or its difference from a `baseline`'s.

    Gold is ``[n]``, 1 and 0 for average precision. `cells` are fixed conditions that
    the runs belong to, all seeds of the first one first: a seed's value is their mean.
    """
    models = [_rows(m) for m in (predicted, baseline) if m is not None]
    y = _gold(gold, models, score)
    if cells < 1 or len(models[0]) % cells:
        raise ValueError(f"{len(models[0])} runs cannot be {cells} cells of equal size")
    owner = _group_numbers(len(y), groups)
    measure = {"spearman": _spearman, "average_precision": _average_precision}[score]

    def estimate(counts: Floats) -> Floats:
        values = measure(np.concatenate(models), y, counts[:, owner])
        by_model = values.reshape(len(models), cells, -1, len(counts)).mean(1)
        by_seed: Floats = by_model[0] - by_model[1] if len(models) > 1 else by_model[0]
        return by_seed

    return _bootstrap(estimate, owner, seed, draws)


def permutation_mean(
    differences: ArrayLike, *, groups: ArrayLike | None = None, draws: int = 2_000
) -> float:
    """Return the two-sided p-value of a mean paired difference.

    Signs are flipped at random, with few groups in every way; p is the share of draws
    as far from zero, the measured one among them. Of runs the mean is taken. Source:
    Fisher 1935, section 21; Phipson and Smyth 2010.
    """
    items = _rows(differences).mean(0)
    sums = np.bincount(_group_numbers(len(items), groups), items) / len(items)
    return _flip_test(lambda signs: signs @ sums, len(sums), draws)


def permutation_score(
    ours: ArrayLike,
    theirs: ArrayLike,
    gold: ArrayLike,
    *,
    score: Score = "spearman",
    groups: ArrayLike | None = None,
    draws: int = 2_000,
) -> float:
    """Return the two-sided p-value of a difference of two models' scores of pairs.

    A pair's two similarities are swapped at random, as ranks within a model.
    """
    y = _gold(gold, [_rows(ours), _rows(theirs)], score)
    a, b = rankdata(ours), rankdata(theirs)
    owner = _group_numbers(len(y), groups)
    once, ranks = np.ones((1, len(y))), rankdata(y)[None]

    def measure(x: Floats) -> Floats:
        if score == "spearman":
            return _weighted_pearson(x, ranks, once)
        return _average_precision(x, y, once)[:, 0]

    def difference(signs: Floats) -> Floats:
        swap = np.atleast_2d(signs)[:, owner] < 0
        return measure(np.where(swap, b, a)) - measure(np.where(swap, a, b))

    return _flip_test(difference, int(owner.max()) + 1, draws)


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Return p-values corrected for their number. Source: Holm 1979."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(stepped, 1)
    return result


def minimum_detectable_difference(
    differences: ArrayLike, *, groups: ArrayLike | None = None
) -> float:
    """Return the smallest true mean difference that so many items show.

    ``(z(0.975) + z(0.8)) * s / sqrt(n)``: a two-sided test at 5 % finds it with
    probability 0.8. Source: Cohen 1988, chapter 2; for groups Cochran 1977, 9A.1.
    """
    items = _rows(differences).mean(0)
    owner = _group_numbers(len(items), groups)
    sizes, sums = np.bincount(owner), np.bincount(owner, items)
    each = (sums - sizes * items.mean()) / sizes.mean()
    if len(sizes) < 2 or np.ptp(each) <= 1e-9 * np.abs(items).max():
        raise ValueError("a pilot without spread cannot say how many items are enough")
    return _QUANTILES * float(each.std(ddof=1)) / sqrt(len(sizes))


def items_needed(
    differences: ArrayLike, difference: float, *, groups: ArrayLike | None = None
) -> int:
    """Return how many items, or groups, show a true mean difference of this size."""
    shown = minimum_detectable_difference(differences, groups=groups)
    n = np.shape(differences)[-1] if groups is None else len(np.unique(groups))
    return ceil(n * (shown / difference) ** 2)


def _bootstrap(
    estimate: Callable[[Floats], Floats],
    owner: NDArray[np.int64],
    seed: int,
    draws: int,
) -> Interval:
    """Draw groups, and runs as the outer level, and look at the spread.

    `estimate` turns counts of groups, ``[some, groups]``, into values ``[runs, some]``.
    """
    groups = int(owner.max()) + 1
    rng, outer = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    at_once = max(1, _DRAWS_AT_ONCE // len(owner))
    found = []
    for done in range(0, draws, at_once):
        count = min(at_once, draws - done)
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=count)
        values = estimate(drawn.astype(np.float64))
        runs = outer.integers(len(values), size=(len(values), count))
        found.append(np.take_along_axis(values, runs, axis=0).mean(0))
    low, high = np.percentile(np.concatenate(found), [2.5, 97.5])
    mean = float(estimate(np.ones((1, groups))).mean())
    return Interval(mean, float(low), float(high), len(owner))


def _flip_test(statistic: Callable[[Floats], Floats], groups: int, draws: int) -> float:
    """Return how often random signs of groups move a statistic as far as none do."""
    tested = permutation_test(
        (np.ones(groups),),
        # Rounded: a sum in another order is still the same sum.
        lambda signs, axis: np.squeeze(np.abs(statistic(signs)).round(12)),
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
        n_resamples=draws,
        batch=100,
        rng=np.random.default_rng(0),
    )
    return float(tested.pvalue)


def _spearman(rows: Floats, y: Floats, counts: Floats) -> Floats:
    """Return Spearman's correlation, ``[m, n], [n], [draws, n] -> [m, draws]``."""
    wanted, *ranked = (_weighted_ranks(x, counts) for x in (y, *rows))
    return np.stack([_weighted_pearson(ranks, wanted, counts) for ranks in ranked])


def _average_precision(rows: Floats, same: Floats, counts: Floats) -> Floats:
    """Return average precision, ``[m, n], [n], [draws, n] -> [m, draws]``, or 0."""
    found = []
    for scores in rows:
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
        weights = counts[:, order]
        hits = (weights * same[order]).cumsum(1)[:, ends]
        precision = hits / np.maximum(weights.cumsum(1)[:, ends], 1)
        area = (np.diff(hits, axis=1, prepend=0) * precision).sum(1)
        found.append(area / np.maximum(hits[:, -1], 1))
    return np.stack(found)


def _weighted_ranks(values: Floats, counts: Floats) -> Floats:
    """Rank values that stand `counts` times, ties at their mean, ``[draws, n]``."""
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    tied = np.add.reduceat(counts[:, order], starts, axis=1)  # [draws, values]
    middle: Floats = tied.cumsum(1) - (tied - 1) / 2
    ranks: Floats = middle[:, place]
    return ranks


def _weighted_pearson(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Return the weighted correlation, ``[draws]``; 0 where one side never varies."""
    total = weights.sum(1, keepdims=True)
    x = x - (weights * x).sum(1, keepdims=True) / total
    y = y - (weights * y).sum(1, keepdims=True) / total
    both = (weights * x * y).sum(1)
    size = np.sqrt((weights * x * x).sum(1) * (weights * y * y).sum(1))
    zeros = np.zeros_like(both)
    correlation: Floats = np.divide(both, size, out=zeros, where=size > 0)
    return correlation


def _rows(values: ArrayLike) -> Floats:
    """Return values as finite rows, ``[runs, n]``."""
    rows = np.atleast_2d(np.asarray(values, np.float64))
    if rows.ndim != 2 or rows.shape[1] < 2 or not np.isfinite(rows).all():
        raise ValueError(f"{np.shape(values)} are not two or more finite numbers")
    return rows


def _gold(gold: ArrayLike, models: list[Floats], score: Score) -> Floats:
    y: Floats = _rows(gold)[0]
    if score != "spearman" and not np.isin(y, (0, 1)).all():
        raise ValueError(f"score={score!r}: gold must be 1 and 0; or say spearman")
    if any(m.shape != (len(models[0]), len(y)) for m in models):
        raise ValueError("give a similarity by each model for each gold score")
    return y


def _group_numbers(count: int, groups: ArrayLike | None) -> NDArray[np.int64]:
    """Return the number of each item's group; without groups each is its own."""
    labels = np.arange(count) if groups is None else np.asarray(groups)
    if len(labels) != count:
        raise ValueError(f"{len(labels)} groups for {count} items")
    return np.unique(labels, return_inverse=True)[1]
