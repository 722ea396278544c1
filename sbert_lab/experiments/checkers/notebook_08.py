"""Exercises of notebook 08."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Answer = Callable[..., Any]

_NOTHING = 1e-12  # sums that are equal as fractions can differ in the last bit


def _fuse(answer: Answer) -> str:
    rankings = [[4, 1, 7, 2], [7, 3, 4], [5, 6, 7]]
    got = answer([list(one) for one in rankings], 60)
    if got is None:
        return "it returns nothing yet"
    got = list(got)
    if sorted(got) != sorted({row for one in rankings for row in one}):
        return "every document that anyone found, once, best first"
    scores = _shares(rankings, 60, 1)
    order = [scores[row] for row in got]
    if order == sorted(order) and order != sorted(order, reverse=True):
        return "the order is upside down: the largest sum comes first"
    # Twice in the middle beats once at the top, unless ranks count from 0; twice
    # further down does not, unless the constant is large.
    near, far = [[1, 2, 3], [4, 5, 2]], [[1, 5, 2, 6], [3, 7, 8, 2]]
    for ranked, constant in ((rankings, 60), (near, 1), (far, 1), (far, 60)):
        given = answer([list(one) for one in ranked], constant)
        if _falls(given, _shares(ranked, constant, 1)):
            continue
        if _falls(given, _shares(ranked, constant, 0)):
            return "ranks count from 1, not from 0"
        return "for each ranking add 1 / (constant + rank), and sort by the sums"
    return ""


def _falls(got: Sequence[int], scores: dict[int, float]) -> bool:
    """Whether scores fall in an order; equal ones may stand in any."""
    values = np.array([scores[row] for row in got])
    return bool((np.diff(values) <= _NOTHING).all())


def _shares(
    ranked: Sequence[Sequence[int]], constant: float, first: int
) -> dict[int, float]:
    scores: dict[int, float] = {}
    for one in ranked:
        for rank, row in enumerate(one, first):
            scores[row] = scores.get(row, 0.0) + 1 / (constant + rank)
    return scores


def _rerank(answer: Answer) -> str:
    order = np.array([8, 3, 5, 9, 1, 0])
    scores = np.array([0.2, 0.9, -1.0, 0.5, 7.0, 3.0])
    got = answer(order, scores, 4)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != order.shape:
        return f"the shape is {list(got.shape)}; all stay in the ranking: [6]"
    right = np.array([3, 9, 8, 5, 1, 0])
    if np.array_equal(got, right):
        return "" if np.array_equal(answer(order, scores, 0), order) else "k may be 0"
    if np.array_equal(got, order[np.argsort(-scores)]):
        return "only the first k are read; the others stay where they are"
    if np.array_equal(got, [5, 8, 9, 3, 1, 0]):
        return "the order is upside down: the largest score comes first"
    if np.array_equal(got, [1, 3, 0, 2, 4, 5]):
        return "those are places; take the order at these places"
    return "sort the first k by their scores, and put the rest behind them"


def _ceiling(answer: Answer) -> str:
    places = np.array([0, 4, 12, 40, -1, 7])
    got = answer(places, 10)
    if got is None:
        return "it returns nothing yet"
    if np.size(got) != 1:
        return f"the shape is {list(np.shape(got))}; one number, the mean"
    if np.isclose(got, 3 / 5):
        return "a query whose answer was not found counts, with 0"
    if np.isclose(got, 4 / 6):
        return "-1 means not found: it is below k, and no place"
    if not np.isclose(got, 3 / 6):
        return "a perfect reader puts first whatever is among the first k: gain 1"
    few = answer(places, 5)
    if np.isclose(few, 2 / 6):
        return "at k = 5, place 7 stays where it is, and still counts a little"
    deep = answer(places, 20)
    if not np.isclose(deep, 4 / 6):
        return "at k = 20, an answer from place 12 can come first, too"
    right = (2 + 1 / np.log2(9)) / 6
    return "" if np.isclose(few, right) else "place p, from 0, gains 1 / log2(p + 2)"


CHECKERS: dict[str, Callable[[Answer], str]] = {
    "08.1": _fuse,
    "08.2": _rerank,
    "08.3": _ceiling,
}
