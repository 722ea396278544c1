"""Where an index keeps its rows: a plain matrix, or a FAISS structure.

A store knows row numbers and inner products, nothing else. Ids, the metric, scaling
and removal are the business of `search.VectorIndex`.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import Vectors
from sbert_lab.index.exact import exact_search

Kind = Literal["exact", "flat", "hnsw", "ivfpq"]
KINDS: tuple[Kind, ...] = ("exact", "flat", "hnsw", "ivfpq")

Rows = NDArray[np.int64]
Keep = NDArray[np.bool_]


class Store(Protocol):
    """Rows of vectors that can be searched by inner product."""

    file_name: str

    def add(self, vectors: Vectors) -> None:
        """Append rows ``[m, d]``."""

    def count(self) -> int:
        """Return how many rows there are."""

    def search(
        self, queries: Vectors, k: int, keep: Keep | None, effort: int
    ) -> tuple[Vectors, Rows]:
        """Return scores and row numbers ``[q, k]``; -1 where nothing was found.

        `keep` ``[n]`` says which rows may be found; None means all.
        """

    def vectors(self) -> Vectors:
        """Return all rows ``[n, d]``, as near to what was added as they are kept."""

    def nbytes(self) -> int:
        """Return the bytes it takes."""

    def write(self, path: Path) -> None:
        """Write to a file."""


class ExactStore:
    """A float32 matrix; every row is compared with every query."""

    file_name = "vectors.npy"

    def __init__(self, vectors: Vectors) -> None:
        self._matrix = vectors

    def add(self, vectors: Vectors) -> None:
        """Append rows ``[m, d]``."""
        self._matrix = np.concatenate([self._matrix, vectors])

    def count(self) -> int:
        """Return how many rows there are."""
        return len(self._matrix)

    def search(
        self, queries: Vectors, k: int, keep: Keep | None, effort: int
    ) -> tuple[Vectors, Rows]:
        """Compare with every kept row."""
        if keep is None:
            return exact_search(queries, self._matrix, k, "dot")
        kept = np.flatnonzero(keep)
        scores, rows = exact_search(queries, self._matrix[kept], k, "dot")
        return scores, kept[rows]

    def vectors(self) -> Vectors:
        """Return the matrix."""
        return self._matrix

    def nbytes(self) -> int:
        """Return the bytes of the matrix."""
        return int(self._matrix.nbytes)

    def write(self, path: Path) -> None:
        """Write as ``.npy``."""
        np.save(path, self._matrix, allow_pickle=False)


class FaissStore:
    """A FAISS inner-product index, flat, HNSW or IVF-PQ."""

    file_name = "index.faiss"

    def __init__(self, kind: Kind, index: Any) -> None:  # noqa: ANN401  (untyped library)
        if index.metric_type != _faiss().METRIC_INNER_PRODUCT:
            raise ValueError("the FAISS index measures L2, not the inner product")
        self.kind = kind
        self._index = index

    def add(self, vectors: Vectors) -> None:
        """Append rows ``[m, d]``."""
        self._index.add(vectors)

    def count(self) -> int:
        """Return how many rows there are."""
        return int(self._index.ntotal)

    def search(
        self, queries: Vectors, k: int, keep: Keep | None, effort: int
    ) -> tuple[Vectors, Rows]:
        """Search with the kind's own effort: efSearch, or lists visited."""
        faiss = _faiss()
        options: dict[str, Any] = {}
        if keep is not None:
            bits = np.packbits(keep, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)
        if self.kind == "hnsw":
            how = faiss.SearchParametersHNSW(efSearch=max(effort, k), **options)
        elif self.kind == "ivfpq":
            how = faiss.SearchParametersIVF(nprobe=effort, **options)
        else:
            how = faiss.SearchParameters(**options)
        scores, rows = self._index.search(queries, k, params=how)
        return np.where(rows < 0, -np.inf, scores).astype(np.float32), rows

    def vectors(self) -> Vectors:
        """Reconstruct the rows; an ``ivfpq`` store has only their codes."""
        if self.kind == "ivfpq":
            raise ValueError(
                "an ivfpq index keeps only codes; pass the original vectors=…"
            )
        rows: Vectors = self._index.reconstruct_n(0, self._index.ntotal)
        return rows

    def train(self, vectors: Vectors, seed: int) -> None:
        """Learn the clusters and codes of ``ivfpq`` from rows ``[n, d]``."""
        for clustering in (self._index.cp, self._index.pq.cp):
            clustering.seed = seed
            clustering.min_points_per_centroid = 1  # enough is checked beforehand
        self._index.train(vectors)

    def nbytes(self) -> int:
        """Return the bytes of the serialised index, which is what memory holds too."""
        return len(_faiss().serialize_index(self._index))

    def write(self, path: Path) -> None:
        """Write in FAISS's own format."""
        _faiss().write_index(self._index, str(path))


def new_store(kind: Kind, dimension: int, settings: dict[str, int]) -> Store:
    """Return an empty store of a kind."""
    if kind == "exact":
        return ExactStore(np.empty((0, dimension), np.float32))
    faiss = _faiss()
    inner = faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        return FaissStore(kind, faiss.IndexFlatIP(dimension))
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(dimension, settings["links"], inner)
        graph.hnsw.efConstruction = settings["build_effort"]
        return FaissStore(kind, graph)
    lists, code = settings["lists"], settings["code_bytes"]
    coarse = faiss.IndexFlatIP(dimension)
    return FaissStore(kind, faiss.IndexIVFPQ(coarse, dimension, lists, code, 8, inner))


def read_store(kind: Kind, path: Path) -> Store:
    """Read what a store wrote."""
    if kind == "exact":
        return ExactStore(np.load(path, allow_pickle=False))
    return FaissStore(kind, _faiss().read_index(str(path)))


def settings_for(
    kind: Kind, count: int, dimension: int, given: dict[str, int]
) -> dict[str, int]:
    """Fill in a kind's settings for n = `count` rows, or say what is wrong.

    ``hnsw``: ``links`` (edges a node), ``build_effort`` (efConstruction), ``effort``
    (efSearch). ``ivfpq``: ``lists`` (about 4 √n), ``code_bytes`` (a vector; the largest
    divisor of the dimension up to about an eighth of it), ``effort`` (lists visited).
    ``exact`` and ``flat`` have none.
    """
    defaults: dict[Kind, dict[str, int]] = {
        "exact": {},
        "flat": {},
        "hnsw": {"links": 32, "build_effort": 200, "effort": 64},
        "ivfpq": {
            "lists": max(1, round(4 * np.sqrt(count))),
            "code_bytes": max(
                size for size in range(1, dimension // 8 + 2) if dimension % size == 0
            ),
            "effort": 16,
        },
    }
    unknown = given.keys() - defaults[kind].keys()
    if unknown:
        raise ValueError(
            f"{kind} has no setting {sorted(unknown)[0]!r}; it has "
            f"{', '.join(defaults[kind]) or 'none'}"
        )
    chosen = defaults[kind] | given
    if any(value < 1 for value in chosen.values()):
        raise ValueError(f"settings must be 1 or more: {chosen}")
    if kind == "ivfpq":
        if dimension % chosen["code_bytes"]:
            raise ValueError(
                f"code_bytes={chosen['code_bytes']} does not divide the {dimension} "
                "dimensions; choose a divisor"
            )
        if count < max(256, chosen["lists"]):
            raise ValueError(
                f"{count} vectors are too few to learn {chosen['lists']} lists and 256 "
                "codes from; use kind='flat' or 'hnsw'"
            )
    return chosen


def _faiss() -> Any:  # noqa: ANN401
    """Import FAISS on first use; its type stubs miss much of it."""
    return import_module("faiss")
