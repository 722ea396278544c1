"""How sure: intervals from the items that were measured.

A mean over 500 queries is a sample; other 500 would have given another. The bootstrap
draws the items again and again, with replacement, and looks at the spread.
Source: Efron and Tibshirani 1993, chapters 6 and 13.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

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
        One number an item, ``[n]``.
    seed, draws, confidence
        Of the resampling; 95 % of the means of the draws lie in the interval.
    groups
        A label an item, ``[n]``, where items of one group resemble each other (the
        terms of one disease). Whole groups are then drawn, and the interval is as
        wide as that many independent groups deserve.
    """
    items = np.asarray(values, np.float64)
    if items.ndim != 1 or len(items) < 2 or not np.isfinite(items).all():
        raise ValueError(
            f"values must be two or more finite numbers in a row, not {items.shape}"
        )
    owner = np.arange(len(items))
    if groups is not None:
        owner = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, counts = np.bincount(owner, items), np.bincount(owner)  # a number a group
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // len(sums))
    means = []
    for done in range(0, draws, at_once):
        size = (min(at_once, draws - done), len(sums))
        drawn = rng.integers(len(sums), size=size)
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Interval(float(items.mean()), float(low), float(high), len(items))
