"""The later exercises know right from wrong, and say what to look at."""

import numpy as np
import pytest

from sbert_lab.experiments.exercises import check


def front(points):
    cost, quality = points.T
    no_worse = (cost[:, None] >= cost) & (quality[:, None] <= quality)
    worse = (cost[:, None] > cost) | (quality[:, None] < quality)
    return ~(no_worse & worse).any(1)


def front_without_twins(points):
    cost, quality = points.T
    others = ~np.eye(len(points), dtype=bool)
    beaten = (cost[:, None] >= cost) & (quality[:, None] <= quality) & others
    return ~beaten.any(1)


def strictly_beaten(points):
    cost, quality = points.T
    return ~((cost[:, None] > cost) & (quality[:, None] < quality)).any(1)


def most_entries(memory, model, dimensions, size):
    return int((memory - model) * 1e6 / (dimensions * size))


def mix(base, adapted, share):
    return {n: share * base[n] + (1 - share) * adapted[n] for n in base}


def hardest(scores, right, margin, *, own=False, strict=False, missing=-1):
    rows = np.arange(len(scores))
    limit = (scores[rows, right] - margin)[:, None]
    allowed = scores < limit if strict else scores <= limit
    allowed[rows, right] = own
    found = np.where(allowed, scores, -np.inf).argmax(1)
    return np.where(allowed.any(1), found, missing)


def no_wrong_answers(anchors, positives):
    same, equal = anchors[:, None] == anchors, positives[:, None] == positives
    found = (same.astype(int) @ equal) > 0
    np.fill_diagonal(found, False)
    return found


def own_rows_only(numbers):
    return (numbers[:, None] == numbers) & ~np.eye(len(numbers), dtype=bool)


RIGHT = {
    "06.1": front,
    "06.2": lambda query, vectors: np.where(vectors > 0, 1.0, -1.0) @ query,
    "06.3": most_entries,
    "07.1": mix,
    "07.2": hardest,
    "07.3": no_wrong_answers,
}


@pytest.mark.parametrize("number", RIGHT)
def test_solutions_are_right(number):
    assert check(number, RIGHT[number]) == "Right."


@pytest.mark.parametrize("number", RIGHT)
def test_nothing_is_told_so(number):
    assert "nothing yet" in check(number, lambda *arguments: None)


@pytest.mark.parametrize(
    ("number", "answer", "hint"),
    [
        ("06.1", lambda p: ~front(p), "who stays"),
        ("06.1", lambda p: front(p).astype(int), "boolean for each row"),
        ("06.1", front_without_twins, "twins"),
        ("06.1", strictly_beaten, "dearer"),
        ("06.2", lambda q, v: (v > 0) @ q, "minus one, not zero"),
        ("06.2", lambda q, v: np.sign(v) @ q, "two values"),
        ("06.2", lambda q, v: np.where(v >= 0, 1.0, -1.0) @ q, "not above zero"),
        ("06.2", lambda q, v: np.where(v > 0, 1, -1) @ np.sign(q), "keeps its numbers"),
        ("06.2", lambda q, v: v @ q.T[None].T, "shape"),
        ("06.3", lambda m, o, d, b: int(m * 1e6 / (d * b)), "model needs its memory"),
        ("06.3", lambda m, o, d, b: (m - o) * 1e6 / (d * b), "round down"),
        ("06.3", lambda m, o, d, b: int((m - o) * 2**20 / (d * b)), "million bytes"),
        ("06.3", lambda m, o, d, b: 10_351_562, "every argument"),
        ("07.1", lambda b, a, s: mix(a, b, s), "is the base's"),
        ("07.1", lambda b, a, s: mix(b, a, 0.5), "use the share"),
        ("07.1", lambda b, a, s: [*mix(b, a, s).values()], "same keys"),
        ("07.1", lambda b, a, s: b, "share times the base"),
        ("07.2", lambda s, r, m: hardest(s, r, m)[:2], "a column for each query"),
        ("07.2", lambda s, r, m: hardest(s, r, 0.0, own=True), "no negative"),
        ("07.2", lambda s, r, m: hardest(s, r, m, missing=1), "minus one"),
        ("07.2", lambda s, r, m: hardest(s, r, 0.0), "minus the margin"),
        ("07.2", lambda s, r, m: hardest(s, r, m, strict=True), "at the limit"),
        ("07.3", lambda a, p: no_wrong_answers(a, p).astype(int), "booleans"),
        (
            "07.3",
            lambda a, p: no_wrong_answers(a, p) | np.eye(len(a), dtype=bool),
            "diagonal",
        ),
        ("07.3", lambda a, p: own_rows_only(a), "same positive in another row"),
        ("07.3", lambda a, p: own_rows_only(p), "equal anchor's positive"),
        (
            "07.3",
            lambda a, p: own_rows_only(a) | own_rows_only(p),
            "wherever it stands",
        ),
        ("07.3", lambda a, p: ~np.eye(len(a), dtype=bool), "only what is right"),
    ],
)
def test_hints(number, answer, hint):
    found = check(number, answer)
    assert found.startswith("Not yet: ")
    assert hint in found
