import numpy as np
import pytest

from sbert_lab.evaluation import ranking
from sbert_lab.evaluation.metrics import average_precision_at_k, ndcg_at_k
from sbert_lab.evaluation.protocols import reranking, retrieval


def made(seed=0, documents=400, metric="cosine"):
    """Return ids, vectors and graded qrels.

    For "dot" vectors lie on a grid: products are whole numbers, and often tied.
    """
    rng = np.random.default_rng(seed)
    corpus = rng.normal(size=(documents, 4)).astype(np.float32)
    queries = rng.normal(size=(9, 4)).astype(np.float32)
    if metric == "dot":
        corpus, queries = np.round(corpus), np.round(queries)
    corpus_ids = [f"d{i}" for i in rng.permutation(documents)]
    query_ids = [f"q{i}" for i in range(8)] + [corpus_ids[0]]
    qrels = {
        query: {key: int(rng.integers(0, 3)) for key in rng.choice(corpus_ids, 20)}
        for query in query_ids
    }
    return query_ids, queries, corpus_ids, corpus, qrels


def in_order(task, query, ids, metric):
    """Sort ids by score, then by id, larger first: the slow way."""
    query_ids, queries, corpus_ids, corpus, _ = task
    row = dict(zip(corpus_ids, corpus.astype(np.float64), strict=True))
    asked = queries[query_ids.index(query)].astype(np.float64)

    def score(key):
        size = np.linalg.norm(row[key]) if metric == "cosine" else 1
        return row[key] @ asked / size

    return sorted(ids, key=lambda key: (score(key), key), reverse=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rows", [64, 50_000])
@pytest.mark.parametrize("identical", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_retrieval_equals_the_slow_way_block_by_block(
    seed, rows, identical, metric, monkeypatch
):
    monkeypatch.setattr(ranking, "_CORPUS_AT_ONCE", rows)
    task = made(seed, metric=metric)
    got = retrieval(*task, ignore_identical_ids=identical, metric=metric)
    found = [
        [
            key
            for key in in_order(task, query, task[2], metric)
            if not (identical and key == query)
        ]
        for query in task[0]
    ]
    relevant = [task[4][query] for query in task[0]]
    assert got.ids == tuple(task[0])
    expected = ndcg_at_k(found, relevant, 10)
    np.testing.assert_allclose(got.items["ndcg_at_10"], expected, atol=1e-12)
    assert got.main_score == pytest.approx(expected.mean())


def test_only_the_best_thousand_are_judged():
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 1, 1500)
    corpus = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    ids = [f"d{i}" for i in rng.permutation(1500)]
    qrels = {"q": {ids[0]: 1, ids[990]: 1, ids[1010]: 1, ids[1499]: 1}}
    got = retrieval(["q"], [[1.0, 0.0]], ids, corpus, qrels)
    assert got.scores["recall_at_1000"] == 0.5
    assert got.scores["mrr_at_1"] == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_reranking_orders_the_candidates_only(seed, metric):
    task = made(seed, metric=metric)
    rng = np.random.default_rng(seed)
    candidates = {q: rng.choice(task[2], 30, replace=False).tolist() for q in task[0]}
    got = reranking(*task, candidates, metric=metric)
    found = [in_order(task, query, candidates[query], metric) for query in task[0]]
    expected = average_precision_at_k(found, [task[4][q] for q in task[0]], 1000)
    np.testing.assert_allclose(got.items["map_at_1000"], expected, atol=1e-12)
    assert got.main == "map_at_1000"


def test_says_what_is_wrong():
    query_ids, queries, corpus_ids, corpus, qrels = made()
    with pytest.raises(ValueError, match="none of 9 queries"):
        retrieval(query_ids, queries, corpus_ids, corpus, {"other": {"d1": 1}})
    with pytest.raises(ValueError, match="an id of its own"):
        retrieval(query_ids, queries, ["d0"] * len(corpus), corpus, qrels)
    with pytest.raises(ValueError, match="same model"):
        retrieval(query_ids, queries[:, :3], corpus_ids, corpus, qrels)
    with pytest.raises(ValueError, match="one of cosine, dot"):
        retrieval(query_ids, queries, corpus_ids, corpus, qrels, metric="l2")
    with pytest.raises(ValueError, match="candidates that the corpus lacks"):
        reranking(query_ids, queries, corpus_ids, corpus, qrels, {"q1": ["d-1"]})
