"""Fewer dimensions: the leading ones, or the directions in which a corpus varies."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from sbert_lab._utils import Vectors, whole_number
from sbert_lab.index.exact import checked, normalized


@dataclass(frozen=True, eq=False)
class Pca:
    """Projection on the directions of largest variance: orthonormal rows ``[m, d]``.

    The mean is not subtracted, so that products of vectors stay near to what they were.
    Source: Pearson 1901.
    """

    components: Vectors

    @classmethod
    def fit(cls, vectors: Vectors, dimension: int) -> Self:
        """Find the `dimension` directions from vectors ``[n, d]`` of the corpus."""
        rows = checked(vectors, "vectors")
        dimension = whole_number(dimension, "dimension", 1, min(rows.shape))
        covariance = np.atleast_2d(np.cov(rows, rowvar=False))
        directions = np.linalg.eigh(covariance).eigenvectors  # smallest variance first
        largest = directions[:, ::-1][:, :dimension]
        return cls(np.ascontiguousarray(largest.T, np.float32))

    def transform(self, vectors: Vectors) -> Vectors:
        """Project, ``[n, d] -> [n, m]``, and scale to unit length."""
        rows, width = checked(vectors, "vectors"), self.components.shape[1]
        if rows.shape[1] != width:
            raise ValueError(f"vectors are {list(rows.shape)}: give {width} columns")
        return normalized(rows @ self.components.T)


def truncate(vectors: Vectors, dimension: int) -> Vectors:
    """Keep the leading dimensions, scaled to unit length: ``[n, d] -> [n, dimension]``.

    Of a model that is not trained for it (Matryoshka, Kusupati et al. 2022), they are
    any dimensions, and `Pca` loses less.
    """
    rows = checked(vectors, "vectors")
    dimension = whole_number(dimension, "dimension", 1, rows.shape[1])
    return normalized(rows[:, :dimension])
