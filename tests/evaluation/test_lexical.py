import math
from collections import Counter

import numpy as np
import pytest

from sbert_lab.evaluation.lexical import (
    STOP_WORDS,
    bag_of_words_cosine,
    content_words,
    word_overlap,
    words,
)


def test_words_are_runs_of_letters_and_digits():
    assert words("It's 2 CATS,\nnot-3 (dogs)!") == "it s 2 cats not 3 dogs".split()
    assert words(" … ") == []


def test_stop_words_are_words():
    assert all(words(word) == [word] for word in STOP_WORDS)


def test_content_words_are_what_is_left():
    assert content_words("The dog did not bite the Dog 2 times") == {
        "dog",
        "bite",
        "2",
        "times",
    }


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ("A dog bites a man", "The man bites the dog!", 1),
        ("a dog bites a man", "a dog sleeps", 1 / 4),
        ("a dog", "a cat", 0),
        ("it is not", "they were", 0),
        ("", "a cat", 0),
    ],
)
def test_overlap_is_the_share_of_common_words(first, second, share):
    assert word_overlap(first, second) == word_overlap(second, first) == share


def naive_cosine(first, second):
    a, b = Counter(first.lower().split()), Counter(second.lower().split())
    lengths = math.prod(math.sqrt(sum(n * n for n in c.values())) for c in (a, b))
    return sum(a[word] * b[word] for word in a) / lengths


def test_bag_of_words_is_the_loop():
    rng = np.random.default_rng(0)
    some = np.array("The a cat dog Dog sat on mat 7 and".split())
    first, second = (
        [" ".join(rng.choice(some, rng.integers(1, 9))) for _ in range(30)]
        for _ in range(2)
    )
    naive = [naive_cosine(a, b) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(bag_of_words_cosine(first, second), naive, atol=1e-12)
    assert len(set(naive)) > 10


def test_bag_of_words_counts_every_word():
    assert bag_of_words_cosine(["the the cat"], ["the cat"]) == pytest.approx(
        3 / math.sqrt(10)
    )


def test_text_without_words_is_like_nothing():
    assert bag_of_words_cosine(["?", "cat"], ["cat", "cat"]) == pytest.approx([0, 1])
