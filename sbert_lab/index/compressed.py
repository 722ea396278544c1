"""Search over codes: a fraction of the memory, and nearly the same answers.

Two stages. The first compares codes: a byte or a codebook entry with the float query,
bits with the bits of the query. The second, if wanted, scores a few times k candidates
again, with the float query against something finer.
"""

import json
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import (
    METRICS,
    Metric,
    Vectors,
    new_folder,
    sha256_file,
    write_json,
)
from sbert_lab.index.exact import checked, exact_search, normalized
from sbert_lab.index.quantization import (
    QUANTIZERS,
    BinaryQuantizer,
    Codes,
    Kind,
    Quantizer,
    load_quantizer,
)

#: Candidates of the second stage, in multiples of k. Against int8 codes 4 are as good
#: as float on 5,000 ICD-10-CM codes; a larger corpus crowds the bits, hence more.
RESCORE = 10

_ROWS_AT_ONCE = 16_384  # rows that are float at one time while an index is built
_FLOATS_AT_ONCE = 2**22  # of candidates in the second stage: 16 MB
_FIT_ROWS = 100_000  # sample to fit on; more changes ranges and codebooks little

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CompressedIndex:
    """Codes of n vectors, and perhaps finer codes for a second look. See `build`.

    Parameters
    ----------
    quantizer
        Made `codes`.
    codes
        ``[n, bytes]``, searched first.
    metric
        ``"cosine"`` or ``"dot"``. A score is that of the float query and the vector
        that the code stands for.
    fine_quantizer, fine_codes
        What the second stage scores against; None if there is nothing finer.
    """

    quantizer: Quantizer
    codes: Codes = field(repr=False)
    metric: Metric = "cosine"
    fine_quantizer: Quantizer | None = None
    fine_codes: Codes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        if self.metric not in METRICS:
            raise ValueError(f"metric={self.metric!r}: one of {', '.join(METRICS)}")
        self.quantizer.inverse(self.codes[:1])  # shape and type
        if (self.fine_quantizer is None) != (self.fine_codes is None):
            raise ValueError("fine_quantizer and fine_codes go together; give both")
        if self.fine_quantizer is not None and self.fine_codes is not None:
            self.fine_quantizer.inverse(self.fine_codes[:1])
            if len(self.fine_codes) != len(self.codes):
                raise ValueError(
                    f"{len(self.codes)} codes, but {len(self.fine_codes)} fine ones"
                )
            if self.fine_quantizer.dimension != self.quantizer.dimension:
                raise ValueError("the two quantisers were fitted on different widths")

    @classmethod
    def build(
        cls,
        vectors: Vectors,
        quantizer: Kind | Quantizer = "int8",
        *,
        fine: Kind | Quantizer | Literal["auto"] | None = "auto",
        metric: Metric = "cosine",
        seed: int = 0,
        **settings: Any,  # noqa: ANN401  (those of the quantiser's fit)
    ) -> Self:
        """Encode vectors ``[n, d]``, a block at a time.

        Parameters
        ----------
        vectors
            float32, finite; may be a memory map. For cosine they are scaled to unit
            length first.
        quantizer
            ``"int8"``, ``"binary"`` or ``"pq"``, to be fitted on (a sample of) these
            vectors; or one that is fitted, for cosine on unit vectors.
        fine
            The same, for the second stage, or None for no finer codes. ``"auto"`` is
            ``"int8"`` for bits, which alone lose too much, and None for the others.
        metric
            ``"cosine"`` or ``"dot"``.
        seed
            Of the sample, and of ``"pq"``.
        settings
            Of the quantiser's ``fit``: ``coverage``, ``threshold`` or ``parts``. The
            fine one takes its defaults.

        Raises
        ------
        ValueError
            Wrong shapes, values that are not finite, an unknown kind.
        """
        if metric not in METRICS:
            raise ValueError(f"metric={metric!r}: one of {', '.join(METRICS)}")
        if settings and isinstance(quantizer, Quantizer):
            raise ValueError(f"{sorted(settings)[0]}: the quantiser is fitted already")
        if fine == "auto":
            bits = quantizer == "binary" or isinstance(quantizer, BinaryQuantizer)
            fine = "int8" if bits else None
        picked: slice | Positions = slice(None)
        if len(vectors) > _FIT_ROWS:
            rng = np.random.default_rng(seed)
            picked = np.sort(rng.choice(len(vectors), _FIT_ROWS, replace=False))
        wanted = (quantizer, fine)
        sample = None
        if any(isinstance(choice, str) for choice in wanted):
            sample = _scaled(checked(vectors[picked], "vectors"), metric)
        first = _fitted(quantizer, sample, seed, settings)
        second = None if fine is None else _fitted(fine, sample, seed, {})
        makers = [first] if second is None else [first, second]
        codes: list[Any] = [
            np.empty((len(vectors), maker.bytes_per_vector), maker.code_type)
            for maker in makers
        ]
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            block = _scaled(checked(vectors[rows], "vectors"), metric)
            for maker, out in zip(makers, codes, strict=True):
                out[rows] = maker.transform(block)
        return cls(first, codes[0], metric, second, None if fine is None else codes[1])

    def __len__(self) -> int:
        """Count the vectors."""
        return len(self.codes)

    @property
    def dimension(self) -> int:
        """Width of the vectors and queries."""
        return self.quantizer.dimension

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of the codes that the first stage reads."""
        return self.quantizer.bytes_per_vector

    def nbytes(self) -> int:
        """Return the bytes of all codes, the fine ones too, in memory or on disk."""
        fine = 0 if self.fine_codes is None else self.fine_codes.nbytes
        return int(self.codes.nbytes + fine)

    def search(
        self,
        queries: Vectors,
        k: int = 10,
        *,
        rescore: int | None = None,
        vectors: Vectors | None = None,
    ) -> tuple[Vectors, Positions]:
        """Find the k best rows for each query.

        Parameters
        ----------
        queries
            float32 ``[q, d]``, not quantised.
        k
            Answers a query; fewer come back if there are fewer rows.
        rescore
            Candidates of the first stage, in multiples of k, that the second scores
            again; 1 leaves the second stage out. The default is `RESCORE` where the
            second stage has something to add, else 1.
        vectors
            ``[n, d]``, the original vectors, to rescore against instead of the fine
            codes; only the rows of candidates are read, so they may be a memory map.
            With neither, bits are rescored against themselves: the float query knows
            how sure each of its signs is.

        Returns
        -------
        scores
            float32 ``[q, k]``, falling: the metric of the float query and the vector
            scored against. After a search over bits without a second stage, that of
            both signs, for cosine ``1 − 2 · different bits / d``.
        positions
            int64 ``[q, k]``; equal scores in order of position.

        Raises
        ------
        ValueError
            Another width, values that are not finite, `rescore` without anything
            finer, `vectors` of another shape.
        """
        queries = self._queries(queries)
        if k < 1:
            raise ValueError(f"k={k}: ask for at least one neighbour")
        binary = isinstance(self.quantizer, BinaryQuantizer)
        can = binary or vectors is not None or self.fine_codes is not None
        if rescore is None:
            rescore = RESCORE if can else 1
        if rescore < 1 or (rescore > 1 and not can):
            raise ValueError(
                f"rescore={rescore}: give 1, or more with vectors=… or an index that "
                "was built with fine=… codes"
            )
        if vectors is not None:
            if rescore == 1:
                raise ValueError("rescore=1 does not use vectors; give 2 or more")
            if vectors.shape != (len(self), self.dimension):
                raise ValueError(
                    f"vectors are {list(vectors.shape)}, the index was built of "
                    f"{[len(self), self.dimension]}; give those"
                )
        count = min(k * rescore, len(self))
        if binary:
            scores, positions = self._by_bits(queries, count)
        else:
            decoded = cast(Vectors, _Decoded(self.quantizer, self.codes))
            scores, positions = exact_search(
                queries, decoded, max(1, count), self.metric
            )
        if rescore == 1:
            return scores, positions
        return self._rescored(queries, positions, min(k, len(self)), vectors)

    def save(self, folder: str | Path) -> None:
        """Write codes and quantisers into a folder, atomically."""
        with new_folder(Path(folder), marker="compressed.json") as target:
            self.quantizer.save(target / "quantizer.safetensors")
            np.save(target / "codes.npy", self.codes, allow_pickle=False)
            if self.fine_quantizer is not None and self.fine_codes is not None:
                self.fine_quantizer.save(target / "fine_quantizer.safetensors")
                np.save(target / "fine_codes.npy", self.fine_codes, allow_pickle=False)
            sums = {path.name: sha256_file(path) for path in sorted(target.iterdir())}
            about = {"format": 1, "metric": self.metric, "sha256": sums}
            write_json(target / "compressed.json", about)

    @classmethod
    def load(cls, folder: str | Path, *, fine_on_disk: bool = False) -> Self:
        """Read what `save` wrote, verified.

        Parameters
        ----------
        folder
            Its folder.
        fine_on_disk
            Leave the fine codes there as a memory map, of which the second stage
            reads the rows of its candidates.

        Raises
        ------
        FileNotFoundError
            Nothing there.
        ValueError
            Damaged or incomplete.
        """
        folder = Path(folder)
        about_path = folder / "compressed.json"
        if not about_path.is_file():
            raise FileNotFoundError(
                f"{folder} holds no compressed index (compressed.json); build it and "
                "save it there"
            )
        try:
            about = json.loads(about_path.read_text(encoding="utf-8"))
            if about["format"] != 1:
                raise ValueError(f"format {about['format']}, this version reads 1")
            for name, expected in about["sha256"].items():
                if sha256_file(folder / name) != expected:
                    raise ValueError(f"the sha256 of {name} differs")
            parts: list[Any] = [
                load_quantizer(folder / "quantizer.safetensors"),
                np.load(folder / "codes.npy", allow_pickle=False),
                about["metric"],
            ]
            if "fine_codes.npy" in about["sha256"]:
                parts += [
                    load_quantizer(folder / "fine_quantizer.safetensors"),
                    np.load(
                        folder / "fine_codes.npy",
                        mmap_mode="r" if fine_on_disk else None,
                        allow_pickle=False,
                    ),
                ]
            return cls(*parts)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise ValueError(
                f"the compressed index in {folder} is damaged ({error}); build it "
                "again, or copy the whole folder again"
            ) from error

    def _queries(self, queries: Vectors) -> Vectors:
        rows = checked(queries, "queries")
        if rows.shape[1] != self.dimension:
            raise ValueError(
                f"the index has {self.dimension} dimensions, these queries have "
                f"{rows.shape[1]}; encode both with the same model and truncate_dim"
            )
        return _scaled(rows, self.metric)

    def _by_bits(self, queries: Vectors, count: int) -> tuple[Vectors, Positions]:
        """Return the rows of fewest different bits, and the metric of the signs."""
        if not count or not len(queries):
            shape = (len(queries), count)
            return np.empty(shape, np.float32), np.empty(shape, np.int64)
        bits = self.quantizer.transform(queries)
        codes = np.ascontiguousarray(self.codes)
        different, rows = import_module("faiss").knn_hamming(bits, codes, count)
        order = np.lexsort((rows, different), axis=1)
        different = np.take_along_axis(different, order, 1).astype(np.float32)
        scores = self.dimension - 2 * different
        if self.metric == "cosine":
            scores /= self.dimension
        return scores, np.take_along_axis(rows, order, 1).astype(np.int64)

    def _rescored(
        self, queries: Vectors, candidates: Positions, k: int, vectors: Vectors | None
    ) -> tuple[Vectors, Positions]:
        """Keep the k best of candidates ``[q, c]`` by a finer score."""
        scores = np.empty((len(queries), k), np.float32)
        positions = np.empty((len(queries), k), np.int64)
        size = max(1, candidates.shape[1] * self.dimension)
        together = max(1, _FLOATS_AT_ONCE // size)  # queries
        for start in range(0, len(queries), together):
            part = slice(start, start + together)
            rows = candidates[part]
            finer = self._finer(rows.ravel(), vectors)  # [q · c, d]
            if self.metric == "cosine":
                finer = normalized(finer)
            found = finer.reshape(*rows.shape, self.dimension)
            products = np.matmul(found, queries[part][:, :, None])[..., 0]  # [q, c]
            order = np.lexsort((rows, -products), axis=1)[:, :k]
            scores[part] = np.take_along_axis(products, order, 1)
            positions[part] = np.take_along_axis(rows, order, 1)
        return scores, positions

    def _finer(self, rows: Positions, vectors: Vectors | None) -> Vectors:
        """Return what the second stage scores against, ``[m, d]``."""
        if vectors is not None:
            return checked(vectors[rows], "vectors")
        if self.fine_quantizer is not None and self.fine_codes is not None:
            return self.fine_quantizer.inverse(self.fine_codes[rows])
        return self.quantizer.inverse(self.codes[rows])


@dataclass(frozen=True)
class _Decoded:
    """Codes that `exact_search` reads like a matrix, float a block at a time."""

    quantizer: Quantizer
    codes: Codes
    ndim: int = 2

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.codes), self.quantizer.dimension

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice) -> Vectors:
        return self.quantizer.inverse(self.codes[rows])


def _scaled(vectors: Vectors, metric: Metric) -> Vectors:
    return normalized(vectors) if metric == "cosine" else vectors


def _fitted(
    choice: Kind | Quantizer,
    sample: Vectors | None,
    seed: int,
    settings: dict[str, Any],
) -> Quantizer:
    """Return the quantiser itself, or fit one of a kind."""
    if isinstance(choice, Quantizer):
        return choice
    if choice not in QUANTIZERS:
        raise ValueError(f"quantizer {choice!r}: one of {', '.join(QUANTIZERS)}")
    if choice == "pq":
        settings = {"seed": seed} | settings
    fitted: Quantizer = cast(Any, QUANTIZERS[choice]).fit(sample, **settings)
    return fitted
