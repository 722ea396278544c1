"""Vectors become answers: an index that knows what it holds.

The metric belongs to the index, cosine or dot product, both "larger is nearer".
Cosine vectors are scaled to unit length on the way in, queries too, and everything
below is an inner product, so that no index can be read as L2. The ids, the metric and
the hash of the encoder travel with it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbert_lab._utils import (
    METRICS,
    Metric,
    Vectors,
    new_folder,
    progress,
    sha256_file,
    write_json,
)
from sbert_lab.index.exact import checked, normalized
from sbert_lab.index.stores import (
    KINDS,
    FaissStore,
    Kind,
    Store,
    new_store,
    read_store,
    settings_for,
)
from sbert_lab.index.tuning import Tunable

Ids = NDArray[np.int64] | NDArray[np.str_]

_ADD_AT_ONCE = 8_192  # rows between two moves of the progress bar


@dataclass(frozen=True)
class Hits:
    """Answers to q queries.

    Parameters
    ----------
    ids
        ``[q, k]``, nearest first. Where fewer than k were found the id is -1 or
        ``""`` and the score minus infinity.
    scores
        float32 ``[q, k]``: cosine or dot product, as the index's metric says.
    """

    ids: Ids
    scores: Vectors


@dataclass
class VectorIndex(Tunable):
    """Vectors with ids, a metric, and a way to search them. Make one with `build`.

    Parameters
    ----------
    kind
        ``"exact"`` (a matrix, every row compared), ``"flat"`` (the same by FAISS),
        ``"hnsw"`` (a graph: fast, more memory), ``"ivfpq"`` (compressed: small, less
        exact).
    metric
        ``"cosine"`` or ``"dot"``.
    dimension
        Columns of the vectors.
    ids
        One a row, all different: integers, or strings.
    model_hash
        Fingerprint of the encoder that made the vectors; empty if not known.
    settings
        What the index was built with, and its search effort (`settings_for`).
    """

    kind: Kind
    metric: Metric
    dimension: int
    ids: Ids
    model_hash: str
    settings: dict[str, int]
    _store: Store = field(repr=False)
    _removed: NDArray[np.bool_] = field(repr=False)
    _row: dict[Any, int] = field(repr=False, default_factory=dict)

    @classmethod
    def build(
        cls,
        vectors: Vectors,
        ids: ArrayLike | None = None,
        kind: Kind = "flat",
        *,
        metric: Metric = "cosine",
        model_hash: str = "",
        seed: int = 0,
        show_progress: bool | None = None,
        **settings: int,
    ) -> Self:
        """Build an index over ``[n, d]`` vectors.

        Parameters
        ----------
        vectors
            float32 ``[n, d]``, finite; may be a memory map.
        ids
            n different integers or strings; the default is 0 … n-1.
        kind, metric, model_hash
            See the class.
        seed
            For the sample and the clusters of ``ivfpq``.
        show_progress
            A bar while vectors go in; by default for long work on a terminal.
        settings
            Of the kind, see `settings_for`.

        Raises
        ------
        ValueError
            Wrong shape, values that are not finite, ids that repeat, an unknown kind,
            metric or setting, or too few vectors to learn from.
        """
        if kind not in KINDS or metric not in METRICS:
            raise ValueError(
                f"kind={kind!r}, metric={metric!r}: kinds are {', '.join(KINDS)}; "
                f"metrics are {', '.join(METRICS)}"
            )
        dimension = checked(vectors[:1], "vectors").shape[1]
        chosen = settings_for(kind, len(vectors), dimension, settings)
        index = cls(
            kind=kind,
            metric=metric,
            dimension=dimension,
            ids=np.empty(0, np.int64),
            model_hash=model_hash,
            settings=chosen,
            _store=new_store(kind, dimension, chosen),
            _removed=np.empty(0, bool),
        )
        if kind == "ivfpq":
            index._train(vectors, seed)
        names = np.arange(len(vectors)) if ids is None else ids
        index.add(vectors, names, show_progress=show_progress)
        return index

    def __len__(self) -> int:
        """Count the vectors that can be found."""
        return len(self.ids) - int(self._removed.sum())

    def add(
        self,
        vectors: Vectors,
        ids: ArrayLike,
        *,
        model_hash: str = "",
        show_progress: bool | None = None,
    ) -> None:
        """Add ``[m, d]`` vectors under m new ids; all are added, or none."""
        self._same_model(model_hash)
        vectors = self._same_width(checked(vectors, "vectors"))
        new = _ids(ids, len(vectors))
        if len(self.ids) and new.dtype.kind != self.ids.dtype.kind:
            raise ValueError(
                f"the index has ids of type {self.ids.dtype}, these are {new.dtype}; "
                "use one type"
            )
        rows = {key: row for row, key in enumerate(new.tolist(), len(self.ids))}
        if len(rows) < len(new):
            keys, counts = np.unique(new, return_counts=True)
            raise ValueError(
                f"id {keys[counts > 1][0]!r} occurs twice; ids must differ"
            )
        if taken := rows.keys() & self._row.keys():
            raise ValueError(f"id {min(taken)!r} is in the index; remove it first")
        whole = False
        try:
            with progress(len(vectors), "index", show=show_progress) as move:
                for start in range(0, len(vectors), _ADD_AT_ONCE):
                    block = self._scaled(vectors[start : start + _ADD_AT_ONCE])
                    self._store.add(block)
                    move(len(block))
            whole = True
        finally:
            # Interrupted half-way, the rows that are in can never be found.
            added = self._store.count() - len(self.ids)
            flags = np.full(added, not whole)
            named = new[:added]
            self.ids = np.concatenate([self.ids, named]) if len(self.ids) else named
            self._removed = np.concatenate([self._removed, flags])
        self._row |= rows

    def remove(self, ids: ArrayLike) -> None:
        """Take vectors out of every later answer; all of them, or none.

        The rows keep their memory until the index is built again: a graph cannot
        lose a node without losing the paths through it. An ``hnsw`` index that lost a
        large part of its rows finds less; tune it again, or build it anew.
        """
        wanted = np.atleast_1d(np.asarray(ids)).tolist()
        unknown = [key for key in wanted if key not in self._row]
        if unknown:
            raise KeyError(f"no vector has id {unknown[0]!r}; nothing was removed")
        for key in dict.fromkeys(wanted):
            self._removed[self._row.pop(key)] = True

    def search(self, queries: Vectors, k: int = 10, *, model_hash: str = "") -> Hits:
        """Return the k nearest ids and their scores.

        Parameters
        ----------
        queries
            float32 ``[q, d]``, or ``[d]`` for one.
        k
            Answers a query; fewer come back if the index holds fewer.
        model_hash
            Fingerprint of the encoder of the queries; if it is given and is another
            than the index's, that is an error, for the answers would mean nothing.
        """
        self._same_model(model_hash)
        queries = self._same_width(checked(np.atleast_2d(queries), "queries"))
        if k < 1:
            raise ValueError(f"k={k}: ask for at least one neighbour")
        scores, rows = self._rows(self._scaled(queries), min(k, len(self)))
        nothing: Any = -1 if self.ids.dtype.kind == "i" else ""
        found = self.ids[rows] if len(self.ids) else rows
        return Hits(np.where(rows >= 0, found, nothing), scores)

    def nbytes(self) -> int:
        """Return the bytes that the vectors and their structure take, without ids."""
        return self._store.nbytes()

    def save(self, folder: str | Path) -> None:
        """Write the index, its ids and what it is into a folder, atomically."""
        with new_folder(Path(folder), marker="index.json") as target:
            self._store.write(target / self._store.file_name)
            np.save(target / "ids.npy", self.ids, allow_pickle=False)
            np.save(target / "removed.npy", self._removed, allow_pickle=False)
            sums = {path.name: sha256_file(path) for path in sorted(target.iterdir())}
            about = {
                "format": 1,
                "kind": self.kind,
                "metric": self.metric,
                "dimension": self.dimension,
                "rows": len(self.ids),
                "model_hash": self.model_hash,
                "settings": self.settings,
                "sha256": sums,
            }
            write_json(target / "index.json", about)

    @classmethod
    def load(cls, folder: str | Path, *, model_hash: str = "") -> Self:
        """Read an index, its files verified.

        Parameters
        ----------
        folder
            What `save` wrote.
        model_hash
            Fingerprint of the encoder that you are going to query with; if the index
            was built by another, that is an error.

        Raises
        ------
        FileNotFoundError
            No index there.
        ValueError
            A damaged or incomplete one, or another model's.
        """
        folder = Path(folder)
        about_path = folder / "index.json"
        if not about_path.is_file():
            raise FileNotFoundError(
                f"{folder} holds no index (index.json); build it and save it there"
            )
        try:
            about = json.loads(about_path.read_text(encoding="utf-8"))
            for name, expected in about["sha256"].items():
                if sha256_file(folder / name) != expected:
                    raise ValueError(f"the sha256 of {name} differs")
            file_name = "vectors.npy" if about["kind"] == "exact" else "index.faiss"
            index = cls(
                kind=about["kind"],
                metric=about["metric"],
                dimension=about["dimension"],
                ids=np.load(folder / "ids.npy", allow_pickle=False),
                model_hash=about["model_hash"],
                settings=about["settings"],
                _store=read_store(about["kind"], folder / file_name),
                _removed=np.load(folder / "removed.npy", allow_pickle=False),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise ValueError(
                f"the index in {folder} is damaged ({error}); build it again, or copy "
                "the whole folder again"
            ) from error
        counts = {about["rows"], len(index.ids), len(index._removed)}
        if counts != {index._store.count()}:
            raise ValueError(
                f"the index in {folder} is damaged (its files have different numbers "
                f"of rows: {sorted(counts)}); build it again"
            )
        listed = enumerate(index.ids.tolist())
        index._row = {key: row for row, key in listed if not index._removed[row]}
        index._same_model(model_hash)
        return index

    def _rows(self, scaled: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Return scores and row numbers ``[q, k]``; -1 and -inf where nothing is."""
        if k == 0:
            shape = (len(scaled), 0)
            return np.empty(shape, np.float32), np.empty(shape, np.int64)
        keep = ~self._removed if self._removed.any() else None
        return self._store.search(scaled, k, keep, self.settings.get("effort", 0))

    def _scaled(self, vectors: Vectors) -> Vectors:
        scaled = normalized(vectors) if self.metric == "cosine" else vectors
        return np.ascontiguousarray(scaled, np.float32)

    def _train(self, vectors: Vectors, seed: int) -> None:
        """Learn the clusters and codes of ``ivfpq`` from a seeded sample."""
        assert isinstance(self._store, FaissStore)
        wanted = max(64 * self.settings["lists"], 40 * 256)
        picked = np.arange(len(vectors))
        if len(vectors) > wanted:
            rng = np.random.default_rng(seed)
            picked = np.sort(rng.choice(len(vectors), wanted, replace=False))
        self._store.train(self._scaled(checked(vectors[picked], "vectors")), seed)

    def _same_model(self, model_hash: str) -> None:
        if model_hash and self.model_hash and model_hash != self.model_hash:
            raise ValueError(
                f"this index holds vectors of model {self.model_hash[:12]}, these come "
                f"from model {model_hash[:12]}: distances between them mean nothing. "
                "Encode both with the same model, or build the index again"
            )

    def _same_width(self, vectors: Vectors) -> Vectors:
        if vectors.shape[1] != self.dimension:
            raise ValueError(
                f"the index has {self.dimension} dimensions, these vectors have "
                f"{vectors.shape[1]}; encode both with the same model and truncate_dim"
            )
        return vectors


def _ids(ids: ArrayLike, count: int) -> Ids:
    """Return ids as int64 or strings ``[count]``, or say what is wrong."""
    items = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)  # type: ignore[arg-type]
    if len(items) != count:
        raise ValueError(f"{count} vectors, but {len(items)} ids")
    if all(isinstance(item, str) for item in items) and items:
        return np.array(items)
    if all(type(item) is int or isinstance(item, np.integer) for item in items):
        return np.array(items, np.int64)
    kinds = sorted({type(item).__name__ for item in items})
    raise ValueError(f"ids must be all integers or all strings, not {', '.join(kinds)}")
