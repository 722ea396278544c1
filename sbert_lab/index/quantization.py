"""Smaller vectors: one byte, one bit or a fraction of a bit a dimension.

Each quantiser is fitted once, on vectors of the corpus, and then turns every vector
into codes by the same ranges. For cosine, fit on and transform unit vectors;
`compressed.CompressedIndex` sees to that, and searches over the codes.
"""

import logging
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import Vectors
from sbert_lab.index.fitted import Fitted, fitting_rows, read_fitted

log = logging.getLogger(__name__)

Kind = Literal["int8", "binary", "pq"]
Codes = NDArray[np.uint8] | NDArray[np.int8]

_ROWS_AT_ONCE = 16_384  # float copies are made of so many rows
_CENTROIDS = 256  # of a byte
_TOLERATED = 0.01  # share of values outside the range before it is worth a warning


@dataclass(frozen=True, eq=False)
class Quantizer(Fitted):
    """Vectors to codes and back."""

    code_type: ClassVar[type[np.uint8] | type[np.int8]]

    @property
    def bytes_per_vector(self) -> int:
        """Bytes that the code of one vector takes, which is its width."""
        raise NotImplementedError

    def transform(self, vectors: Vectors) -> Codes:
        """Return codes ``[n, bytes_per_vector]`` of vectors ``[n, d]``."""
        raise NotImplementedError

    def inverse(self, codes: Codes) -> Vectors:
        """Return the vectors that codes stand for, float32 ``[n, d]``."""
        raise NotImplementedError

    def _codes(self, codes: Codes) -> NDArray[Any]:
        found = np.asarray(codes)
        wanted = np.dtype(self.code_type)
        if found.ndim != 2 or found.shape[1] != self.bytes_per_vector:
            raise ValueError(
                f"codes of shape {list(found.shape)}: this {self.kind} quantiser "
                f"writes [n, {self.bytes_per_vector}]; use the one that made them"
            )
        if found.dtype != wanted:
            raise ValueError(f"codes are {found.dtype}, this quantiser's are {wanted}")
        return found


@dataclass
class Clipping:
    """How many values an `Int8Quantizer` has seen, and how many lay outside."""

    values: int = 0
    outside: int = 0
    warned: bool = False


@dataclass(frozen=True, eq=False)
class Int8Quantizer(Quantizer):
    """One byte a dimension: 256 even levels from `low` to `high`, both included.

    A value becomes its nearest level, so that inside the range it moves by half a
    step at most, the step being ``(high − low) / 255``. Values outside become the end
    of the range; `clipping` counts them, and more than one in a hundred beyond what
    `coverage` leaves out is logged as a warning, once.

    Parameters
    ----------
    low, high
        float32 ``[d]``, the range of each dimension.
    coverage
        Share of the fitted values that the range was to hold.

    Source: linear quantisation as in Jacob et al. 2018, a range for each dimension.
    """

    kind: ClassVar[str] = "int8"
    code_type: ClassVar[type[np.int8]] = np.int8

    low: Vectors
    high: Vectors
    coverage: float = 1.0
    clipping: Clipping = field(default_factory=Clipping, repr=False)

    def __post_init__(self) -> None:
        """Refuse ranges that are none."""
        _coverage(self.coverage)
        shapes = {self.low.shape, self.high.shape}
        if len(shapes) > 1 or self.low.ndim != 1 or not len(self.low):
            raise ValueError(f"low and high must both be [d], not {sorted(shapes)}")
        for name in ("low", "high"):
            value = np.asarray(getattr(self, name), np.float32)
            object.__setattr__(self, name, value)
        with np.errstate(over="ignore", invalid="ignore"):
            width = self.high - self.low
        if not (np.isfinite(width).all() and (width >= 0).all()):
            raise ValueError("low and high must be finite, and low ≤ high everywhere")

    @classmethod
    def fit(cls, vectors: Vectors, *, coverage: float = 1.0) -> Self:
        """Take each dimension's range from vectors ``[n, d]``, n ≥ 2.

        Parameters
        ----------
        vectors
            Some thousands of the corpus are enough.
        coverage
            Share of the values in the middle that the range holds. 1 is from the
            smallest to the largest; less gives finer steps and clips the rest.
        """
        _coverage(coverage)
        rows = fitting_rows(vectors, 2, "a range")
        if coverage == 1:
            return cls(rows.min(0), rows.max(0))
        ends = [(1 - coverage) / 2, (1 + coverage) / 2]
        low, high = np.quantile(rows, ends, axis=0).astype(np.float32)
        return cls(low, high, coverage)

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return len(self.low)

    @property
    def bytes_per_vector(self) -> int:
        """One byte a dimension."""
        return self.dimension

    @property
    def step(self) -> Vectors:
        """Distance of neighbouring levels, ``[d]``; 1 where the range is a point."""
        step = (self.high - self.low) / np.float32(255)
        filled: Vectors = np.where(step > 0, step, np.float32(1))
        return filled

    def transform(self, vectors: Vectors) -> NDArray[np.int8]:
        """Return the nearest levels, int8 ``[n, d]``, −128 for `low`."""
        rows = self._vectors(vectors)
        out = np.empty(rows.shape, np.int8)
        step, outside = self.step, 0
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            block = rows[start : start + _ROWS_AT_ONCE]
            inside = np.clip(block, self.low, self.high)
            outside += int((inside != block).sum())
            level = np.clip(np.rint((inside - self.low) / step), 0, 255)
            out[start : start + len(block)] = (level - 128).astype(np.int8)
        self._count(rows.size, outside)
        return out

    def inverse(self, codes: Codes) -> Vectors:
        """Return the levels as values, float32 ``[n, d]``."""
        level = self._codes(codes).astype(np.float32) + np.float32(128)
        values: Vectors = self.low + level * self.step
        return values

    def _count(self, values: int, outside: int) -> None:
        seen = self.clipping
        seen.values += values
        seen.outside += outside
        share = outside / max(1, values)
        if share > 1 - self.coverage + _TOLERATED and not seen.warned:
            seen.warned = True
            log.warning(
                "%.1f %% of the values lie outside the range that the quantiser was "
                "fitted on, and were cut off; fit it on vectors like these, by the "
                "same model and scaled alike",
                100 * share,
            )


@dataclass(frozen=True, eq=False)
class BinaryQuantizer(Quantizer):
    """One bit a dimension, set if the value lies above the threshold.

    Bits are packed eight to a byte, the first dimension in the highest bit, zeros
    behind the last. The distance of two codes is their number of different bits.

    Parameters
    ----------
    thresholds
        float32 ``[d]``.

    Source: Charikar 2002 (signs keep angles); Yamada et al. 2021, section 3 (binary
    search, then float queries against more of the document).
    """

    kind: ClassVar[str] = "binary"
    code_type: ClassVar[type[np.uint8]] = np.uint8

    thresholds: Vectors

    def __post_init__(self) -> None:
        """Refuse what is no threshold."""
        value = np.asarray(self.thresholds, np.float32)
        if value.ndim != 1 or not len(value) or not np.isfinite(value).all():
            raise ValueError("thresholds must be finite numbers of shape [d]")
        object.__setattr__(self, "thresholds", value)

    @classmethod
    def fit(
        cls, vectors: Vectors, *, threshold: Literal["zero", "median"] = "zero"
    ) -> Self:
        """Take thresholds from vectors ``[n, d]``.

        Parameters
        ----------
        vectors
            Of the corpus; for ``"zero"`` only their width matters.
        threshold
            ``"zero"``, the sign; or ``"median"`` of each dimension, which makes every
            bit as often 1 as 0.
        """
        rows = fitting_rows(vectors, 1, "a threshold")
        if threshold == "zero":
            return cls(np.zeros(rows.shape[1], np.float32))
        if threshold == "median":
            return cls(np.median(rows, axis=0).astype(np.float32))
        raise ValueError(f"threshold={threshold!r}: 'zero' or 'median'")

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return len(self.thresholds)

    @property
    def bytes_per_vector(self) -> int:
        """One byte for eight dimensions, rounded up."""
        return (self.dimension + 7) // 8

    def transform(self, vectors: Vectors) -> NDArray[np.uint8]:
        """Return packed bits, uint8 ``[n, bytes_per_vector]``."""
        return np.packbits(self._vectors(vectors) > self.thresholds, axis=1)

    def inverse(self, codes: Codes) -> Vectors:
        """Return +1 for a value above the threshold and −1 for others, ``[n, d]``."""
        bits = np.unpackbits(self._codes(codes), axis=1, count=self.dimension)
        signs: Vectors = bits.astype(np.float32) * 2 - 1
        return signs


@dataclass(frozen=True, eq=False)
class ProductQuantizer(Quantizer):
    """The vector in M parts, each replaced by the nearest of 256 of its like.

    Parameters
    ----------
    centroids
        float32 ``[M, 256, d / M]``.

    Source: Jégou, Douze and Schmid 2011; learnt and applied by FAISS.
    """

    kind: ClassVar[str] = "pq"
    code_type: ClassVar[type[np.uint8]] = np.uint8

    centroids: Vectors

    def __post_init__(self) -> None:
        """Refuse what is no codebook."""
        value = np.ascontiguousarray(self.centroids, np.float32)
        good = value.ndim == 3 and value.shape[1] == _CENTROIDS and value.size
        if not good or not np.isfinite(value).all():
            raise ValueError(
                "centroids must be finite numbers of shape [M, 256, d / M]"
            )
        object.__setattr__(self, "centroids", value)

    @classmethod
    def fit(cls, vectors: Vectors, *, parts: int | None = None, seed: int = 0) -> Self:
        """Learn the centroids from vectors ``[n, d]``, n ≥ 256, better 10,000.

        Parameters
        ----------
        vectors
            Of the corpus.
        parts
            M, the bytes of a code; divides d. The default is the largest divisor up
            to d / 4, a sixteenth of float32.
        seed
            Of the sample and the first centroids.
        """
        rows = fitting_rows(vectors, _CENTROIDS, "a codebook of 256")
        width = rows.shape[1]
        sizes = [size for size in range(1, width + 1) if width % size == 0]
        if parts is None:
            parts = max(size for size in sizes if size <= max(1, width // 4))
        if parts not in sizes:
            raise ValueError(
                f"parts={parts} does not divide {width} dimensions; these do: {sizes}"
            )
        learner = import_module("faiss").ProductQuantizer(width, parts, 8)
        learner.cp.seed = seed
        learner.cp.min_points_per_centroid = 1  # enough is checked above
        learner.train(rows)
        flat = import_module("faiss").vector_to_array(learner.centroids)
        return cls(flat.reshape(parts, _CENTROIDS, width // parts))

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return int(self.centroids.shape[0] * self.centroids.shape[2])

    @property
    def bytes_per_vector(self) -> int:
        """One byte a part."""
        return len(self.centroids)

    def transform(self, vectors: Vectors) -> NDArray[np.uint8]:
        """Return the numbers of the nearest centroids, uint8 ``[n, M]``."""
        rows = self._vectors(vectors)
        faiss = import_module("faiss")
        coder = faiss.ProductQuantizer(self.dimension, self.bytes_per_vector, 8)
        faiss.copy_array_to_vector(self.centroids.ravel(), coder.centroids)
        if not len(rows):
            return np.empty((0, self.bytes_per_vector), np.uint8)
        codes: NDArray[np.uint8] = coder.compute_codes(rows)
        return codes

    def inverse(self, codes: Codes) -> Vectors:
        """Return the centroids side by side, float32 ``[n, d]``."""
        found = self._codes(codes)
        parts = self.centroids[np.arange(self.bytes_per_vector), found]
        joined: Vectors = parts.reshape(len(found), self.dimension)
        return joined


QUANTIZERS: dict[str, type[Quantizer]] = {
    cls.kind: cls for cls in (Int8Quantizer, BinaryQuantizer, ProductQuantizer)
}


def load_quantizer(path: str | Path) -> Quantizer:
    """Read a quantiser of whatever kind; errors as `Fitted.load`."""
    kind = read_fitted(path)[0]["kind"]
    if kind not in QUANTIZERS:
        raise ValueError(
            f"{path} holds kind {kind!r}, no quantiser; those are "
            f"{', '.join(QUANTIZERS)}"
        )
    return QUANTIZERS[kind].load(path)


def _coverage(coverage: float) -> None:
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage={coverage}: a share above 0, at most 1")
