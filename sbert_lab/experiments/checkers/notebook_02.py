"""Exercises of notebook 02."""

from collections.abc import Callable
from typing import Any

import numpy as np

Answer = Callable[..., Any]


def _features(answer: Answer) -> str:
    u, v = np.random.default_rng(7).normal(size=(2, 3, 4))
    got = answer(u, v)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != (3, 12):
        return f"the shape is {got.shape}; three parts side by side: (3, 12)"
    if np.allclose(got, np.concatenate([u, v, u - v], axis=1)):
        return "the difference needs its absolute value: order must not matter"
    right = np.concatenate([u, v, np.abs(u - v)], axis=1)
    return "" if np.allclose(got, right) else "the order is u, v, |u - v|"


def _ranking_loss(answer: Answer) -> str:
    similarity = np.random.default_rng(8).uniform(-1, 1, size=(5, 5))
    got = answer(similarity, 0.05)
    if got is None:
        return "it returns nothing yet"
    z = similarity / 0.05
    losses = np.log(np.exp(z).sum(1)) - np.diag(z)
    if np.allclose(got, -losses.mean()):
        return "the sign is turned round: a loss falls as the right answer rises"
    if np.allclose(got, losses.sum()):
        return "take the mean over the rows, not the sum"
    if not np.allclose(got, losses.mean()):
        return "divide by t first; then log-softmax over each row, its diagonal entry"
    if not np.isfinite(answer(similarity * 100, 0.05)):
        return "it overflows for large logits; subtract each row's largest first"
    return ""


def _same_positive(answer: Answer) -> str:
    got = answer(np.array([4, 7, 4, 9, 4]))
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    right = np.zeros((5, 5), bool)
    for i, j in ((0, 2), (0, 4), (2, 4)):
        right[i, j] = right[j, i] = True
    if got.shape != (5, 5):
        return f"the shape is {got.shape}; a matrix (5, 5)"
    if np.array_equal(got, right | np.eye(5, dtype=bool)):
        return "a row's own positive is the right answer, and must stay in"
    return "" if np.array_equal(got, right) else "compare the numbers row by row"


CHECKERS: dict[str, Callable[[Answer], str]] = {
    "02.1": _features,
    "02.2": _ranking_loss,
    "02.3": _same_positive,
}
