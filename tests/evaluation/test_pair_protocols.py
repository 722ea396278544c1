from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbert_lab.evaluation.protocols import pair_classification, sts


@given(st.integers(0, 10_000), st.integers(3, 25))
def test_thresholds_are_the_best_of_all(seed, count):
    """Try every place between two different scores, pair by pair."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation([0, 1, *rng.integers(0, 2, count - 2)])
    angle = rng.integers(0, 6, count) / 2  # few cosines: many are tied
    first = np.tile([1.0, 0.0], (count, 1))
    second = np.stack([np.cos(angle), np.sin(angle)], 1)
    got = pair_classification(first, second, labels)
    cosine = got.items["cosine"]
    values = np.unique(cosine)
    accuracy, f1 = [0.0], [0.0]
    for low, high in pairwise(values):
        alike = cosine > (low + high) / 2
        accuracy.append(np.mean(alike == labels))
        both = np.sum(alike & (labels == 1))
        f1.append(2 * both / (alike.sum() + labels.sum()))
    assert got.scores["cosine_accuracy"] == pytest.approx(max(accuracy))
    assert got.scores["cosine_f1"] == pytest.approx(max(f1))
    if max(f1) > 0:
        alike = cosine > got.scores["cosine_f1_threshold"]
        both = np.sum(alike & (labels == 1))
        assert got.scores["cosine_precision"] == pytest.approx(both / alike.sum())
        assert got.scores["cosine_recall"] == pytest.approx(both / labels.sum())
    if max(accuracy) > 0:
        alike = cosine > got.scores["cosine_accuracy_threshold"]
        assert np.mean(alike == labels) == pytest.approx(max(accuracy))


def test_perfect_vectors_score_one():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(40, 6))
    gold = np.linspace(0, 5, 40)
    away = np.stack([gold / 5, np.sqrt(1 - (gold / 5) ** 2)], 1)
    assert sts(np.tile([1.0, 0.0], (40, 1)), away, gold).main_score == pytest.approx(1)
    labels = np.arange(40) % 2
    second = np.where(labels[:, None] == 1, first, -first)
    scores = pair_classification(first, second, labels).scores
    for name in ("max_ap", "cosine_accuracy", "cosine_f1"):
        assert scores[name] == 1.0
    assert -1 < scores["cosine_f1_threshold"] < 1


def test_max_ap_is_the_best_of_five():
    """Length alone tells the pairs: only measures that see it succeed."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 100)
    first = rng.normal(size=(100, 4))
    second = first * np.where(labels == 1, 1.01, 3.0)[:, None]
    scores = pair_classification(first, second, labels).scores
    assert scores["euclidean_ap"] > 0.9 > scores["cosine_ap"]
    ways = ("similarity", "cosine", "manhattan", "euclidean", "dot")
    assert scores["max_ap"] == max(scores[f"{way}_ap"] for way in ways)


def test_products_that_float32_cannot_tell_apart_are_tied():
    """Near 2^24 the next number of float32 is two off; mteb's products tie as well."""
    rng = np.random.default_rng(0)
    first = np.tile(np.array([4096.0, 1.0], np.float32), (60, 1))
    second = first.copy()
    second[:, 1] = rng.uniform(-0.4, 0.4, 60)
    labels = rng.integers(0, 2, 60)
    scores = pair_classification(first, second, labels, metric="dot").scores
    assert scores["dot_ap"] == scores["similarity_ap"] == labels.mean()


def test_says_what_is_wrong():
    good = np.eye(4)
    with pytest.raises(ValueError, match="give two or more pairs"):
        sts(good, good[:3], np.arange(4))
    with pytest.raises(ValueError, match="3\\] for 4 pairs"):
        sts(good, good, np.arange(3))
    with pytest.raises(ValueError, match="encode that text again"):
        sts(good, good * np.nan, np.arange(4))
    with pytest.raises(ValueError, match="pairs of both kinds"):
        pair_classification(good, good, [1, 1, 1, 1])
    with pytest.raises(ValueError, match="one of cosine, dot"):
        pair_classification(good, good, [1, 0, 1, 0], metric="euclid")
