"""Two stages of a search: orders, mixtures and scores, against loops by hand."""

import numpy as np
import pytest
from tiny_cross_encoder import WORDS, pair_tokenizer, tiny_cross_encoder

from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.experiments.two_stages import (
    Candidates,
    Mixture,
    candidates,
    kept_scores,
    lexical_candidates,
    ndcg_of,
    query_times,
)
from sbert_lab.index.exact import normalized
from sbert_lab.models.checkpoint import Layout
from sbert_lab.models.lexical import Bm25Encoder
from sbert_lab.models.sentence_encoder import SentenceEncoder

pytestmark = pytest.mark.usefixtures("one_thread")

QUERIES, CORPUS, DEEP = 7, 40, 20


def texts(count, seed, least=2, most=8):
    rng = np.random.default_rng(seed)
    return tuple(
        " ".join(rng.choice(WORDS, rng.integers(least, most))) for _ in range(count)
    )


def task():
    names = tuple(f"d{row}" for row in range(CORPUS))
    rng = np.random.default_rng(3)
    relevant = tuple(f"d{row}" for row in rng.permutation(CORPUS)[:QUERIES])
    return RetrievalTask(texts(QUERIES, 1), relevant, names, texts(CORPUS, 2))


def drawn(seed=0, judged=DEEP):
    """Return random candidates of random scores; some answers are not among them."""
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(CORPUS)[:DEEP] for _ in range(QUERIES)])
    first = -np.sort(-rng.random((QUERIES, DEEP)).astype(np.float32), axis=1)
    second = rng.normal(0, 3, (QUERIES, judged)).astype(np.float32)
    return Candidates(task(), rows, first, second)


def tiny_encoder(seed=0):
    from conftest import random_bert

    tokenizer = pair_tokenizer()
    model = random_bert(len(tokenizer), 16, seed)
    return SentenceEncoder(model, tokenizer, Layout(dimension=16)).eval()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path))
    return tmp_path


# -- orders ---------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 5, DEEP])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_order_is_that_of_a_loop(depth, share):
    found, mixture = drawn(), Mixture(share, (0.2, 3.0))
    got = found.order(depth, mixture)
    for query in range(QUERIES):
        scored = [
            (
                -(1 - share) * float(found.first[query, i]) / 0.2
                - share * float(found.second[query, i]) / 3.0,
                i,
            )
            for i in range(depth)
        ]
        places = [i for _, i in sorted(scored)] + list(range(depth, DEEP))
        assert got[query].tolist() == [found.rows[query, i] for i in places]


def test_the_second_stage_alone_is_the_default():
    found = drawn()
    alone = found.order(8, Mixture(1.0, (0.5, 2.0)))
    np.testing.assert_array_equal(found.order(8), alone)
    np.testing.assert_array_equal(found.order(8, Mixture(0.0)), found.rows)
    np.testing.assert_array_equal(found.order(), found.rows)


def test_equal_scores_keep_their_order():
    found = drawn()
    still = Candidates(found.task, found.rows, found.first, 0 * found.second)
    np.testing.assert_array_equal(still.order(DEEP), found.rows)


def test_what_nobody_has_read_cannot_be_sorted():
    with pytest.raises(ValueError, match=r"depth=9: .* has read 8 candidates"):
        drawn(judged=8).order(9)
    with pytest.raises(ValueError, match="depth=-1"):
        drawn().order(-1)


@pytest.mark.parametrize(
    ("share", "spreads", "message"),
    [(1.2, (1, 1), "share=1.2"), (-0.1, (1, 1), "share"), (0.5, (1, 0), "spreads")],
)
def test_mixtures_out_of_range_are_refused(share, spreads, message):
    with pytest.raises(ValueError, match=message):
        Mixture(share, spreads)


# -- scores ---------------------------------------------------------------------------


def test_ndcg_is_the_discount_at_the_place_of_the_answer():
    found = drawn()
    for depth in (0, 12):
        order, expected = found.order(depth), []
        for query, rows in enumerate(order.tolist()):
            names = [found.task.corpus_codes[row] for row in rows]
            right = found.task.relevant[query]
            place = names.index(right) if right in names else 99
            expected.append(1 / np.log2(place + 2) if place < 10 else 0.0)
        np.testing.assert_allclose(found.ndcg(depth), expected)
        assert 0 < np.mean(expected) < 1
    first = [rows[0] for rows in found.rows.tolist()]
    names = [found.task.corpus_codes[row] for row in first]
    right = np.array([a == b for a, b in zip(names, found.task.relevant, strict=True)])
    np.testing.assert_array_equal(found.ndcg(k=1), right)


def test_rows_that_were_not_found_are_passed_over():
    one = RetrievalTask(("q",), ("b",), ("a", "b"), ("x", "y"))
    values = [ndcg_of(one, np.array([rows]))[0] for rows in ([1, -1], [-1, 1], [0, -1])]
    assert values == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("seed", range(6))
def test_recall_is_the_ceiling(seed):
    found = drawn(seed)
    perfect = np.array(
        [
            [found.task.corpus_codes[row] == right for row in rows]
            for rows, right in zip(found.rows, found.task.relevant, strict=True)
        ],
        np.float32,
    )
    knows = Candidates(found.task, found.rows, found.first, perfect)
    for depth in (10, 15, DEEP):
        recall = found.recall(depth)
        np.testing.assert_array_equal(recall, perfect[:, :depth].sum(1))
        np.testing.assert_array_equal(knows.ndcg(depth), recall)
        assert (found.ndcg(depth) <= recall).all()


def test_the_best_mixture_is_that_of_a_loop():
    found, shares = drawn(4), (0.0, 0.25, 0.5, 0.75, 1.0)
    spreads = found.spreads(6)
    for mine, scores in zip(spreads, (found.first, found.second), strict=True):
        each = [np.var(row[:6].astype(float)) for row in scores]
        assert mine == pytest.approx(np.sqrt(np.mean(each)))
    means = [found.ndcg(6, Mixture(share, spreads)).mean() for share in shares]
    best = found.best_mixture(6, shares)
    assert best == Mixture(shares[int(np.argmax(means))], spreads)
    assert len(set(means)) > 1
    # Nothing to choose among equals: the first stage stays.
    flat = Candidates(found.task, found.rows, found.first, found.first)
    assert flat.best_mixture(6, shares).share == 0.0


# -- models ---------------------------------------------------------------------------


def test_candidates_are_the_nearest():
    encoder, asked = tiny_encoder(), task()
    found = candidates(encoder, asked, 9)
    queries, corpus = (
        normalized(encoder.encode(list(side)))
        for side in (asked.queries, asked.corpus_texts)
    )
    scores = queries @ corpus.T
    order = np.argsort(-scores, axis=1)[:, :9]
    np.testing.assert_allclose(
        found.first, np.take_along_axis(scores, order, 1), atol=1e-6
    )
    picked = np.take_along_axis(scores, found.rows, 1)
    np.testing.assert_allclose(picked, found.first, atol=1e-6)
    assert found.second.shape == (QUERIES, 0)


def test_words_find_what_shares_rare_ones():
    asked = task()
    found = lexical_candidates(asked, DEEP)
    assert found.rows.shape == found.first.shape == (QUERIES, DEEP)
    assert found.second.shape == (QUERIES, 0)
    bm25 = Bm25Encoder.fit(asked.corpus_texts)
    zeros = 0
    for query, rows, scores in zip(
        asked.queries, found.rows.tolist(), found.first, strict=True
    ):
        own = bm25.encode_query([query]) @ bm25.encode_document(asked.corpus_texts).T
        own = np.asarray(own.todense()).ravel()
        by_hand = sorted(range(CORPUS), key=lambda row, own=own: (-own[row], row))
        assert rows == by_hand[:DEEP]
        np.testing.assert_allclose(scores, own[rows], rtol=1e-6)
        shares = [
            bool(set(query.split()) & set(asked.corpus_texts[r].split())) for r in rows
        ]
        assert shares == (scores > 0).tolist()
        zeros += shares.count(False)
    assert zeros


def test_judged_are_the_scores_of_each_pair(cache):
    found, judge = drawn(), tiny_cross_encoder()
    got = found.judged(judge, 6)
    for query in range(QUERIES):
        own = [found.task.corpus_texts[row] for row in found.rows[query, :6]]
        alone = judge.predict([found.task.queries[query]] * 6, own, activation=None)
        np.testing.assert_allclose(got.second[query], alone, atol=1e-5)
    assert got.second.shape == (QUERIES, 6)
    assert (np.abs(got.second) > 1).any(), "behind a sigmoid none is"


def test_scores_are_kept_by_weights_and_texts(cache, monkeypatch):
    judge, pairs = tiny_cross_encoder(), [("ba", "ko"), ("mi", "ru")]
    scores = kept_scores(judge, pairs)
    calls = []
    real = type(judge).predict

    def counted(self, *given, **options):
        calls.append(len(given[0]))
        return real(self, *given, **options)

    monkeypatch.setattr(type(judge), "predict", counted)
    np.testing.assert_array_equal(kept_scores(judge, pairs), scores)
    assert not calls
    turned = kept_scores(judge, pairs[::-1])
    np.testing.assert_allclose(turned, scores[::-1], atol=1e-6)
    other = kept_scores(tiny_cross_encoder(seed=1), pairs)
    assert calls == [2, 2]
    assert not np.allclose(other, scores)


def test_every_depth_reads_that_many(monkeypatch):
    judge, encoder, asked = tiny_cross_encoder(), tiny_encoder(), task()
    read = []
    real = type(judge).predict

    def counted(self, first, *rest, **options):
        read.append((first[0], len(first)))
        return real(self, first, *rest, **options)

    monkeypatch.setattr(type(judge), "predict", counted)
    corpus = encoder.encode(list(asked.corpus_texts))
    times = query_times(encoder, judge, asked, corpus, (0, 3, 12), repeats=2)
    assert {depth: len(t.seconds) for depth, t in times.items()} == {0: 2, 3: 2, 12: 2}
    # One round that is not measured; each round takes the next query.
    rounds = [(asked.queries[i], depth) for i in range(3) for depth in (3, 12)]
    assert read == rounds
