"""How sure: intervals from the items that were measured.

A mean over 500 queries is a sample; other 500 would have given another. The bootstrap
draws the items again and again, with replacement, and looks at the spread.
Source: Efron and Tibshirani 1993, chapters 6 and 13.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_DRAWS_AT_ONCE = 2_000_000  # numbers in memory while resampling


@dataclass(frozen=True)
class Interval:
    """A mean and the range that holds the true one, at the stated confidence."""

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
    seed: int = 0,
    draws: int = 2_000,
    confidence: float = 0.95,
    groups: ArrayLike | None = None,
) -> Interval:
    """Return the mean of per-item values ``[n]`` with its percentile interval.

    For a paired comparison pass the differences, item by item.

    Parameters
    ----------
    values
        One number an item, ``[n]``; or ``[runs, n]``, one row for each seed of a
        training. Each draw then draws runs too: they are the outer level.
    seed, draws, confidence
        Of the resampling; 95 % of the means of the draws lie in the interval.
    groups
        A label an item, ``[n]``, where items of one group resemble each other (the
        terms of one disease). Whole groups are then drawn, and the interval is as
        wide as that many independent groups deserve.
    """
    items = np.atleast_2d(np.asarray(values, np.float64))
    if items.ndim != 2 or items.shape[1] < 2 or not np.isfinite(items).all():
        raise ValueError(
            "values must be two or more finite numbers in a row, or such rows, not "
            f"{np.shape(values)}"
        )
    n = items.shape[1]
    owner = group_numbers(n, groups)
    sizes = np.bincount(owner)
    sums = np.stack([np.bincount(owner, row) for row in items])  # [runs, groups]

    def estimate(counts: Floats) -> Floats:
        means: Floats = (sums @ counts.T) / (counts @ sizes)
        return means

    drawn = drawn_estimates(estimate, len(sizes), draws, seed)
    return percentile_interval(float(items.mean()), drawn, confidence, n)


def bootstrap_spearman(
    predicted: ArrayLike,
    gold: ArrayLike,
    *,
    baseline: ArrayLike | None = None,
    cells: int = 1,
    seed: int = 0,
    draws: int = 2_000,
    confidence: float = 0.95,
    groups: ArrayLike | None = None,
) -> Interval:
    """Return Spearman's rank correlation with its percentile interval.

    Parameters
    ----------
    predicted
        Similarities of the pairs, ``[n]``; or ``[runs, n]``, one row for each seed of a
        training. The runs' mean is then reported, and each draw draws runs too: they
        are the outer level.
    gold
        What they should follow, ``[n]``.
    baseline
        Those of another model on the same pairs, shaped as `predicted`, run by run.
        The interval is then that of the difference, ``predicted − baseline``.
    cells
        Fixed conditions that the runs belong to, all seeds of the first one first. A
        seed's value is their mean, since only seeds are a sample, and conditions are
        not.
    seed, draws, confidence, groups
        As in `bootstrap_mean`.

    Source: Efron and Tibshirani 1993, chapter 13; for the outer level, chapter 8.
    """
    models = [np.atleast_2d(np.asarray(predicted, np.float64))]
    if baseline is not None:
        models.append(np.atleast_2d(np.asarray(baseline, np.float64)))
    y = np.asarray(gold, np.float64)
    if any(m.shape != (len(models[0]), len(y)) for m in models) or len(y) < 2:
        raise ValueError(
            f"similarities of shape {[list(m.shape) for m in models]} for {len(y)} "
            "gold scores: give [n] or [runs, n], alike for both models, and n scores"
        )
    if cells < 1 or len(models[0]) % cells:
        raise ValueError(f"{len(models[0])} runs cannot be {cells} cells of equal size")
    if not all(np.isfinite(part).all() for part in (*models, y)):
        raise ValueError("a similarity or a gold score is not finite")
    owner = group_numbers(len(y), groups)
    signs = (1.0, -1.0)[: len(models)]

    def estimate(counts: Floats) -> Floats:
        times = counts[:, owner]  # how often each pair was drawn
        ranks = _weighted_ranks(y, times)
        found = np.array(
            [
                sum(
                    sign * _weighted_pearson(_weighted_ranks(x, times), ranks, times)
                    for sign, x in zip(signs, run, strict=True)
                )
                for run in zip(*models, strict=True)
            ]
        )  # [cells * seeds, draws]
        by_seed: Floats = found.reshape(cells, -1, len(counts)).mean(0)
        return by_seed

    size = int(owner.max()) + 1
    mean = float(estimate(np.ones((1, size))).mean())
    drawn = drawn_estimates(estimate, size, draws, seed, width=len(y))
    return percentile_interval(mean, drawn, confidence, len(y))


def drawn_estimates(
    estimate: Callable[[Floats], Floats],
    groups: int,
    draws: int,
    seed: int,
    width: int = 0,
) -> Floats:
    """Return the estimate of every draw of groups and runs, ``[draws]``.

    `estimate` gets how often each group was drawn, ``[some, groups]``, and returns a
    value for each run, ``[runs, some]``; `width` is what one draw needs in memory.
    """
    rng, outer = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    at_once = max(1, _DRAWS_AT_ONCE // max(groups, width))
    found = []
    for done in range(0, draws, at_once):
        count = min(at_once, draws - done)
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=count)
        values = estimate(drawn.astype(np.float64))
        runs = outer.integers(len(values), size=(len(values), count))
        found.append(np.take_along_axis(values, runs, axis=0).mean(0))
    return np.concatenate(found)


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


def group_numbers(count: int, groups: ArrayLike | None) -> NDArray[np.int64]:
    """Return the number of the group of each item; without groups each its own."""
    if groups is None:
        return np.arange(count)
    labels = np.asarray(groups)
    if len(labels) != count:
        raise ValueError(f"{len(labels)} groups for {count} items")
    return np.unique(labels, return_inverse=True)[1]


def percentile_interval(
    mean: float, draws: Floats, confidence: float, n: int
) -> Interval:
    """Return the range that holds `confidence` of the draws ``[draws]``, in the middle.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(mean, float(low), float(high), n)
