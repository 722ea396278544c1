"""Leaks are found wherever all texts of an item stand in one training row."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert_lab.datasets.leaks import check_no_leak, find_leaks
from sbert_lab.datasets.pairs import DataError, Pairs, plain


def naive_leaks(training, held_out):
    """Try every assignment of an item's texts to the places of a training row."""
    found = []
    for number, item in enumerate(held_out):
        for row, texts in enumerate(training):
            ways = permutations(map(plain, texts), len(item))
            if any(way == tuple(map(plain, item)) for way in ways):
                found.append((number, row))
                break
    return found


some_words = st.sampled_from(["a", "b", "c", "A ", "caf\u00e9", "CAFE\u0301"])
items = st.lists(st.lists(some_words, min_size=1, max_size=3), max_size=8)


@settings(max_examples=100)
@given(items, items)
def test_leaks_are_those_of_all_comparisons(training, held_out):
    assert find_leaks(iter(training), held_out) == naive_leaks(training, held_out)


def test_a_leak_is_named_on_both_sides():
    train = Pairs(
        ("heart attack", "broken wrist"), ("Infarction", "Fracture"), rows=(2, 3)
    )
    test = Pairs(("flu",), ("Influenza",), ("broken  WRIST",), rows=(2,))
    with pytest.raises(DataError, match="is also in") as caught:
        check_no_leak(train, test)
    (problem,) = caught.value.problems
    assert "row 2, column 'negative'" in problem
    assert "row 3, column 'anchor'" in problem
    check_no_leak(train, Pairs(("flu",), ("Influenza",)))
