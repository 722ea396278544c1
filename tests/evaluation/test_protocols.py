import numpy as np
import pytest
from scipy import stats

from sbert_lab.datasets.similarity import ScoredPairs
from sbert_lab.evaluation.protocols import similarity_score


def made(n=80, group=()):
    rng = np.random.default_rng(0)
    score = rng.integers(0, 6, n).astype(float)
    texts = tuple(map(str, range(n)))
    return ScoredPairs(texts, texts, tuple(score), group), score + rng.normal(size=n)


def test_is_spearman_of_the_kept_pairs():
    pairs, cosines = made()
    kept = np.arange(80) % 3 == 0
    expected = stats.spearmanr(cosines[kept], np.array(pairs.score)[kept]).statistic
    got = similarity_score(pairs, cosines, kept=kept)
    assert got.mean == pytest.approx(expected, abs=1e-12)
    assert got.n == kept.sum()


def test_difference_of_runs_is_paired_run_by_run():
    pairs, cosines = made()
    worse = cosines + np.random.default_rng(1).normal(size=80)
    got = similarity_score(pairs, [cosines, worse], baseline=[worse, cosines])
    assert got.mean == pytest.approx(0, abs=1e-12)
    single = similarity_score(pairs, cosines, baseline=worse)
    one, other = (similarity_score(pairs, c).mean for c in (cosines, worse))
    assert single.mean == pytest.approx(one - other, abs=1e-12)


def test_draws_whole_groups():
    pairs, cosines = made()
    alone = similarity_score(pairs, cosines)
    grouped, _ = made(group=tuple(str(i // 20) for i in range(80)))
    together = similarity_score(grouped, cosines)
    assert together.mean == alone.mean
    assert (together.low, together.high) != (alone.low, alone.high)
