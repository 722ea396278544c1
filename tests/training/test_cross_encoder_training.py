"""A cross-encoder learns, the same from the same seed, and goes on where it stopped."""

import math
import shutil

import numpy as np
import pytest
import torch
from conftest import states, tiny_encoder
from tiny_cross_encoder import WORDS, tiny_cross_encoder
from torch.nn import functional as F

from sbert_lab.datasets.pairs import DataError
from sbert_lab.losses import MultipleNegativesRankingLoss
from sbert_lab.losses.pair_scores import (
    BinaryCrossEntropy,
    ListwiseCrossEntropy,
)
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.training import TrainingData, fit
from sbert_lab.training.batch_samplers import BatchSampler

pytestmark = pytest.mark.usefixtures("one_thread")

GREEN, RED = WORDS[:10], WORDS[10:20]


def texts(count, words, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, rng.integers(1, 6))) for _ in range(count)]


def labelled(count=64, seed=0):
    """Return pairs whose label is that of the second text; the first misleads."""
    rng = np.random.default_rng(seed)
    sides = rng.integers(0, 2, (count, 2))
    first, second = (
        [texts(1, (GREEN, RED)[side], rng)[0] for side in column] for column in sides.T
    )
    label = sides[:, 1].astype(float)
    return TrainingData({"anchor": first, "text": second, "label": label})


def listed(count=24, seed=0):
    """Return rows of one positive and 1 to 3 negatives, of other words."""
    rng = np.random.default_rng(seed)
    negative = [texts(rng.integers(1, 4), RED, rng) for _ in range(count)]
    anchor, positive = (texts(count, GREEN, rng) for _ in range(2))
    columns = {"anchor": anchor, "positive": positive, "negative": negative}
    return TrainingData(columns)


CASES = {
    "binary": (labelled, BinaryCrossEntropy),
    "listwise": (listed, ListwiseCrossEntropy),
}


def train(encoder, data, objective, **options):
    options = {
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "logging_steps": 1,
    } | options
    return fit(encoder, data, objective, **options)


def weights(encoder):
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def mean_loss(encoder, data, objective):
    """Work the loss of all rows out from `predict`, row by row."""
    total = 0.0
    for row in range(len(data)):
        one = data[row]
        text = {role: list(column) for role, column in one.texts.items()}
        found = text["text"] if "text" in text else text["positive"] + text["negative"]
        anchor = text["anchor"] * len(found)
        scores = encoder.predict(anchor, found, activation=None).tolist()
        if objective == "binary":
            probability, y = 1 / (1 + math.exp(-scores[0])), one.label[0]
            total -= y * math.log(probability) + (1 - y) * math.log(1 - probability)
        else:
            total -= math.log(math.exp(scores[0]) / sum(map(math.exp, scores)))
    return total / len(data)


@pytest.mark.parametrize("name", CASES)
def test_the_first_loss_is_the_loop(name):
    make, objective = CASES[name]
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    encoder, data = tiny_cross_encoder(**still), make()
    wanted = mean_loss(encoder, data, name)
    (_, loss), *_ = train(encoder, data, objective(), batch_size=64, epochs=1)
    assert loss == pytest.approx(wanted, abs=1e-5)


def test_one_step_is_the_step_by_hand():
    """One step of SGD: transformers' own pass, padded, and PyTorch's own loss."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    encoder, other = (tiny_cross_encoder(**still) for _ in range(2))
    data = labelled(12)
    options = {"optim": "sgd", "learning_rate": 0.1, "warmup_steps": 0, "max_steps": 1}
    train(encoder, data, BinaryCrossEntropy(), batch_size=5, seed=3, **options)
    batch = next(iter(BatchSampler(12, 5, seed=3)))
    first, second = zip(*(data.row_texts()[row] for row in batch), strict=True)
    tokens = other.tokenizer(
        list(first), list(second), return_tensors="pt", padding=True
    )
    logits = other.transformer(**tokens).logits[:, 0]
    label = torch.tensor(data.label[batch], dtype=torch.float32)
    F.binary_cross_entropy_with_logits(logits, label).backward()
    before = weights(other)
    with torch.no_grad():
        torch.nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        for parameter in other.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    found, wanted = weights(encoder), weights(other)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-6)
    assert not same(before, wanted)


def test_it_learns():
    encoder, data = tiny_cross_encoder(initializer_range=0.2), listed()
    before = mean_loss(encoder, data, "listwise")
    curve = train(encoder, data, ListwiseCrossEntropy(), epochs=12)
    assert curve[-1][0] == 12 * math.ceil(len(data) / 8)
    assert not encoder.training
    assert mean_loss(encoder, data, "listwise") < 0.3 * before


def test_a_fresh_head_is_trained(tmp_path):
    tiny_encoder().save(tmp_path / "base")
    encoder = CrossEncoder.from_pretrained(
        tmp_path / "base", head_seed=0, device="cpu", allow_hub=False
    )
    columns = {"anchor": ["cat", "dog"] * 8, "text": ["cat", "cat"] * 8}
    data = TrainingData(columns | {"label": [1, 0] * 8})
    train(encoder, data, BinaryCrossEntropy(), epochs=40, learning_rate=1e-2)
    yes, no = encoder.predict(["cat", "dog"], ["cat", "cat"])
    assert yes > 0.8
    assert no < 0.2


def test_a_seed_gives_the_same_weights():
    found = []
    for seed in (1, 1, 2):
        encoder = tiny_cross_encoder()
        before = states()
        train(encoder, listed(), ListwiseCrossEntropy(), epochs=1, seed=seed)
        assert states() == before
        found.append(weights(encoder))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_resumed_is_uninterrupted_and_a_checkpoint_is_a_cross_encoder(tmp_path):
    whole, first, second = (tiny_cross_encoder(activation="identity") for _ in range(3))
    objective = ListwiseCrossEntropy()
    train(whole, listed(), objective, folder=tmp_path / "whole")
    train(first, listed(), objective, folder=tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "checkpoint-9")
    train(second, listed(), objective, folder=tmp_path / "part", resume=True)
    assert same(weights(whole), weights(second))
    saved = CrossEncoder.from_pretrained(
        tmp_path / "part" / "checkpoint-9", allow_hub=False
    )
    assert saved.activation == "identity"
    assert same(weights(whole), weights(saved.cpu()))


def test_what_cannot_go_well_is_refused():
    encoder = tiny_cross_encoder()
    columns = {"anchor": ["a", "b"], "positive": ["c", "d"], "negative": [["e"], []]}
    rows = TrainingData(columns | {"label": [1, 1]})
    with pytest.raises(DataError, match="reads no label"):
        train(encoder, rows, ListwiseCrossEntropy())
    for model, objective in (
        (encoder, MultipleNegativesRankingLoss()),
        (tiny_encoder(), BinaryCrossEntropy()),
    ):
        with pytest.raises(TypeError, match="takes a PairObjective"):
            train(model, rows, objective)
