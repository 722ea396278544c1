"""Intervals and p-values against loops, SciPy, and what chance really does."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from sbert_lab.evaluation import statistics
from sbert_lab.evaluation.statistics import (
    bootstrap_mean,
    bootstrap_score,
    holm,
    items_needed,
    minimum_detectable_difference,
    permutation_mean,
    permutation_score,
)


def pairs(n=60, seed=0):
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 6, n).astype(float)
    return gold + rng.normal(size=n), gold


def models(n, seed, noise=1.0):
    """Return two models of equal worth on other scales, and gold scores with ties."""
    rng = np.random.default_rng(seed)
    meaning = rng.normal(size=n)
    ours, theirs = (meaning + noise * rng.normal(size=n) for _ in range(2))
    return np.tanh(ours), np.exp(theirs / 4), np.round(meaning * 1.5)


def width(interval):
    return interval.high - interval.low


# Intervals


def test_mean_agrees_with_scipy():
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
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.02)


def test_seeded_and_independent_of_memory_blocks(monkeypatch):
    values = np.random.default_rng(3).normal(size=50)
    first = bootstrap_mean(values, seed=4)
    assert first == bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)
    monkeypatch.setattr(statistics, "_DRAWS_AT_ONCE", 50 * 70)
    assert bootstrap_mean(values, seed=4) == first


def test_groups_are_drawn_whole():
    """Copies of one observation are one."""
    unequal = np.repeat(np.arange(8), [1, 1, 1, 2, 3, 5, 8, 30])
    same = bootstrap_mean(np.full(51, 2.5), groups=unequal)
    assert (same.mean, same.low, same.high) == pytest.approx((2.5, 2.5, 2.5))
    predicted, gold = pairs(50)
    copied = [np.repeat(part, 8) for part in (predicted, gold)]
    grouped = bootstrap_score(*copied, groups=np.repeat(np.arange(50), 8))
    assert width(grouped) == pytest.approx(width(bootstrap_score(predicted, gold)))


def test_runs_are_the_outer_level():
    """Of -1, 0 and 1 three are drawn: a mean of -1 comes in 1 of 27 draws."""
    rows = np.repeat([[-1.0], [0.0], [1.0]], 4, axis=1)
    got = bootstrap_mean(rows)
    assert (got.low, got.high) == pytest.approx((-1, 1))
    alone = bootstrap_mean(rows[1] + [0.1, -0.1, 0.1, -0.1])
    assert width(alone) < 0.3
    good, gold = pairs(400)
    noise = np.random.default_rng(3).normal(size=400)
    alike = bootstrap_score([good] * 3, gold)
    apart = bootstrap_score([good, noise, good + noise], gold)
    assert width(apart) > 3 * width(alike)
    assert alike.mean == pytest.approx(bootstrap_score(good, gold).mean)


def test_cells_are_averaged_within_a_seed_and_never_drawn():
    """Conditions that differ much must not widen the interval; seeds must."""
    good, gold = pairs(400)
    rng = np.random.default_rng(4)
    seeds = [good + rng.normal(size=400) * 0.05 for _ in range(3)]
    far = [seed + rng.normal(size=400) * 2 for seed in seeds]
    cells = bootstrap_score([*seeds, *far], gold, cells=2)
    as_seeds = bootstrap_score([*seeds, *far], gold)
    assert cells.mean == pytest.approx(as_seeds.mean)
    assert width(cells) < width(as_seeds) / 2
    with pytest.raises(ValueError, match="cells of equal size"):
        bootstrap_score([good] * 6, gold, cells=4)


def test_spearman_interval_is_that_of_every_draw_there_is():
    """Five pairs can be drawn in 5^5 ways; both sides are ranked anew in each."""
    predicted, gold = np.array([0.3, 0.1, 0.9, 0.5, 2]), np.array([0, 1, 1, 3, 5.0])
    every = []
    for rows in map(list, itertools.product(range(5), repeat=5)):
        x, y = predicted[rows], gold[rows]
        varied = np.ptp(x) > 0 and np.ptp(y) > 0
        every.append(stats.spearmanr(x, y).statistic if varied else 0.0)
    got = bootstrap_score(predicted, gold, draws=20_000)
    assert got.mean == pytest.approx(stats.spearmanr(predicted, gold).statistic)
    exact = np.percentile(every, [2.5, 97.5])
    assert (got.low, got.high) == pytest.approx(tuple(exact), abs=0.02)


def test_average_precision_is_that_of_repeated_pairs():
    """Each draw's value is scikit-learn's, weighted by how often a pair was drawn."""
    rng = np.random.default_rng(1)
    scores, same = rng.integers(0, 9, 40).astype(float), rng.integers(0, 2, 40)
    counts = rng.multinomial(40, np.full(40, 1 / 40), size=30).astype(float)
    ours = statistics._average_precision(scores[None], same.astype(float), counts)[0]
    theirs = [average_precision_score(same, scores, sample_weight=c) for c in counts]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    one = bootstrap_score(scores, same, score="average_precision")
    assert one.mean == pytest.approx(average_precision_score(same, scores))
    assert one.low < one.mean < one.high


@pytest.mark.parametrize("score", ["spearman", "average_precision"])
def test_a_difference_is_paired(score):
    predicted, gold = pairs(300)
    gold = (gold > 2).astype(float)
    worse = predicted + np.random.default_rng(2).normal(size=300) * 0.3
    gap = bootstrap_score(predicted, gold, score=score, baseline=worse)
    one, other = (bootstrap_score(x, gold, score=score) for x in (predicted, worse))
    assert gap.mean == pytest.approx(one.mean - other.mean)
    assert width(gap) < width(one) / 2
    same = bootstrap_score(predicted, gold, score=score, baseline=predicted)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize("bad", [[1.0], [[[1.0, 2.0]]], [1.0, np.nan]])
def test_what_has_no_interval_is_refused(bad):
    with pytest.raises(ValueError, match="two or more finite"):
        bootstrap_mean(bad)
    with pytest.raises(ValueError, match=r"scores|finite"):
        bootstrap_score([1.0, 2.0], bad)
    with pytest.raises(ValueError, match="groups for"):
        bootstrap_mean([1.0, 2.0], groups=["a"])
    with pytest.raises(ValueError, match="must be 1 and 0"):
        permutation_score([1, 2], [2, 1], [5, 0], score="average_precision")


# Tests of differences


def test_flips_are_the_loop_over_every_flip():
    values = np.random.default_rng(0).normal(0.4, 1, 12)
    for groups in (np.arange(12), np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9])):
        sums = np.bincount(groups, values)
        signs = itertools.product([1, -1], repeat=len(sums))
        means = np.abs([np.dot(sign, sums) for sign in signs])
        exact = np.mean(means >= abs(values.sum()) - 1e-9)
        assert permutation_mean(values, groups=groups, draws=5_000) == pytest.approx(
            exact
        )
        drawn = permutation_mean(values, groups=groups, draws=900)
        assert drawn == pytest.approx(exact, abs=0.05)
        assert 0.02 < exact < 0.8


@pytest.mark.parametrize("score", ["spearman", "average_precision"])
def test_swaps_are_the_loop_over_every_swap(score):
    ours, theirs, gold = models(8, 3)
    if score == "average_precision":
        gold = (np.arange(8) % 2).astype(float)
    a, b = stats.rankdata(ours), stats.rankdata(theirs)

    def value(ranks):
        if score == "average_precision":
            return average_precision_score(gold, ranks)
        return stats.pearsonr(ranks, stats.rankdata(gold)).statistic

    for groups in (np.arange(8), np.array([0, 0, 1, 1, 2, 3, 4, 5])):
        gaps = []
        for swaps in itertools.product([False, True], repeat=groups.max() + 1):
            swap = np.array(swaps)[groups]
            gap = value(np.where(swap, b, a)) - value(np.where(swap, a, b))
            gaps.append(abs(gap))
        exact = np.mean(np.array(gaps) >= gaps[0] - 1e-9)
        p = permutation_score(ours, theirs, gold, score=score, groups=groups)
        assert p == pytest.approx(exact)
        assert 0.02 < exact < 0.98


def test_p_values_do_not_see_scales_or_sides():
    ours, theirs, gold = models(80, 8)
    p = permutation_score(ours, theirs, gold, draws=500)
    scaled = permutation_score(0.6 + ours / 1e3, theirs**3, gold * 7, draws=500)
    assert scaled == permutation_score(theirs, ours, gold, draws=500) == p
    assert permutation_score(ours, ours, gold, draws=500) == 1
    assert permutation_mean(np.zeros(30), draws=500) == 1
    rows = np.random.default_rng(4).normal(0.2, 1, (3, 50))
    assert permutation_mean(rows) == permutation_mean(rows.mean(0))

    # The smallest is one in the draws and one.
    assert permutation_mean(np.full(60, 0.1), draws=99) == 1 / 100
    gold = np.arange(60.0)
    assert permutation_score(gold, -gold, gold, draws=99) == 1 / 100


def test_holm_by_hand_and_never_below_the_raw_value():
    assert holm([0.03, 0.005, 0.04, 0.02]) == pytest.approx([0.06, 0.02, 0.06, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert holm([]).shape == (0,)


def test_a_difference_that_is_detectable_is_detected_four_times_in_five():
    rng = np.random.default_rng(16)
    pilot = np.repeat(rng.normal(size=60), 3) + 0.2 * rng.normal(size=180)
    groups = np.repeat(np.arange(60), 3)
    size = minimum_detectable_difference(pilot, groups=groups)
    found = []
    for _ in range(300):
        drawn = rng.integers(60, size=60)
        values = (pilot - pilot.mean()).reshape(60, 3)[drawn].ravel() + size
        p = permutation_mean(values, groups=groups, draws=199)
        found.append(p <= 0.05)
    assert 0.7 < np.mean(found) < 0.9
    assert items_needed(pilot, size, groups=groups) in (60, 61)
    assert items_needed(pilot, -size / 2, groups=groups) in range(238, 242)
    by_formula = (1.959964 + 0.841621) * np.std(pilot, ddof=1) / np.sqrt(180)
    assert minimum_detectable_difference(pilot) == pytest.approx(by_formula)
    with pytest.raises(ValueError, match="without spread"):
        minimum_detectable_difference(np.ones(20))
