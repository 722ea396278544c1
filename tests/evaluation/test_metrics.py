import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance
from sklearn.metrics import ndcg_score

from sbert_lab.evaluation.metrics import (
    ndcg_at_k,
    overlap_at_k,
    pairwise_cosine,
    recall_at_k,
    spearman,
)


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 10))
def test_ndcg_equals_scikit_learn(seed, relevant, k):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(10).astype(float)
    wanted = set(rng.choice(10, relevant, replace=False).tolist())
    gains = np.array([[float(i in wanted) for i in range(10)]])
    found = [np.argsort(-scores).tolist()]
    ours = ndcg_at_k(found, [wanted], k)[0]
    assert ours == pytest.approx(ndcg_score(gains, scores[None], k=k))


def test_ndcg_by_hand():
    values = ndcg_at_k([["a", "b", "c"], ["x", "y", "z"], []], [{"b"}, {"q"}, {"a"}])
    np.testing.assert_allclose(values, [1 / np.log2(3), 0, 0])


def test_recall_and_overlap_by_hand():
    found = [["a", "b", "c"], ["x", "y"]]
    assert recall_at_k(found, [{"a", "c", "d"}, {"x"}], 2).tolist() == [1 / 3, 1.0]
    assert overlap_at_k(found, [["b", "a", "d"], ["q", "r"]], 2).tolist() == [1.0, 0.0]


def test_spearman_and_cosine_equal_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40, 5)).astype(np.float32)
    expected = [1 - distance.cosine(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(pairwise_cosine(a, b), expected, atol=1e-6)
    gold = rng.integers(0, 6, size=40).astype(float)  # with ties
    ranks = [stats.rankdata(v) for v in (gold, pairwise_cosine(a, b))]
    assert spearman(pairwise_cosine(a, b), gold) == pytest.approx(
        np.corrcoef(*ranks)[0, 1]
    )
