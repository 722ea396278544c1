"""Reciprocal rank fusion: against a naive loop, and by what it must not depend on."""

import doctest
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbert_lab.index import fusion
from sbert_lab.index.fusion import reciprocal_rank_fusion


def naive(rankings, k=None):
    """Fuse one query in exact arithmetic: [(score, row)], best first."""
    scores: dict[int, Fraction] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, 1):
            if row != -1 and row not in ranking[: rank - 1]:
                scores[row] = scores.get(row, Fraction(0)) + Fraction(1, 60 + rank)
    best = sorted((-score, row) for row, score in scores.items())
    return [(float(-score), row) for score, row in best[:k]]


@st.composite
def fused(draw):
    """Return rankings of some retrievers, gaps among them, and the options."""
    queries, documents = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    rankings = []
    for _ in range(draw(st.integers(1, 4))):
        width = draw(st.integers(0, documents))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        rows = rng.permuted(np.tile(np.arange(documents), (queries, 1)), axis=1)
        rows = rows[:, :width] // draw(st.integers(1, 2))  # by 2: each stands twice
        rankings.append(np.where(rng.random(rows.shape) < 0.2, -1, rows))
    return rankings, draw(st.none() | st.integers(1, 14))


@given(fused())
def test_it_equals_the_loop(case):
    rankings, k = case
    scores, rows = reciprocal_rank_fusion(rankings, k=k)
    wanted = [
        naive([ranking[q].tolist() for ranking in rankings], k)
        for q in range(len(rankings[0]))
    ]
    width = max(map(len, wanted))
    assert scores.shape == rows.shape == (len(wanted), width)
    assert (scores.dtype, rows.dtype) == (np.float64, np.int64)
    for q, best in enumerate(wanted):
        missing = width - len(best)
        padded = [s for s, _ in best] + [-np.inf] * missing
        np.testing.assert_allclose(scores[q], padded, rtol=1e-14)
        assert rows[q].tolist() == [row for _, row in best] + [-1] * missing


def test_the_same_ranks_tie_whoever_gave_them():
    """Rows 5 and 4 have the same three places, of other retrievers each."""
    for places in combinations(range(12), 3):  # for some the order of adding shows
        rankings = np.full((3, 1, 12), -1)
        rankings[np.arange(3), 0, places] = 5
        rankings[np.arange(3), 0, np.roll(places, 1)] = 4
        scores, rows = reciprocal_rank_fusion(list(rankings))
        assert rows.tolist() == [[4, 5]]
        assert scores[0, 0] == scores[0, 1]


def test_nothing_was_found():
    empty = np.empty((0, 5), np.int64)
    assert reciprocal_rank_fusion([empty, empty])[1].shape == (0, 0)
    for nothing in ([[], []], [[-1], [-1]]):
        scores, rows = reciprocal_rank_fusion([nothing], k=3)
        assert scores.shape == rows.shape == (2, 0)
    with pytest.raises(ValueError, match="longer"):
        reciprocal_rank_fusion([[[1]], [[1], [2]]])


def test_the_example_holds():
    assert doctest.testmod(fusion) == (0, 2)
