import itertools

import numpy as np
import pytest

from sbert_lab.datasets.sts import stsb
from sbert_lab.evaluation.contamination import contamination, normal
from sbert_lab.evaluation.lexical import words

TRAINING = [
    ("A man is playing a flute.", "A man plays the flute"),
    ("The quick brown fox jumps over the lazy dog today", "Rain again"),
    ("anchor text", "positive text", "negative text"),
    ("A man is playing a flute.", "Rain again"),
]


def rows_of(pairs):
    return [row for row, _ in pairs]


def test_normal_form():
    assert normal("It's  2 CATS,\nnot-3!") == "it s 2 cats not 3"
    assert normal("a–b…") == "a b"
    assert normal("Über uns") == "über uns"
    assert normal("北京 2008") != normal("上海 2008")
    assert normal("?!") != normal("…")


@pytest.mark.parametrize(
    ("item", "pair", "text", "known"),
    [
        (("a man is PLAYING a flute", "a man plays the flute"), 0, 0, 1),
        (("A man plays the flute", "a man is playing a flute!"), 0, 0, 1),
        (("negative text", "Anchor: text"), 2, 2, 1),
        (("a man plays the flute", "rain again"), None, 0, 1),  # in different rows
        (("rain again", "snow again"), None, 1, 0),
        (("rain again", "rain again"), None, 1, 1),  # one row holds it once only
        (("snow", "hail"), None, None, 0),
        (("again rain", "flute a playing is man a"), None, None, 1),  # words in order
        (("Rain again?",), 1, 1, 1),
    ],
)
def test_by_hand(item, pair, text, known):
    got = contamination(TRAINING, [item])
    assert got.pairs == (() if pair is None else ((0, pair),))
    assert got.texts == (() if text is None else ((0, text),))
    assert got.known.tolist() == [known]
    assert got.near == ((0,) if known else ())


def test_a_pair_of_equal_texts_needs_a_row_with_both():
    item = ("echo", "Echo!")
    assert contamination([("echo", "other")], [item]).pairs == ()
    assert contamination([("x", "y"), ("echo", "echo.")], [item]).pairs == ((0, 1),)


def test_near_duplicates_by_hand():
    """Ten words have three runs of eight; a word changed at the end spoils one."""
    training = [("the quick brown fox jumps over the lazy dog today",)]
    end = "the quick brown fox jumps over the lazy dog tonight"
    middle = "the quick brown fox leaps over the lazy dog today"
    got = contamination(training, [(end,), (middle,)])
    assert got.known == pytest.approx([2 / 3, 0])
    assert got.near == ()
    assert contamination(training, [(end,)], threshold=0.6).near == (0,)
    assert contamination(training, [(end,)], threshold=2 / 3).near == (0,)
    assert contamination(training, [(middle,)], run=4).known == pytest.approx([3 / 7])
    # a short text does not hide in a longer one
    assert contamination(training, [("quick fox",)]).known.tolist() == [0]


def test_shares_and_row():
    test = [("rain again", "snow"), ("anchor text", "positive text"), ("x", "y")]
    got = contamination(TRAINING, test)
    assert got.row() == {
        "items": 3,
        "whole item in training": 1 / 3,
        "one text in training": 2 / 3,
        "near duplicate": 1 / 3,
    }


def naive(training, test, size):
    """Return the three measures with nested loops."""
    train = [[" ".join(words(t)) for t in row] for row in training]
    every = [text for row in train for text in row]
    pairs, texts, known = [], [], []
    for item in test:
        a, b = (" ".join(words(t)) for t in item)
        pairs.append(any((a, b) in itertools.permutations(row, 2) for row in train))
        texts.append(a in every or b in every)
        shares = []
        for text in (a, b):
            split = text.split()
            if len(split) < size:
                found = [sorted(split) == sorted(t.split()) for t in every]
                shares.append(float(any(found)))
                continue
            starts = {tuple(split[i : i + size]) for i in range(len(split) - size + 1)}
            inside = [
                any(f" {' '.join(run)} " in f" {other} " for other in every)
                for run in starts
            ]
            shares.append(sum(inside) / len(inside))
        known.append(min(shares))
    return pairs, texts, known


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_is_the_loop(size):
    rng = np.random.default_rng(size)
    some = "Cat dog, the a! sat RAN".split()

    def made(count, width):
        return [
            [" ".join(rng.choice(some, rng.integers(1, 5))) for _ in range(width)]
            for _ in range(count)
        ]

    training, test = made(120, 2) + made(60, 3) + made(20, 1), made(150, 2)
    got = contamination(training, test, run=size)
    pairs, texts, known = naive(training, test, size)
    assert rows_of(got.pairs) == np.flatnonzero(pairs).tolist()
    assert rows_of(got.texts) == np.flatnonzero(texts).tolist()
    assert got.known == pytest.approx(known)
    assert 0 < len(got.pairs) < len(got.texts) < 150
    for row, number in got.texts:
        sides = {normal(text) for text in test[row]}
        held = [bool(sides & {normal(t) for t in each}) for each in training]
        assert held.index(True) == number


def test_a_whole_item_is_always_a_near_duplicate():
    got = contamination(TRAINING, TRAINING)
    assert rows_of(got.pairs) == list(range(4)) == list(got.near)
    assert got.pair_share == got.text_share == got.near_share == 1


@pytest.mark.parametrize(
    ("training", "test", "options", "error"),
    [
        ([("a",)], ["a text"], {}, TypeError),
        (["a text"], [("a",)], {}, TypeError),
        ([("a",)], [], {}, ValueError),
        ([("a",)], [()], {}, ValueError),
        ([("a",)], [("a",)], {"run": 0}, ValueError),
        ([("a",)], [("a",)], {"threshold": 0}, ValueError),
    ],
)
def test_refuses_nonsense(training, test, options, error):
    with pytest.raises(error):
        contamination(training, test, **options)


def test_sts_benchmark_repeats_itself(evaluation_data, monkeypatch):
    """Counted before this module was, with another program: 12 and 8 pairs."""
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(evaluation_data))
    train, dev, test = (
        list(zip(part.first, part.second, strict=True))
        for part in map(stsb, ("train", "dev", "test"))
    )
    assert len(contamination(train, test).pairs) == 12
    assert len(contamination(train, dev).pairs) == 8
