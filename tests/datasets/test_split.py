"""No text stands on both sides: against a search of the graph, and by property."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbert_lab.datasets.pair_split import LEAST, pick, row_groups, split_pairs
from sbert_lab.datasets.pairs import DataError, Pairs, check_no_leak, plain


def pairs_of(rows, negative=None):
    anchor, positive = zip(*rows, strict=True)
    return Pairs(
        tuple(anchor),
        tuple(positive),
        negative,
        None,
        Path("own.csv"),
        tuple(range(2, len(rows) + 2)),
    )


def naive_groups(pairs):
    """Colour the rows, each with all that can be reached from it."""
    texts = [{plain(a), plain(p)} for a, p in zip(pairs.anchor, pairs.positive)]  # noqa: B905
    colour = {}
    for start in range(len(texts)):
        if start in colour:
            continue
        number, waiting = len(set(colour.values())), [start]
        while waiting:
            row = waiting.pop()
            if row not in colour:
                colour[row] = number
                waiting += [r for r in range(len(texts)) if texts[r] & texts[row]]
    return [colour[row] for row in range(len(texts))]


words = st.sampled_from([f"w{i}" for i in range(25)] + ["W3", " w4 ", "w 5", "w  5"])


@given(st.lists(st.tuples(words, words), min_size=1, max_size=30))
def test_groups_are_what_hangs_together(rows):
    pairs = pairs_of(rows)
    assert row_groups(pairs).tolist() == naive_groups(pairs)


@given(st.integers(60, 200), st.integers(1, 60), st.floats(0.1, 0.5), st.integers(0, 9))
def test_no_text_is_on_both_sides(count, answers, share, seed):
    rng = np.random.default_rng(seed)
    rows = [(f"q{i}", f"a{rng.integers(answers * 3)}") for i in range(count)]
    pairs = pairs_of(rows)
    try:
        split = split_pairs(pairs, share, seed)
    except DataError:
        sizes = np.bincount(row_groups(pairs))
        wanted = max(LEAST, round(share * count))
        assert count < wanted + LEAST or sizes.max() > 1
        return
    assert sorted(split.train + split.test) == list(range(count))
    assert LEAST <= len(split.test) <= max(LEAST, round(share * count))
    assert split.groups == len(np.unique(row_groups(pairs)))
    check_no_leak(pick(pairs, split.train), pick(pairs, split.test))


def test_it_follows_from_the_seed_and_keeps_its_share():
    pairs = pairs_of([(f"q{i}", f"a{i}") for i in range(500)])
    first = split_pairs(pairs, 0.2, seed=1)
    assert first == split_pairs(pairs, 0.2, seed=1)
    assert first != split_pairs(pairs, 0.2, seed=2)
    assert len(first.test) == 100
    assert first.groups == 500
    assert list(first.test) == sorted(first.test)
    assert max(first.test) > 300  # drawn, not cut off


def test_negatives_tie_nothing_together():
    rows = [(f"q{i}", f"a{i}") for i in range(100)]
    shared = ("a text for all",) * 100
    assert split_pairs(pairs_of(rows, shared)).groups == 100


def test_one_large_group_is_named_with_a_way_out():
    rows = [(f"q{i}", "the one answer") for i in range(90)]
    rows += [(f"r{i}", f"b{i}") for i in range(10)]
    with pytest.raises(
        DataError, match=r"90 of 100 rows hang together.*row 2 .*10 pai"
    ):
        split_pairs(pairs_of(rows))


def test_a_large_group_goes_to_training():
    rows = [(f"q{i}", "the one answer") for i in range(60)]
    rows += [(f"r{i}", f"b{i}") for i in range(60)]
    split = split_pairs(pairs_of(rows), 0.3)
    assert len(split.test) == 36
    assert min(split.test) >= 60


def test_too_few_are_refused():
    rows = [(f"q{i}", f"a{i}") for i in range(39)]
    with pytest.raises(DataError, match="39 pairs are too few to train on 20 and tes"):
        split_pairs(pairs_of(rows))
    assert len(split_pairs(pairs_of([*rows, ("q", "a")])).test) == 20
    for share in (0, 1, -0.2, float("nan")):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            split_pairs(pairs_of(rows), share)


def test_picked_rows_keep_their_numbers():
    pairs = pairs_of([(f"q{i}", f"a{i}") for i in range(5)], tuple("vwxyz"))
    some = pick(pairs, (1, 4))
    assert some.anchor == ("q1", "q4")
    assert some.positive == ("a1", "a4")
    assert some.negative == ("w", "z")
    assert some.label is None
    assert some.rows == (3, 6)
    assert some.source == pairs.source
