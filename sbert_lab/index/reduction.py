"""Fewer dimensions: the leading ones, or the directions in which a corpus varies."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from sbert_lab._utils import Vectors
from sbert_lab.index.exact import checked, normalized
from sbert_lab.index.fitted import Fitted, fitting_rows


def truncate(vectors: Vectors, dimension: int, *, normalize: bool = True) -> Vectors:
    """Keep the leading dimensions, ``[n, d] -> [n, dimension]``.

    A model trained for it (Matryoshka) keeps most of its meaning there; from another
    model they are any dimensions, and `Pca` loses less.

    Parameters
    ----------
    vectors
        float32 ``[n, d]``; left as they are.
    dimension
        From 1 to d.
    normalize
        Scale the shortened rows to unit length again.

    Source: Kusupati et al. 2022.
    """
    rows = checked(vectors, "vectors")
    if not 1 <= dimension <= rows.shape[1]:
        raise ValueError(
            f"dimension={dimension}: the vectors have {rows.shape[1]}; choose from 1 "
            "to that"
        )
    leading = rows[:, :dimension]
    return normalized(leading) if normalize else leading.copy()


@dataclass(frozen=True, eq=False)
class Pca(Fitted):
    """Projection on the directions of largest variance.

    The corpus decides the directions, once; queries go through the same projection.
    The mean is not subtracted when projecting, so that products of vectors stay as
    near as they can to what they were.

    Parameters
    ----------
    components
        float32 ``[m, d]``, orthonormal rows, the largest variance first.

    Source: Pearson 1901; computed by scikit-learn.
    """

    kind: ClassVar[str] = "pca"

    components: Vectors

    def __post_init__(self) -> None:
        """Refuse what is no projection."""
        value = np.ascontiguousarray(self.components, np.float32)
        if value.ndim != 2 or not 1 <= len(value) <= value.shape[1]:
            raise ValueError("components must be [m, d] with 1 ≤ m ≤ d")
        if not np.allclose(value @ value.T, np.eye(len(value)), atol=1e-3):
            raise ValueError("components must be orthonormal rows")
        object.__setattr__(self, "components", value)

    @classmethod
    def fit(cls, vectors: Vectors, dimension: int) -> Self:
        """Find the directions from vectors ``[n, d]``, n ≥ `dimension`.

        Parameters
        ----------
        vectors
            Of the corpus, scaled as they will be searched.
        dimension
            m, how many directions to keep; at most d.

        Raises
        ------
        ImportError
            scikit-learn is missing; says what to type.
        """
        rows = fitting_rows(vectors, max(2, dimension), f"{dimension} directions")
        if not 1 <= dimension <= rows.shape[1]:
            raise ValueError(
                f"dimension={dimension}: the vectors have {rows.shape[1]}; choose "
                "from 1 to that"
            )
        try:
            from sklearn.decomposition import PCA
        except ImportError as error:
            raise ImportError(
                "scikit-learn is missing; type: pip install scikit-learn"
            ) from error
        found = PCA(dimension, svd_solver="full").fit(rows)
        return cls(found.components_)

    @property
    def dimension(self) -> int:
        """Width of the vectors that go in."""
        return int(self.components.shape[1])

    @property
    def reduced_dimension(self) -> int:
        """Width of the vectors that come out."""
        return len(self.components)

    def transform(self, vectors: Vectors, *, normalize: bool = True) -> Vectors:
        """Project, ``[n, d] -> [n, m]``; then scale to unit length unless told not."""
        projected = self._vectors(vectors) @ self.components.T
        return normalized(projected) if normalize else projected

    def inverse(self, vectors: Vectors) -> Vectors:
        """Return the nearest vectors of the full width, ``[n, m] -> [n, d]``.

        Of what ``transform(…, normalize=False)`` gave.
        """
        rows = checked(vectors, "vectors")
        if rows.shape[1] != self.reduced_dimension:
            raise ValueError(
                f"projected vectors have {self.reduced_dimension} dimensions, these "
                f"{rows.shape[1]}"
            )
        return rows @ self.components
