import numpy as np
import pytest
from scipy.spatial.distance import pdist

from sbert_lab.evaluation.geometry import anisotropy


def test_anisotropy_is_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    x = 0.7 + rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4))
    cosines = 1 - pdist(x, "cosine")
    assert anisotropy(x) == pytest.approx(cosines.mean(), abs=1e-12)
    with pytest.raises(ValueError, match="two vectors or more"):
        anisotropy(np.ones((1, 3)))
