"""Fusion by scores and by ranks: against naive loops, and by what changes nothing."""

import doctest
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbert_lab.index import fusion
from sbert_lab.index.fusion import convex_combination, reciprocal_rank_fusion

pytestmark = pytest.mark.filterwarnings("error")


def by_score(scores, rows, floor):
    """Scale the scores of one retriever for one query."""
    known = [score for score, row in zip(scores, rows, strict=True) if row != -1]
    low, top = min(known, default=0), max(known, default=0)
    low = low if floor is None else floor
    if top <= low:
        return [Fraction(1 if floor is None else 0) for _ in rows]
    return [Fraction(max(s - low, 0)) / Fraction(top - low) for s in scores]


def naive(rankings, shares, weights, k):
    """Fuse one query in exact arithmetic: [(score, row)], best first."""
    totals: dict[int, Fraction] = {}
    for rows, own, weight in zip(rankings, shares, weights, strict=True):
        for place, row in enumerate(rows):
            if weight and row != -1 and row not in rows[:place]:
                part = Fraction(weight) * own[place]
                totals[row] = totals.get(row, Fraction(0)) + part
    best = sorted((-score, row) for row, score in totals.items())
    return [(float(-score), row) for score, row in best[:k]]


def assert_equal(result, wanted):
    scores, rows = result
    width = max(map(len, wanted))
    assert scores.shape == rows.shape == (len(wanted), width)
    assert (scores.dtype, rows.dtype) == (np.float64, np.int64)
    for q, best in enumerate(wanted):
        padded = best + [(-np.inf, -1)] * (width - len(best))
        np.testing.assert_allclose(scores[q], [s for s, _ in padded], rtol=1e-14)
        assert rows[q].tolist() == [row for _, row in padded]


@st.composite
def retrieved(draw):
    """Return scores and rows of some retrievers, gaps among them, and the options."""
    queries, documents = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    found, count = [], draw(st.integers(1, 4))
    for _ in range(count):
        width = draw(st.integers(0, documents))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        rows = rng.permuted(np.tile(np.arange(documents), (queries, 1)), axis=1)
        rows = rows[:, :width] // draw(st.integers(1, 2))  # by 2: each stands twice
        gone = rng.random(rows.shape) < draw(st.sampled_from([0.2, 1]))
        rows = np.where(gone, -1, rows)
        scores = rng.integers(-3, 4, rows.shape)  # few values: many are equal
        found.append((np.where(rows < 0, -np.inf, scores), rows))
    lows = st.sampled_from([None, -4, 0, 2])
    quarters = st.sampled_from([0, 0.25, 0.5, 1])
    weights = draw(st.lists(quarters, min_size=count, max_size=count))
    floors = draw(st.lists(lows, min_size=count, max_size=count))
    return found, weights, floors, draw(st.none() | st.integers(1, 14))


@given(retrieved())
def test_both_equal_the_loops(case):
    found, weights, floors, k = case
    scored, ranked = [], []
    places = [Fraction(1, 60 + rank) for rank in range(1, 13)]
    for q in range(len(found[0][1])):
        sides = [(scores[q].tolist(), rows[q].tolist()) for scores, rows in found]
        rankings = [rows for _, rows in sides]
        shares = [by_score(*own, low) for own, low in zip(sides, floors, strict=True)]
        scored.append(naive(rankings, shares, weights, k))
        ranked.append(naive(rankings, [places] * len(rankings), weights, k))
    assert_equal(convex_combination(found, weights, floors=floors, k=k), scored)
    rankings = [rows for _, rows in found]
    assert_equal(reciprocal_rank_fusion(rankings, weights=weights, k=k), ranked)
    alike = reciprocal_rank_fusion(rankings, weights=np.ones(len(found)), k=k)
    np.testing.assert_array_equal(reciprocal_rank_fusion(rankings, k=k), alike)


def test_a_weight_of_0_gives_the_order_of_the_other():
    one, other = ([[0.9, 0.5, 0.1]], [[9, 2, 7]]), ([[8.0, 3, 1]], [[1, 7, 2]])
    assert convex_combination([one, other], (1, 0))[1].tolist() == one[1]
    assert convex_combination([one, other], (0, 1))[1].tolist() == other[1]
    rows = reciprocal_rank_fusion([one[1], other[1]], weights=(1, 0))[1]
    assert rows.tolist() == one[1]


def test_the_same_shares_tie_whoever_gave_them():
    """Rows 5 and 4 have the same three places, of other retrievers each."""
    for places in combinations(range(12), 3):  # for some the order of adding shows
        rankings = np.full((3, 1, 12), -1)
        rankings[np.arange(3), 0, places] = 5
        rankings[np.arange(3), 0, np.roll(places, 1)] = 4
        scores, rows = reciprocal_rank_fusion(list(rankings))
        assert rows.tolist() == [[4, 5]]
        assert scores[0, 0] == scores[0, 1]
    tied = [([[1]], [[9]]), ([[1]], [[9]]), ([[1]], [[2]])]  # 0.1 + 0.2 is not 0.3
    assert convex_combination(tied, (0.1, 0.2, 0.3))[1].tolist() == [[2, 9]]


def test_nothing_was_found():
    empty = np.empty((0, 5), np.int64)
    assert reciprocal_rank_fusion([empty, empty])[1].shape == (0, 0)
    assert convex_combination([(empty, empty)], [1])[1].shape == (0, 0)
    with pytest.raises(ValueError, match="longer"):
        reciprocal_rank_fusion([[[1]], [[1], [2]]])
    with pytest.raises(ValueError, match="longer"):
        convex_combination([([[0.5]], [[1]])], (0.5, 0.5))


def test_the_examples_hold():
    assert doctest.testmod(fusion) == (0, 5)
