from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from sbert_lab._utils import random_state_kept
from sbert_lab.evaluation.protocols import classification, training_rows


def test_draws_differ_and_hold_the_asked_number_of_each_label():
    labels = ["a"] * 50 + ["b"] * 30 + ["c"] * 5
    drawn = training_rows(labels, samples_per_label=8)
    assert len(drawn) == len(set(drawn)) == 10
    for rows in drawn:
        assert len(set(rows)) == len(rows)
        assert Counter(labels[i] for i in rows) == {"a": 8, "b": 8, "c": 5}
    assert training_rows(labels, samples_per_label=8) == drawn
    assert training_rows(labels, samples_per_label=8, draws=3) == drawn[:3]
    assert training_rows(labels, samples_per_label=8, seed=1) != drawn


def test_training_rows_come_in_the_order_that_mteb_draws_them():
    """The order decides the classifier's last bits, and seldom a prediction."""
    from datasets import Dataset

    with random_state_kept():
        abstasks = pytest.importorskip("mteb.abstasks", reason="mteb is missing")
    labels = np.random.default_rng(0).integers(0, 4, 90).tolist()
    data = Dataset.from_dict({"label": labels})
    task = SimpleNamespace(seed=42, label_column_name="label", samples_per_label=5)
    drawn, order = [], None
    for draw in range(10):
        _, order, rows = abstasks.AbsTaskClassification._undersample_data(
            task, data, draw, order
        )
        drawn.append(tuple(rows))
    assert training_rows(labels, samples_per_label=5) == tuple(drawn)


def test_separate_clusters_are_told_apart_and_words_may_be_labels():
    rng = np.random.default_rng(0)
    names = np.array(["cat", "dog", "bird"])
    kind = rng.integers(0, 3, 120)
    vectors = np.eye(3)[kind] * 9 + rng.normal(size=(120, 3))
    got = classification(vectors[:60], names[kind[:60]], vectors[60:], names[kind[60:]])
    assert got.main_score == 1.0
    assert got.items["correct"].shape == (10, 60)
    wrong = names[(kind[60:] + 1) % 3]
    assert classification(vectors[:60], names[kind[:60]], vectors[60:], wrong).scores[
        "accuracy"
    ] == pytest.approx(0)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="same label"):
        classification(np.eye(3), [1, 1, 1], np.eye(3), [1, 1, 1])
    with pytest.raises(ValueError, match=r"test: .*give \[n, d\] and \[n\]"):
        classification(np.eye(3), [1, 0, 1], np.eye(3), [1, 1])
    with pytest.raises(ValueError, match="draws=0"):
        training_rows([0, 1], draws=0)
