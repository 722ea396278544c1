"""The exercises of notebook 08 know right from wrong, and say what to look at."""

import numpy as np
import pytest

from sbert_lab.experiments.exercises import check


def fuse(rankings, constant, *, first=1, reverse=True):
    sums = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, first):
            sums[row] = sums.get(row, 0) + 1 / (constant + rank)
    return sorted(sums, key=sums.get, reverse=reverse)


def fuse_by_best_rank(rankings, constant):
    best = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, 1):
            best[row] = min(best.get(row, 99), rank)
    return sorted(best, key=best.get)


def rerank(order, scores, k):
    best = np.argsort(-scores[:k], kind="stable")
    return np.concatenate([order[:k][best], order[k:]])


def ceiling(places, k):
    behind = np.where(
        (places >= k) & (places < 10), 1 / np.log2(np.maximum(places, 0) + 2), 0
    )
    return np.where((places >= 0) & (places < k), 1, behind).mean()


def ceiling_in_a_loop(places, k):
    gains = []
    for place in places.tolist():
        if place < 0 or place >= max(k, 10):
            gains.append(0.0)
        else:
            gains.append(1.0 if place < k else 1 / np.log2(place + 2))
    return sum(gains) / len(gains)


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("08.1", fuse),
        ("08.1", lambda r, c: tuple(fuse(r, c))),
        ("08.1", lambda r, c: fuse(r[::-1], c)),  # ties in another order
        ("08.2", rerank),
        ("08.2", lambda o, s, k: [*rerank(o, s, k).tolist()]),
        ("08.3", ceiling),
        ("08.3", ceiling_in_a_loop),
    ],
)
def test_right_answers_are_right(number, answer):
    assert check(number, answer) == "Right."


@pytest.mark.parametrize(
    ("number", "answer", "hint"),
    [
        ("08.1", lambda r, c: None, "nothing yet"),
        ("08.1", lambda r, c: r[0], "that anyone found"),
        ("08.1", lambda r, c: fuse(r, c) * 2, "once"),
        ("08.1", lambda r, c: fuse(r, c, reverse=False), "upside down"),
        ("08.1", lambda r, c: fuse(r, c, first=0), "ranks count from 1"),
        ("08.1", lambda r, c: fuse(r, 9), "constant + rank"),
        ("08.1", fuse_by_best_rank, "constant + rank"),
        ("08.2", lambda o, s, k: None, "nothing yet"),
        ("08.2", lambda o, s, k: o[:k], "all stay"),
        ("08.2", lambda o, s, k: o[np.argsort(-s)], "only the first k"),
        (
            "08.2",
            lambda o, s, k: np.concatenate([o[np.argsort(s[:k])], o[k:]]),
            "upside down",
        ),
        (
            "08.2",
            lambda o, s, k: np.concatenate([np.argsort(-s[:k]), np.arange(k, len(o))]),
            "those are places",
        ),
        ("08.2", lambda o, s, k: o, "sort the first k"),
        ("08.2", lambda o, s, k: rerank(o, s, 4), "k may be 0"),
        ("08.3", lambda p, k: None, "nothing yet"),
        ("08.3", lambda p, k: (p >= 0) & (p < k), "one number"),
        ("08.3", lambda p, k: ceiling(p[p >= 0], k), "counts, with 0"),
        ("08.3", lambda p, k: (p < k).mean(), "-1 means not found"),
        ("08.3", lambda p, k: ((p >= 0) & (p < k)).mean(), "place 7 stays"),
        ("08.3", lambda p, k: ceiling(np.where(p > 9, -1, p), k), "place 12"),
        ("08.3", lambda p, k: 0.1, "gain 1"),
        (
            "08.3",
            lambda p, k: ceiling(p, k) + (k == 5) * (1 / np.log2(8) - 1 / np.log2(9)),
            "log2(p + 2)",
        ),
    ],
)
def test_wrong_answers_get_a_hint(number, answer, hint):
    found = check(number, answer)
    assert found.startswith("Not yet: ")
    assert hint in found
