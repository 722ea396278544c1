import numpy as np
import pytest

from sbert_lab.evaluation.error_analysis import (
    bag_of_words_cosine,
    negates,
    word_overlap,
)


def test_overlap_is_the_share_of_common_content_words():
    for first, second, share in (
        ("A dog bites a man", "The man bites the dog!", 1),
        ("a dog bites a man", "a dog sleeps", 1 / 4),
        ("it is not", "they were", 0),
        ("", "a cat", 0),
    ):
        assert word_overlap(first, second) == word_overlap(second, first) == share


def test_bag_of_words_is_the_loop():
    rng = np.random.default_rng(0)
    some = "the a cat dog sat on mat 7 and".split()
    counts = rng.integers(0, 3, (2, 30, len(some)))
    counts[:, :, 0] += 1
    first, second = (
        [" ".join(np.repeat(some, row)) for row in side] for side in counts
    )
    naive = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(*counts, strict=True)]
    np.testing.assert_allclose(bag_of_words_cosine(first, second), naive)
    assert bag_of_words_cosine(["…"], ["a cat"]) == [0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A man is not playing", True),
        ("He doesn’t sing", True),
        ("Nobody sings", True),
        ("Another note, nothin", False),
        ("The knot", False),
    ],
)
def test_negation(text, expected):
    assert negates(text) == expected
