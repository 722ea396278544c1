"""Reciprocal rank fusion: against a naive loop, and by what it must not depend on."""

import doctest
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sbert_lab.index import fusion
from sbert_lab.index.fusion import reciprocal_rank_fusion


def naive(rankings, constant=60, weights=None, k=None):
    """Fuse one query in exact arithmetic: [(score, row)], best first."""
    scores: dict[int, Fraction] = {}
    for ranking, weight in zip(rankings, weights or [1] * len(rankings), strict=True):
        for rank, row in enumerate(ranking, 1):
            if row != -1 and weight:
                share = Fraction(weight) / (Fraction(constant) + rank)
                scores[row] = scores.get(row, Fraction(0)) + share
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
        rows = rows[:, :width]
        rankings.append(np.where(rng.random(rows.shape) < 0.2, -1, rows))
    weight = st.sampled_from([0, 0.5, 1, 2])
    count = len(rankings)
    weights = draw(st.none() | st.lists(weight, min_size=count, max_size=count))
    return rankings, {
        "constant": draw(st.sampled_from([0, 1, 60])),
        "weights": weights,
        "k": draw(st.none() | st.integers(1, 14)),
    }


#: 1/3 + 1/3 + 1/2 is 1/2 + 1/2 + 1/6, but not for a computer.
TIE = [np.array([row]) for row in ([3, 2], [3, 2], [2, 4, -1, 1, 3])]


@given(fused())
@example((TIE, {"constant": 1, "weights": None, "k": None}))
def test_it_equals_the_loop(case):
    rankings, options = case
    scores, rows = reciprocal_rank_fusion(rankings, **options)
    wanted = [
        naive([ranking[q].tolist() for ranking in rankings], **options)
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


@given(fused(), st.randoms(use_true_random=False))
def test_the_order_of_the_retrievers_changes_no_bit(case, random):
    rankings, options = case
    weights = options.pop("weights") or [1] * len(rankings)
    order = list(range(len(rankings)))
    random.shuffle(order)
    once = reciprocal_rank_fusion(rankings, weights=weights, **options)
    again = reciprocal_rank_fusion(
        [rankings[i] for i in order], weights=[weights[i] for i in order], **options
    )
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])


def test_the_same_ranks_tie_whoever_gave_them():
    """Row 5 is at places 1, 2 and 7; so is row 4, of other retrievers."""
    rankings = np.full((3, 1, 7), -1)
    for row, places in ((5, (0, 1, 6)), (4, (6, 0, 1))):
        rankings[np.arange(3), 0, places] = row
    for constant in range(200):  # at some of them another order of adding shows
        scores, rows = reciprocal_rank_fusion(list(rankings), constant=constant)
        assert rows.tolist() == [[4, 5]]
        assert scores[0, 0] == scores[0, 1]


def test_one_retriever_keeps_its_order():
    rows = np.array([[4, 2, 9, 0], [1, 8, -1, -1]])
    scores, found = reciprocal_rank_fusion([rows])
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_allclose(scores[0], 1 / np.arange(61, 65))
    again = reciprocal_rank_fusion([rows, rows[:, ::-1]], weights=[1, 0])
    np.testing.assert_array_equal(again[1], rows)


def test_nothing_was_found():
    empty = np.empty((0, 5), np.int64)
    assert reciprocal_rank_fusion([empty, empty])[1].shape == (0, 0)
    for nothing in ([[], []], [[-1], [-1]]):
        scores, rows = reciprocal_rank_fusion([nothing], k=3)
        assert scores.shape == rows.shape == (2, 0)


@pytest.mark.parametrize("rankings", [[], [[[1]], [[1], [2]]]])
def test_rankings_of_other_queries_are_refused(rankings):
    with pytest.raises(ValueError, match="same q queries"):
        reciprocal_rank_fusion(rankings)


def test_the_example_holds():
    found = doctest.testmod(fusion)
    assert found.attempted == 2
    assert not found.failed
