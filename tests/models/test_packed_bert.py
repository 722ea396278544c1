"""The packed forward pass equals the model's own, whatever the groups."""

import numpy as np
import pytest
import torch
from conftest import tiny_encoder, tiny_parts
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert_lab.models.packed_bert import is_supported, packed_bert, workspace

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


def test_sees_a_step_of_training_at_once():
    encoder = tiny_encoder()
    before = encoder.encode(["the cat sat"])
    with torch.no_grad():
        encoder.transformer.encoder.layer[0].attention.self.value.weight.mul_(9)
    assert np.abs(encoder.encode(["the cat sat"]) - before).max() > 1e-4


@pytest.mark.parametrize(
    "change", [{"hidden_act": "relu"}, {"is_decoder": True}], ids=str
)
def test_leaves_other_models_alone(change):
    model, _ = tiny_parts()
    for key, value in change.items():
        setattr(model.config, key, value)
    assert not is_supported(model)
