import numpy as np
import pytest
from scipy import stats

from sbert_lab.evaluation.statistics import bootstrap_mean


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


@pytest.mark.parametrize("bad", [[], [1.0], [[1.0, 2.0]], [1.0, float("nan")]])
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


def test_groups_of_one_change_nothing():
    values = np.random.default_rng(7).normal(size=40)
    plain = bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1, groups=np.arange(40)) == plain
