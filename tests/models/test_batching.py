import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbert_lab.models.batching import equal_lengths, pad_right, token_budget_batches


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 100), st.booleans())
def test_every_text_once_and_within_budget(lengths, budget, packed):
    lengths = np.array(lengths, dtype=np.int64)
    batches = list(token_budget_batches(lengths, budget, packed=packed))
    seen = sorted(i for batch in batches for i in batch.tolist())
    assert seen == list(range(len(lengths)))
    for batch in batches:
        longest = lengths[batch].max()
        cost = lengths[batch].sum() if packed else len(batch) * longest
        assert cost <= budget or len(batch) == 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_runs_of_one_length_keep_the_order(lengths):
    lengths = np.sort(np.array(lengths))[::-1]
    rows = np.arange(len(lengths))
    runs = equal_lengths(rows, lengths)
    assert np.concatenate(runs).tolist() == rows.tolist()
    assert all(len(set(lengths[run])) == 1 for run in runs)
    assert len(runs) == len(set(lengths))


def test_waste_is_small_on_mixed_lengths():
    lengths = np.random.default_rng(0).integers(3, 120, size=2_000)
    batches = list(token_budget_batches(lengths, 2048))
    spent = sum(len(b) * lengths[b].max() for b in batches)
    assert spent <= 1.05 * lengths.sum()
    assert len(batches) > 10  # else one batch could hold them all


def test_refuses_no_budget():
    with pytest.raises(ValueError, match="budget"):
        list(token_budget_batches(np.array([1]), 0))


def test_pads_on_the_right():
    ids, mask = pad_right([(5, 6, 7), (8,)], pad=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
