"""The packed forward pass equals the model's own, whatever the groups."""

import numpy as np
import pytest
import torch
from conftest import tiny_encoder, tiny_parts
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert_lab.models.packed_bert import (
    is_padded_right,
    is_supported,
    packed_bert,
    without_padding,
    workspace,
)

MODEL, _ = tiny_parts()


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 12)), min_size=1, max_size=4)
)
@settings(deadline=None, max_examples=15)
def test_equals_the_model_on_every_group(shapes):
    generator = torch.Generator().manual_seed(len(shapes))
    groups = [torch.randint(5, 40, shape, generator=generator) for shape in shapes]
    with torch.inference_mode():
        space = workspace(MODEL, 200)
        segments = [group % 2 for group in groups]
        packed = packed_bert(MODEL, groups, space, segments)
        for ids, kinds, hidden in zip(groups, segments, packed, strict=True):
            own = MODEL(input_ids=ids, token_type_ids=kinds).last_hidden_state
            torch.testing.assert_close(hidden, own, rtol=1e-5, atol=1e-6)


def test_without_padding_goes_backward_like_the_model():
    ids = torch.randint(5, 40, (5, 7), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(7) < torch.tensor([[3], [7], [1], [3], [6]])).long()
    own = MODEL(input_ids=ids, attention_mask=mask).last_hidden_state * mask[:, :, None]
    ours = without_padding(MODEL, ids, mask)
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-6)
    weights = list(MODEL.encoder.parameters())
    ours, own = (torch.autograd.grad(t.pow(3).sum(), weights) for t in (ours, own))
    torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-5)
    assert is_padded_right(mask)
    for other in ([0, 1, 1], [1, 0, 1], [0, 0, 0]):
        assert not is_padded_right(torch.tensor([[1, 1, 1], other]))


def test_drops_out_where_the_model_does():
    model, _ = tiny_parts()
    ids = torch.randint(5, 40, (4, 9), generator=torch.Generator().manual_seed(0))
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    still, moved = packed_bert(model.eval(), [ids]), packed_bert(model.train(), [ids])
    torch.testing.assert_close(still[0], model.eval()(ids)[0], rtol=1e-5, atol=1e-6)
    assert (still[0] - moved[0]).abs().mean() > 0.1


def test_sees_a_step_of_training_at_once():
    encoder = tiny_encoder()
    before = encoder.encode(["the cat sat"])
    with torch.no_grad():
        encoder.transformer.encoder.layer[0].attention.self.value.weight.mul_(9)
    assert np.abs(encoder.encode(["the cat sat"]) - before).max() > 1e-4


def change_activation(model):
    model.config.hidden_act = "relu"


class Adapted(torch.nn.Linear):
    """A layer that would have weights beside its own, as an adapter's has."""


def add_adapter(model):
    model.encoder.layer[0].intermediate.dense = Adapted(16, 32)


@pytest.mark.parametrize("change", [change_activation, add_adapter])
def test_leaves_other_models_alone(change):
    model, _ = tiny_parts()
    assert is_supported(model)
    change(model)
    assert not is_supported(model)
