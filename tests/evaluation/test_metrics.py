import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance
from sklearn.metrics import ndcg_score

from sbert_lab.evaluation.metrics import (
    average_precision_at_k,
    ndcg_at_k,
    overlap_at_k,
    pairwise_cosine,
    recall_at_k,
    reciprocal_rank_at_k,
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


def judged(seed, queries=30):
    """Return rankings of up to 40 ids and grades, -1 and ids never found among them."""
    rng = np.random.default_rng(seed)
    found, relevant = [], []
    for _ in range(queries):
        found.append([f"d{i}" for i in rng.permutation(50)[: rng.integers(0, 41)]])
        known = rng.choice(60, rng.integers(1, 25), replace=False)
        relevant.append({f"d{i}": int(rng.integers(-1, 4)) for i in known})
    return found, relevant


@pytest.mark.parametrize("seed", range(5))
def test_graded_metrics_equal_trec_eval_to_the_bit(seed):
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="it comes with mteb")
    found, relevant = judged(seed)
    if seed == 0:  # binary relevance
        relevant = [{i: int(g > 0) for i, g in row.items()} for row in relevant]
    names = [str(i) for i in range(len(found))]
    run = {
        name: {key: float(-place) for place, key in enumerate(row)}
        for name, row in zip(names, found, strict=True)
    }
    cuts = (1, 3, 10, 30)
    measures = {f"{m}.{','.join(map(str, cuts))}" for m in ("ndcg_cut", "map_cut")}
    qrels = dict(zip(names, relevant, strict=True))
    peer = pytrec_eval.RelevanceEvaluator(
        qrels, measures | {"recall.1,3,10,30", "recip_rank"}
    ).evaluate(run)

    def theirs(measure):
        return [peer[name][measure] for name in names]

    for k in cuts:
        assert ndcg_at_k(found, relevant, k).tolist() == theirs(f"ndcg_cut_{k}")
        ap = average_precision_at_k(found, relevant, k)
        assert ap.tolist() == theirs(f"map_cut_{k}")
        assert recall_at_k(found, relevant, k).tolist() == theirs(f"recall_{k}")
    assert reciprocal_rank_at_k(found, relevant, 50).tolist() == theirs("recip_rank")


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_ranking_metrics_equal_their_definitions(seed, k):
    found, relevant = judged(seed, queries=3)
    sets = [{i for i, grade in row.items() if grade > 0} for row in relevant]
    for i, (row, wanted) in enumerate(zip(found, sets, strict=True)):
        top = row[:k]
        precisions = [
            len(wanted & set(top[: n + 1])) / (n + 1)
            for n in range(len(top))
            if top[n] in wanted
        ]
        first = [n + 1 for n in range(len(top)) if top[n] in wanted][:1]
        ap = sum(precisions) / len(wanted) if wanted else 0
        rank = 1 / first[0] if first else 0
        for gold in (sets, relevant):  # ids alone say the same as grades above 0
            assert average_precision_at_k(found, gold, k)[i] == pytest.approx(ap)
            assert reciprocal_rank_at_k(found, gold, k)[i] == rank
            assert recall_at_k(found, gold, k)[i] == recall_at_k(found, sets, k)[i]


def test_graded_ndcg_by_hand():
    grades = {"a": 1, "b": 3, "c": 0, "d": -2, "never found": 2}
    gain = 1 + 3 / np.log2(4)  # a at place 1, b at place 3; the gain is linear
    ideal = 3 + 2 / np.log2(3) + 1 / np.log2(4)
    (value,) = ndcg_at_k([["a", "d", "b", "c"]], [grades], 10)
    assert value == pytest.approx(gain / ideal)
    assert ndcg_at_k([["b"], ["c"]], [grades, {"c": 0}], 1).tolist() == [1.0, 0.0]


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_binary_ndcg_did_not_change(seed, k):
    """Ids without grades: the sum as it always was, to the bit."""
    found, relevant = judged(seed, queries=4)
    discount = 1 / np.log2(np.arange(2, k + 2))
    for row, wanted in zip(found, relevant, strict=True):
        gain = sum(discount[i] for i, key in enumerate(row[:k]) if key in wanted)
        expected = gain / discount[: len(wanted)].sum()
        assert ndcg_at_k([row], [set(wanted)], k)[0] == expected
        assert ndcg_at_k([row], [list(wanted)], k)[0] == expected
        graded = ndcg_at_k([row], [dict.fromkeys(wanted, 1)], k)[0]
        assert graded == pytest.approx(expected)
