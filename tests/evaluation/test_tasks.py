"""Intervals, comparisons and BM25; for equality with mteb see test_mteb."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import tiny_encoder

from sbert_lab.datasets import icd10cm_tasks as data
from sbert_lab.datasets.icd10cm_tasks import KINDS
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation import tasks
from sbert_lab.evaluation.metrics import ndcg_at_k
from sbert_lab.evaluation.statistics import bootstrap_score
from sbert_lab.evaluation.tasks import (
    TaskResult,
    compare,
    interval,
    measure,
    measure_bm25,
    p_value,
    ranking,
    similarity_score,
    sts,
)
from sbert_lab.models.lexical import Bm25

SIZE = 16


def test_ranking_equals_the_slow_way_block_by_block(monkeypatch):
    monkeypatch.setattr(tasks, "_CORPUS_AT_ONCE", 64)
    rng = np.random.default_rng(2)
    asked, corpus = (rng.integers(-2, 3, (n, 4)).astype(np.float32) for n in (20, 300))
    query_ids = [f"q{i}" for i in range(20)]
    corpus_ids = [f"d{i}" for i in rng.permutation(300)]
    qrels = {query: dict.fromkeys(rng.choice(corpus_ids, 9), 1) for query in query_ids}
    found = [  # whole numbers: ties are exact
        [key for _, key in sorted(zip(row, corpus_ids, strict=True), reverse=True)]
        for row in asked @ corpus.T
    ]
    expected = ndcg_at_k(found, [qrels[query] for query in query_ids])
    ours = ranking(query_ids, asked, corpus_ids, corpus, qrels, metric="dot")
    np.testing.assert_array_equal(ours.items, expected)
    assert 0 < ours.score < 1


def test_mistakes_are_said():
    vectors = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match="same shape"):
        sts(vectors, vectors[:1], [1, 2])
    with pytest.raises(ValueError, match="contains NaN"):
        sts(vectors, vectors * np.nan, [1, 2])


# The six tasks of ICD-10-CM


@pytest.fixture(scope="module")
def models():
    return {seed: tiny_encoder(seed, max_seq_length=24) for seed in (0, 1)}


@pytest.fixture(scope="module")
def found(models):
    return {seed: measure(model.encode, SIZE) for seed, model in models.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_an_interval_and_a_difference_are_of_the_score(found, kind):
    a, b = found[0][kind], found[1][kind]
    one = interval(a)
    assert one.mean == pytest.approx(a.score)
    assert one.low <= one.mean <= one.high
    assert interval(a, b).mean == pytest.approx(a.score - b.score)
    assert p_value(a, a) == 1
    assert p_value(a, b) == p_value(b, a)


def test_all_pairs_are_compared_the_better_one_first(found):
    kinds = ("Retrieval", "STS")
    some = {seed: {k: each[k] for k in kinds} for seed, each in found.items()}
    rows = compare({"a": some[0], "b": some[1], "c": some[0]})
    assert [row[0] for row in rows] == ["Retrieval"] * 3 + ["STS"] * 3
    assert all(row[3].mean >= 0 and 0 < row[4] <= 1 for row in rows)
    perfect = replace(some[0]["STS"], items=some[0]["STS"].gold, score=1.0)
    (row,) = compare({"a": {"STS": some[0]["STS"]}, "perfect": {"STS": perfect}})
    assert row[1:3] == ("perfect", "a")
    assert row[3].low > 0
    assert row[4] < 0.02
    with pytest.raises(ValueError, match="compared in pairs"):
        interval(some[0]["STS"], some[0]["Retrieval"])


def test_documents_have_an_encoder_of_their_own(models):
    """Queries alone go to `encode`; all other texts to `encode_document`."""
    seen = {"query": [], "document": []}

    def encode_as(side):
        return lambda texts: seen[side].extend(texts) or models[0].encode(texts)

    sides = encode_as("query"), encode_as("document")
    found = measure(sides[0], SIZE, kinds=["Retrieval"], encode_document=sides[1])
    search = data.term_retrieval(SIZE)
    assert seen == {"query": [*search.queries], "document": [*search.corpus_texts]}
    assert found["Retrieval"].group == tuple(code[:3] for code in search.relevant)
    seen["query"].clear()
    measure(sides[0], SIZE, kinds=["STS", "Clustering"], encode_document=sides[1])
    assert not seen["query"]


def test_bm25_is_ranked_by_its_scores():
    search, few = data.term_retrieval(SIZE), data.candidate_reranking(SIZE)
    found = measure_bm25(SIZE)
    for kind, task, candidates in (
        ("Retrieval", search, [search.corpus_codes] * SIZE),
        ("Reranking", few.task, few.candidates),
    ):
        scores = Bm25(task.corpus_texts).scores(task.queries)
        for row, chosen, answer, item in zip(
            scores, candidates, task.relevant, found[kind].items, strict=True
        ):
            known = dict(zip(task.corpus_codes, row, strict=True))
            order = sorted(chosen, key=lambda code: (known[code], code), reverse=True)
            place = order.index(answer) + 1
            gain = 1 / np.log2(place + 1) if place <= 10 else 0.0
            expected = gain if kind == "Retrieval" else 1 / place
            assert item == pytest.approx(expected)
    assert 0.2 < found["Retrieval"].score < 1


@pytest.mark.parametrize("metric", ["ndcg_at_10", "cosine_spearman", "cosine_ap"])
def test_copies_in_a_group_count_once(metric):
    """Both the interval and the p-value are those of one item of each group."""
    rng = np.random.default_rng(0)
    same = rng.integers(2, size=30).astype(float)
    gold = None if metric == "ndcg_at_10" else same
    ours, theirs = (
        TaskResult(0.0, metric, 0.0, gap * same + rng.normal(size=30), gold)
        for gap in (1.5, 0.7)
    )
    groups = tuple(f"{i:02}" for i in np.repeat(np.arange(30), 4))

    def copied(one):
        twins = None if gold is None else np.repeat(gold, 4)
        return replace(one, items=np.repeat(one.items, 4), gold=twins, group=groups)

    few, many = interval(ours, theirs), interval(copied(ours), copied(theirs))
    assert (many.low, many.high) == pytest.approx((few.low, few.high))
    assert p_value(copied(ours), copied(theirs)) == p_value(ours, theirs)


def test_a_set_is_scored_in_its_groups():
    rng = np.random.default_rng(0)
    gold, cosines = rng.integers(0, 6, 60).astype(float), rng.normal(size=(2, 60))
    group = tuple(map(str, np.arange(60) // 6))
    pairs = ScoredPairs(("a",) * 60, ("b",) * 60, tuple(gold), group)
    ours = similarity_score(pairs, cosines, baseline=cosines**3)
    assert ours == bootstrap_score(cosines, gold, baseline=cosines**3, groups=group)
