"""Exact search, against which every faster index is measured."""

import numpy as np
import torch
from numpy.typing import NDArray

from sbert_lab._utils import METRICS, Metric, Vectors, whole_number

_ROWS_AT_ONCE = 16_384  # corpus rows scored together
_QUERIES_AT_ONCE = 1_024


def normalized(vectors: Vectors) -> Vectors:
    """Scale rows to unit length, ``[n, d] -> [n, d]``; zero rows stay zero."""
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    odd = np.isinf(lengths) | (lengths < np.float32(1e-12))
    if odd.any():  # squares of very large and very small numbers are beyond float32
        size = np.abs(vectors).max(axis=1, keepdims=True)
        odd &= (size > 0) & np.isfinite(size)
        size[~odd] = 1
        vectors = vectors / size
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
    return scaled


def exact_search(
    queries: Vectors,
    corpus: Vectors,
    k: int,
    metric: Metric = "cosine",
) -> tuple[Vectors, NDArray[np.int64]]:
    """Find the k best corpus rows for each query by comparing with all of them.

    Queries are float32 ``[q, d]`` and the corpus ``[n, d]``, which may be a memory map:
    it is read once, block by block. Returns float32 scores, falling, and int64 rows of
    the corpus, ``[q, k]``, equal scores in order of row; fewer if the corpus is
    smaller. A ValueError names a row that is not finite.
    """
    queries = checked(queries, "queries")
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r}: one of {', '.join(METRICS)}")
    if np.ndim(corpus) != 2 or np.shape(corpus)[1] != queries.shape[1]:
        raise ValueError(
            f"corpus is {list(np.shape(corpus))} and queries {list(queries.shape)}: "
            "both must have the same number of columns"
        )
    k = min(whole_number(k, "k"), len(corpus))
    if metric == "cosine":
        queries = normalized(queries)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    positions = np.full((len(queries), k), -1, np.int64)
    for start in range(0, len(corpus), _ROWS_AT_ONCE):
        block = _reals(corpus[start : start + _ROWS_AT_ONCE], "corpus")
        if metric == "cosine":
            block = normalized(block)
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            rows = slice(first, first + _QUERIES_AT_ONCE)
            _keep_best(queries[rows], block, start, scores[rows], positions[rows])
    return scores, positions


def _keep_best(
    queries: Vectors,
    block: Vectors,
    offset: int,
    scores: Vectors,
    positions: NDArray[np.int64],
) -> None:
    """Merge one block's best rows into the running top k, in place."""
    k = scores.shape[1]
    similar = torch.from_numpy(queries) @ torch.from_numpy(block).T  # [q, rows]
    if not similar.sum().isfinite():  # quick; the sum alone can be too large, too
        bad = (~similar.isfinite()).any(0).nonzero()
        if len(bad):
            row = offset + int(bad[0])
            raise ValueError(f"corpus: row {row} or its product is not finite")
    best, where = similar.topk(min(k + 1, len(block)), dim=1)
    if best.shape[1] > k:
        # Of equal scores around the k-th place topk takes any.
        for query in (best[:, k - 1] == best[:, k]).nonzero()[:, 0].tolist():
            first = similar[query].argsort(descending=True, stable=True)[: k + 1]
            where[query], best[query] = first, similar[query][first]
        best, where = best[:, :k], where[:, :k]
    all_scores = np.concatenate([scores, best.numpy()], axis=1)
    all_positions = np.concatenate([positions, where.numpy() + offset], axis=1)
    order = np.lexsort((all_positions, -all_scores), axis=1)[:, :k]
    scores[:] = np.take_along_axis(all_scores, order, 1)
    positions[:] = np.take_along_axis(all_positions, order, 1)


def checked(vectors: Vectors, name: str) -> Vectors:
    """Return `vectors` as contiguous float32 ``[n, d]``, or say what is wrong."""
    floats = _reals(vectors, name)
    bad = np.flatnonzero(~np.isfinite(floats).all(1))
    if len(bad):
        raise ValueError(f"{name}: row {bad[0]} is not finite ({len(bad)} such rows)")
    return floats


def _reals(vectors: Vectors, name: str) -> Vectors:
    array = np.asarray(vectors)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or np.ma.is_masked(vectors):
        raise ValueError(f"{name} are {array.dtype} of {array.shape}, not reals [n, d]")
    return np.ascontiguousarray(array, np.float32)
