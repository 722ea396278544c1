"""Permutation tests against loops and SciPy, and against what chance really does."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sbert_lab.evaluation import significance
from sbert_lab.evaluation.significance import (
    holm,
    items_needed,
    minimum_detectable_difference,
    permutation_mean,
    permutation_spearman,
)


def every_flip(values, groups):
    """Return the exact p-value of a mean: every sign of every group in turn."""
    labels = sorted(set(groups))
    means = []
    for signs in itertools.product([1, -1], repeat=len(labels)):
        sign = dict(zip(labels, signs, strict=True))
        means.append(sum(sign[g] * v for g, v in zip(groups, values, strict=True)))
    return np.mean([abs(m) >= abs(sum(values)) - 1e-9 for m in means])


def every_swap(ours, theirs, gold, groups):
    """Return the exact p-value of a difference of Spearmans: every swap in turn."""
    ours, theirs = stats.rankdata(ours), stats.rankdata(theirs)

    wanted = stats.rankdata(gold)

    def difference(a, b):
        return stats.pearsonr(a, wanted).statistic - stats.pearsonr(b, wanted).statistic

    found = []
    for swaps in itertools.product([False, True], repeat=max(groups) + 1):
        swapped = np.array([swaps[g] for g in groups])
        a, b = np.where(swapped, theirs, ours), np.where(swapped, ours, theirs)
        found.append(abs(difference(a, b)))
    return np.mean(np.array(found) >= abs(difference(ours, theirs)) - 1e-9)


def models(n, seed, noise=1.0):
    """Return two models of equal worth on other scales, and gold scores with ties."""
    rng = np.random.default_rng(seed)
    meaning = rng.normal(size=n)
    ours, theirs = (meaning + noise * rng.normal(size=n) for _ in range(2))
    return np.tanh(ours), np.exp(theirs / 4), np.round(meaning * 1.5)


def test_mean_is_the_loop_over_every_flip():
    values = np.random.default_rng(0).normal(0.4, 1, 12)
    for groups in (range(12), [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]):
        ours = permutation_mean(values, groups=list(groups), draws=40_000)
        exact = every_flip(values.tolist(), list(groups))
        assert ours == pytest.approx(exact, abs=0.01)
        assert 0.02 < exact < 0.8


def test_mean_is_scipys():
    values = np.random.default_rng(1).exponential(size=60) - 0.8
    theirs = stats.permutation_test(
        (values, np.zeros(60)),
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=np.random.default_rng(2),
    ).pvalue
    assert permutation_mean(values, draws=20_000) == pytest.approx(theirs, abs=0.012)


def test_spearman_is_the_loop_over_every_swap():
    ours, theirs, gold = models(9, 3)
    for groups in (list(range(9)), [0, 0, 1, 1, 2, 3, 4, 5, 6]):
        p = permutation_spearman(ours, theirs, gold, groups=groups, draws=20_000)
        exact = every_swap(ours, theirs, gold, groups)
        assert p == pytest.approx(exact, abs=0.012)
        assert 0.02 < exact < 0.98


def test_spearman_is_scipys():
    ours, theirs, gold = models(40, 5)
    ours = ours + 0.2 * gold

    def difference(a, b):
        one, other = (stats.spearmanr(x, gold).statistic for x in (a, b))
        return one - other

    peer = stats.permutation_test(
        (stats.rankdata(ours), stats.rankdata(theirs)),
        difference,
        permutation_type="samples",
        n_resamples=1_000,
        vectorized=False,
        rng=np.random.default_rng(2),
    ).pvalue
    p = permutation_spearman(ours, theirs, gold, draws=10_000)
    # SciPy ranks the swapped columns again; ours does not, and it hardly matters.
    assert p == pytest.approx(peer, abs=0.04)
    assert 0.01 < p < 0.5


def test_mean_of_runs_is_that_of_their_mean():
    rows = np.random.default_rng(4).normal(0.2, 1, (3, 50))
    assert permutation_mean(rows) == permutation_mean(rows.mean(0))


def test_spearman_of_equal_runs_is_that_of_one():
    ours, theirs, gold = models(60, 6)
    one = permutation_spearman(ours, theirs, gold)
    assert permutation_spearman([ours] * 3, [theirs] * 3, gold) == one
    other = models(60, 7)[0] + gold
    both = permutation_spearman([ours, other], [theirs, theirs], gold)
    assert both < one


def test_spearman_does_not_see_scales():
    ours, theirs, gold = models(80, 8)
    p = permutation_spearman(ours, theirs, gold)
    assert permutation_spearman(0.6 + ours / 1e3, theirs**3, gold * 7) == p
    assert permutation_spearman(theirs, ours, gold) == p


def test_no_difference_is_never_significant():
    ours, _, gold = models(30, 9)
    assert permutation_spearman(ours, ours, gold) == 1
    assert permutation_mean(np.zeros(30)) == 1


def test_smallest_p_is_one_in_draws_and_one():
    sure = np.full(60, 0.1)
    assert permutation_mean(sure, draws=99) == 1 / 100
    gold = np.arange(60.0)
    assert permutation_spearman(gold, -gold, gold, draws=99) == 1 / 100


def test_seeded_and_independent_of_memory_blocks(monkeypatch):
    values = np.random.default_rng(3).normal(0.2, 1, 50)
    ours, theirs, gold = models(50, 10)
    first = permutation_mean(values), permutation_spearman(ours, theirs, gold)
    assert permutation_mean(values, seed=1) != first[0]
    monkeypatch.setattr(significance, "_DRAWS_AT_ONCE", 50 * 7)
    again = permutation_mean(values), permutation_spearman(ours, theirs, gold)
    assert again == first


def false_positives(p_values):
    rate = np.mean(np.array(p_values) <= 0.05)
    assert 0.03 <= rate <= 0.07
    return rate


def test_mean_finds_nothing_where_nothing_is():
    rng = np.random.default_rng(11)
    values = rng.exponential(size=(2_000, 40)) - rng.exponential(size=(2_000, 40))
    false_positives([permutation_mean(row, draws=199) for row in values])


def test_mean_of_groups_finds_nothing_where_nothing_is():
    """Five items of one disease are one observation, and flipping each one is wrong."""
    rng = np.random.default_rng(12)
    groups = np.repeat(np.arange(30), 5)
    values = np.repeat(rng.normal(size=(1_500, 30)), 5, axis=1)
    values += 0.3 * rng.normal(size=values.shape)
    false_positives([permutation_mean(row, groups=groups, draws=199) for row in values])
    alone = [permutation_mean(row, draws=199) for row in values[:300]]
    assert np.mean(np.array(alone) <= 0.05) > 0.2


def test_spearman_finds_nothing_where_nothing_is():
    sets = [models(40, [13, turn]) for turn in range(1_500)]
    false_positives([permutation_spearman(*each, draws=199) for each in sets])


def test_spearman_of_groups_finds_nothing_where_nothing_is():
    groups = np.repeat(np.arange(30), 4)
    found, alone = [], []
    for turn in range(1_000):
        each = [np.repeat(part, 4) for part in models(30, [14, turn])]
        found.append(permutation_spearman(*each, groups=groups, draws=199))
        if turn < 200:
            alone.append(permutation_spearman(*each, draws=199))
    false_positives(found)
    assert np.mean(np.array(alone) <= 0.05) > 0.15


def test_spearman_finds_what_is_there():
    found = []
    for turn in range(100):
        better = models(200, [15, turn], noise=0.5)
        worse = models(200, [15, turn], noise=1.0)
        found.append(permutation_spearman(better[0], worse[1], better[2], draws=199))
    assert np.mean(np.array(found) <= 0.05) > 0.9


@pytest.mark.parametrize("bad", [[], [1.0], [1.0, np.nan], [[[1.0, 2.0]]]])
def test_mean_refuses_what_is_no_sample(bad):
    with pytest.raises(ValueError, match="two or more finite"):
        permutation_mean(bad)
    with pytest.raises(ValueError, match="two or more finite"):
        minimum_detectable_difference(bad)


@pytest.mark.parametrize(
    ("ours", "theirs", "gold"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0]),
        ([1.0, 2.0], [1.0, 2.0], [1.0]),
        ([[1.0, 2.0]] * 2, [1.0, 2.0], [1.0, 2.0]),
        ([1.0, np.inf], [1.0, 2.0], [1.0, 2.0]),
        ([1.0], [1.0], [1.0]),
    ],
)
def test_spearman_refuses_nonsense(ours, theirs, gold):
    with pytest.raises(ValueError, match=r"gold scores|finite"):
        permutation_spearman(ours, theirs, gold)


def test_refuses_no_draws_and_missing_groups():
    with pytest.raises(ValueError, match="at least one"):
        permutation_mean([1.0, 2.0], draws=0)
    with pytest.raises(ValueError, match="3 groups for 2 items"):
        permutation_mean([1.0, 2.0], groups=[1, 2, 3])


def test_holm_by_hand():
    """0.005·4, then 0.011·3 = 0.033, 0.02·2 = 0.04, 0.04·1 = 0.04: in the old order."""
    got = holm([0.02, 0.005, 0.04, 0.011])
    assert got == pytest.approx([0.04, 0.02, 0.04, 0.033])
    # 0.03·2 = 0.06 after 0.03·3 = 0.09, and 0.5·1 stays
    assert holm([0.03, 0.03, 0.5]) == pytest.approx([0.09, 0.09, 0.5])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])
    assert holm([0.04]) == pytest.approx([0.04])
    assert len(holm([])) == 0


def test_holm_keeps_names():
    named = holm({"stsb": 0.03, "sick": 0.01})
    assert named == pytest.approx({"stsb": 0.03, "sick": 0.02})
    assert list(named) == ["stsb", "sick"]


many = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(many)
def test_holm_is_the_definition(p):
    """Rejected at a level is what the step-down procedure rejects."""
    got = holm(p)
    for level in (0.001, 0.01, 0.05, 0.3):
        rejected = set()
        for step, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
            if p[place] * (len(p) - step) > level:
                break
            rejected.add(place)
        assert {i for i, q in enumerate(got) if q <= level} == rejected


@given(many, st.randoms(use_true_random=False))
def test_holm_is_monotone_and_knows_no_order(p, random):
    got = holm(p)
    assert (got >= p).all()
    assert (got <= 1).all()
    assert (
        got <= np.minimum(np.array(p) * len(p), 1)
    ).all()  # never worse than Bonferroni
    for i, j in itertools.combinations(range(len(p)), 2):
        if p[i] <= p[j]:
            assert got[i] <= got[j]
    order = list(range(len(p)))
    random.shuffle(order)
    assert holm([p[i] for i in order]) == pytest.approx(got[order])


@pytest.mark.parametrize("bad", [[-0.1], [1.1], [np.nan], [[0.1]]])
def test_holm_refuses_what_is_no_p_value(bad):
    with pytest.raises(ValueError, match="p-values are numbers from 0 to 1"):
        holm(bad)


def test_holm_keeps_the_risk_of_a_family():
    """Of ten true nulls the smallest p is below 5 % in 40 % of cases; adjusted in 5."""
    p = np.random.default_rng(16).uniform(size=(4_000, 10))
    adjusted = np.array([holm(row).min() for row in p])
    assert np.mean(p.min(1) <= 0.05) > 0.35
    assert np.mean(adjusted <= 0.05) == pytest.approx(0.05, abs=0.012)


def test_detectable_difference_by_hand():
    """z(0.975) + z(0.8) = 1.960 + 0.842; s = 2, n = 100."""
    pilot = np.array([-1, 1] * 50) * 2 * math.sqrt(99 / 100)
    assert minimum_detectable_difference(pilot) == pytest.approx(0.5603, abs=1e-4)
    assert minimum_detectable_difference(pilot, 400) == pytest.approx(0.28016, abs=1e-4)
    assert minimum_detectable_difference(pilot + 7) == pytest.approx(0.5603, abs=1e-4)
    assert items_needed(pilot, 0.5) == math.ceil((2.80159 * 2 / 0.5) ** 2) == 126


@given(st.integers(2, 500), st.floats(0.5, 0.99), st.floats(0.001, 0.2))
def test_items_needed_is_the_way_back(n, power, alpha):
    pilot = np.random.default_rng(17).normal(size=80)
    least = minimum_detectable_difference(pilot, n, power=power, alpha=alpha)
    asked = {"power": power, "alpha": alpha}
    assert items_needed(pilot, -least * (1 + 1e-9), **asked) == n
    assert items_needed(pilot, least * 0.999, **asked) > n


def test_groups_of_one_change_nothing_and_copies_count_once():
    pilot = np.random.default_rng(18).normal(size=60)
    plain = minimum_detectable_difference(pilot)
    alone = minimum_detectable_difference(pilot, groups=np.arange(60))
    copies = np.repeat(pilot, 4)
    once = minimum_detectable_difference(copies, groups=np.repeat(np.arange(60), 4))
    assert plain == pytest.approx(alone) == pytest.approx(once)
    assert minimum_detectable_difference(copies) < plain * 0.6
    runs = minimum_detectable_difference([pilot - 1, pilot + 1])
    assert runs == pytest.approx(plain)


def test_a_difference_so_large_is_found_as_often_as_it_says():
    """From a pilot of many items to new sets of 60, with a skewed distribution."""
    rng = np.random.default_rng(19)
    pilot = rng.exponential(size=5_000) - rng.exponential(size=5_000)
    least = minimum_detectable_difference(pilot, 60)
    shape = (1_500, 60)
    new = rng.exponential(size=shape) - rng.exponential(size=shape) + least
    found = [permutation_mean(row, draws=399) <= 0.05 for row in new]
    assert 0.75 <= np.mean(found) <= 0.85


def test_power_of_groups_of_unequal_size():
    rng = np.random.default_rng(20)

    def made(count):
        sizes = rng.integers(1, 8, count)
        owner = np.repeat(np.arange(count), sizes)
        values = np.repeat(rng.normal(size=count), sizes)
        return values + rng.normal(size=len(values)), owner

    values, owner = made(4_000)
    least = minimum_detectable_difference(values, 60, groups=owner)
    found = []
    for _ in range(1_500):
        values, owner = made(60)
        found.append(permutation_mean(values + least, groups=owner, draws=399) <= 0.05)
    assert 0.75 <= np.mean(found) <= 0.85


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimum_detectable_difference([1.0, 1.0]), "all alike"),
        (lambda: minimum_detectable_difference([1.0, 2.0], 0), "at least one item"),
        (lambda: minimum_detectable_difference([1.0, 2.0], power=1), "alpha < power"),
        (lambda: minimum_detectable_difference([1.0, 2.0], alpha=0), "alpha < power"),
        (lambda: items_needed([1.0, 2.0], 0), "no number of items"),
        (lambda: items_needed([1.0, 2.0], np.nan), "no number of items"),
        (lambda: items_needed([1.0, 2.0], 1, groups=["a", "a"]), "one group"),
    ],
)
def test_power_refuses_what_cannot_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()
