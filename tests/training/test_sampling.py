"""Batches: every row, no text twice, seeded, as many in each epoch, shared out."""

import sys
from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert_lab.training.batch_samplers import (
    BatchSampler,
    mixed,
    no_duplicate_batches,
    random_batches,
    token_batches,
)

seeds = st.integers(0, 2**32 - 1)
#: Rows of two texts among few, so that texts repeat; below 0 is no text.
tables = st.lists(
    st.lists(st.integers(-1, 12), min_size=2, max_size=2), min_size=1, max_size=60
).map(np.array)


def rows_of(batches):
    return sorted(int(row) for batch in batches for row in batch)


@given(st.integers(0, 100), st.integers(1, 20), seeds)
def test_random_batches_have_every_row_once(count, size, seed):
    batches = random_batches(count, size, np.random.default_rng(seed))
    assert rows_of(batches) == list(range(count))
    assert all(len(batch) == size for batch in batches[:-1])
    assert len(batches) == -(-count // size)


def test_random_batches_are_a_permutation_cut_up():
    batches = random_batches(10, 4, np.random.default_rng(3))
    order = np.random.default_rng(3).permutation(10)
    assert [b.tolist() for b in batches] == [
        order[:4].tolist(),
        order[4:8].tolist(),
        order[8:].tolist(),
    ]


def slow_no_duplicates(numbers, size, rng):
    """Return the batches by looking at every batch from the first one that is free."""
    batches: list[list[int]] = []
    last: dict[int, int] = {}
    for row in rng.permutation(len(numbers)):
        texts = {n for n in numbers[row].tolist() if n >= 0}
        place = max((last.get(text, -1) + 1 for text in texts), default=0)
        while place < len(batches) and len(batches[place]) == size:
            place += 1
        if place == len(batches):
            batches.append([])
        batches[place].append(int(row))
        last |= dict.fromkeys(texts, place)
    return sorted(batches, key=len, reverse=True)


@given(tables, st.integers(1, 8), seeds)
def test_no_text_stands_twice_in_a_batch_and_no_row_is_lost(numbers, size, seed):
    batches = no_duplicate_batches(numbers, size, np.random.default_rng(seed))
    assert rows_of(batches) == list(range(len(numbers)))
    for batch in batches:
        # The same text twice in one row does not matter.
        texts = [n for row in batch for n in set(numbers[row].tolist()) if n >= 0]
        assert len(texts) == len(set(texts))
        assert 1 <= len(batch) <= size
    sizes = [len(batch) for batch in batches]
    assert sizes == sorted(sizes, reverse=True)


@given(tables, st.integers(1, 8), seeds)
def test_no_duplicates_equals_the_slow_way(numbers, size, seed):
    found = no_duplicate_batches(numbers, size, np.random.default_rng(seed))
    slow = slow_no_duplicates(numbers, size, np.random.default_rng(seed))
    assert [batch.tolist() for batch in found] == slow


@given(st.integers(1, 100), st.integers(1, 20), seeds)
def test_without_duplicates_batches_are_full(count, size, seed):
    numbers = np.arange(2 * count).reshape(count, 2)
    batches = no_duplicate_batches(numbers, size, np.random.default_rng(seed))
    assert len(batches) == -(-count // size)


def test_a_frequent_text_in_50_000_rows():
    count, size = 50_000, 64
    numbers = np.arange(2 * count).reshape(count, 2)
    numbers[np.random.default_rng(0).choice(count, 500, replace=False), 0] = 0
    batches = no_duplicate_batches(numbers, size, np.random.default_rng(1))
    assert rows_of(batches) == list(range(count))
    assert Counter(map(len, batches))[size] >= count // size - 500
    assert max(np.count_nonzero(numbers[batch, 0] == 0) for batch in batches) == 1


def lines_run(numbers, size):
    """Count the lines that run in making the batches, by the tracer of a debugger."""
    lines = 0

    def trace(frame, event, _):
        nonlocal lines
        if not frame.f_code.co_qualname.startswith("no_duplicate_batches"):
            return None
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        no_duplicate_batches(numbers, size, np.random.default_rng(2))
    finally:
        sys.settrace(before)
    return lines


def test_twice_the_rows_are_about_twice_the_work():
    """Even with a frequent text; a search through all batches would be four times."""
    numbers = np.arange(6_000).reshape(-1, 2)
    numbers[::10, 0] = 0
    assert lines_run(numbers, 4) < 2.4 * lines_run(numbers[:1_500], 4)


@given(
    st.lists(st.integers(0, 50), min_size=0, max_size=80).map(np.array),
    st.integers(1, 100),
    seeds,
)
def test_token_batches_keep_the_budget(lengths, budget, seed):
    lengths = lengths.astype(np.int64)
    batches = token_batches(lengths, budget, np.random.default_rng(seed))
    assert rows_of(batches) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) >= 1
        assert lengths[batch].sum() <= budget or len(batch) == 1


def test_token_batches_are_full_and_of_like_length_in_random_order():
    lengths = np.random.default_rng(0).integers(5, 100, 10_000)
    batches = token_batches(lengths, 1_000, np.random.default_rng(0))
    assert len(batches) <= 1.1 * lengths.sum() / 1_000
    for batch in batches:
        assert lengths[batch].max() <= 1.25 * lengths[batch].min() + 1
    means = [lengths[batch].mean() for batch in batches]
    assert means != sorted(means)
    with pytest.raises(ValueError, match="budget=0"):
        token_batches(lengths, 0, np.random.default_rng(0))


WAYS = {
    "random": partial(random_batches, 40, 4),
    "no duplicates": partial(
        no_duplicate_batches, np.random.default_rng(0).integers(0, 30, (40, 2)), 4
    ),
    "tokens": partial(token_batches, np.random.default_rng(0).integers(1, 20, 40), 50),
}


def sampler(*sets, seed=0, **options):
    sets = sets or (WAYS["random"],)
    options = {"least_rows": [1] * len(sets)} | options
    offsets = [1_000 * number for number in range(len(sets))]
    return BatchSampler(sets, offsets, seed=seed, **options)


@pytest.mark.parametrize("way", WAYS)
def test_seed_and_epoch_decide(way):
    first, again, other = (sampler(WAYS[way], seed=seed) for seed in (5, 5, 6))
    assert list(first) == list(again)
    assert list(first) != list(other)
    before = list(first)
    first.set_epoch(1)
    assert list(first) != before
    again.set_epoch(1)
    assert list(first) == list(again)
    assert rows_of(first) == rows_of(before) == list(range(40))


def test_an_epoch_can_be_read_twice():
    one = sampler()
    one.set_epoch(3)
    assert list(one) == list(one)


@given(tables, st.integers(1, 6), seeds, st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=60)
def test_every_epoch_has_as_many_batches(numbers, size, seed, least, processes):
    way = partial(no_duplicate_batches, numbers, size)
    options = {"seed": seed, "least_rows": [least], "processes": processes}
    try:
        one = sampler(way, **options)
    except ValueError:
        return  # too few rows, as told
    for epoch in range(4):
        one.set_epoch(epoch)
        batches = list(one)
        assert len(batches) == len(one) >= 1
        assert all(len(batch) >= least for batch in batches)


def test_epochs_that_would_differ_are_made_alike():
    """Few texts: other orders make other numbers of batches, which a loop would see."""
    numbers = np.random.default_rng(0).integers(0, 8, (30, 2))
    way = partial(no_duplicate_batches, numbers, 3)
    made = {len(way(np.random.default_rng(seed))) for seed in range(20)}
    assert len(made) > 1, "the test's data no longer test anything"
    one = sampler(way)
    for epoch in range(20):
        one.set_epoch(epoch)
        assert len(list(one)) == len(one)


def test_small_batches_are_left_out():
    assert len(sampler(partial(random_batches, 9, 4))) == 3
    one = sampler(partial(random_batches, 9, 4), least_rows=[2])
    assert [len(batch) for batch in one] == [4, 4]


@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("way", WAYS)
def test_processes_share_the_batches_out(way, processes):
    whole = sampler(WAYS[way])
    parts = [
        sampler(WAYS[way], process=process, processes=processes)
        for process in range(processes)
    ]
    for one in (whole, *parts):
        one.set_epoch(2)
    found = [list(part) for part in parts]
    assert {len(batches) for batches in found} == {len(whole) // processes}
    # One batch each in turn; together the epoch but for the remainder.
    together = [batch for step in zip(*found, strict=True) for batch in step]
    kept = len(whole) // processes * processes
    assert together == list(whole)[:kept]
    assert len(rows_of(together)) == len(set(rows_of(together)))


@pytest.mark.parametrize("mixing", ["proportional", "round_robin"])
def test_processes_are_with_the_same_data_set_in_each_step(mixing):
    """They exchange gradients, and candidates: another objective would not answer."""
    sets = [partial(random_batches, 29, 2), partial(random_batches, 13, 2)]
    parts = [
        list(sampler(*sets, mixing=mixing, process=process, processes=2))
        for process in range(2)
    ]
    for left, right in zip(*parts, strict=True):
        assert left[0] // 1_000 == right[0] // 1_000
        assert not set(left) & set(right)
    steps = Counter(batch[0] // 1_000 for batch in parts[0])
    expected = {0: 7, 1: 3} if mixing == "proportional" else {0: 3, 1: 3}
    assert steps == expected


def test_proportional_mixing_takes_all():
    sets = [partial(random_batches, 30, 2), partial(random_batches, 10, 2)]
    one = sampler(*sets)
    batches = list(one)
    assert rows_of(batches) == [*range(30), *range(1_000, 1_010)]
    assert len(one) == 20
    order = [batch[0] // 1_000 for batch in batches]
    one.set_epoch(1)
    assert [batch[0] // 1_000 for batch in one] != order
    assert order != sorted(order)
    assert all(len({row // 1_000 for row in batch}) == 1 for batch in batches)


def test_round_robin_takes_turns_until_the_smallest_ends():
    sets = [partial(random_batches, 30, 2), partial(random_batches, 10, 2)]
    one = sampler(*sets, mixing="round_robin")
    assert [batch[0] // 1_000 for batch in one] == [0, 1] * 5
    assert len(one) == 10
    seen = set()
    for epoch in range(30):  # what an epoch leaves out comes in another
        one.set_epoch(epoch)
        seen |= {row for batch in one for row in batch}
    assert seen == {*range(30), *range(1_000, 1_010)}


def test_mixed_counts():
    rng = np.random.default_rng(0)
    assert Counter(mixed([3, 1, 2], "proportional", rng).tolist()) == {0: 3, 1: 1, 2: 2}
    assert mixed([3, 1, 2], "round_robin", rng).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="'proportional' or 'round_robin'"):
        mixed([1], "alternating", rng)


def test_two_sets_alike_are_ordered_differently():
    sets = [partial(random_batches, 40, 4)] * 2
    batches = list(sampler(*sets, mixing="round_robin"))
    first = [[row % 1_000 for row in batch] for batch in batches[0::2]]
    second = [[row % 1_000 for row in batch] for batch in batches[1::2]]
    assert first != second


def test_too_few_rows():
    with pytest.raises(ValueError, match=r"\[1\] batches, too few for 2 process"):
        sampler(partial(random_batches, 4, 4), processes=2)
    with pytest.raises(ValueError, match=r"\[0\] batches"):
        sampler(partial(random_batches, 1, 4), least_rows=[2])
    with pytest.raises(ValueError, match=r"\[10, 0\] batches"):  # one of two is enough
        sampler(
            partial(random_batches, 40, 4),
            partial(random_batches, 3, 4),
            least_rows=[4, 4],
        )
