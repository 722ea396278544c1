import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial import distance

from sbert_lab.evaluation.metrics import (
    anisotropy,
    average_precision_at_k,
    ndcg_at_k,
    overlap_at_k,
    pairwise_cosine,
    recall_at_k,
    spearman,
)

METRICS = ndcg_at_k, average_precision_at_k, recall_at_k


@pytest.mark.parametrize("metric", METRICS)
def test_ids_come_in_any_container(metric):
    found, right = [[3, 1, 2, 1]], [[1, 2, 1]]
    wanted = metric(found, right)
    assert 0 < wanted < 1 or metric is recall_at_k
    for shape in (np.array, torch.tensor, lambda ids: list(map(np.int64, ids))):
        assert metric([shape(found[0])], [shape(right[0])]) == wanted
    assert metric(found, [{1, 2}]) == metric(found, [{1: 1, 2: 1.0, 3: 0}]) == wanted
    assert metric(found, [{1: -1, 2: 0}]) == metric(found, [[]]) == metric([[]], [[1]])
    assert metric(found, right, 99) == wanted


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("found", "relevant", "k", "message"),
    [
        ([["a"]], ["abc"], 1, "'abc' is no list of ids: give for each query"),
        (["abc"], [["a"]], 1, "'abc' is no list"),
        ([["a"]], [b"a"], 1, "b'a' is no list"),
        ([["a"]], [iter("a")], 1, "is no list"),
        ([{"a"}], [["a"]], 1, "a set has no order: give for each query"),
        ([{"a": 0.5}], [["a"]], 1, "a dict has no order"),
        ([[math.nan]], [[1]], 1, "NaN is no id"),
        ([["1"]], [[1]], 1, "'1' and 1 differ in kind"),
        ([[["a"]]], [["a"]], 1, "unhashable.*: give for each query"),
        ([["a"]], [], 1, "zip.*: give for each query"),
        ([["a"]], [{"a": None}], 1, "real number.*: give for each query"),
        ([["a"]], [{"a": math.nan}], 1, "finite numbers"),
        ([["a"]], [["a"]], 0, "k=0: a whole number"),
        ([["a"]], [["a"]], math.nan, "k=nan: a whole number"),
    ],
)
def test_what_cannot_be_judged_is_refused(metric, found, relevant, k, message):
    with pytest.raises(ValueError, match=message):
        metric(found, relevant, k)


def test_spearman_of_what_cannot_be_ranked():
    assert spearman([1, 1, 1], [1, 2, 3]) == spearman([1, 2, 3], [4, 4, 4]) == 0
    for one, other in (([1], [2]), ([1, math.nan], [1, 2]), ([[1, 2]], [[1, 2]])):
        with pytest.raises(ValueError, match="two or more finite scores"):
            spearman(one, other)
    with pytest.raises(ValueError, match="same shape"):
        spearman([1, 2, 3], [1, 2])


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
    correlation = np.corrcoef(*ranks)[0, 1]
    assert spearman(pairwise_cosine(a, b), gold) == pytest.approx(correlation)
    assert pairwise_cosine(a.tolist(), b.tolist()) == pytest.approx(expected, abs=1e-6)
    for partner in (b[:1], np.ma.masked_less(b, 0), b[0], b > 0):
        with pytest.raises(ValueError, match="give each row|not reals"):
            pairwise_cosine(a, partner)
    small = (a * np.float32(1e-30)), (b * np.float32(1e-30))
    np.testing.assert_allclose(pairwise_cosine(*small), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_graded_metrics_equal_trec_eval_to_the_bit(seed):
    """Rankings of up to 40 ids; grades from -1, and ids never found among them.

    An id that comes back again is for trec_eval one that answers nothing.
    """
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="it comes with mteb")
    rng = np.random.default_rng(seed)
    run, qrels, found = {}, {}, []
    for query in map(str, range(30)):
        drawn = rng.permutation(50) if seed else rng.integers(0, 50, 50)
        row = [f"d{i}" for i in drawn[: rng.integers(0, 41)]]
        once = [f"again{i}" if key in row[:i] else key for i, key in enumerate(row)]
        run[query] = {key: float(-place) for place, key in enumerate(once)}
        found.append(row)
        known = rng.choice(60, rng.integers(1, 25), replace=False)
        low, high = (0, 2) if seed == 0 else (-1, 4)
        qrels[query] = {f"d{i}": int(rng.integers(low, high)) for i in known}
    measures = {f"{m}.1,3,10,30" for m in ("ndcg_cut", "map_cut", "recall")}
    peer = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    relevant = list(qrels.values())
    for k in (1, 3, 10, 30):
        for metric, name in (
            (ndcg_at_k, "ndcg_cut"),
            (average_precision_at_k, "map_cut"),
            (recall_at_k, "recall"),
        ):
            theirs = [peer[query][f"{name}_{k}"] for query in run]
            assert metric(found, relevant, k).tolist() == theirs
    ids = [{key for key, grade in row.items() if grade > 0} for row in relevant]
    for metric in (average_precision_at_k, recall_at_k):
        assert (metric(found, ids, 5) == metric(found, relevant, 5)).all()


def test_anisotropy_is_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    x = 0.7 + rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4))
    cosines = 1 - distance.pdist(x, "cosine")
    assert anisotropy(x) == pytest.approx(cosines.mean(), abs=1e-12)
    with pytest.raises(ValueError, match="two vectors or more"):
        anisotropy(np.ones((1, 3)))
