import numpy as np
import pytest

from sbert_lab.evaluation.protocols import clustered_rows, clustering, clustering_legacy


def made(count=150):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, count)
    return np.eye(3)[kind] * 20 + rng.normal(size=(count, 3)), kind.tolist()


def test_separate_clusters_score_one_and_noise_nearly_nothing():
    vectors, kind = made()
    far = clustering(vectors, kind, draws=3, documents_per_draw=100)
    assert far.main_score == pytest.approx(1)
    noise = np.random.default_rng(1).normal(size=(150, 3))
    near = clustering(noise, kind, draws=3, documents_per_draw=100)
    assert near.main_score < 0.2
    assert near.items["v_measure"].shape == (1, 3)
    assert near.main_score == pytest.approx(near.items["v_measure"].mean())


def test_levels_are_scored_one_by_one():
    vectors, kind = made()
    chance = np.random.default_rng(2).integers(0, 5, 150).tolist()
    paths = [[a, b] for a, b in zip(kind, chance, strict=True)]
    items = clustering(vectors, paths, draws=2, documents_per_draw=100).items
    assert items["v_measure"][0].min() > 0.99
    assert items["v_measure"][1].max() < 0.3
    top = clustering(vectors, paths, draws=2, documents_per_draw=100, max_depth=1)
    assert top.items["v_measure"].tolist() == items["v_measure"][:1].tolist()


def test_rows_of_the_sample():
    rows = clustered_rows(100, 30)
    assert len(set(rows)) == 30
    assert set(rows) <= set(range(100))
    assert rows == clustered_rows(100, 30) != clustered_rows(100, 30, seed=1)
    assert sorted(clustered_rows(10, 30)) == list(range(10))


def test_a_set_with_one_label_counts_as_one():
    vectors, kind = made()
    noise = np.random.default_rng(1).normal(size=(150, 3))
    got = clustering_legacy([(vectors, kind), (noise, kind), (vectors, ["a"] * 150)])
    assert got.items["v_measure"][[0, 2]] == pytest.approx([1, 1])
    assert got.items["v_measure"][1] < 0.2
    assert got.main_score == pytest.approx(got.items["v_measure"].mean())


def test_says_what_is_wrong():
    vectors, kind = made()
    with pytest.raises(ValueError, match="149 labels"):
        clustering(vectors, kind[:-1])
    with pytest.raises(ValueError, match="draws=0"):
        clustering(vectors, kind, draws=0)
    with pytest.raises(ValueError, match="max_documents=0"):
        clustered_rows(10, 0)
    with pytest.raises(ValueError, match="no sets"):
        clustering_legacy([])
