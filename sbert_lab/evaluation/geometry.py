"""The shape of an embedding space, before any task is asked of its vectors."""

import numpy as np
from numpy.typing import ArrayLike


def anisotropy(vectors: ArrayLike) -> float:
    """Return the mean cosine over all pairs of different rows, ``[n, D]``.

    Near 1 in a narrow cone. With unit rows u_i it is ``(|Σ u_i|² − n) / (n (n − 1))``,
    worked out in float64. Source: Ethayarajh 2019, section 3.3.
    """
    x = np.asarray(vectors, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError("the shape of a space needs two vectors or more, [n, D]")
    unit = x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)
    n, total = len(unit), unit.sum(0)
    return float((total @ total - n) / (n * (n - 1)))
