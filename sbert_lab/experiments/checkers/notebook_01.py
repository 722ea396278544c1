"""Exercises of notebook 01."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sbert_lab.evaluation.geometry import anisotropy
from sbert_lab.index.exact import normalized

Answer = Callable[..., Any]


def _masked_mean(answer: Answer) -> str:
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(2, 4, 3))
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    got = answer(tokens, mask)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != (2, 3):
        return f"the shape is {got.shape}; one vector a text: (2, 3)"
    if np.allclose(got, tokens.mean(1)):
        return "padding is averaged too; weigh each token with the mask"
    summed = (tokens * mask[:, :, None]).sum(1)
    if np.allclose(got, summed / 4):
        return "divide by the number of tokens of each text, not by its padded length"
    right = summed / mask.sum(1, keepdims=True)
    return "" if np.allclose(got, right) else "sum the tokens, divide by how many"


def _pair_hours(answer: Answer) -> str:
    got = answer(10_000, 4)
    if got is None:
        return "it returns nothing yet"
    right = 10_000 * 9_999 / 2 * 4 / 3_600_000
    if np.isclose(got, 2 * right, rtol=1e-3):
        return "each pair is counted twice: the order of the two does not matter"
    if np.isclose(got, right * 3_600, rtol=1e-3):
        return "these are seconds; an hour has 3,600 of them"
    return "" if np.isclose(got, right, rtol=1e-6) else "n (n − 1) / 2 pairs, in hours"


def _mean_cosine(answer: Answer) -> str:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(30, 5)) + 1
    got = answer(vectors)
    if got is None:
        return "it returns nothing yet"
    right = anisotropy(vectors)
    unit = normalized(vectors.astype(np.float32))
    if np.isclose(got, (unit @ unit.T).mean(), atol=1e-4):
        return "each row's cosine with itself is in it; leave these n ones out"
    return "" if np.isclose(got, right, atol=1e-5) else "sum the unit rows, and square"


CHECKERS: dict[str, Callable[[Answer], str]] = {
    "01.1": _masked_mean,
    "01.2": _pair_hours,
    "01.3": _mean_cosine,
}
