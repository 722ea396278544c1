"""How sure: bootstrap intervals, permutation tests, and how many items it takes.

A mean over 500 queries is a sample; other 500 would have given another value.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

#: Scores of pairs that have an interval and a test.
Score = Literal["spearman", "average_precision"]

_QUANTILES = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
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

    For a paired comparison pass the differences, item by item.

    Parameters
    ----------
    values
        One number an item, ``[n]``; or ``[runs, n]``, one row for each seed of a
        training. Each draw then draws runs too: they are the outer level.
    groups
        A label an item, ``[n]``, where items of one group resemble each other (the
        terms of one disease). Whole groups are then drawn.

    Source: Efron and Tibshirani 1993, chapter 13; for the outer level, chapter 8.
    """
    items = _rows(values)
    owner = _group_numbers(items.shape[1], groups)
    sizes = np.bincount(owner)
    sums = np.stack([np.bincount(owner, row) for row in items])  # [runs, groups]

    def estimate(counts: Floats) -> Floats:
        means: Floats = (sums @ counts.T) / (counts @ sizes)
        return means

    return _bootstrap(estimate, owner, len(sizes), seed, draws)


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
    """Return a score of pairs with its 95 % interval.

    Parameters
    ----------
    predicted
        Similarities of the pairs, ``[n]``, or ``[runs, n]`` as in `bootstrap_mean`.
    gold
        What they should follow, ``[n]``; 1 and 0 for average precision.
    baseline
        Similarities of another model, shaped as `predicted`. The interval is then that
        of the paired difference, ``predicted - baseline``.
    cells
        Fixed conditions that the runs belong to, all seeds of the first one first. A
        seed's value is their mean: seeds are a sample, conditions are not.
    """
    models = [_rows(m) for m in (predicted, baseline) if m is not None]
    y = np.asarray(gold, np.float64)
    _check_gold(models, y)
    if cells < 1 or len(models[0]) % cells:
        raise ValueError(f"{len(models[0])} runs cannot be {cells} cells of equal size")
    owner = _group_numbers(len(y), groups)
    measure = {"spearman": _spearman, "average_precision": _average_precision}[score]

    def estimate(counts: Floats) -> Floats:
        values = measure(np.concatenate(models), y, counts[:, owner])
        by_model = values.reshape(len(models), cells, -1, len(counts)).mean(1)
        by_seed: Floats = by_model[0] - by_model[1] if len(models) > 1 else by_model[0]
        return by_seed

    return _bootstrap(estimate, owner, len(y), seed, draws)


def permutation_mean(
    differences: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    draws: int = 10_000,
) -> float:
    """Return the two-sided p-value of a mean paired difference.

    If two models are equally good, each item could as well have shown its difference
    the other way round. So signs are flipped at random, and p is the share of draws
    with a mean at least as far from zero, the measured one counted among them. With
    few groups every combination of signs is tried. Whole groups are flipped.

    ``differences`` are ``[n]``; or ``[runs, n]``, of which the runs' mean is taken: p
    then speaks of other items, for these trainings.

    Source: Fisher 1935, section 21; Phipson and Smyth 2010.
    """
    items = _rows(differences).mean(0)
    sums = np.bincount(_group_numbers(len(items), groups), items)
    return _flip_test(
        lambda signs: float(signs @ sums) / len(items), len(sums), seed, draws
    )


def permutation_score(
    ours: ArrayLike,
    theirs: ArrayLike,
    gold: ArrayLike,
    *,
    score: Score = "spearman",
    groups: ArrayLike | None = None,
    seed: int = 0,
    draws: int = 10_000,
) -> float:
    """Return the two-sided p-value of a difference of two models' scores of pairs.

    A pair's two similarities are swapped between the models at random, whole groups
    together. What is swapped are ranks within a model, since models' cosines differ in
    scale; they are not ranked again, which makes no difference to the test's level.
    """
    from scipy.stats import rankdata

    y = np.asarray(gold, np.float64)
    _check_gold([_rows(ours), _rows(theirs)], y)
    a, b = rankdata(ours), rankdata(theirs)
    owner = _group_numbers(len(y), groups)
    once, ranks = np.ones((1, len(y))), rankdata(y)[None]

    def measure(x: Floats) -> float:
        if score == "spearman":
            return float(_weighted_pearson(x[None], ranks, once)[0])
        return float(_average_precision(x[None], y, once)[0, 0])

    def difference(signs: Floats) -> float:
        swap = signs[owner] < 0
        return measure(np.where(swap, b, a)) - measure(np.where(swap, a, b))

    return _flip_test(difference, int(owner.max()) + 1, seed, draws)


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Return p-values corrected for having looked at several of them.

    The smallest of m is multiplied by m, the next by ``m - 1``, and so on, and none may
    be smaller than the one before. What is then at most 0.05 holds with a risk of 5 %
    that any of it is chance. Source: Holm 1979.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values are numbers from 0 to 1 in a row, not {p_values}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(stepped, 1)
    return result


def minimum_detectable_difference(
    differences: ArrayLike, *, groups: ArrayLike | None = None
) -> float:
    """Return the smallest true mean difference that so many items show often enough.

    ``(z(0.975) + z(0.8)) * s / sqrt(n)``: a two-sided test at 5 % finds a difference of
    this size with probability 0.8. Of the pilot's ``differences``, ``[n]`` or
    ``[runs, n]``, only the spread matters. With groups, s is the standard deviation of
    ``(sum over a group - its size * mean) / mean size``.

    Source: Cohen 1988, chapter 2; for groups, Cochran 1977, section 9A.1.
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
    """Return how many items, or groups, show a true mean difference of this size.

    `minimum_detectable_difference` solved for n.
    """
    shown = minimum_detectable_difference(differences, groups=groups)
    n = np.shape(differences)[-1] if groups is None else len(np.unique(groups))
    return ceil(n * (shown / difference) ** 2)


def _bootstrap(
    estimate: Callable[[Floats], Floats],
    owner: NDArray[np.int64],
    width: int,
    seed: int,
    draws: int,
) -> Interval:
    """Draw groups, and runs as the outer level, and look at the spread.

    `estimate` gets how often each group was drawn, ``[some, groups]``, and returns a
    value for each run, ``[runs, some]``; `width` is what one draw needs in memory.
    """
    groups = int(owner.max()) + 1
    rng, outer = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    at_once = max(1, _DRAWS_AT_ONCE // width)
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


def _flip_test(
    statistic: Callable[[Floats], float], groups: int, seed: int, draws: int
) -> float:
    """Return how often random signs of groups move a statistic as far as none do."""
    from scipy.stats import permutation_test

    def distance(signs: Floats) -> float:
        # Rounded: a sum in another order is still the same sum.
        return round(abs(statistic(signs)), 12)

    tested = permutation_test(
        (np.ones(groups),),
        distance,
        permutation_type="samples",
        alternative="greater",
        n_resamples=draws,
        batch=100,
        rng=np.random.default_rng(seed),
    )
    return float(tested.pvalue)


def _spearman(rows: Floats, y: Floats, counts: Floats) -> Floats:
    """Return Spearman's correlation, ``[m, n], [n], [draws, n] -> [m, draws]``."""
    wanted = _weighted_ranks(y, counts)
    ranked = (_weighted_ranks(x, counts) for x in rows)
    return np.stack([_weighted_pearson(ranks, wanted, counts) for ranks in ranked])


def _average_precision(rows: Floats, same: Floats, counts: Floats) -> Floats:
    """Return average precision, ``[m, n], [n], [draws, n] -> [m, draws]``.

    ``sum of (R_i - R_{i-1}) P_i`` over the different scores, from the largest. A draw
    without a pair of like meaning is 0.
    """
    found = []
    for scores in rows:
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
        weights = counts[:, order]
        hits = (weights * same[order]).cumsum(1)[:, ends]
        above = weights.cumsum(1)[:, ends]
        precision = hits / np.maximum(above, 1)
        area = (np.diff(hits, axis=1, prepend=0) * precision).sum(1)
        found.append(area / np.maximum(hits[:, -1], 1))
    return np.stack(found)


def _weighted_ranks(values: Floats, counts: Floats) -> Floats:
    """Rank values that stand `counts` times each, ties at their mean, per draw.

    ``[n], [draws, n] -> [draws, n]``: what `scipy.stats.rankdata` gives when each
    value is repeated that often.
    """
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    tied = np.add.reduceat(counts[:, order], starts, axis=1)  # [draws, values]
    middle: Floats = tied.cumsum(1) - (tied - 1) / 2
    ranks: Floats = middle[:, place]
    return ranks


def _weighted_pearson(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Return the correlation of two rows of numbers, weighted, ``-> [draws]``.

    A draw in which one of them never varies says nothing: its correlation is 0.
    """
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
        raise ValueError(
            "values must be two or more finite numbers in a row, or such rows, not "
            f"{np.shape(values)}"
        )
    return rows


def _check_gold(models: list[Floats], gold: Floats) -> None:
    shape = (len(models[0]), len(gold))
    if any(m.shape != shape for m in models) or not np.isfinite(gold).all():
        raise ValueError("give a similarity by each model for each finite gold score")


def _group_numbers(count: int, groups: ArrayLike | None) -> NDArray[np.int64]:
    """Return the number of the group of each item; without groups each its own."""
    if groups is None:
        return np.arange(count)
    labels = np.asarray(groups)
    if len(labels) != count:
        raise ValueError(f"{len(labels)} groups for {count} items")
    return np.unique(labels, return_inverse=True)[1]
