"""What a difference is worth: chance, many comparisons, and how many items it takes.

An interval says how large a difference may be (`statistics`). A permutation test asks
how often chance alone, with two models that are equally good, gives one as large; and
a power calculation, before the measuring, what the items at hand can show at all.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, sqrt
from statistics import NormalDist
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbert_lab.evaluation.statistics import Floats, group_numbers

_DRAWS_AT_ONCE = 2_000_000  # numbers in memory while permuting
_EQUAL = 1e-9  # relative: a sum in another order is still the same sum


def permutation_mean(
    differences: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    draws: int = 10_000,
) -> float:
    """Return the two-sided p-value of a mean paired difference.

    If the models are equally good, each item could as well have shown its difference
    the other way round. So signs are flipped at random, and p is the share of draws
    whose mean is at least as far from zero, the measured one counted among them:
    ``p = (b + 1) / (draws + 1)``, which is never 0.

    Parameters
    ----------
    differences
        One model's value less the other's, item by item, ``[n]``; or ``[runs, n]``, one
        row for each seed of a training. An item keeps one sign in all runs: p speaks of
        other items, for these trainings. For other trainings pass the runs' means,
        ``[runs]``; with three of them p is 0.25 at best.
    groups
        A label an item, where items of one group resemble each other. Whole groups are
        then flipped.
    seed, draws
        Of the permutation.

    Source: Fisher 1935, section 21; for the 1, Phipson and Smyth 2010.
    """
    items, owner = _items(differences, groups)
    sums = np.bincount(owner, items)  # [groups]
    count = int(owner.max()) + 1

    def at_least(flipped: Floats) -> int:
        drawn = sums.sum() - 2 * (flipped @ sums)
        return _as_far(drawn, float(sums.sum()), float(np.abs(sums).sum()))

    return _p_value(map(at_least, _flips(count, draws, seed)), draws)


def permutation_spearman(
    predicted: ArrayLike,
    baseline: ArrayLike,
    gold: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    draws: int = 10_000,
) -> float:
    """Return the two-sided p-value of a difference of two Spearman correlations.

    If the models are equally good, it is chance which of them gave which of an item's
    two similarities; so they are swapped at random, item by item, and both
    correlations taken anew. What is swapped is ranks within a model, not similarities:
    one model's cosines may lie between 0.6 and 0.9 and another's between 0 and 1, and
    a column mixed of both would be in disorder for their scale alone.

    The swapped ranks are correlated as they are. To rank a mixed column again would
    take ten times as long; in simulations of equal models both rejected as often.

    Parameters
    ----------
    predicted, baseline
        Similarities of two models on the same pairs, ``[n]``; or ``[runs, n]``, run by
        run. The difference is then the mean over runs, and an item is swapped in all
        of them: p speaks of other items, for these trainings.
    gold
        What they should follow, ``[n]``.
    groups, seed, draws
        As in `permutation_mean`.

    Raises
    ------
    ValueError
        Shapes that do not fit, or numbers that are not finite.
    """
    models = [np.atleast_2d(np.asarray(m, np.float64)) for m in (predicted, baseline)]
    ours, theirs = models
    y = np.asarray(gold, np.float64)
    if ours.shape != theirs.shape or ours.shape[1:] != y.shape or len(y) < 2:
        raise ValueError(
            f"similarities of shape {ours.shape} and {theirs.shape} for {y.shape} gold "
            "scores: give [n] or [runs, n], alike for both models, and n scores"
        )
    if not all(np.isfinite(part).all() for part in (*models, y)):
        raise ValueError("a similarity or a gold score is not finite")
    from scipy.stats import rankdata

    owner = group_numbers(len(y), groups)
    middle = (len(y) + 1) / 2
    wanted = rankdata(y) - middle
    sides = [
        (rankdata(a) - middle, rankdata(b) - middle)
        for a, b in zip(*models, strict=True)
    ]
    count = int(owner.max()) + 1

    def by_group(items: Floats) -> Floats:
        return np.bincount(owner, items).astype(np.float64)

    def difference(swapped: Floats) -> Floats:
        """Return the mean over runs for each draw, ``[some, groups] -> [some]``."""
        total = np.zeros(len(swapped))
        for a, b in sides:
            change = [
                by_group(part) for part in (b - a, b * b - a * a, (b - a) * wanted)
            ]
            moved = swapped @ np.stack(change, axis=1)  # [some, 3]
            for column, sign in ((a, 1), (b, -1)):
                start = [column.sum(), column @ column, column @ wanted]
                total += sign * _correlation(start + sign * moved, wanted)
        return total / len(sides)

    measured = float(difference(np.zeros((1, count)))[0])
    blocks = _flips(count, draws, seed)
    return _p_value((_as_far(difference(b), measured, 1.0) for b in blocks), draws)


@overload
def holm(p_values: Mapping[str, float]) -> dict[str, float]: ...
@overload
def holm(p_values: Sequence[float] | Floats) -> Floats: ...
def holm(
    p_values: Mapping[str, float] | Sequence[float] | Floats,
) -> dict[str, float] | Floats:
    """Return p-values made honest for having looked at several of them.

    The smallest of m is multiplied by m, the next by ``m - 1``, and so on, and none may
    be smaller than the one before. What is then at most 0.05 holds with a risk of 5 %
    that any of it is chance, however the tests depend on each other.

    Parameters
    ----------
    p_values
        One a comparison, in any order, which is kept; or a mapping of names to them,
        for which a dict comes back.

    Raises
    ------
    ValueError
        A p-value outside 0 to 1.

    Source: Holm 1979.
    """
    if isinstance(p_values, Mapping):
        adjusted = holm(list(p_values.values()))
        return dict(zip(p_values, map(float, adjusted), strict=True))
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values are numbers from 0 to 1 in a row, not {p_values}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(stepped, 1)
    return result


def minimum_detectable_difference(
    differences: ArrayLike,
    n: int | None = None,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    groups: ArrayLike | None = None,
) -> float:
    """Return the smallest true mean difference that n items show often enough.

    ``(z(1 - alpha / 2) + z(power)) * s / sqrt(n)``, where z is the quantile of the
    normal distribution and s the standard deviation of the differences. A two-sided
    test at `alpha` finds a difference of this size with probability `power`; smaller
    ones it will mostly miss.

    Parameters
    ----------
    differences
        A pilot's, item by item, ``[n]``; or ``[runs, n]``, of which the runs' mean is
        taken. Their mean does not matter, their spread does.
    n
        How many items there will be; with `groups`, how many groups. As many as in the
        pilot if None.
    power, alpha
        Probability of finding it, and of finding one where there is none.
    groups
        A label an item. Groups are then what is drawn, and s the standard deviation of
        ``(sum over a group - its size * mean) / mean size``.

    Raises
    ------
    ValueError
        A pilot without spread, or a probability that is none.

    Source: Cohen 1988, chapter 2; for groups, Cochran 1977, section 9A.1.
    """
    spread, pilot = _spread(differences, groups)
    count = pilot if n is None else n
    if count < 1:
        raise ValueError(f"n={n}: at least one item")
    return _quantiles(power, alpha) * spread / sqrt(count)


def items_needed(
    differences: ArrayLike,
    difference: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    groups: ArrayLike | None = None,
) -> int:
    """Return how many items show a true mean difference of this size often enough.

    `minimum_detectable_difference` solved for n, rounded up; with `groups`, how many
    groups. The sign of `difference` does not matter.
    """
    if not np.isfinite(difference) or difference == 0:
        raise ValueError(f"difference={difference}: no number of items shows that")
    spread, _ = _spread(differences, groups)
    return ceil((_quantiles(power, alpha) * spread / difference) ** 2)


def _items(
    values: ArrayLike, groups: ArrayLike | None
) -> tuple[Floats, NDArray[np.int64]]:
    """Return a number an item, the runs' mean, and the number of its group."""
    rows = np.atleast_2d(np.asarray(values, np.float64))
    if rows.ndim != 2 or rows.shape[1] < 2 or not np.isfinite(rows).all():
        raise ValueError(
            "differences must be two or more finite numbers in a row, or such rows, "
            f"not {np.shape(values)}"
        )
    return rows.mean(0), group_numbers(rows.shape[1], groups)


def _flips(groups: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yield random zeros and ones in blocks ``[some, groups]``, `draws` rows in all."""
    if draws < 1:
        raise ValueError(f"draws={draws}: at least one")
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // groups)
    for done in range(0, draws, at_once):
        shape = (min(at_once, draws - done), groups)
        yield rng.integers(2, size=shape).astype(np.float64)


def _as_far(drawn: Floats, measured: float, scale: float) -> int:
    """Count the draws at least as far from zero as what was measured."""
    return int((np.abs(drawn) >= abs(measured) - _EQUAL * scale).sum())


def _p_value(counts: Iterator[int], draws: int) -> float:
    return (sum(counts) + 1) / (draws + 1)


def _correlation(sums: Floats, wanted: Floats) -> Floats:
    """Return Pearson's correlation with `wanted`, ``[n]``, whose mean is 0.

    `sums` are Σx, Σx² and Σx·wanted of each draw, ``[some, 3]``. Where one side never
    varies the correlation is 0.
    """
    total, squares, both = sums.T
    size = (squares - total * total / len(wanted)) * (wanted @ wanted)
    zeros, varied = np.zeros(len(sums)), size > _EQUAL * squares * (wanted @ wanted)
    root = np.sqrt(size, out=zeros.copy(), where=varied)
    correlation: Floats = np.divide(both, root, out=zeros, where=varied)
    return correlation


def _spread(values: ArrayLike, groups: ArrayLike | None) -> tuple[float, int]:
    """Return the standard deviation of what is drawn, and how many there are."""
    items, owner = _items(values, groups)
    sizes = np.bincount(owner)
    if len(sizes) < 2:
        raise ValueError("all items are of one group: a spread needs two")
    sums = np.bincount(owner, items)
    each = (sums - sizes * items.mean()) / sizes.mean()
    spread = float(np.sqrt((each * each).sum() / (len(each) - 1)))
    if spread <= _EQUAL * float(np.abs(items).max()):
        raise ValueError(
            "the differences are all alike: a pilot without spread cannot say how many "
            "items are enough"
        )
    return spread, len(sizes)


def _quantiles(power: float, alpha: float) -> float:
    """Return ``z(1 - alpha / 2) + z(power)``."""
    if not (0 < alpha < 1 and alpha < power < 1):
        raise ValueError(f"alpha={alpha}, power={power}: 0 < alpha < power < 1")
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
