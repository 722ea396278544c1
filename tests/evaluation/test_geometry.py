import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA

from sbert_lab.evaluation.geometry import (
    Whitening,
    alignment,
    anisotropy,
    explained_variance,
    uniformity,
)


def cloud(n=12, d=5, seed=0, centre=0.7):
    """Return vectors off the origin, spread more in some directions than others."""
    rng = np.random.default_rng(seed)
    return centre + rng.normal(size=(n, d)) @ rng.normal(size=(d, d))


def unit(vector):
    return vector / math.sqrt(sum(x * x for x in vector))


def pairs_of_rows(x):
    return [(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]


def test_anisotropy_is_the_loop():
    x = cloud()
    naive = np.mean([unit(u) @ unit(v) for u, v in pairs_of_rows(x)])
    assert anisotropy(x) == pytest.approx(naive, abs=1e-12)


def test_anisotropy_of_known_shapes():
    assert anisotropy(np.ones((5, 3))) == pytest.approx(1)
    assert anisotropy(np.eye(4)) == pytest.approx(0, abs=1e-15)
    assert anisotropy([[1.0, 2.0], [-3.0, -6.0]]) == pytest.approx(-1)


def test_alignment_is_the_loop():
    x, y = cloud(seed=1), cloud(seed=2)
    naive = np.mean([sum((unit(u) - unit(v)) ** 2) for u, v in zip(x, y, strict=True)])
    assert alignment(x, y) == pytest.approx(naive, abs=1e-12)


def test_alignment_of_known_shapes():
    x = cloud()
    assert alignment(x, 3 * x) == pytest.approx(0, abs=1e-15)
    assert alignment(x, -x) == pytest.approx(4)


def test_uniformity_is_the_loop():
    x = cloud(seed=3)
    heat = [math.exp(-2 * sum((unit(u) - unit(v)) ** 2)) for u, v in pairs_of_rows(x)]
    assert uniformity(x) == pytest.approx(math.log(np.mean(heat)), abs=1e-12)


def test_uniformity_is_the_same_over_many_blocks():
    x = cloud(2_100, 4, seed=4)
    unit_rows = x / np.linalg.norm(x, axis=1, keepdims=True)
    heat = np.exp(-2 * pdist(unit_rows, "sqeuclidean"))
    assert uniformity(x) == pytest.approx(math.log(heat.mean()), abs=1e-12)


def test_uniformity_of_one_point_is_the_worst():
    assert uniformity(np.ones((4, 3))) == pytest.approx(0, abs=1e-12)
    assert uniformity([[1.0, 0.0], [-1.0, 0.0]]) == pytest.approx(-8)


@pytest.mark.parametrize("measure", [anisotropy, uniformity])
def test_one_vector_has_no_pairs(measure):
    with pytest.raises(ValueError, match="two vectors or more"):
        measure(np.ones((1, 3)))


def test_explained_variance_is_sklearns():
    x = cloud(40, 6, seed=5)
    shares = explained_variance(x)
    np.testing.assert_allclose(shares, PCA().fit(x).explained_variance_ratio_)
    assert shares.sum() == pytest.approx(1)


def test_explained_variance_of_a_line():
    line = np.outer(np.arange(5.0), [1, -2, 2])
    np.testing.assert_allclose(explained_variance(line), [1, 0, 0], atol=1e-15)


def test_whitened_vectors_have_the_identity_as_covariance():
    x = cloud(60, 6, seed=6)
    white = Whitening.fit(x).transform(x)
    assert white.dtype == np.float32
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(6), atol=1e-5)


def test_whitening_is_sklearns_up_to_sign():
    x, others = cloud(60, 6, seed=7), cloud(9, 6, seed=8)
    ours = Whitening.fit(x, components=3).transform(others)
    theirs = PCA(3, whiten=True).fit(x).transform(others)
    assert ours.shape == (9, 3)
    np.testing.assert_allclose(abs(ours), abs(theirs), atol=1e-5)


@pytest.mark.parametrize(("n", "components"), [(5, None), (9, 0), (9, 6), (3, 3)])
def test_whitening_refuses_what_cannot_be_known(n, components):
    with pytest.raises(ValueError, match="more vectors than components"):
        Whitening.fit(cloud(n, 5), components)
