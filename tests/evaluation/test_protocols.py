import random

import numpy as np
import pytest
from scipy import stats

from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.protocols import (
    classification,
    clustering,
    clustering_legacy,
    pair_classification,
    reranking,
    retrieval,
    similarity_score,
    sts,
)


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


def test_no_protocol_touches_global_random_state():
    def states():
        arrays = np.random.get_state()  # noqa: NPY002  (what must not change)
        return random.getstate(), arrays[1].tolist(), arrays[2]

    rng, before = np.random.default_rng(0), states()
    x, y = rng.normal(size=(60, 4)).astype(np.float32), rng.integers(0, 2, 60).tolist()
    ids = [str(i) for i in range(60)]
    sts(x, x[::-1], y)
    pair_classification(x, x[::-1], y)
    classification(x, y, x, y, draws=2)
    clustering(x, y, max_documents=40, draws=2, documents_per_draw=30)
    clustering_legacy([(x, y)])
    retrieval(ids, x, ids, x, {"0": {"1": 1}})
    reranking(ids, x, ids, x, {"0": {"1": 1}}, {"0": ids})
    assert states() == before
