"""Objectives equal sentence-transformers' losses and small steps; batches, labels."""

import math

import pytest
import torch
from batches import batch_of, value_and_gradients
from objective_cases import KIND, NAMES, PAIRS, SCORE, D, made

from sbert_lab.losses import CosineSimilarityLoss, SoftmaxLoss
from sbert_lab.losses.objective import LabelRule


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradients_are_the_peers(name):
    case, batch, texts, label = made(name)
    own = list(case.objective.parameters())
    value, gradients = value_and_gradients(
        lambda t: case.objective.value(t, batch), texts
    )
    peer, wanted = value_and_gradients(
        lambda t: case.peer(list(t.values()), label), texts
    )
    torch.testing.assert_close(value, peer.to(value.dtype), rtol=1e-6, atol=1e-6)
    for role, gradient in gradients.items():
        assert gradient.abs().max() > 1e-4, "a gradient of zeros proves nothing"
        torch.testing.assert_close(gradient, wanted[role], rtol=1e-6, atol=1e-6)
    if own:
        (mine,) = torch.autograd.grad(case.objective.value(texts, batch), own)
        (theirs,) = torch.autograd.grad(case.peer(list(texts.values()), label), own)
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_narrow_embeddings_are_widened_first(name):
    case, batch, texts, _ = made(name, torch.float32)
    case.objective.float()
    halves = {role: x.to(torch.bfloat16) for role, x in texts.items()}
    found = case.objective.value(halves, batch)
    wide = case.objective.value({r: x.float() for r, x in halves.items()}, batch)
    assert found.dtype == torch.float32
    assert found == wide


def test_labels_where_and_what_they_should_be():
    like = torch.zeros(2)
    whole = SoftmaxLoss(D).label_of(batch_of(PAIRS, KIND), like)
    assert whole.dtype == torch.int64
    assert whole.tolist() == KIND
    number = CosineSimilarityLoss().label_of(batch_of(PAIRS, SCORE), like)
    assert number.dtype == torch.float32
    assert number.tolist() == torch.tensor(SCORE).tolist()
    with pytest.raises(ValueError, match="CosineSimilarityLoss needs a column 'label'"):
        CosineSimilarityLoss().label_of(batch_of(PAIRS), like)


def test_label_rules():
    assert all(map(LabelRule().fits, [0, -3, 1e9, 0.5]))
    assert not any(map(LabelRule().fits, [math.nan, math.inf, -math.inf]))
    rule = LabelRule(0, 2, whole=True)
    assert all(map(rule.fits, [0, 1, 2.0]))
    assert not any(map(rule.fits, [-1, 3, 0.5, math.nan, math.inf]))
    assert str(rule) == "a whole number from 0 to 2"
