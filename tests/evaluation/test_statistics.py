import itertools

import numpy as np
import pytest
from scipy import stats

from sbert_lab.evaluation.statistics import (
    _weighted_ranks,
    bootstrap_mean,
    bootstrap_spearman,
)


def test_agrees_with_scipy():
    values = np.random.default_rng(1).exponential(size=80)
    ours = bootstrap_mean(values, draws=8_000)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=8_000,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = []
    for turn in range(400):
        interval = bootstrap_mean(rng.normal(size=100), seed=turn, draws=400)
        covered.append(interval.low <= 0 <= interval.high)
    assert 0.92 <= np.mean(covered) <= 0.975


def test_seeded_and_independent_of_memory_blocks(monkeypatch):
    from sbert_lab.evaluation import statistics

    values = np.random.default_rng(3).normal(size=50)
    first = bootstrap_mean(values, seed=4)
    assert first == bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)
    monkeypatch.setattr(statistics, "_DRAWS_AT_ONCE", 50 * 7)
    assert bootstrap_mean(values, seed=4) == first
    assert str(first).startswith(f"{values.mean():.3f} [")


@pytest.mark.parametrize(
    "bad", [[], [1.0], [[1.0], [2.0]], [[[1.0, 2.0]]], [1.0, float("nan")]]
)
def test_refuses_what_has_no_interval(bad):
    with pytest.raises(ValueError, match="two or more finite"):
        bootstrap_mean(bad)


def test_groups_widen_the_interval_as_they_should():
    rng = np.random.default_rng(6)
    covered, widths = [], []
    for turn in range(300):
        groups = np.repeat(np.arange(60), 5)
        values = np.repeat(rng.normal(size=60), 5) + 0.1 * rng.normal(size=300)
        grouped = bootstrap_mean(values, seed=turn, draws=300, groups=groups)
        plain = bootstrap_mean(values, seed=turn, draws=300)
        covered.append(grouped.low <= 0 <= grouped.high)
        widths.append((grouped.high - grouped.low) / (plain.high - plain.low))
    assert 0.91 <= np.mean(covered) <= 0.98
    assert 1.8 < np.mean(widths) < 2.6  # √5, for five copies of one observation


def test_groups_of_unequal_size_are_divided_by_what_was_drawn():
    """A mean of equal values is that value, however many items a draw holds."""
    groups = np.repeat(np.arange(8), [1, 1, 1, 2, 3, 5, 8, 30])
    got = bootstrap_mean(np.full(51, 2.5), groups=groups)
    assert (got.mean, got.low, got.high) == pytest.approx((2.5, 2.5, 2.5))


def test_groups_of_one_change_nothing():
    values = np.random.default_rng(7).normal(size=40)
    plain = bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1, groups=np.arange(40)) == plain


def pairs(n=60, seed=0):
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 6, n).astype(float)
    return gold + rng.normal(size=n), gold


def test_spearman_is_scipys():
    predicted, gold = pairs()
    expected = stats.spearmanr(predicted, gold).statistic
    assert bootstrap_spearman(predicted, gold).mean == pytest.approx(
        expected, abs=1e-12
    )


def test_weighted_ranks_are_those_of_repeated_values():
    rng = np.random.default_rng(1)
    values, counts = rng.integers(0, 5, 30).astype(float), rng.integers(0, 4, (8, 30))
    ranks = _weighted_ranks(values, counts.astype(float))
    for row, times in zip(ranks, counts, strict=True):
        naive = stats.rankdata(np.repeat(values, times))
        assert np.array_equal(np.repeat(row, times), naive)


def test_spearman_interval_against_a_naive_bootstrap():
    predicted, gold = pairs(200)
    rng = np.random.default_rng(5)
    drawn = [
        stats.spearmanr(predicted[i], gold[i]).statistic
        for i in rng.integers(200, size=(2_000, 200))
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    got = bootstrap_spearman(predicted, gold)
    assert (got.low, got.high) == pytest.approx((low, high), abs=0.01)


def test_spearman_interval_is_that_of_every_draw_there_is():
    """Five pairs can be drawn in 5^5 ways; both sides are ranked anew in each."""
    predicted, gold = np.array([0.3, 0.1, 0.9, 0.5, 2]), np.array([0, 1, 1, 3, 5.0])
    every = []
    for rows in map(list, itertools.product(range(5), repeat=5)):
        x, y = predicted[rows], gold[rows]
        varied = np.ptp(x) > 0 and np.ptp(y) > 0
        every.append(stats.spearmanr(x, y).statistic if varied else 0.0)
    for confidence in (0.3, 0.6, 0.9):
        tail = 50 * (1 - confidence)
        got = bootstrap_spearman(predicted, gold, draws=20_000, confidence=confidence)
        exact = np.percentile(every, [tail, 100 - tail])
        assert (got.low, got.high) == pytest.approx(tuple(exact), abs=0.02)


def test_spearman_difference_is_paired():
    predicted, gold = pairs(300)
    worse = predicted + np.random.default_rng(2).normal(size=300) * 0.3
    difference = bootstrap_spearman(predicted, gold, baseline=worse)
    alone = bootstrap_spearman(predicted, gold)
    assert difference.mean == pytest.approx(
        alone.mean - bootstrap_spearman(worse, gold).mean
    )
    assert difference.high - difference.low < (alone.high - alone.low) / 2
    same = bootstrap_spearman(predicted, gold, baseline=predicted)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_spearman_runs_are_the_outer_level():
    good, gold = pairs(400)
    noise = np.random.default_rng(3).normal(size=400)
    alike = bootstrap_spearman([good, good, good], gold)
    apart = bootstrap_spearman([good, noise, good + noise], gold)
    assert apart.high - apart.low > 3 * (alike.high - alike.low)
    assert alike.mean == pytest.approx(bootstrap_spearman(good, gold).mean)


def test_cells_are_averaged_within_a_seed_and_never_drawn():
    """Conditions that differ much must not widen the interval; seeds must."""
    good, gold = pairs(400)
    rng = np.random.default_rng(4)
    seeds = [good + rng.normal(size=400) * 0.05 for _ in range(3)]
    far = [seed + rng.normal(size=400) * 2 for seed in seeds]
    cells = bootstrap_spearman([*seeds, *far], gold, cells=2)
    as_seeds = bootstrap_spearman([*seeds, *far], gold)
    assert cells.mean == pytest.approx(as_seeds.mean)
    assert cells.high - cells.low < (as_seeds.high - as_seeds.low) / 2
    one = bootstrap_spearman(seeds, gold, cells=1)
    assert one == bootstrap_spearman(seeds, gold)
    twice = bootstrap_spearman([*seeds, *seeds], gold, cells=2)
    assert (twice.low, twice.high) == pytest.approx((one.low, one.high))


@pytest.mark.parametrize("cells", [0, 4])
def test_cells_must_be_of_one_size(cells):
    good, gold = pairs(20)
    with pytest.raises(ValueError, match="cells of equal size"):
        bootstrap_spearman([good] * 6, gold, cells=cells)


def test_spearman_groups_widen_the_interval():
    predicted, gold = pairs(50)
    repeated = [np.repeat(part, 8) for part in (predicted, gold)]
    alone = bootstrap_spearman(predicted, gold)
    grouped = bootstrap_spearman(*repeated, groups=np.repeat(np.arange(50), 8))
    ungrouped = bootstrap_spearman(*repeated)
    assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert ungrouped.high - ungrouped.low < (grouped.high - grouped.low) / 2


@pytest.mark.parametrize(
    ("predicted", "gold"),
    [([1.0, 2.0], [1.0]), ([1.0, np.nan], [1.0, 2.0]), ([[1.0]], [1.0])],
)
def test_spearman_refuses_nonsense(predicted, gold):
    with pytest.raises(ValueError, match=r"scores|finite"):
        bootstrap_spearman(predicted, gold)


def test_mean_of_runs_draws_runs_too():
    rng = np.random.default_rng(4)
    items = rng.normal(size=500)
    alike = bootstrap_mean([items] * 3)
    apart = bootstrap_mean([items - 1, items, items + 1])
    assert alike.mean == pytest.approx(apart.mean)
    assert apart.high - apart.low > 5 * (alike.high - alike.low)
    one = bootstrap_mean(items)
    assert (alike.low, alike.high) == pytest.approx((one.low, one.high), abs=0.01)


def test_as_many_runs_are_drawn_as_there_are():
    """Of -1, 0 and 1 three are drawn; each sum of -3 to 3 in 1, 3, 6, 7 of 27 ways.

    A mean of -1 thus comes in 3.7 % of the draws, and of -2/3 or less in 15 %.
    """
    got = bootstrap_mean(np.repeat([[-1.0], [0.0], [1.0]], 4, axis=1), confidence=0.8)
    assert (got.low, got.high) == pytest.approx((-2 / 3, 2 / 3))


def test_the_seed_draws_the_runs_too():
    rows = np.repeat(np.random.default_rng(10).normal(size=(6, 1)), 4, axis=1)
    first = bootstrap_mean(rows, draws=50)
    assert (
        first
        == bootstrap_mean(rows, draws=50)
        != bootstrap_mean(rows, seed=1, draws=50)
    )


def coverage(intervals, truth):
    return np.mean([i.low <= truth <= i.high for i in intervals])


def test_mean_of_200_skewed_items_is_covered_as_often_as_it_says():
    values = np.random.default_rng(8).exponential(size=(600, 200))
    found = [bootstrap_mean(row, seed=i, draws=400) for i, row in enumerate(values)]
    assert 0.93 <= coverage(found, 1) <= 0.97


@pytest.mark.parametrize("pearson", [0.3, 0.8])
def test_spearman_of_100_pairs_is_covered_as_often_as_it_says(pearson):
    """Of a bivariate normal, whose Spearman correlation is 6/π·arcsin(ρ/2)."""
    rng = np.random.default_rng(9)
    found = []
    for turn in range(600):
        gold, noise = rng.normal(size=(2, 100))
        predicted = pearson * gold + np.sqrt(1 - pearson**2) * noise
        found.append(bootstrap_spearman(predicted, gold, seed=turn, draws=400))
    assert 0.93 <= coverage(found, 6 / np.pi * np.arcsin(pearson / 2)) <= 0.97
