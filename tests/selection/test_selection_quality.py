"""Quality on a reader's pairs, against a naive nDCG, and on tasks of ICD-10-CM."""

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_encoder

from sbert_lab.datasets.pairs import Pairs
from sbert_lab.evaluation.tasks import interval, measure
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25Encoder
from sbert_lab.selection.quality import (
    OWN,
    Cached,
    corpus_of,
    on_icd10cm,
    on_pairs,
)


def pairs(rows, negative=None, label=None):
    anchor, positive = zip(*rows, strict=True)
    return Pairs(
        anchor, positive, negative, label, Path("own.csv"), tuple(range(2, len(rows)))
    )


class Angles:
    """Puts each text at an angle on the unit circle, in degrees."""

    dimension = 2

    def __init__(self, degrees):
        self.degrees = degrees

    def encode(self, texts):
        turned = np.radians([self.degrees[text] for text in texts])
        return np.stack([np.cos(turned), np.sin(turned)], 1).astype(np.float32)


def naive_ndcg(degrees, anchor, right, corpus):
    """Sort by angle; DCG over that of an ideal order, ten places."""
    order = sorted(corpus, key=lambda text: abs(degrees[text] - degrees[anchor]))
    gains = [1 / math.log2(i + 2) for i, t in enumerate(order[:10]) if t in right]
    ideal = [1 / math.log2(i + 2) for i in range(min(10, len(right)))]
    return sum(gains) / sum(ideal)


DEGREES = {"q1": 0, "q2": 40, "a": 3, "b": 50, "c": 60, "d": 1, "e": 41}


def test_by_hand():
    """q1: d, a, ...: its answer a comes second. q2: e, b: its answers first and second.

    A negative is searched too: without d, a would come first.
    """
    own = pairs([("q1", "a"), ("q2", "b"), ("q2", "e")], negative=("c", "d", "d"))
    found = on_pairs(Angles(DEGREES), own)
    assert list(found) == [OWN]
    measured = found[OWN]
    assert measured.metric == "ndcg_at_10"
    np.testing.assert_allclose(measured.items, [1 / math.log2(3), 1.0])
    assert measured.score == pytest.approx((1 / math.log2(3) + 1) / 2)
    without = on_pairs(Angles(DEGREES), pairs([("q1", "a"), ("q2", "b"), ("q2", "e")]))
    np.testing.assert_allclose(without[OWN].items, [1.0, 1.0])


def test_equals_a_naive_ndcg():
    rng = np.random.default_rng(0)
    texts = [f"text {i}" for i in range(40)]
    queries = [f"query {i}" for i in range(15)]
    angles = rng.uniform(0, 80, len(texts) + len(queries)).tolist()
    degrees = dict(zip(texts + queries, angles, strict=True))
    rows = [(q, texts[i]) for q in queries for i in rng.choice(30, 3, replace=False)]
    rows = [rows[i] for i in rng.permutation(len(rows))]  # a query's rows lie apart
    negative = tuple(texts[i] for i in rng.integers(20, 40, len(rows)))
    own = pairs(rows, negative)
    anchors = list(dict.fromkeys(anchor for anchor, _ in rows))
    corpus = corpus_of(own)
    wanted = [
        naive_ndcg(degrees, q, {p for a, p in rows if a == q}, corpus) for q in anchors
    ]
    assert 0.1 < np.mean(wanted) < 0.9
    measured = on_pairs(Angles(degrees), own)[OWN]
    np.testing.assert_allclose(measured.items, wanted)
    assert interval(measured) == bootstrap_mean(wanted)


def test_a_repeated_pair_counts_once():
    rows = [("q1", "c"), ("q2", "b"), ("q2", "e")]
    once = on_pairs(Angles(DEGREES), pairs(rows))[OWN]
    twice = on_pairs(Angles(DEGREES), pairs([*rows, *rows]))[OWN]
    assert 0.3 < once.items[0] < 1
    np.testing.assert_array_equal(once.items, twice.items)


def test_the_corpus_holds_each_text_once():
    own = pairs([("x", "a"), ("y", "b"), ("z", "a")], negative=("b", "c", "d"))
    assert corpus_of(own) == ["a", "b", "c", "d"]
    assert corpus_of(pairs([("x", "a"), ("y", "a")])) == ["a"]


def test_words_are_scored_by_their_dot_product():
    rows = [("bone pain", "pain of the bone"), ("cough", "cough and fever")]
    own = pairs(
        [*rows, ("fever", "high fever")], negative=("fever fever", "x1", "pain")
    )
    encoder = Bm25Encoder.fit(corpus_of(own))
    found = on_pairs(encoder, own)[OWN]
    scores = (
        encoder.encode_query(["bone pain", "cough", "fever"]).toarray()
        @ encoder.encode_document(corpus_of(own)).toarray().T
    )
    places = [(scores[i] > scores[i, i]).sum() for i in range(3)]  # better ones
    assert places == [0, 0, 1]
    np.testing.assert_allclose(found.items, [1 / math.log2(p + 2) for p in places])


@pytest.mark.parametrize(
    "rows",
    [
        [("q1", "a")],
        [("q1", "a"), ("q1", "b")],  # one anchor
        [("q1", "a"), ("q2", "a")],  # one answer: nothing to search in
    ],
)
def test_too_few_pairs(rows):
    with pytest.raises(ValueError, match=r"own\.csv: \d different anchors.*two of"):
        on_pairs(Angles(DEGREES), pairs(rows))


def test_labels_that_differ_are_refused():
    rows = [("q1", "a"), ("q2", "b")]
    with pytest.raises(ValueError, match=r"own\.csv: its labels go from 0 to 1"):
        on_pairs(Angles(DEGREES), pairs(rows, label=(1.0, 0.0)))
    equal = on_pairs(Angles(DEGREES), pairs(rows, label=(1.0, 1.0)))[OWN]
    plain = on_pairs(Angles(DEGREES), pairs(rows))[OWN]
    np.testing.assert_array_equal(equal.items, plain.items)


def test_prompts_of_queries_and_documents_are_kept(tmp_path):
    """The two sides differ, with a cache and without one, and the cache is used."""
    encoder = tiny_encoder(
        prompts={"query": "query : ", "document": "passage : "}, head=("normalize",)
    )
    texts = ["the red cat", "a lazy dog"]
    cache = EmbeddingCache(tmp_path)
    for kept in (Cached(encoder), Cached(encoder, cache), Cached(encoder, cache)):
        for side, own in (
            (kept.queries, encoder.encode_query),
            (kept.documents, encoder.encode_document),
        ):
            np.testing.assert_allclose(side(texts), own(texts), atol=1e-6)
    assert not np.allclose(own(texts), encoder.encode_query(texts), atol=1e-3)
    assert (cache.hits, cache.misses) == (4, 4)


def test_on_icd10cm_is_the_scoreboard(tmp_path):
    encoder = tiny_encoder(head=("normalize",), max_seq_length=24)
    kinds = ("Retrieval", "STS", "PairClassification")
    wanted = measure(
        encoder.encode_query, 16, kinds=kinds, encode_document=encoder.encode_document
    )
    for _ in range(2):  # the second time from the cache
        found = on_icd10cm(encoder, 16, kinds=kinds, cache=EmbeddingCache(tmp_path))
        assert list(found) == list(kinds)
        for kind in kinds:
            np.testing.assert_allclose(
                found[kind].items, wanted[kind].items, atol=1e-5, err_msg=kind
            )


def test_sparse_rows_leave_out_what_they_have_no_use_for():
    encoder = Bm25Encoder.fit(["fever of bone", "acute fracture", "chronic disease"])
    found = on_icd10cm(encoder, 16)
    assert tuple(found) == ("Retrieval", "Reranking")
    assert all(np.isfinite(one.score) for one in found.values())


def test_a_sparse_candidate_on_no_task_it_can_do_is_refused():
    encoder = Bm25Encoder.fit(["fever of bone", "acute fracture", "chronic disease"])
    with pytest.raises(ValueError, match="Retrieval"):
        on_icd10cm(encoder, 16, kinds=["Clustering"])
