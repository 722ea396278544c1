"""Batches: every row once, seeded by epoch, shared out between processes."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sbert_lab.training.batch_samplers import BatchSampler


def batches_of(*args, epoch=0, **options):
    sampler = BatchSampler(*args, **options)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


@given(st.integers(1, 100), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_every_row_comes_once_in_full_batches(count, size, seed):
    batches = batches_of(count, size, seed=seed)
    assert sorted(row for batch in batches for row in batch) == list(range(count))
    assert all(len(batch) == size for batch in batches[:-1])


def test_an_epoch_is_a_permutation_cut_up():
    order = np.random.default_rng([3, 2, 0, 0]).permutation(10).tolist()
    wanted = [order[:4], order[4:8], order[8:]]
    assert batches_of(10, 4, seed=3, epoch=2) == wanted


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 7), st.integers(1, 4))
def test_processes_share_the_batches_out(count, size, least, processes):
    least = min(least, size)
    options = {"seed": 0, "least_rows": least}
    try:
        whole = batches_of(count, size, **options)
    except ValueError:
        assert count < least
        return
    assert all(len(batch) >= least for batch in whole)
    each = len(whole) // processes
    if not each:
        with pytest.raises(ValueError, match=f"too few for {processes} process"):
            batches_of(count, size, **options, processes=processes)
        return
    parts = [
        batches_of(count, size, **options, process=process, processes=processes)
        for process in range(processes)
    ]
    # One batch each in turn; together the epoch but for the remainder.
    together = [batch for step in zip(*parts, strict=True) for batch in step]
    assert together == whole[: each * processes]


@given(st.integers(2, 30), st.integers(1, 7), st.integers(1, 7), st.integers(1, 3))
def test_no_row_is_left_out_twice_before_all_were(count, size, least, processes):
    options = {"seed": 5, "least_rows": min(least, size), "processes": processes}
    assume(count // size >= processes)
    left_out = BatchSampler(count, size, **options).left_out
    times = np.zeros(count, int)
    for epoch in range(5):
        parts = [
            batches_of(count, size, **options, process=process, epoch=epoch)
            for process in range(processes)
        ]
        rows = [row for part in parts for batch in part for row in batch]
        assert len(set(rows)) == len(rows) == count - left_out
        times += ~np.isin(range(count), rows)
        assert times.max() - times.min() <= 1
