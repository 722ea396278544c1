"""Exact search: against a naive loop, and what it may take of memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert_lab.index import exact
from sbert_lab.index.exact import exact_search

RNG = np.random.default_rng(0)
CORPUS = RNG.normal(size=(3_000, 32)).astype(np.float32)
QUERIES = RNG.normal(size=(300, 32)).astype(np.float32)


def naive_search(queries, corpus, k, metric):
    """Score every pair in float64 and sort; equal scores by position."""
    answers = []
    for q in queries.astype(np.float64):
        scores = []
        for position, d in enumerate(corpus.astype(np.float64)):
            score = float(q @ d)
            if metric == "cosine":
                score /= max(np.sqrt(q @ q) * np.sqrt(d @ d), 1e-12)
            scores.append((-score, position))
        answers.append([position for _, position in sorted(scores)[:k]])
    return np.array(answers)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@given(seed=st.integers(0, 10_000), k=st.integers(1, 40), block=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_exact_equals_naive_whatever_the_blocks(metric, seed, k, block):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(3, 6)).astype(np.float32)
    corpus = rng.normal(size=(30, 6)).astype(np.float32)
    if seed % 2:  # of length 2: scores are exact, and equal ones equal, anywhere
        queries, corpus = (np.sign(x).astype(np.int8) for x in (queries, corpus))
        queries[:, 4:] = corpus[:, 4:] = 0
    before = exact._ROWS_AT_ONCE, exact._QUERIES_AT_ONCE
    exact._ROWS_AT_ONCE, exact._QUERIES_AT_ONCE = block, 2
    try:
        scores, positions = exact_search(queries, corpus, k, metric)
    finally:
        exact._ROWS_AT_ONCE, exact._QUERIES_AT_ONCE = before
    np.testing.assert_array_equal(positions, naive_search(queries, corpus, k, metric))
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.filterwarnings("ignore:overflow|invalid value")
def test_a_row_of_the_corpus_that_is_not_finite_is_named(monkeypatch, metric, value):
    monkeypatch.setattr(exact, "_ROWS_AT_ONCE", 8)
    corpus = CORPUS[:20].astype(np.float64)
    corpus[13, 2] = value
    with pytest.raises(ValueError, match="corpus: row 13 "):
        exact_search(QUERIES, corpus, 5, metric)


def test_very_large_and_small_numbers_have_the_same_cosines():
    small, large = (CORPUS * np.float32(2.0**power) for power in (-100, 100))
    wanted = exact_search(QUERIES, CORPUS, 5)
    for corpus in (small, large):
        np.testing.assert_allclose(exact_search(QUERIES, corpus, 5), wanted, atol=1e-6)
    with pytest.raises(ValueError, match="row 0 or its product is not finite"):
        exact_search(large, large, 5, "dot")
    assert exact_search(QUERIES, CORPUS[:0], 5)[1].shape == (len(QUERIES), 0)


def test_memory_does_not_grow_with_the_corpus(monkeypatch):
    """A corpus is read once, a block at a time, as a memory map is from disk."""
    monkeypatch.setattr(exact, "_ROWS_AT_ONCE", 700)
    read = []

    class OnDisk:
        ndim, shape = CORPUS.ndim, CORPUS.shape

        def __len__(self):
            return len(CORPUS)

        def __getitem__(self, rows):
            read.append((rows.start, len(CORPUS[rows])))
            return CORPUS[rows]

    found = exact_search(QUERIES, OnDisk(), 3)[1]
    assert read == [(0, 700), (700, 700), (1400, 700), (2100, 700), (2800, 200)]
    np.testing.assert_array_equal(found, exact_search(QUERIES, CORPUS, 3)[1])


BROKEN = np.where(np.arange(300)[:, None] == 7, np.float32("nan"), QUERIES)


@pytest.mark.parametrize(
    ("message", "queries", "k", "metric"),
    [
        ("row 7 is not finite", BROKEN, 3, "cosine"),
        ("k=0: a whole number", QUERIES, 0, "cosine"),
        ("queries are complex", QUERIES * 1j, 3, "cosine"),
        ("not reals", np.ma.masked_less(QUERIES, 0), 3, "cosine"),
        ("same number of columns", QUERIES[:, :5], 3, "cosine"),
        ("cosine, dot", QUERIES, 3, "l2"),
    ],
)
def test_bad_input_is_refused(message, queries, k, metric):
    with pytest.raises(ValueError, match=message):
        exact_search(queries, CORPUS, k, metric)
