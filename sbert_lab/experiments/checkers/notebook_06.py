"""Exercises of notebook 06."""

from collections.abc import Callable
from typing import Any

import numpy as np

Answer = Callable[..., Any]


def _front(answer: Answer) -> str:
    points = np.array([[1, 40], [5, 38], [6, 50], [40, 51], [6, 50], [6, 45], [2, 40]])
    got = answer(points)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != (7,) or got.dtype != bool:
        return f"{got.dtype} {list(got.shape)}; give a boolean for each row: [7]"
    right = np.array([True, False, True, True, True, False, False])
    if (~got == right).all():
        return "that is who is beaten; return who stays"
    if not got[[2, 4]].all():
        return "twins do not beat each other: better in one thing at least"
    if got[6]:
        return "as good, and dearer, is beaten too"
    return "" if (got == right).all() else "beaten: no better in both, worse in one"


def _bit_scores(answer: Answer) -> str:
    rng = np.random.default_rng(13)
    query, vectors = rng.normal(size=6), rng.normal(size=(5, 6))
    vectors[0, 0] = 0.0
    got = answer(query, vectors)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got, np.float64)
    if got.shape != (5,):
        return f"the shape is {list(got.shape)}; a score for each vector: [5]"
    signs = np.where(vectors > 0, 1.0, -1.0)
    if np.allclose(got, signs @ query):
        return ""
    if np.allclose(got, signs @ np.where(query > 0, 1.0, -1.0)):
        return "the query keeps its numbers: how sure each of its signs is"
    if np.allclose(got, np.sign(vectors) @ query):
        return "a bit has two values: zero is not above zero, so minus one"
    if np.allclose(got, np.where(vectors >= 0, 1.0, -1.0) @ query):
        return "zero is not above zero"
    if np.allclose(got, (vectors > 0) @ query):
        return "minus one, not zero, where the vector is not above zero"
    return "the dot product of the query with plus and minus ones"


def _most_entries(answer: Answer) -> str:
    got = answer(16_000, 100, 384, 4)
    if got is None:
        return "it returns nothing yet"
    if np.isclose(got, 16_000 * 10**6 / (384 * 4), rtol=1e-6):
        return "the model needs its memory, too"
    if np.isclose(got, (16_000 - 100) * 2**20 / (384 * 4), rtol=1e-3):
        return "an MB is a million bytes here"
    if got == 10_351_562.5:
        return "whole entries: round down"
    if got != 10_351_562:
        return "memory that is left, in bytes, over the bytes of a vector"
    return "" if answer(8_000, 50, 256, 1) == 31_054_687 else "use every argument"


CHECKERS: dict[str, Callable[[Answer], str]] = {
    "06.1": _front,
    "06.2": _bit_scores,
    "06.3": _most_entries,
}
