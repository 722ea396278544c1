"""Vectors become answers: FAISS's indexes, exact to compressed, with ids and a metric.

All search by inner product; for cosine vectors and queries are scaled on the way in.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbert_lab._utils import (
    METRICS,
    Metric,
    Vectors,
    new_folder,
    sha256_file,
    whole_number,
    write_json,
)
from sbert_lab.index.exact import checked, exact_search, normalized

Kind = Literal[
    "flat",
    "int8",
    "hnsw",
    "hnsw-int8",
    "ivfpq",
    "ivfpq+int8",
    "ivfpq+flat",
    "binary+int8",
]
Ids = NDArray[np.int64] | NDArray[np.str_]

#: What FAISS's factory calls the kinds; ``np`` keeps its codes as they are learnt.
_FACTORY = {
    "flat": "Flat",
    "int8": "SQ8",
    "hnsw": "HNSW{M}",
    "hnsw-int8": "HNSW{M},SQ8",
    "ivfpq": "IVF{nlist},PQ{m}np",
    "ivfpq+int8": "IVF{nlist},PQ{m}np,Refine(SQ8)",
    "ivfpq+flat": "IVF{nlist},PQ{m}np,RFlat",
}

_ADD_AT_ONCE = 8_192  # rows scaled at once
_FIT_ROWS = 100_000  # sample to learn from; more changes ranges and codebooks little
_SLOW = 1e-3  # recall that doubling the effort brings when there is no more to gain
_SAME = 1e-6  # scores that differ by less are the same distance, seen twice


@dataclass(frozen=True)
class Hits:
    """Answers to q queries: ids and float32 scores ``[q, k]``, nearest first.

    Of equal scores the vector comes first that was added first.

    Where fewer than k were found the id is -1 or ``""`` and the score minus infinity.
    """

    ids: Ids
    scores: Vectors


@dataclass
class VectorIndex:
    """Vectors with ids, a metric, and a way to search them. Make one with `build`.

    - ``"flat"`` compares with every row, and so does int8.
    - ``"int8"`` keeps one byte a dimension, one of 256 even levels.
    - ``"hnsw"`` walks a graph: fast, more memory. ``"hnsw-int8"`` keeps int8 codes.
    - ``"ivfpq"`` compares product codes in a few clusters: small, less exact.
    - ``"ivfpq+int8"`` and ``"ivfpq+flat"`` score the best of these again, by int8 codes
      or by the vectors themselves; ``"binary+int8"`` the best by signs alone.

    Sources: Malkov and Yashunin 2018 (HNSW); Jégou, Douze and Schmid 2011 (product
    codes); Jacob et al. 2018 (int8); Yamada et al. 2021 (bits, then a finer look).
    """

    kind: Kind
    metric: Metric
    dimension: int
    ids: Ids
    model_hash: str
    settings: dict[str, int]
    _index: Any = field(repr=False)  # FAISS's; its type stubs miss much of it
    _removed: NDArray[np.bool_] = field(repr=False)
    _row: dict[Any, int] = field(repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a kind or a metric that is not known, built or loaded."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind={self.kind!r}: one of {', '.join(get_args(Kind))}")
        if self.metric not in METRICS:
            raise ValueError(f"metric={self.metric!r}: one of {', '.join(METRICS)}")

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
        **settings: int,
    ) -> Self:
        """Build an index over vectors, float32 ``[n, d]``; they may be a memory map.

        `ids` are n different integers or strings, by default 0 … n-1. `model_hash` is
        the fingerprint of the encoder that made the vectors, if known. `seed` is for
        the sample that is learnt from, the clusters and the codes. The settings are

        - of ``hnsw…``: ``M`` (32), ``ef_construction`` (200), ``ef_search`` (64);
        - of ``ivfpq…``: ``nlist`` (4 √n), ``m``, bytes of a code (the largest divisor
          of d up to about d / 8), ``nprobe`` (16);
        - with a ``+``: ``candidates`` (10), scored again, in multiples of k.
        """
        dimension = checked(vectors[:1], "vectors").shape[1]
        chosen = _settings(kind, len(vectors), dimension, settings)
        index = cls(
            kind=kind,
            metric=metric,
            dimension=dimension,
            ids=np.empty(0, np.int64),
            model_hash=model_hash,
            settings=chosen,
            _index=_new_index(kind, dimension, chosen),
            _removed=np.empty(0, bool),
        )
        if not index._index.is_trained:
            index._train(vectors, seed)
        index.add(vectors, np.arange(len(vectors)) if ids is None else ids)
        return index

    def __len__(self) -> int:
        """Count the vectors that can be found."""
        return len(self.ids) - int(self._removed.sum())

    def add(self, vectors: Vectors, ids: ArrayLike | Collection[Any]) -> None:
        """Add ``[m, d]`` vectors under m new ids; all are added, or none."""
        vectors = checked(vectors, "vectors")
        if not len(new := checked_ids(ids, len(vectors))):
            return
        if len(self.ids) and new.dtype.kind != self.ids.dtype.kind:
            raise ValueError(f"ids are {new.dtype}, those here {self.ids.dtype}")
        rows = {key: row for row, key in enumerate(new.tolist(), len(self.ids))}
        if taken := rows.keys() & self._row.keys():
            raise ValueError(f"id {min(taken)!r} is in the index; remove it first")
        first = len(self.ids)
        try:
            for start in range(0, len(vectors), _ADD_AT_ONCE):
                block = vectors[start : start + _ADD_AT_ONCE]
                self._index.add(self._prepared(block))
        finally:
            # Interrupted half-way, the rows that are in can never be found.
            named = new[: self._index.ntotal - first]
            self.ids = np.concatenate([self.ids, named]) if first else named
            self._removed = np.append(self._removed, np.ones(len(named), bool))
        self._removed[first:] = False
        self._row |= rows

    def remove(self, ids: ArrayLike | Collection[Any]) -> None:
        """Take vectors out of every later answer; all of them, or none.

        Their memory is kept, and an ``hnsw`` index that lost many of them finds less.
        """
        for key in self._known(ids):
            self._removed[self._row.pop(key)] = True

    def search(
        self,
        queries: Vectors,
        k: int = 10,
        *,
        among: Collection[Any] | None = None,
        model_hash: str = "",
    ) -> Hits:
        """Return the k nearest ids and their scores for queries ``[q, d]``, or ``[d]``.

        Fewer come back if the index holds fewer. Of ids `among` which to search each is
        compared, without a graph or a choice of clusters. `model_hash` is the
        fingerprint of the encoder of the queries: another than the index's is an error.
        """
        self._same_model(model_hash)
        k = whole_number(k, "k")
        own = None if among is None else [self._row[key] for key in self._known(among)]
        scores, rows = self._rows(self._prepared(np.atleast_2d(queries)), k, own)
        nothing: Any = -1 if self.ids.dtype.kind == "i" else ""
        found = self.ids[rows] if len(self.ids) else rows
        return Hits(np.where(rows >= 0, found, nothing), scores)

    def recall_against_exact(
        self, queries: Vectors, k: int = 10, *, vectors: Vectors | None = None
    ) -> NDArray[np.float64]:
        """Return for each query which share of its k true neighbours is found, ``[q]``.

        A found row counts if it is as near as the k-th true neighbour, whatever its id.
        An index of codes alone needs the `vectors` as they were added, ``[n, d]``.
        """
        return self._recall(k, *self._truth(queries, k, vectors))

    def _truth(
        self, queries: Vectors, k: int, vectors: Vectors | None
    ) -> tuple[Vectors, Vectors, Vectors]:
        """Return queries, vectors, and each query's k-th best score among them."""
        queries = self._prepared(queries)
        if vectors is None and self.kind not in ("flat", "hnsw", "ivfpq+flat"):
            raise ValueError("pass vectors=…, as they were added; codes are no truth")
        truth = self.reconstruct() if vectors is None else self._prepared(vectors)
        kept = truth[~self._removed] if self._removed.any() else truth
        return queries, truth, exact_search(queries, kept, k, "dot")[0][:, -1:]

    def _recall(
        self, k: int, queries: Vectors, truth: Vectors, kth_best: Vectors
    ) -> NDArray[np.float64]:
        rows = self._rows(queries, k)[1]
        found = np.einsum("qd,qkd->qk", queries, truth[np.maximum(rows, 0)])
        near = (found >= kth_best - _SAME) & (rows >= 0)
        share: NDArray[np.float64] = near.mean(1)
        return share

    def tune(
        self,
        queries: Vectors,
        target_recall: float,
        k: int = 10,
        *,
        vectors: Vectors | None = None,
    ) -> list[dict[str, float]]:
        """Set the least ``ef_search`` or ``nprobe`` that reaches a recall.

        The lower end of its 95 % interval over `queries` must reach it, so that it may
        be expected of other queries too. Returns the setting, mean ``recall`` and its
        ``low`` end of each that was tried; the last is now set. A ValueError says that
        none is enough, and leaves the setting as it was.
        """
        name, first, last = "ef_search", max(k, 8), 2048
        if "nprobe" in self.settings:
            name, first, last = "nprobe", 1, self.settings["nlist"]
        elif name not in self.settings:
            raise ValueError(f"{self.kind} compares with every row: nothing to tune")
        rising = {min(round(first * 2 ** (step / 2)), last) for step in range(40)}
        tried: list[dict[str, float]] = []
        true = self._truth(queries, k, vectors)
        for effort in sorted(rising):
            trial = replace(self, settings=self.settings | {name: effort})
            recall = trial._recall(k, *true)
            mean, spread = float(recall.mean()), float(recall.std(ddof=1))
            low = mean - 1.96 * spread / len(recall) ** 0.5
            tried.append({name: float(effort), "recall": mean, "low": low})
            if low >= target_recall:
                self.settings[name] = effort
                return tried
            if len(tried) > 2 and mean - tried[-3]["recall"] < _SLOW:
                break  # what is missing is lost in the codes
        best = max(row["low"] for row in tried)
        raise ValueError(
            f"recall@{k} of {target_recall} is not reached, {best:.3f} is: build with "
            "larger M, ef_construction, m or candidates"
        )

    def nbytes(self) -> int:
        """Return the bytes that the vectors and their structure take, without ids."""
        return len(import_module("faiss").serialize_index(self._index))

    def reconstruct(self) -> Vectors:
        """Return what the index holds of each vector, scaled for cosine, ``[n, d]``."""
        rows: Vectors = self._index.reconstruct_n(0, self._index.ntotal)
        return rows

    def save(self, folder: str | Path) -> None:
        """Write the index, its ids and what it is into a folder, atomically."""
        with new_folder(Path(folder), "index.json") as target:
            # FAISS and NumPy close a file without seeing that the disk was full.
            held = import_module("faiss").serialize_index(self._index)
            (target / "index.faiss").write_bytes(held)
            for name, array in (("ids", self.ids), ("removed", self._removed)):
                memory = BytesIO()
                np.save(memory, array, allow_pickle=False)
                (target / f"{name}.npy").write_bytes(memory.getvalue())
            about = {
                "format": 2,
                "kind": self.kind,
                "metric": self.metric,
                "dimension": self.dimension,
                "model_hash": self.model_hash,
                "settings": self.settings,
            }
            write_json(target / "index.json", about)

    @classmethod
    def load(cls, folder: str | Path, *, model_hash: str = "") -> Self:
        """Read an index that `save` wrote; a ValueError tells of damage.

        Another `model_hash` than the index's is an error too.
        """
        folder = Path(folder).expanduser()
        if not (folder / "index.json").is_file():
            raise FileNotFoundError(f"{folder} holds no index; build it and save it")
        try:
            listing = (folder / "index.json").read_bytes()
            about = json.loads(listing)
            if about.pop("format") != 2:
                raise ValueError("another version of this package wrote it")
            for name, expected in about.pop("sha256").items():
                if sha256_file(folder / name) != expected:
                    raise ValueError(f"the sha256 of {name} differs")
            index = cls(
                **about,
                ids=np.load(folder / "ids.npy", allow_pickle=False),
                _index=import_module("faiss").read_index(str(folder / "index.faiss")),
                _removed=np.load(folder / "removed.npy", allow_pickle=False),
            )
            if (folder / "index.json").read_bytes() != listing:
                raise ValueError("it is being saved: load it again")
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise ValueError(
                f"the index in {folder} is damaged ({error}); build it again"
            ) from error
        listed = enumerate(index.ids.tolist())
        index._row = {key: row for row, key in listed if not index._removed[row]}
        index._same_model(model_hash)
        return index

    def _rows(
        self, scaled: Vectors, k: int, among: list[int] | None = None
    ) -> tuple[Vectors, NDArray[np.int64]]:
        """Return scores and row numbers ``[q, k]``; -inf and -1 where nothing is."""
        kept = ~self._removed
        if among is not None:
            kept &= np.isin(np.arange(len(kept)), among)
        k = min(k, int(kept.sum()))
        if k == 0:
            shape = (len(scaled), 0)
            return np.empty(shape, np.float32), np.empty(shape, np.int64)
        faiss, chosen, index = import_module("faiss"), self.settings, self._index
        options: dict[str, Any] = {}
        if not kept.all():
            bits = np.packbits(kept, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)
        how = faiss.SearchParameters(**options) if options else None
        if "ef_search" in chosen and among is not None:
            index = faiss.downcast_index(index.storage)
        elif "ef_search" in chosen:
            effort = max(chosen["ef_search"], k)
            how = faiss.SearchParametersHNSW(efSearch=effort, **options)
        elif "nprobe" in chosen:
            effort = chosen["nprobe" if among is None else "nlist"]
            how = faiss.SearchParametersIVF(nprobe=effort, **options)
        if "candidates" in chosen:
            how = faiss.IndexRefineSearchParameters(
                k_factor=chosen["candidates"], base_index_params=how
            )
        scores, rows = index.search(scaled, k, params=how)
        scores = np.where(rows < 0, -np.inf, scores).astype(np.float32)
        order = np.lexsort((rows, -scores), axis=1)  # FAISS: equal ones in any order
        return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)

    def _known(self, ids: ArrayLike | Collection[Any]) -> list[Any]:
        """Return different ids that are here, of a kind whose rows can be left out."""
        if self.kind == "binary+int8":
            raise ValueError(f"FAISS cannot leave rows of {self.kind} out: build anew")
        wanted = list(dict.fromkeys(id_list(ids)))
        if unknown := [key for key in wanted if key not in self._row]:
            raise KeyError(f"no vector has id {unknown[0]!r}; nothing was done")
        return wanted

    def _prepared(self, vectors: Vectors) -> Vectors:
        return prepared(vectors, self.dimension, self.metric)

    def _train(self, vectors: Vectors, seed: int) -> None:
        """Learn clusters, codebooks or ranges from a seeded sample."""
        wanted = _FIT_ROWS
        if "nlist" in self.settings:
            wanted = max(64 * self.settings["nlist"], 40 * 256)
        picked = np.arange(len(vectors))
        if len(vectors) > wanted:
            rng = np.random.default_rng(seed)
            picked = np.sort(rng.choice(len(vectors), wanted, replace=False))
        base = getattr(self._index, "base_index", self._index)
        base = import_module("faiss").downcast_index(base)
        learners: list[Any] = [base, getattr(base, "pq", None)]
        for learner in learners:
            if hasattr(learner, "cp"):
                learner.cp.seed = seed
                learner.cp.min_points_per_centroid = 1  # enough is checked beforehand
        self._index.train(self._prepared(vectors[picked]))

    def _same_model(self, model_hash: str) -> None:
        if model_hash and self.model_hash and model_hash != self.model_hash:
            raise ValueError(
                "the index holds vectors of another model, and distances between them "
                "mean nothing: encode both with the same, or build the index again"
            )


def prepared(vectors: Vectors, dimension: int, metric: Metric) -> Vectors:
    """Return vectors as float32 ``[n, dimension]``, scaled for cosine."""
    rows = checked(vectors, "vectors")
    if rows.shape[1] != dimension:
        raise ValueError(
            f"the index has {dimension} dimensions, these vectors have "
            f"{rows.shape[1]}; encode both with the same model and truncate_dim"
        )
    return normalized(rows) if metric == "cosine" else rows


def _settings(
    kind: Kind, count: int, dimension: int, given: dict[str, int]
) -> dict[str, int]:
    """Fill in a kind's settings for `count` rows, or say what is wrong."""
    divisors = [m for m in range(1, dimension + 1) if dimension % m == 0]
    family, _, again = kind.partition("+")
    defaults: dict[str, int] = {}
    if family.startswith("hnsw"):
        defaults = {"M": 32, "ef_construction": 200, "ef_search": 64}
    elif family == "ivfpq":
        if count < 256:
            told = f"{kind} learns 256 codes, from more than {count} vectors"
            raise ValueError(f"{told}: take 'flat' or 'hnsw'")
        defaults = {
            "nlist": max(1, round(4 * count**0.5)),
            "m": max(m for m in divisors if m <= dimension // 8 + 1),
            "nprobe": 16,
        }
    if again:
        defaults["candidates"] = 10
    chosen = defaults | given
    if chosen.keys() != defaults.keys() or min(chosen.values(), default=1) < 1:
        names = ", ".join(defaults) or "none"
        raise ValueError(f"settings {given}: {kind} has {names}, each 1 or more")
    return chosen


def _new_index(kind: Kind, dimension: int, settings: dict[str, int]) -> Any:  # noqa: ANN401
    """Return an empty FAISS index for the inner product."""
    faiss = import_module("faiss")
    inner = faiss.METRIC_INNER_PRODUCT
    if kind in _FACTORY:
        recipe = _FACTORY[kind].format(**settings)
        index = faiss.index_factory(dimension, recipe, inner)
        if kind.startswith("hnsw"):
            index.hnsw.efConstruction = settings["ef_construction"]
        return index
    signs = faiss.IndexLSH(dimension, dimension, False, False)  # no rotation: signs
    signs.metric_type = inner  # of what is scored again
    both = faiss.IndexRefine(signs, faiss.index_factory(dimension, "SQ8", inner))
    both.is_trained = False
    return both


def checked_ids(ids: ArrayLike | Collection[Any], count: int) -> Ids:
    """Return new ids as int64 or strings ``[count]``, or say what is wrong."""
    listed = id_list(ids)
    if isinstance(ids, set | frozenset) or not len(set(listed)) == len(listed) == count:
        raise ValueError(
            f"{count} vectors need {count} different ids in a list; here is a "
            f"{type(ids).__name__} of {len(listed)}, {len(set(listed))} different"
        )
    kind: type[Any] = str if listed and isinstance(listed[0], str) else np.int64
    return np.array(listed, kind)


def id_list(ids: ArrayLike | Collection[Any]) -> list[Any]:
    """Return ids as Python's integers, or strings, or say what is wrong."""
    given: Any = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        given = [given]
    found = [i.item() if hasattr(i, "item") else i for i in given]
    bad, kinds = found, {type(i) for i in found}
    if kinds <= {str}:  # NumPy would cut NULs off
        bad = [i for i in found if i.rstrip("\0") != i or not i]
    elif kinds == {int}:
        bad = [i for i in found if i == -1 or not -(2**63) <= i < 2**63]
    if bad:
        raise ValueError(
            f"{str(bad)[:80]} are no ids: give integers of 64 bits, or strings that do "
            "not end in NUL, but not both; -1 and '' say that nothing was found"
        )
    return found
