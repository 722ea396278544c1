"""The benchmark item by item equals mteb's number, and compares models in pairs."""

import math
from dataclasses import replace

import bm25s
import numpy as np
import pytest
from conftest import tiny_encoder

from sbert_lab.datasets import icd10cm_tasks as data
from sbert_lab.datasets.icd10cm import by_code
from sbert_lab.datasets.icd10cm_tasks import term_retrieval
from sbert_lab.evaluation import icd10cm_tasks
from sbert_lab.evaluation import mteb as mteb_bridge
from sbert_lab.evaluation.result import ProtocolResult
from sbert_lab.evaluation.scoreboard import (
    KINDS,
    Measured,
    compare,
    interval,
    measure,
    p_value,
)
from sbert_lab.models.lexical import Bm25Encoder

SIZE = 16


@pytest.fixture(scope="module")
def models():
    return {seed: tiny_encoder(seed, max_seq_length=24) for seed in (0, 1)}


@pytest.fixture(scope="module")
def found(models):
    return {seed: measure(model.encode, SIZE) for seed, model in models.items()}


def test_main_scores_are_mtebs_to_the_last_digit(models, found):
    tasks = icd10cm_tasks.benchmark(SIZE).tasks
    for score in mteb_bridge.evaluate(models[0], tasks):
        ours = found[0][score.kind].result.main_score
        rounded = score.kind in ("Retrieval", "Reranking")  # mteb rounds to 5 digits
        assert (round(ours, 5) if rounded else ours) == score.score, score.kind


def test_there_is_one_of_each_kind(found):
    assert tuple(found[0]) == KINDS
    assert (
        tuple(score.metadata.type for score in icd10cm_tasks.benchmark(SIZE)) == KINDS
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_interval_is_of_the_score(found, kind):
    one = found[0][kind]
    got = interval(one)
    assert got.mean == pytest.approx(one.score)
    assert got.low <= got.mean <= got.high
    same = interval(one, one)
    assert (same.mean, same.low, same.high) == pytest.approx((0, 0, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_difference_is_that_of_the_scores(found, kind):
    a, b = found[0][kind], found[1][kind]
    assert interval(a, b).mean == pytest.approx(a.score - b.score)
    assert p_value(a, a, draws=50) == 1
    assert p_value(a, b, draws=50) == p_value(b, a, draws=50)


def test_what_a_perfect_model_gains_is_found(found):
    """A model whose cosines are the gold scores beats a random one beyond chance."""
    one = found[0]["STS"]
    perfect = replace(one, items=one.gold)
    assert p_value(perfect, one, draws=200) < 0.02
    assert interval(perfect, one).low > 0


def test_all_pairs_are_compared_the_better_one_first(found):
    rows = compare({str(seed): each for seed, each in found.items()})
    assert [row[0] for row in rows] == list(KINDS)
    assert all(row[3].mean >= 0 for row in rows)
    assert all(0 < row[4] <= 1 for row in rows)


def test_other_items_are_refused(found):
    with pytest.raises(ValueError, match="compared in pairs"):
        interval(found[0]["STS"], found[0]["Retrieval"])
    one = found[0]["Classification"]
    with pytest.raises(ValueError, match="compared in pairs"):
        p_value(one, replace(one, group=one.group[::-1]))


def test_some_kinds_are_the_same_as_among_all(models, found):
    some = measure(models[0].encode, SIZE, kinds=("Reranking", "Retrieval"))
    assert list(some) == ["Retrieval", "Reranking"]
    for kind, one in some.items():
        np.testing.assert_array_equal(one.items, found[0][kind].items)
    for wrong in ((), ("Retrieval", "Sorting"), "STS"):
        with pytest.raises(ValueError, match="one or more of Retrieval, STS"):
            measure(models[0].encode, SIZE, kinds=wrong)


def test_documents_have_an_encoder_of_their_own(models):
    """Queries alone go to `encode`; all other texts to `encode_document`."""
    seen: dict[str, list[str]] = {"query": [], "document": []}

    def encode_as(side):
        def encode(texts):
            seen[side] += texts
            return models[0].encode(texts)

        return encode

    measure(
        encode_as("query"),
        SIZE,
        kinds=("Retrieval",),
        encode_document=encode_as("document"),
    )
    search = term_retrieval(SIZE)
    assert seen["query"] == list(search.queries)
    assert seen["document"] == list(search.corpus_texts)
    others = [kind for kind in KINDS if kind not in ("Retrieval", "Reranking")]
    seen["query"].clear()
    measure(
        encode_as("query"), SIZE, kinds=others, encode_document=encode_as("document")
    )
    assert not seen["query"]


def test_the_measure_reaches_the_protocols(models):
    """Vectors of all lengths: dot product and cosine then disagree."""
    rng = np.random.default_rng(0)

    def encode(texts):
        return models[0].encode(texts) * rng.uniform(0.1, 10, (len(texts), 1))

    kinds = ("Retrieval", "PairClassification", "Reranking")
    cosine = measure(models[0].encode, SIZE, kinds=kinds)
    dot = measure(encode, SIZE, kinds=kinds, metric="dot")
    for kind in ("Retrieval", "Reranking"):
        assert (dot[kind].items != cosine[kind].items).any()
    pairs = dot["PairClassification"].result.items
    np.testing.assert_allclose(pairs["similarity"], pairs["dot"], rtol=1e-4)
    with pytest.raises(ValueError, match="one of cosine, dot"):
        measure(models[0].encode, SIZE, kinds=("Retrieval",), metric="l2")


def test_bm25_is_measured_like_any_encoder():
    """Its retrieval score is the one that bm25s gives, ranked and judged by hand."""
    search = term_retrieval(SIZE)
    encoder = Bm25Encoder.fit(search.corpus_texts)
    found = measure(
        encoder.encode_query,
        SIZE,
        kinds=("Retrieval", "PairClassification", "Reranking"),
        encode_document=encoder.encode_document,
        metric=encoder.metric,
    )
    peer = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    tokens = bm25s.tokenize(list(search.corpus_texts), show_progress=False)
    peer.index(tokens, show_progress=False)
    gains = []
    for query, answer in zip(search.queries, search.relevant, strict=True):
        words = bm25s.tokenize(query, return_ids=False, show_progress=False)[0]
        known = [word for word in words if word in tokens.vocab]
        scores = peer.get_scores(known) if known else np.zeros(len(search.corpus_codes))
        order = sorted(
            zip(scores.tolist(), search.corpus_codes, strict=True), reverse=True
        )
        place = [code for _, code in order].index(answer)
        gains.append(1 / math.log2(place + 2) if place < 10 else 0.0)
    assert 0.2 < np.mean(gains) < 1
    np.testing.assert_allclose(found["Retrieval"].items, gains, atol=1e-12)
    for one in found.values():
        assert 0 < interval(one).mean < 1


def test_items_are_grouped_by_category(found):
    groups = {kind: one.group for kind, one in found[0].items()}
    assert groups["Classification"] == data.chapter_classes(SIZE)["test"].group
    assert groups["STS"] == data.graded_hierarchy(SIZE).group
    assert groups["PairClassification"] == data.synonym_pairs(SIZE).group
    asked = {
        "Retrieval": data.term_retrieval(SIZE),
        "Reranking": data.candidate_reranking(SIZE).task,
    }
    for kind, task in asked.items():
        assert groups[kind] == tuple(by_code()[c].category for c in task.relevant)


@pytest.mark.parametrize("metric", ["ndcg_at_10", "cosine_spearman", "cosine_ap"])
def test_copies_in_a_group_count_once(metric):
    """Both the interval and the p-value are those of one item of each group."""
    rng = np.random.default_rng(0)
    same = rng.integers(2, size=30).astype(float)
    gold = None if metric == "ndcg_at_10" else same
    result = ProtocolResult(metric, {metric: 0.0}, {})
    ours, theirs = (
        Measured(result, metric, gap * same + rng.normal(size=30), gold)
        for gap in (1.5, 0.7)
    )

    def copied(one):
        return replace(
            one,
            items=np.repeat(one.items, 4),
            gold=None if gold is None else np.repeat(gold, 4),
            group=tuple(f"{i:02}" for i in np.repeat(np.arange(30), 4)),
        )

    for few, many in (
        (interval(ours), interval(copied(ours))),
        (interval(ours, theirs), interval(copied(ours), copied(theirs))),
    ):
        assert (many.low, many.high) == pytest.approx((few.low, few.high))
    p = p_value(ours, theirs, draws=200)
    assert p_value(copied(ours), copied(theirs), draws=200) == p
    alone = [replace(copied(one), group=None) for one in (ours, theirs)]
    assert p_value(*alone, draws=200) < p
