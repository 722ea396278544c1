import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from sbert_lab.evaluation.geometry import (
    alignment,
    anisotropy,
    uniformity,
)


def cloud(n=12, d=5, seed=0):
    """Return vectors off the origin, spread more in some directions than others."""
    rng = np.random.default_rng(seed)
    return 0.7 + rng.normal(size=(n, d)) @ rng.normal(size=(d, d))


def test_anisotropy_and_uniformity_are_means_over_pairs():
    x = cloud(2_100, 4)
    cosines = 1 - pdist(x, "cosine")
    assert anisotropy(x) == pytest.approx(cosines.mean(), abs=1e-12)
    heat = np.exp(-2 * (2 - 2 * cosines))
    assert uniformity(x) == pytest.approx(math.log(heat.mean()), abs=1e-12)
    assert uniformity(np.ones((4, 3))) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="two vectors or more"):
        anisotropy(np.ones((1, 3)))


def test_alignment_is_the_squared_distance_of_unit_vectors():
    x, y = cloud(seed=1), cloud(seed=2)
    u, v = (z / np.linalg.norm(z, axis=1)[:, None] for z in (x, y))
    naive = np.mean([np.linalg.norm(a - b) ** 2 for a, b in zip(u, v, strict=True)])
    assert alignment(x, y) == pytest.approx(naive, abs=1e-12)
    assert alignment(x, 3 * x) == pytest.approx(0, abs=1e-15)
    assert alignment(x, -x) == pytest.approx(4)
