"""Exercises of notebook 04."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from sbert_lab.index.exact import exact_search, normalized

Answer = Callable[..., Any]


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


CHECKERS: dict[str, Callable[[Answer], str]] = {
    "04.1": _top_k,
    "04.2": _cosine_from_l2,
    "04.3": _index_bytes,
}
