import pytest
from material import word_overlap

from sbert_lab.evaluation.error_analysis import negates


def test_overlap_is_the_share_of_common_content_words():
    for first, second, share in (
        ("A dog bites a man", "The man bites the dog!", 1),
        ("a dog bites a man", "a dog sleeps", 1 / 4),
        ("it is not", "they were", 0),
        ("", "a cat", 0),
        ("हिन्दी में", "हिन्दी", 1 / 2),
        ("Café", "cafe\u0301", 1),
        ("猫", "猫。", 1),
    ):
        assert word_overlap(first, second) == word_overlap(second, first) == share


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
