"""Exercises of notebook 03."""

from collections.abc import Callable
from typing import Any

import numpy as np

Answer = Callable[..., Any]


def _masked_max(answer: Answer) -> str:
    tokens = -1 - np.random.default_rng(9).random((2, 4, 3))  # all below zero
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    tokens[0, 2:] = 5.0  # padding that would win
    got = answer(tokens, mask)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != (2, 3):
        return f"the shape is {got.shape}; one vector a text: (2, 3)"
    if np.allclose(got, tokens.max(1)):
        return "padding won; put minus infinity where the mask is zero"
    if np.allclose(got, (tokens * mask[:, :, None]).max(1)):
        return "times zero is not enough: zero is larger than a negative number"
    right = np.stack([tokens[0, :2].max(0), tokens[1].max(0)])
    return "" if np.allclose(got, right) else "the largest of each column"


def _paired(answer: Answer) -> str:
    rng = np.random.default_rng(10)
    a = rng.normal(size=6)
    b = a + rng.normal(scale=0.1, size=6) - 0.2
    got = answer(a, b)
    if got is None:
        return "it returns nothing yet"
    mean, error = got
    d = a - b
    if not np.isclose(mean, d.mean()):
        return "the first number is the mean of a minus b"
    unpaired = np.sqrt(a.var(ddof=1) / 6 + b.var(ddof=1) / 6)
    if np.isclose(error, unpaired):
        return "that is for independent seeds; take the spread of the differences"
    if np.isclose(error, d.std() / np.sqrt(6)):
        return "with few seeds divide by n - 1: ddof=1"
    right = np.isclose(error, d.std(ddof=1) / np.sqrt(6))
    return "" if right else "the spread of the differences over the root of n"


def _seeds_needed(answer: Answer) -> str:
    got = answer(0.01, 0.007)
    if got is None:
        return "it returns nothing yet"
    if got == 2:
        return "both models spread: the variance of the difference is twice as large"
    # No whole number before rounding up, which the last digit could turn over.
    if (got, answer(0.01, 0.019), answer(0.02, 0.019)) == (4, 29, 8):
        return ""
    return "set two standard errors, 2 * sd * sqrt(2 / n), equal to the gap; round up"


CHECKERS: dict[str, Callable[[Answer], str]] = {
    "03.1": _masked_max,
    "03.2": _paired,
    "03.3": _seeds_needed,
}
