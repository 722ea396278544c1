"""Average precision against scikit-learn; interval and p-value by simulation."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from sbert_lab.evaluation.precision import (
    average_precision,
    bootstrap_average_precision,
    permutation_average_precision,
)


def pairs(n: int, seed: int = 0, gap: float = 1.0):
    """Return scores with ties, and labels that they follow by `gap`."""
    rng = np.random.default_rng(seed)
    same = rng.integers(2, size=n).astype(float)
    return np.round(same * gap + rng.normal(size=n), 1), same


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn_with_weights(seed):
    scores, same = pairs(80, seed)
    counts = np.random.default_rng(seed).integers(4, size=(6, 80)).astype(float)
    for row, ours in zip(counts, average_precision(scores, same, counts), strict=True):
        theirs = average_precision_score(same, scores, sample_weight=row)
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_a_draw_without_a_pair_of_like_meaning_is_zero():
    counts = np.array([[0.0, 3.0], [1.0, 1.0]])
    found = average_precision(np.array([2.0, 1.0]), np.array([1.0, 0.0]), counts)
    assert found.tolist() == [0.0, 1.0]


def test_interval_against_a_naive_bootstrap():
    scores, same = pairs(200)
    rng = np.random.default_rng(3)
    drawn = [
        average_precision_score(same[i], scores[i])
        for i in rng.integers(200, size=(1_000, 200))
    ]
    got = bootstrap_average_precision(scores, same)
    assert got.mean == pytest.approx(average_precision_score(same, scores))
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (got.low, got.high) == pytest.approx((low, high), abs=0.02)


def test_difference_is_paired_and_groups_widen_it():
    scores, same = pairs(300, gap=2.0)
    worse = scores + np.random.default_rng(1).normal(size=300)
    found = bootstrap_average_precision(scores, same, baseline=worse)
    alone = [bootstrap_average_precision(s, same).mean for s in (scores, worse)]
    assert found.mean == pytest.approx(alone[0] - alone[1])
    equal = bootstrap_average_precision(scores, same, baseline=scores)
    assert (equal.mean, equal.low, equal.high) == (0, 0, 0)
    repeated = [np.repeat(part, 6) for part in (scores, same)]
    apart = bootstrap_average_precision(*repeated)
    together = bootstrap_average_precision(*repeated, groups=np.repeat(range(300), 6))
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_equal_models_are_told_apart_as_seldom_as_promised():
    rng = np.random.default_rng(8)
    p = []
    for _ in range(120):
        same = rng.integers(2, size=60).astype(float)
        a, b = rng.normal(size=(2, 60)) + same
        p.append(permutation_average_precision(a, 5 * b, same, draws=99))
    assert (
        0.01 <= np.mean(np.array(p) <= 0.05) <= 0.09
    )  # 0.05, two in three within 0.015


def test_a_large_difference_is_found():
    scores, same = pairs(200, gap=2.0)
    noise = np.random.default_rng(1).normal(size=200)
    assert permutation_average_precision(scores, noise, same, draws=199) <= 0.01
    assert permutation_average_precision(scores, scores, same, draws=49) == 1


def test_p_value_is_the_loop_over_every_swap():
    """Swapping none and swapping all are as far apart as measured, and count."""
    ours, theirs = np.array([[6, 4, 3, 5, 2, 1, 0], [1, 4, 2, 3, 6, 5, 0]])
    same = np.array([1, 1, 0, 1, 0, 0, 0])

    def difference(swap):
        a, b = np.where(swap, theirs, ours), np.where(swap, ours, theirs)
        return average_precision_score(same, a) - average_precision_score(same, b)

    every = [difference(s) for s in itertools.product([False, True], repeat=7)]
    exact = np.mean(np.abs(every) >= abs(every[0]) - 1e-9)
    p = permutation_average_precision(ours, theirs, same, draws=4_000)
    assert p == pytest.approx(exact, abs=0.02)
    assert 0.1 < exact < 0.5


def test_p_value_does_not_see_scales():
    """One model's cosines may lie between 0.6 and 0.9, and another's from 0 to 1."""
    ours, same = pairs(60)
    theirs = np.random.default_rng(2).normal(size=60)
    p = permutation_average_precision(ours, theirs, same, draws=200)
    scaled = np.exp(ours), 1_000 + theirs / 1e3
    assert permutation_average_precision(*scaled, same, draws=200) == p
    assert permutation_average_precision(theirs, ours, same, draws=200) == p


def test_copies_in_a_group_are_swapped_together():
    """Copies change no precision, so groups of them give the p of one of each."""
    rng = np.random.default_rng(3)
    same = rng.integers(2, size=40).astype(float)
    noise = rng.normal(size=(2, 40))
    each = (1.5 * same + noise[0], 0.5 * same + noise[1], same)
    copies = [np.repeat(part, 5) for part in each]
    groups = np.repeat(np.arange(40), 5)
    p = permutation_average_precision(*each, draws=300)
    assert permutation_average_precision(*copies, groups=groups, draws=300) == p
    assert permutation_average_precision(*copies, draws=300) < p / 2 < 0.2


@pytest.mark.parametrize("same", [[1, 1], [0, 2], [1.0]])
def test_refuses_labels_that_are_none(same):
    with pytest.raises(ValueError, match="labels 1 and 0"):
        bootstrap_average_precision([0.1, 0.2], same)
