import itertools

import numpy as np
import pytest

from sbert_lab.datasets.sts import stsb
from sbert_lab.evaluation import contamination as module
from sbert_lab.evaluation.contamination import contamination
from sbert_lab.evaluation.error_analysis import words

TRAINING = [
    ("A man is playing a flute.", "A man plays the flute"),
    ("The quick brown fox jumps over the lazy dog today", "Rain again"),
    ("anchor text", "positive text", "negative text"),
    ("北京 2008",),
]


@pytest.mark.parametrize(
    ("item", "whole", "one_text", "near"),
    [
        (("A man plays the flute", "a man is PLAYING a flute!"), 1, 1, 1),
        (("negative text", "Anchor: text"), 1, 1, 1),
        (("a man plays the flute", "rain again"), 0, 1, 1),  # in different rows
        (("rain again", "snow again"), 0, 1, 0),
        (("rain again", "rain again"), 0, 1, 1),  # one row holds it once only
        (("again rain", "flute a playing is man a"), 0, 0, 1),  # words in any order
        (("上海 2008",), 0, 0, 0),
        (("Rain again?",), 1, 1, 1),
    ],
)
def test_by_hand(item, whole, one_text, near):
    got = contamination(TRAINING, [item, ("nothing of it",)])
    assert got.whole.tolist() == [whole, 0]
    assert got.one_text.tolist() == [one_text, 0]
    assert got.near.tolist() == [near, 0]
    assert got.row()["whole item in training"] == whole / 2


def test_near_duplicates_by_hand():
    """Eleven words have four runs of eight; a word changed at the end spoils one."""
    training = [("one quick brown fox jumps over the lazy dog today again",)]
    end = "one quick brown fox jumps over the lazy dog today"
    assert contamination(training, [(f"{end} more",)]).near.all()
    assert not contamination(training, [(f"{end[4:]} or so",)]).near.any()
    assert not contamination(training, [("quick fox",)]).near.any()


@pytest.mark.parametrize("size", [2, 8])
def test_is_the_loop(size, monkeypatch):
    monkeypatch.setattr(module, "_RUN", size)
    rng = np.random.default_rng(size)
    some = "Cat dog, the a! sat RAN".split()

    def made(count, width):
        return [
            [" ".join(rng.choice(some, rng.integers(1, 5))) for _ in range(width)]
            for _ in range(count)
        ]

    training, test = made(60, 2) + made(30, 3) + made(10, 1), made(80, 2)
    train = [[" ".join(words(t)) for t in row] for row in training]
    every = [text for row in train for text in row]

    def known(text):
        split = text.split()
        if len(split) < size:
            return float(any(sorted(split) == sorted(t.split()) for t in every))
        runs = {tuple(split[i : i + size]) for i in range(len(split) - size + 1)}
        return np.mean(
            [any(f" {' '.join(r)} " in f" {t} " for t in every) for r in runs]
        )

    got = contamination(training, test)
    for i, item in enumerate(test):
        a, b = (" ".join(words(t)) for t in item)
        assert got.whole[i] == any(
            (a, b) in itertools.permutations(r, 2) for r in train
        )
        assert got.one_text[i] == (a in every or b in every)
        assert got.near[i] == (min(known(a), known(b)) >= 0.7)
    assert 0 < got.whole.sum() < got.one_text.sum() < 80


@pytest.mark.parametrize(
    ("training", "test", "error"),
    [
        ([("a",)], ["a text"], TypeError),
        (["a text"], [("a",)], TypeError),
        ([("a",)], [], ValueError),
        ([("a",)], [()], ValueError),
    ],
)
def test_refuses_nonsense(training, test, error):
    with pytest.raises(error):
        contamination(training, test)


def test_sts_benchmark_repeats_itself(evaluation_data, monkeypatch):
    """Counted before this module was, with another program: 12 and 8 pairs."""
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(evaluation_data))
    train, dev, test = (
        list(zip(part.first, part.second, strict=True))
        for part in map(stsb, ("train", "dev", "test"))
    )
    assert contamination(train, test).whole.sum() == 12
    assert contamination(train, dev).whole.sum() == 8
