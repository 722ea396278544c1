"""What a step sees: by seed and step alone."""

import numpy as np
import pytest
import torch

from tools.pretraining.batches import batch_at, join_streams, pass_order
from tools.pretraining.masking import mask_tokens, step_generator
from tools.pretraining.vocabulary import CLS, MASK, SEP, SPECIAL_TOKENS


@pytest.fixture
def streams():
    ids = np.arange(5, 2005, dtype=np.int16)
    return join_streams({"a": ids[:1000], "b": ids[1000:]}, {"a": 1.0, "b": 0.5})


def test_batches_depend_on_seed_and_step_only(streams):
    batch = batch_at(streams, 7, 0, 8, 16, 4)
    assert batch.shape == (4, 32)
    assert batch_at(streams, 6, 0, 8, 16, 4).shape == (8, 16)
    assert (batch[:, 0] == CLS).all()
    assert (batch[:, -1] == SEP).all()
    pass_order.cache_clear()
    assert (batch == batch_at(streams, 7, 0, 8, 16, 4)).all()
    assert (batch != batch_at(streams, 7, 1, 8, 16, 4)).any()


def test_batches_and_masks_never_change(streams):
    """A run begun with an earlier version goes on with the same text."""
    row = [CLS, 902, 903, 904, 905, 906, 907, SEP]
    assert batch_at(streams, 3, 0, 4, 8)[0].tolist() == row
    ids = torch.arange(5, 25)[None]
    masked, _ = mask_tokens(ids, step_generator(0, 3), 100, share=0.5)
    kept = {0: 5, 4: 9, 7: 12, 11: 16, 12: 17, 16: 21, 17: 22, 18: 23}
    assert masked[0].tolist() == [kept.get(i, MASK) for i in range(20)]


def test_a_pass_shows_each_source_by_its_weight(streams):
    for epoch in (0, 1):
        starts = pass_order(streams, epoch, 0, 10)
        assert len(set(starts.tolist())) == len(starts) == 99 + 49
        assert (starts < 1000).sum() == 99
    assert set(pass_order(streams, 0, 0, 10)) != set(starts)


def test_masking_shares_and_special_tokens():
    size = 1000
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, size, (400, 64), generator=generator)
    ids[:, 0], ids[:, -1], ids[:, 30] = CLS, SEP, SEP
    masked, chosen = mask_tokens(ids, torch.Generator().manual_seed(2), size)
    special = ids < len(SPECIAL_TOKENS)
    assert not chosen[special].any()
    assert torch.equal(masked[~chosen], ids[~chosen])
    n = int(chosen.sum())
    assert abs(n / int((~special).sum()) - 0.15) < 0.01
    fate = masked[chosen]
    assert abs((fate == MASK).sum().item() / n - 0.8) < 0.02
    assert abs((fate == ids[chosen]).sum().item() / n - 0.1) < 0.02
    assert (fate >= MASK).all()
