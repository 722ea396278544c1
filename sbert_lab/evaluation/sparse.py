"""Sparse vectors, one dimension a word, in the protocols: checked, scaled, compared.

The protocols' arithmetic for dense vectors equals mteb's bit by bit, and stays as it
is; here is the same for `scipy.sparse`, equal to it up to float32.
"""

from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbert_lab._utils import Metric, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Vectors as the protocols take them: whatever numpy reads, or of `scipy.sparse`.
Rows: TypeAlias = "ArrayLike | csr_array"

_QUERIES_AT_ONCE = 256  # a product of sparse rows takes several times its dense size


def is_sparse(vectors: object) -> "TypeGuard[csr_array]":
    """Return whether vectors are of `scipy.sparse`, without importing it."""
    return hasattr(vectors, "tocsr")


def checked_sparse(vectors: "csr_array", name: str) -> "csr_array":
    """Return sparse vectors as float32 rows ``[n, d]``, or say what is wrong."""
    from scipy.sparse import csr_array

    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise ValueError(
            f"{name} must be numbers of shape [n, d], not {vectors.dtype} of shape "
            f"{list(vectors.shape)}"
        )
    rows = csr_array(vectors, dtype=np.float32, copy=True)
    rows.sum_duplicates()
    bad = np.flatnonzero(~np.isfinite(rows.data))
    if len(bad):
        row = np.searchsorted(rows.indptr, bad[0], side="right") - 1
        raise ValueError(
            f"{name}: row {row} is not finite: encode that text again, or drop it"
        )
    if rows.nnz <= np.iinfo(np.int32).max:  # k-means takes no wider indices
        rows.indices = rows.indices.astype(np.int32)
        rows.indptr = rows.indptr.astype(np.int32)
    return rows


def similarity(
    queries: "csr_array", documents: "csr_array", metric: Metric
) -> NDArray[np.float32]:
    """Compare each query with each document: dense float32 ``[q, n]``.

    An empty row is as far from everything as one without a word in common: 0.
    """
    queries, documents = (as_measured(rows, metric) for rows in (queries, documents))
    columns = documents.T.tocsr()
    out = np.empty((queries.shape[0], documents.shape[0]), np.float32)
    for start in range(0, len(out), _QUERIES_AT_ONCE):
        rows = slice(start, start + _QUERIES_AT_ONCE)
        out[rows] = (queries[rows] @ columns).toarray()
    return out


def row_products(first: "csr_array", second: "csr_array") -> Vectors:
    """Return the dot product of each row with its partner, ``[n]``."""
    products: Vectors = first.multiply(second).sum(axis=1)
    return products


def as_measured(rows: "csr_array", metric: Metric) -> "csr_array":
    """Scale rows to unit length for the cosine; empty ones stay empty."""
    if metric == "dot":
        return rows
    from sklearn.preprocessing import normalize

    return normalize(rows)
