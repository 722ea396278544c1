"""The shape of an embedding space: how vectors lie, before any task is asked of them.

Vectors are rows, ``[n, D]``. Everything is worked out in float64.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def anisotropy(vectors: ArrayLike) -> float:
    """Return the mean cosine over all pairs of different rows; near 1 in a narrow cone.

    With unit rows u_i it is ``(|Σ u_i|² − n) / (n (n − 1))``. Source: Ethayarajh 2019,
    section 3.3.
    """
    unit = _unit(vectors)
    n, total = len(unit), unit.sum(0)
    return float((total @ total - n) / (n * (n - 1)))


def alignment(first: ArrayLike, second: ArrayLike) -> float:
    """Return ``E |u − v|²`` over unit vectors of like meaning: lower is better.

    Source: Wang and Isola 2020, equation 1 with α = 2.
    """
    gap = _unit(first) - _unit(second)
    return float((gap**2).sum(1).mean())


def uniformity(vectors: ArrayLike) -> float:
    """Return ``log E exp(−2 |u − v|²)`` over pairs of different rows: lower is better.

    Source: Wang and Isola 2020, equation 2 with t = 2.
    """
    unit = _unit(vectors)
    n, total = len(unit), 0.0
    for start in range(0, n, 1024):
        cosines = unit[start : start + 1024] @ unit.T
        total += float(np.exp(4 * (cosines - 1)).sum())  # |u − v|² = 2 − 2 cos
    return float(np.log((total - n) / (n * (n - 1))))


def _unit(vectors: ArrayLike) -> Floats:
    x = np.asarray(vectors, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError("the shape of a space needs two vectors or more, [n, D]")
    unit: Floats = x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)
    return unit
