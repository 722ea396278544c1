"""Every protocol gives the same for sparse vectors as for the same ones in full."""

import numpy as np
import pytest
from scipy import sparse as sp

from sbert_lab.evaluation import ranking, sparse
from sbert_lab.evaluation.protocols import (
    classification,
    clustering,
    pair_classification,
    reranking,
    retrieval,
    sts,
)


def rows(count, seed, columns=40, metric="cosine"):
    """Return sparse rows, some empty; whole numbers for "dot", so that many tie."""
    rng = np.random.default_rng(seed)
    dense = rng.random((count, columns)) * (rng.random((count, columns)) < 0.15)
    if metric == "dot":
        dense = np.ceil(dense * 3)
    dense[::17] = 0
    return sp.csr_array(dense, dtype=np.float32)


def task(seed, metric, documents=300):
    rng = np.random.default_rng(seed)
    corpus_ids = [f"d{i}" for i in rng.permutation(documents)]
    query_ids = [f"q{i}" for i in range(25)]
    qrels = {
        query: {key: int(rng.integers(0, 3)) for key in rng.choice(corpus_ids, 20)}
        for query in query_ids[:-1]
    }
    queries = rows(25, seed, metric=metric)
    corpus = rows(documents, seed + 1, metric=metric)
    return (query_ids, queries, corpus_ids, corpus, qrels), rng


def dense(made):
    query_ids, queries, corpus_ids, corpus, qrels = made
    return query_ids, queries.toarray(), corpus_ids, corpus.toarray(), qrels


def same(got, expected, tolerance=1e-6):
    assert got.main == expected.main
    assert got.ids == expected.ids
    for name, values in expected.items.items():
        np.testing.assert_allclose(got.items[name], values, atol=tolerance)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize(("corpus_block", "query_block"), [(64, 7), (50_000, 256)])
def test_retrieval_and_reranking(seed, metric, corpus_block, query_block, monkeypatch):
    monkeypatch.setattr(ranking, "_CORPUS_AT_ONCE", corpus_block)
    monkeypatch.setattr(sparse, "_QUERIES_AT_ONCE", query_block)
    made, rng = task(seed, metric)
    got = retrieval(*made, metric=metric)
    assert 0 < got.main_score < 1
    same(got, retrieval(*dense(made), metric=metric))
    candidates = {q: rng.choice(made[2], 30, replace=False).tolist() for q in made[0]}
    same(
        reranking(*made, candidates, metric=metric),
        reranking(*dense(made), candidates, metric=metric),
    )


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_similarities_are_those_of_the_full_rows(metric):
    first, second = rows(30, 0), rows(50, 1)
    a, b = first.toarray().astype(np.float64), second.toarray().astype(np.float64)
    if metric == "cosine":
        a, b = (
            v / np.maximum(np.linalg.norm(v, axis=1), 1e-12)[:, None] for v in (a, b)
        )
    got = sparse.similarity(first, second, metric)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, a @ b.T, atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_pairs(metric):
    first, second = rows(200, 0), rows(200, 1)
    gold = (first.multiply(second).sum(axis=1) > 0.5).astype(int)
    full = first.toarray(), second.toarray()
    got = pair_classification(first, second, gold, metric=metric)
    same(got, pair_classification(*full, gold, metric=metric), 1e-5)
    assert (got.items["dot"] == got.items["similarity"]).all() == (metric == "dot")
    graded = np.random.default_rng(0).random(200)
    same(sts(first, second, graded), sts(*full, graded), 1e-5)


def test_classification_and_clustering():
    train, test = rows(90, 0), rows(60, 1)
    labels = ["left" if row[:20].sum() > row[20:].sum() else "right" for row in train]
    asked = ["left" if row[:20].sum() > row[20:].sum() else "right" for row in test]
    got = classification(train, labels, test, asked)
    same(got, classification(train.toarray(), labels, test.toarray(), asked))
    assert got.main_score > 0.6
    options = {"draws": 3, "documents_per_draw": 200, "max_documents": 80}
    points = sp.csr_array(np.repeat(np.eye(3), 30, axis=0), dtype=np.float32)
    kinds = np.repeat([0, 1, 2], 30).tolist()
    assert clustering(points, kinds, **options).main_score == pytest.approx(1)
    mixed = clustering(train, labels, **options).main_score
    full = clustering(train.toarray(), labels, **options).main_score
    assert mixed == pytest.approx(full, abs=0.1)  # k-means rounds its own way


def test_every_form_of_sparse_is_read():
    """Other layouts, wide indices, entries that stand twice, and whole numbers."""
    made, _ = task(0, "dot")
    query_ids, queries, corpus_ids, corpus, qrels = made
    expected = retrieval(*made, metric="dot")
    wide = corpus.copy()
    wide.indices, wide.indptr = (
        part.astype(np.int64) for part in (wide.indices, wide.indptr)
    )
    halves = np.repeat(corpus.data / 2, 2)
    twice = sp.csr_array(
        (halves.copy(), np.repeat(corpus.indices, 2), corpus.indptr * 2), corpus.shape
    )
    for form in (sp.csc_matrix(corpus), wide, twice, corpus.astype(int)):
        got = retrieval(query_ids, queries, corpus_ids, form, qrels, metric="dot")
        same(got, expected)
    clustering(wide, [i % 2 for i in range(300)], draws=1, documents_per_draw=50)
    cosines = sparse.similarity(
        *(sparse.checked_sparse(v, "rows") for v in (queries, twice)), "cosine"
    )
    expected = sparse.similarity(queries, corpus, "cosine")
    np.testing.assert_allclose(cosines, expected, atol=1e-6)
    np.testing.assert_array_equal(twice.data, halves)  # the caller's own are untouched


def test_says_what_is_wrong():
    made, _ = task(0, "dot")
    query_ids, queries, corpus_ids, corpus, qrels = made
    with pytest.raises(ValueError, match="sparse, the other's are not"):
        retrieval(query_ids, queries, corpus_ids, corpus.toarray(), qrels)
    with pytest.raises(ValueError, match="sparse, the other's are not"):
        reranking(query_ids, queries.toarray(), corpus_ids, corpus, qrels, {})
    with pytest.raises(ValueError, match="queries have 39 dimensions, documents 40"):
        retrieval(query_ids, queries[:, :39], corpus_ids, corpus, qrels)
    with pytest.raises(ValueError, match="queries have 39 dimensions, documents 40"):
        reranking(query_ids, queries[:, :39], corpus_ids, corpus, qrels, {})
    with pytest.raises(ValueError, match="300 corpus vectors for 299 ids"):
        retrieval(query_ids, queries, corpus_ids[1:], corpus, qrels)
    broken = corpus.copy()
    broken.data[broken.indptr[5]] = np.nan
    with pytest.raises(ValueError, match="corpus vectors: row 5 is not finite"):
        retrieval(query_ids, queries, corpus_ids, broken, qrels)
    with pytest.raises(ValueError, match="numbers of shape"):
        retrieval(query_ids, queries.astype(bool), corpus_ids, corpus, qrels)
    with pytest.raises(ValueError, match="two of a kind"):
        sts(corpus, corpus.toarray(), np.arange(300))
    with pytest.raises(ValueError, match="give two or more pairs"):
        sts(corpus, corpus[1:], np.arange(300))
    with pytest.raises(ValueError, match="give \\[n, d\\] and n"):
        clustering(corpus, [0, 1])
