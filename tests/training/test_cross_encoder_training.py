"""A cross-encoder learns, the same from the same seed, and goes on where it stopped."""

import shutil

import numpy as np
import pytest
import torch
from conftest import tiny_encoder
from tiny_cross_encoder import WORDS, tiny_cross_encoder
from tiny_training import unequal, weights
from torch.nn import functional as F

from sbert_lab.datasets.pairs import DataError
from sbert_lab.losses import MultipleNegativesRankingLoss
from sbert_lab.losses.pair_scores import ListwiseCrossEntropy
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.training import TrainingData, fit
from sbert_lab.training.batch_samplers import BatchSampler

pytestmark = pytest.mark.usefixtures("one_thread")

GREEN, RED = WORDS[:10], WORDS[10:20]


def texts(count, words, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, rng.integers(1, 6))) for _ in range(count)]


def listed(count=24, seed=0):
    """Return rows of one positive and 1 to 3 negatives, of other words."""
    rng = np.random.default_rng(seed)
    negative = [texts(rng.integers(1, 4), RED, rng) for _ in range(count)]
    anchor, positive = (texts(count, GREEN, rng) for _ in range(2))
    columns = {"anchor": anchor, "positive": positive, "negative": negative}
    return TrainingData(columns)


def train(encoder, data, **options):
    usual = {"epochs": 3, "batch_size": 8, "learning_rate": 5e-3, "logging_steps": 1}
    return fit(encoder, data, ListwiseCrossEntropy(), **usual | options)


def test_one_step_is_the_step_by_hand():
    """One step of SGD: transformers' own pass, padded, and PyTorch's own loss."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    encoder, other = (tiny_cross_encoder(**still) for _ in range(2))
    data = listed(12)
    options = {"optim": "sgd", "learning_rate": 0.1, "warmup_steps": 0, "max_steps": 1}
    train(encoder, data, batch_size=5, seed=3, **options)
    losses = []
    for row in next(iter(BatchSampler(12, 5, seed=3))):
        anchor, *texts = data.row_texts()[row]
        tokens = other.tokenizer(
            [anchor] * len(texts), texts, return_tensors="pt", padding=True
        )
        logits = other.transformer(**tokens).logits[:, 0]
        losses.append(F.cross_entropy(logits, torch.tensor(0)))
    torch.stack(losses).mean().backward()
    before = weights(other)
    with torch.no_grad():
        torch.nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        for parameter in other.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    found, wanted = weights(encoder), weights(other)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-6)
    assert unequal(before, wanted)


def test_a_fresh_head_learns(tmp_path):
    tiny_encoder().save(tmp_path / "base")
    encoder = CrossEncoder.from_pretrained(
        tmp_path / "base", head_seed=0, device="cpu", allow_hub=False
    )
    columns = {
        "anchor": ["cat"] * 16,
        "positive": ["cat"] * 16,
        "negative": ["dog"] * 16,
    }
    data = TrainingData(columns)
    curve = train(encoder, data, epochs=20, learning_rate=1e-2)
    assert curve[-1][0] == 40
    assert not encoder.training
    assert curve[-1][1] < 0.3 * curve[0][1]
    yes, no = encoder.predict(["cat", "cat"], ["cat", "dog"])
    assert yes > no


def test_resumed_is_uninterrupted_and_a_checkpoint_is_a_cross_encoder(tmp_path):
    whole, first, second = (tiny_cross_encoder(activation="identity") for _ in range(3))
    train(whole, listed(), folder=tmp_path / "whole")
    train(first, listed(), folder=tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "checkpoint-9")
    train(second, listed(), folder=tmp_path / "part")
    assert unequal(weights(whole), weights(second)) == []
    saved = CrossEncoder.from_pretrained(
        tmp_path / "part" / "checkpoint-9", allow_hub=False
    )
    assert saved.activation == "identity"
    assert unequal(weights(whole), weights(saved.cpu())) == []


def test_what_cannot_go_well_is_refused():
    encoder = tiny_cross_encoder()
    columns = {"anchor": ["a", "b"], "positive": ["c", "d"], "negative": [["e"], []]}
    rows = TrainingData(columns | {"label": [1, 1]})
    with pytest.raises(DataError, match="reads no label"):
        train(encoder, rows)
    for model, objective in (
        (encoder, MultipleNegativesRankingLoss()),
        (tiny_encoder(), ListwiseCrossEntropy()),
    ):
        with pytest.raises(TypeError, match="takes ListwiseCrossEntropy"):
            fit(model, listed(), objective)
