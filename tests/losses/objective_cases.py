"""Every objective with data for it, the same as a function, and the peer's."""

from dataclasses import dataclass
from typing import Any

import torch
from batches import batch_of, drawn
from conftest import tiny_parts
from torch import nn

from sbert_lab.losses import (
    CosineSimilarityLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    Objective,
    SoftmaxLoss,
    TripletLoss,
)
from sbert_lab.models.checkpoint import Dense

N, D = 8, 6
TEXTS = [f"text {n}" for n in range(4 * N)]
PAIRS = {"first": TEXTS[:N], "second": TEXTS[N : 2 * N]}
ROWS = {"anchor": TEXTS[:N], "positive": TEXTS[N : 2 * N]}
TRIPLETS = ROWS | {"negative": [[text] for text in TEXTS[2 * N : 3 * N]]}
SCORE = [0.9, 0.1, 0.5, 0.5, 0.3, 0.7, 1.0, 0.0]
KIND = [0, 1, 2, 2, 1, 0, 1, 2]


class Given(nn.Module):
    """A sentence-transformers model whose embeddings are handed to it."""

    device = torch.device("cpu")
    max_seq_length = 24

    def __init__(self, column="given"):
        super().__init__()
        self.column = column
        self.tokenizer = tiny_parts()[1]

    def __getitem__(self, part):
        return self

    def forward(self, features):
        return {"sentence_embedding": features[self.column]}

    def get_embedding_dimension(self):
        return D


@dataclass
class Case:
    """An objective, its data, and the peer's loss of a list of columns, and labels."""

    objective: Objective
    columns: dict[str, Any]
    label: list[float] | None
    peer: Any


def peers():
    from sentence_transformers.sentence_transformer import losses

    return losses


def softmax_peer(objective):
    def loss(columns, label):
        theirs = peers().SoftmaxLoss(Given(), D, 3).to(objective.weight.dtype)
        nn.init.zeros_(theirs.classifier.bias)
        theirs.classifier.weight = objective.weight
        return theirs([{"given": x} for x in columns], label)

    return loss


def matryoshka_peer(columns, label):
    model = Given()
    theirs = peers().MatryoshkaLoss(
        model, peers().MultipleNegativesRankingLoss(model), [2, 4, 6]
    )
    return theirs([{"given": x} for x in columns], label)


def from_embeddings(name, **options):
    """Return the peer's loss of embeddings, made when it is called."""

    def loss(columns, label):
        theirs = getattr(peers(), name)(None, **options)
        return theirs.compute_loss_from_embeddings(columns, label)

    return loss


def cases():
    softmax = SoftmaxLoss(D, generator=torch.Generator().manual_seed(1))
    ranking = MultipleNegativesRankingLoss
    return {
        "softmax": Case(softmax.double(), PAIRS, KIND, softmax_peer(softmax)),
        "cosine": Case(
            CosineSimilarityLoss(),
            PAIRS,
            SCORE,
            from_embeddings("CosineSimilarityLoss"),
        ),
        "triplet": Case(
            TripletLoss(margin=3.0),
            TRIPLETS,
            None,
            from_embeddings("TripletLoss", triplet_margin=3.0),
        ),
        "ranking": Case(
            ranking(0.1),
            TRIPLETS,
            None,
            from_embeddings("MultipleNegativesRankingLoss", scale=10),
        ),
        "matryoshka": Case(
            MatryoshkaLoss(ranking(), [6, 2, 4]),
            TRIPLETS,
            None,
            matryoshka_peer,
        ),
    }


NAMES = list(cases())


def made(name, dtype=torch.float64):
    """Return a case, its batch, embeddings for it and labels."""
    case = cases()[name]
    batch = batch_of(case.columns, case.label)
    texts = drawn(batch, D, seed=NAMES.index(name), dtype=dtype)
    label = None if case.label is None else torch.tensor(case.label)
    return case, batch, texts, label


def dense(out, seed=0):
    """Return a linear layer from 16 dimensions."""
    generator = torch.Generator().manual_seed(seed)
    weights = {
        "linear.weight": torch.randn(out, 16, generator=generator) / 4,
        "linear.bias": torch.zeros(out),
    }
    return Dense(weights, "identity")
