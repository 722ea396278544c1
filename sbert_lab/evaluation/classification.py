"""Classification: a logistic regression on few vectors of each label, ten times.

It equals MTEB's main score to the last digit on the same vectors.
Source: Muennighoff et al. 2023, section 3.2, and the library mteb 2.26.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sbert_lab.evaluation.result import ProtocolResult
from sbert_lab.evaluation.sparse import Rows, checked_sparse, is_sparse


def training_rows(
    labels: Sequence[Hashable],
    *,
    samples_per_label: int = 8,
    draws: int = 10,
    seed: int = 42,
) -> tuple[tuple[int, ...], ...]:
    """Return which rows each draw trains on; only they need to be encoded.

    Each draw shuffles the order that the last one left, with a fresh generator of the
    same seed, and takes the first rows of each label. So the draws differ, and the
    order of the training rows matters.
    """
    if samples_per_label < 1 or draws < 1:
        raise ValueError(
            f"samples_per_label={samples_per_label}, draws={draws}: one or more"
        )
    order = list(range(len(labels)))
    drawn = []
    for _ in range(draws):
        np.random.RandomState(seed).shuffle(order)
        taken: Counter[Hashable] = Counter()
        rows = []
        for row in order:
            if taken[labels[row]] < samples_per_label:
                taken[labels[row]] += 1
                rows.append(row)
        drawn.append(tuple(rows))
    return tuple(drawn)


def classification(
    train_vectors: Rows,
    train_labels: ArrayLike,
    test_vectors: Rows,
    test_labels: ArrayLike,
    *,
    samples_per_label: int = 8,
    draws: int = 10,
    seed: int = 42,
) -> ProtocolResult:
    """Score what a linear classifier reads from the vectors; ``accuracy`` counts.

    Parameters
    ----------
    train_vectors, train_labels
        ``[n, d]`` and ``[n]``, in the order of the data set. Rows that
        `training_rows` leaves out are not looked at and may hold anything. Vectors of
        `scipy.sparse` are taken too, all rows finite.
    test_vectors, test_labels
        ``[m, d]`` and ``[m]``.
    samples_per_label
        Rows of each label in a draw: 8, but 16 for Emotion and ToxicConversations and
        32 for TweetSentimentExtraction.
    draws, seed
        Of the training rows.

    Returns
    -------
    ProtocolResult
        Scores, means over the draws: ``accuracy``, ``f1`` (macro), ``f1_weighted``,
        and ``ap`` where the labels are 0 and 1. Items: each of them by draw,
        ``[draws]``; and ``"correct"``, ``[draws, m]``, 1 where a test row was labelled
        right: `bootstrap_mean` of it draws rows and draws.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, average_precision_score, f1_score

    x, y = _labelled(train_vectors, train_labels, "training")
    x_test, y_test = _labelled(test_vectors, test_labels, "test")
    if len(np.unique(y)) < 2:
        raise ValueError("all training rows have the same label: nothing to tell apart")
    binary = np.array_equal(np.unique(y_test), [0, 1])
    drawn = training_rows(
        y.tolist(), samples_per_label=samples_per_label, draws=draws, seed=seed
    )
    by_draw: dict[str, list[float]] = {}
    correct = []
    for rows in drawn:
        chosen = list(rows)
        model = LogisticRegression(max_iter=100, random_state=seed)
        predicted = model.fit(x[chosen], y[chosen]).predict(x_test)
        values = {
            "accuracy": accuracy_score(y_test, predicted),
            "f1": f1_score(y_test, predicted, average="macro"),
            "f1_weighted": f1_score(y_test, predicted, average="weighted"),
        }
        if binary:
            values["ap"] = average_precision_score(y_test, predicted)
        for name, value in values.items():
            by_draw.setdefault(name, []).append(float(value))
        correct.append(predicted == y_test)
    scores = {name: float(np.mean(values)) for name, values in by_draw.items()}
    items = {name: np.array(values) for name, values in by_draw.items()}
    items["correct"] = np.array(correct, np.float64)
    return ProtocolResult("accuracy", scores, items)


def _labelled(vectors: Rows, labels: ArrayLike, name: str) -> tuple[Any, np.ndarray]:
    x = checked_sparse(vectors, name) if is_sparse(vectors) else np.asarray(vectors)
    y = np.asarray(labels)
    if x.ndim != 2 or y.shape != (x.shape[0],) or not x.shape[0]:
        raise ValueError(
            f"{name}: vectors of shape {list(x.shape)} and labels of shape "
            f"{list(y.shape)}; give [n, d] and [n]"
        )
    return x, y
