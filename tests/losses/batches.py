"""Batches written out by hand, random embeddings for them, and a ranking loop."""

import math

import numpy as np
import torch
from conftest import WORDS
from torch import nn

from sbert_lab.losses.objective import Batch
from sbert_lab.models.batching import pad_right


def batch_of(columns, label=None, encoder=None):
    """Return the batch of some columns; a ``negative`` is a list of texts a row."""
    columns, owner = dict(columns), []
    rows = len(next(iter(columns.values())))
    if "negative" in columns:
        owner = [row for row, some in enumerate(columns["negative"]) for _ in some]
        columns["negative"] = [text for some in columns["negative"] for text in some]
    number = {}
    for column in columns.values():
        for text in column:
            number.setdefault(text, len(number))
    if encoder is None:
        tokens = {r: [np.array([number[t]]) for t in c] for r, c in columns.items()}
    else:
        tokens = {r: encoder.token_ids(c) for r, c in columns.items()}
    return Batch(
        texts=columns,
        tokens=tokens,
        numbers={
            r: np.array([number[t] for t in c], np.int64) for r, c in columns.items()
        },
        label=None if label is None else np.asarray(label, np.float64),
        rows=np.arange(rows),
        owner=np.array(owner, np.int64),
    )


def numbers_of(batch):
    """Return the number of each text, as the training data has it."""
    return {
        text: int(number)
        for role, column in batch.texts.items()
        for text, number in zip(column, batch.numbers[role], strict=True)
    }


def drawn(batch, width, seed=0, dtype=torch.float64):
    """Return random embeddings of a batch, by role."""
    generator = torch.Generator().manual_seed(seed)
    return {
        role: torch.randn(len(column), width, generator=generator, dtype=dtype)
        for role, column in batch.texts.items()
    }


def sentences(seed, count):
    """Return texts of one to seven words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 8))) for _ in range(count)]


def value_and_gradients(loss, texts):
    """Return what a function of embeddings by role says, and wants of each."""
    leaves = {role: x.clone().requires_grad_() for role, x in texts.items()}
    value = loss(leaves)
    found = torch.autograd.grad(value, list(leaves.values()))
    return value.detach(), dict(zip(leaves, found, strict=True))


def encoding(encoder):
    """Return the `encode` of a training step: all texts in one padded pass."""

    def encode(texts):
        ids, mask = pad_right(texts, encoder.tokenizer.pad_token_id)
        return encoder(torch.from_numpy(ids), torch.from_numpy(mask))

    return encode


def with_dropout(encoder, probability):
    """Set the dropout of an encoder, and of a decoder that is made from it."""
    config = encoder.transformer.config
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = probability
    for part in encoder.modules():
        if isinstance(part, nn.Dropout):
            part.p = probability
    return encoder.train()


def trained(encoder, objective):
    """Return what the trainer calls: from a batch to its ``loss``."""
    from sbert_lab.training.trainer import TrainedModule

    return TrainedModule(encoder, objective)


def cos(u, v):
    return float(u @ v / np.sqrt((u @ u) * (v @ v)))


def naive_ranking(columns, texts, temperature, known=()):
    """Return the loss of each anchor against every candidate that is a wrong answer."""
    anchors, positives = columns["anchor"], columns["positive"]
    a = texts["anchor"].numpy()
    c = [*texts["positive"].numpy(), *texts.get("negative", torch.empty(0, 1)).numpy()]
    names = [*positives, *(t for some in columns.get("negative", ()) for t in some)]
    total = 0.0
    for i, anchor in enumerate(anchors):
        right = {p for x, p in zip(anchors, positives, strict=True) if x == anchor}
        right |= {p for x, p in known if x == anchor}
        own = math.exp(cos(a[i], c[i]) / temperature)
        wrong = [
            math.exp(cos(a[i], c[j]) / temperature)
            for j in range(len(c))
            if j != i and names[j] not in right
        ]
        total -= math.log(own / (own + sum(wrong)))
    return total / len(anchors)


RAGGED = {
    "anchor": ["a", "b", "a", "c", "d", "e"],
    "positive": ["p", "q", "r", "q", "s", "t"],
    # None, one or several; right answers of other rows and known ones among them.
    "negative": [[], ["x"], ["p", "y", "z"], [], ["r", "s"], ["b"]],
}
KNOWN = [("b", "s"), ("e", "x"), ("c", "p"), ("e", "nowhere"), ("nowhere", "p")]
