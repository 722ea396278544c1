"""Two stages of a search: orders and scores against loops by hand, and their models."""

from dataclasses import replace

import numpy as np
import pytest
from coded_domain import coded_domain, word_encoder
from tiny_cross_encoder import WORDS, tiny_cross_encoder

from experiments import reranking
from experiments.reranking import (
    Candidates,
    candidates,
    distill,
    ndcg_of,
    train_reranker,
)
from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.adaptation.unsupervised import margin_columns
from sbert_lab.datasets.icd10cm import RetrievalTask, ancestors, by_code
from sbert_lab.index.exact import normalized
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training import TrainingData, fit
from sbert_lab.training.trainer import has_fast_bfloat16

QUERIES, CORPUS, DEEP = 7, 40, 20


def texts(count, seed):
    rng = np.random.default_rng(seed)
    return tuple(" ".join(rng.choice(WORDS, rng.integers(2, 8))) for _ in range(count))


def task():
    names = tuple(f"d{row}" for row in range(CORPUS))
    rng = np.random.default_rng(3)
    relevant = tuple(f"d{row}" for row in rng.permutation(CORPUS)[:QUERIES])
    return RetrievalTask(texts(QUERIES, 1), relevant, names, texts(CORPUS, 2))


def drawn(read=DEEP):
    """Return random candidates of random scores; some answers are not among them."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(CORPUS)[:DEEP] for _ in range(QUERIES)])
    first = -np.sort(-rng.random((QUERIES, DEEP)).astype(np.float32), axis=1)
    second = rng.normal(0, 3, (QUERIES, read)).astype(np.float32)
    return Candidates(task(), rows, first, second)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SBERT_LAB_CACHE", str(folder))
        yield folder


# Orders


@pytest.mark.parametrize("depth", [0, 5, DEEP])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_order_is_that_of_a_loop(depth, share):
    found = drawn()
    got = found.order(depth, share, (0.2, 3.0))
    for rows, first, second, order in zip(
        found.rows, found.first.tolist(), found.second.tolist(), got, strict=True
    ):
        mixed = [
            -(1 - share) * first[i] / 0.2 - share * second[i] / 3.0
            for i in range(depth)
        ]
        places = [*np.argsort(mixed, kind="stable"), *range(depth, DEEP)]
        assert order.tolist() == rows[places].tolist()
    with pytest.raises(ValueError, match="depth=9: 8 have been read"):
        drawn(read=8).order(9)


def test_scores_by_hand():
    found = drawn()
    order = found.order(8)
    for k in (1, 10):
        expected = []
        for row, right in zip(order.tolist(), found.task.relevant, strict=True):
            codes = [f"d{i}" for i in row[:k]]
            place = codes.index(right) + 2 if right in codes else np.inf
            expected.append(1 / np.log2(place))
        np.testing.assert_allclose(found.ndcg(8, k=k), expected)
    assert 0 < found.recall(5).sum() < found.recall(DEEP).sum() < QUERIES
    gone = np.where(found.rows == found.rows[:, :1], -1, found.rows)
    without = ndcg_of(found.task, found.rows[:, 1:])
    np.testing.assert_allclose(ndcg_of(found.task, gone), without)


def test_the_best_mixture_is_the_one_with_the_highest_score():
    found, shares = drawn(), np.arange(11) / 10
    spreads = found.spreads(6)
    for mine, scores in zip(spreads, (found.first, found.second), strict=True):
        each = [np.var(row[:6].astype(float)) for row in scores]
        assert mine == pytest.approx(np.sqrt(np.mean(each)))
    means = [found.ndcg(6, share, spreads).mean() for share in shares]
    assert len(set(means)) > 1
    assert found.best_mixture(6) == (shares[int(np.argmax(means))], spreads)
    for scale in (0.01, 100):  # which is no reason to mix otherwise
        scaled = replace(found, second=np.float32(scale) * found.second)
        assert scaled.best_mixture(6)[0] == found.best_mixture(6)[0]
    flat = replace(found, second=found.first)
    assert flat.best_mixture(6)[0] == 0.0  # of equal ones the first


# Stages


def test_candidates_are_the_nearest():
    encoder, asked = word_encoder(), task()
    found = candidates(encoder, asked, 9, EmbeddingCache())
    queries, corpus = (
        normalized(encoder.encode(list(side)))
        for side in (asked.queries, asked.corpus_texts)
    )
    cosines = queries @ corpus.T
    scores = -np.sort(-cosines, axis=1)[:, :9]
    np.testing.assert_allclose(found.first, scores, atol=1e-6)
    picked = np.take_along_axis(cosines, found.rows, 1)
    np.testing.assert_allclose(picked, found.first, atol=1e-6)


def test_read_candidates_have_the_scores_of_each_pair(cache, monkeypatch):
    found, reader = drawn(), tiny_cross_encoder()
    got = found.read_by(reader, 6)
    for query in range(QUERIES):
        own = [found.task.corpus_texts[row] for row in found.rows[query, :6]]
        alone = reader.predict([found.task.queries[query]] * 6, own, activation=None)
        np.testing.assert_allclose(got.second[query], alone, atol=1e-5)
    assert (np.abs(got.second) > 1).any(), "behind a sigmoid none is"
    other = found.read_by(tiny_cross_encoder(seed=1), 6)
    assert not np.allclose(other.second, got.second)
    monkeypatch.setattr(CrossEncoder, "predict", lambda *_, **__: pytest.fail("anew"))
    np.testing.assert_array_equal(found.read_by(reader, 6).second, got.second)


# Models

RECIPE = Recipe(1, 8, 3e-3, negatives=3, rank=(0, 20))


@pytest.fixture(scope="module")
def base(cache):
    word_encoder().save(cache / "base")
    return str(cache / "base")


@pytest.fixture(scope="module")
def domain():
    return coded_domain()


def test_a_reranker_is_fitted_to_what_was_mined(domain, base):
    taught = train_reranker(base, domain, RECIPE)
    assert taught.new
    assert train_reranker(base, domain, RECIPE) == replace(taught, new=False)
    slower = train_reranker(base, domain, replace(RECIPE, warmup=0.5))
    relaxed = train_reranker(base, replace(domain, codes=()), RECIPE)  # no guard
    assert len({taught.folder, slower.folder, relaxed.folder}) == 3
    mined = reranking._mined(SentenceEncoder.from_pretrained(base), domain, RECIPE)
    listed = mined.columns()
    columns = {role: [c[i] for i in mined.rows] for role, c in listed.items()}
    by_hand = CrossEncoder.from_pretrained(base, head_seed=RECIPE.seed)
    asked = WORDS[:20], WORDS[20:40]
    before = by_hand.predict(*asked, activation=None)
    loss, bf16 = reranking.ListwiseCrossEntropy(), has_fast_bfloat16()
    told = {"batch_size": 8, "learning_rate": 3e-3, "bf16": bf16}
    fit(by_hand, TrainingData(columns), loss, **told)
    ours = CrossEncoder.from_pretrained(taught.folder)
    scores = ours.predict(*asked, activation=None)
    expected = by_hand.predict(*asked, activation=None)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert np.abs(scores - before).max() > 1e-4


def test_negatives_of_a_reranker_are_no_relatives(domain, base):
    mined = reranking._mined(SentenceEncoder.from_pretrained(base), domain, RECIPE)
    code = dict(zip(domain.candidates, domain.candidate_codes, strict=True))
    checked = 0
    for positive, rows in zip(mined.positives, mined.negatives.tolist(), strict=True):
        right = by_code()[code[positive]]
        for row in (row for row in rows if row >= 0):
            wrong = by_code()[code[mined.corpus[row]]]
            assert right not in ancestors(wrong)
            assert wrong not in ancestors(right)
            checked += 1
    assert checked > len(domain.pairs)


def test_a_student_comes_nearer_to_its_teacher(domain, base):
    teacher = tiny_cross_encoder()
    recipe = replace(RECIPE, epochs=8)
    taught = distill(base, teacher, domain, recipe)
    assert not distill(base, teacher, domain, recipe).new
    other = distill(base, tiny_cross_encoder(seed=1), domain, RECIPE)
    assert other.folder != taught.folder
    before, after = map(SentenceEncoder.from_pretrained, (base, taught.folder))
    unguarded = replace(domain, codes=())
    rows = margin_columns(
        teacher, reranking._mined(before, unguarded, recipe).triplets()
    )
    agreement = []
    for model in (before, after):
        a, p, n = (model.encode(rows[r]) for r in ("anchor", "positive", "negative"))
        gap = (a * p).sum(1) - (a * n).sum(1)
        agreement.append(np.corrcoef(gap, rows["label"])[0, 1])
    assert agreement[1] > agreement[0] + 0.2
