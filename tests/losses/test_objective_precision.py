"""Objectives under autocast: narrow vectors, float32 losses."""

import pytest
import torch
from batches import batch_of, sentences
from conftest import tiny_encoder
from objective_cases import KIND, SAME, SCORE, N, dense

from sbert_lab.losses import (
    AnglELoss,
    CachedMultipleNegativesRankingLoss,
    ContrastiveLoss,
    CoSENTLoss,
    CosineSimilarityLoss,
    DenoisingAutoEncoderLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
)
from sbert_lab.training import set_dropout
from sbert_lab.training.trainer import TrainedModule


@pytest.fixture(params=["float32 from bf16", "bf16"])
def mixed_encoder(request):
    """Return an encoder whose vectors come wide or narrow out of autocast."""
    head = (dense(16),) if request.param == "bf16" else ()
    return sharpened(tiny_encoder(max_seq_length=24, head=head))


def sharpened(encoder):
    """Return an encoder with larger weights: a fresh BERT's vectors are all alike."""
    with torch.no_grad():
        for weight in encoder.transformer.parameters():
            if weight.ndim > 1:
                weight.mul_(10)
    return encoder


TRAINED = {
    "ranking": (MultipleNegativesRankingLoss(), ("anchor", "positive"), None),
    "cached": (
        CachedMultipleNegativesRankingLoss(tokens=30),
        ("anchor", "positive"),
        None,
    ),
    "cosine": (CosineSimilarityLoss(), ("first", "second"), SCORE),
    "cosent": (CoSENTLoss(), ("first", "second"), SCORE),
    "angle": (AnglELoss(), ("first", "second"), SCORE),
    "contrastive": (ContrastiveLoss(), ("first", "second"), SAME),
    "softmax": (
        SoftmaxLoss(16, generator=torch.Generator().manual_seed(0)),
        ("first", "second"),
        KIND,
    ),
    "matryoshka": (
        MatryoshkaLoss(MultipleNegativesRankingLoss(), [16, 4]),
        ("anchor", "positive"),
        None,
    ),
}


@pytest.mark.parametrize("name", TRAINED)
def test_losses_are_float32_under_autocast(name, mixed_encoder):
    objective, roles, label = TRAINED[name]
    columns = {role: sentences(number, N) for number, role in enumerate(roles)}
    batch = batch_of(columns, label, mixed_encoder)
    module = TrainedModule(mixed_encoder, objective, group=64)
    flat = [ids for column in batch.tokens.values() for ids in column]
    with torch.no_grad():
        wide = module.encode(flat)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = module.encode(flat)
            found = module(batch)
    assert not torch.allclose(narrow.float(), wide, atol=1e-4), "autocast was off"
    halves = dict(zip(roles, narrow.float().chunk(2), strict=True))
    expected = objective.value(halves, batch)
    assert found["loss"].dtype == torch.float32
    torch.testing.assert_close(found["loss"], expected, rtol=1e-6, atol=1e-6)
    in_wide = objective.value(dict(zip(roles, wide.chunk(2), strict=True)), batch)
    assert in_wide != expected
    with torch.autocast("cpu", torch.bfloat16):
        careless = objective.value(halves, batch)
    if name in ("ranking", "cached", "softmax", "matryoshka"):  # what multiplies
        assert abs(careless - expected) > 1e-5, "autocast would not have mattered"
    for value in found["diagnostics"].values():
        assert value.dtype == torch.float32


def test_denoising_decodes_narrow_vectors(mixed_encoder):
    batch = batch_of({"text": sentences(0, N)}, None, mixed_encoder)
    objective = DenoisingAutoEncoderLoss(mixed_encoder, ratio=0)
    set_dropout(mixed_encoder, 0)
    objective.eval()
    module = TrainedModule(mixed_encoder, objective)
    with torch.autocast("cpu", torch.bfloat16):
        loss = module(batch)["loss"]
        vectors = module.encode(batch.tokens["text"])
    expected = objective.reconstruction(vectors.float(), batch.tokens["text"])
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    loss.backward()
    word_vectors = mixed_encoder.transformer.embeddings.word_embeddings.weight
    assert torch.isfinite(word_vectors.grad).all()
