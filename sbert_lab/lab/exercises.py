"""Checkers for the exercises: they try your function and say what to look at.

A checker never raises: a wrong answer gets a hint, a right one gets "Right".
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from sbert_lab.evaluation.geometry import anisotropy
from sbert_lab.exact import exact_search, normalized

Answer = Callable[..., Any]


def check(number: str, answer: Answer) -> str:
    """Try an answer, and return "Right." or a hint.

    Parameters
    ----------
    number
        ``"04.1"``: notebook and exercise.
    answer
        Your function.
    """
    if number not in _CHECKERS:
        raise KeyError(f"no exercise {number!r}; there are {', '.join(_CHECKERS)}")
    try:
        hint = _CHECKERS[number](answer)
    except Exception as error:  # whatever the reader's code does is a hint, not a crash
        return f"Not yet: it raised {type(error).__name__}: {error}"
    return f"Not yet: {hint}" if hint else "Right."


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


def _top_k(answer: Answer) -> str:
    rng = np.random.default_rng(4)
    queries = rng.normal(size=(3, 8)).astype(np.float32)
    corpus = rng.normal(size=(40, 8)).astype(np.float32)
    got = answer(queries, corpus, 5)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != (3, 5):
        return f"the shape is {got.shape}; one row a query, k columns: (3, 5)"
    right = exact_search(queries, corpus, 5, "cosine")[1]
    if np.array_equal(got, exact_search(queries, corpus, 5, "dot")[1]):
        return "this ranks by dot product; divide by the lengths first"
    if np.array_equal(got[:, ::-1], right):
        return "the order is upside down: the nearest comes first"
    return "" if np.array_equal(got, right) else "these are not the nearest rows"


def _cosine_from_l2(answer: Answer) -> str:
    rng = np.random.default_rng(4)
    a, b = normalized(rng.normal(size=(2, 6)).astype(np.float32)).astype(np.float64)
    got = answer(float(((a - b) ** 2).sum()))
    if got is None:
        return "it returns nothing yet"
    if np.isclose(got, 1 - ((a - b) ** 2).sum()):
        return "expand |a − b|² = |a|² + |b|² − 2a·b, and both lengths are 1"
    return "" if np.isclose(got, a @ b) else "expand |a − b|² with |a| = |b| = 1"


def _index_bytes(answer: Answer) -> str:
    wanted = ["count", "dimension", "links"]
    if list(inspect.signature(answer).parameters)[:3] != wanted:
        return f"keep the arguments {wanted}"
    got = answer(1_000_000, 384, 32)
    if got is None:
        return "it returns nothing yet"
    vectors = 1_000_000 * 384 * 4
    if got == vectors:
        return "that is the vectors; the graph's edges need room too"
    if got == vectors + 1_000_000 * 32 * 4:
        return "HNSW's bottom layer has twice `links` edges a node"
    right = vectors + 1_000_000 * 64 * 4
    return "" if abs(got - right) < 0.02 * right else "4 bytes a number, 4 an edge"


_CHECKERS: dict[str, Callable[[Answer], str]] = {
    "01.1": _masked_mean,
    "01.2": _pair_hours,
    "01.3": _mean_cosine,
    "04.1": _top_k,
    "04.2": _cosine_from_l2,
    "04.3": _index_bytes,
}
