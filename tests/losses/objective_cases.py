"""Every objective with data for it, the same as a function, and the peer's."""

from dataclasses import dataclass
from typing import Any

import torch
from batches import batch_of, drawn
from conftest import tiny_parts
from torch import nn

from sbert_lab.losses import (
    AnglELoss,
    CachedMultipleNegativesRankingLoss,
    ContrastiveLoss,
    CoSENTLoss,
    CosineSimilarityLoss,
    GISTEmbedLoss,
    MarginMSELoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    Objective,
    OnlineContrastiveLoss,
    SimCSELoss,
    SoftmaxLoss,
    TripletLoss,
    angle_loss,
    contrastive_loss,
    cosent_loss,
    cosine_similarity_loss,
    gist_embed_loss,
    margin_mse_loss,
    matryoshka_loss,
    multiple_negatives_ranking_loss,
    online_contrastive_loss,
    softmax_loss,
    triplet_loss,
)
from sbert_lab.models.checkpoint import Dense

N, D = 8, 6
TEXTS = [f"text {n}" for n in range(4 * N)]
PAIRS = {"first": TEXTS[:N], "second": TEXTS[N : 2 * N]}
ROWS = {"anchor": TEXTS[:N], "positive": TEXTS[N : 2 * N]}
TRIPLETS = ROWS | {"negative": [[text] for text in TEXTS[2 * N : 3 * N]]}
SAME = [1, 0, 1, 1, 0, 0, 1, 0]
SCORE = [0.9, 0.1, 0.5, 0.5, 0.3, 0.7, 1.0, 0.0]
KIND = [0, 1, 2, 2, 1, 0, 1, 2]


class Guide:
    """Knows a vector for each text, in a dimension of its own."""

    def __init__(self):
        generator = torch.Generator().manual_seed(99)
        self.vectors = torch.randn(len(TEXTS), 4, generator=generator)

    def encode(self, texts, /):
        return self.vectors[[TEXTS.index(text) for text in texts]].numpy()

    def seen(self, batch):
        return {r: torch.from_numpy(self.encode(c)) for r, c in batch.texts.items()}


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
    """An objective, its data, the same as a function, and the peer's."""

    objective: Objective
    columns: dict[str, Any]
    label: list[float] | None
    function: Any  # of embeddings by role, and labels
    peer: Any = None  # of a list of columns, and labels


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
        model, peers().MultipleNegativesRankingLoss(model), [2, 4, 6], [0.3, 0.5, 1]
    )
    return theirs([{"given": x} for x in columns], label)


def gist_peer(guide):
    def loss(columns, label):
        theirs = peers().GISTEmbedLoss(
            Given(), Given("guide"), temperature=0.1, margin=0.1
        )
        starts = range(0, 3 * N, N)
        features = [
            {"given": x, "guide": guide.vectors[start : start + N]}
            for x, start in zip(columns, starts, strict=True)
        ]
        return theirs(features, label)

    return loss


def cached_peer(columns, label):
    theirs = peers().CachedMultipleNegativesRankingLoss(Given(), mini_batch_size=3)
    return theirs.calculate_loss([list(x.split(3)) for x in columns])


def from_embeddings(name, *args, **options):
    """Return the peer's loss of embeddings, made when it is called."""

    def loss(columns, label):
        theirs = getattr(peers(), name)(None, *args, **options)
        return theirs.compute_loss_from_embeddings(columns, label)

    return loss


def ranked(texts, **options):
    return multiple_negatives_ranking_loss(
        texts["anchor"], texts["positive"], texts.get("negative"), **options
    )


def cases():
    softmax = SoftmaxLoss(D, generator=torch.Generator().manual_seed(1))
    softmax.weight.data = softmax.weight.data.double()
    guide = Guide()
    guided = {f"guide_{r}s": x for r, x in guide.seen(batch_of(TRIPLETS)).items()}
    pair = ("first", "second")
    return {
        "softmax": Case(
            softmax,
            PAIRS,
            KIND,
            lambda t, y: softmax_loss(
                *(t[r] for r in pair), y.long(), softmax.weight, ("u", "v", "|u-v|")
            ),
            softmax_peer(softmax),
        ),
        "cosine": Case(
            CosineSimilarityLoss(),
            PAIRS,
            SCORE,
            lambda t, y: cosine_similarity_loss(*(t[r] for r in pair), y),
            from_embeddings("CosineSimilarityLoss"),
        ),
        "triplet": Case(
            TripletLoss(margin=3.0),
            TRIPLETS,
            None,
            lambda t, y: triplet_loss(*t.values(), metric="euclidean", margin=3.0),
            from_embeddings("TripletLoss", triplet_margin=3.0),
        ),
        "triplet, cosine": Case(
            TripletLoss("cosine", 0.4),
            TRIPLETS,
            None,
            lambda t, y: triplet_loss(*t.values(), metric="cosine", margin=0.4),
            lambda x, y: from_embeddings(
                "TripletLoss", peers().TripletDistanceMetric.COSINE, 0.4
            )(x, y),
        ),
        "contrastive": Case(
            ContrastiveLoss(margin=0.9),
            PAIRS,
            SAME,
            lambda t, y: contrastive_loss(*(t[r] for r in pair), y, margin=0.9),
            from_embeddings("ContrastiveLoss", margin=0.9),
        ),
        "online contrastive": Case(
            OnlineContrastiveLoss("euclidean", 4.0),
            PAIRS,
            SAME,
            lambda t, y: online_contrastive_loss(
                *(t[r] for r in pair), y, metric="euclidean", margin=4.0
            ),
            lambda x, y: from_embeddings(
                "OnlineContrastiveLoss",
                peers().SiameseDistanceMetric.EUCLIDEAN,
                margin=4.0,
            )(x, y),
        ),
        "ranking": Case(
            MultipleNegativesRankingLoss(0.1),
            TRIPLETS,
            None,
            lambda t, y: ranked(t, temperature=0.1),
            from_embeddings("MultipleNegativesRankingLoss", scale=10),
        ),
        "ranking, dot product": Case(
            MultipleNegativesRankingLoss(1, similarity="dot"),
            ROWS,
            None,
            lambda t, y: ranked(t, temperature=1, similarity="dot"),
            lambda x, y: from_embeddings(
                "MultipleNegativesRankingLoss",
                scale=1,
                similarity_fct=lambda a, b: a @ b.T,
            )(x, y),
        ),
        "ranking, both ways": Case(
            MultipleNegativesRankingLoss(symmetric=True, learned=True),
            TRIPLETS,
            None,
            lambda t, y: ranked(t, symmetric=True),
            from_embeddings(
                "MultipleNegativesRankingLoss",
                directions=("query_to_doc", "doc_to_query"),
                partition_mode="per_direction",
            ),
        ),
        "cached ranking": Case(
            CachedMultipleNegativesRankingLoss(),
            TRIPLETS,
            None,
            lambda t, y: ranked(t),
            cached_peer,
        ),
        "gist": Case(
            GISTEmbedLoss(guide, 0.1, margin=0.1),
            TRIPLETS,
            None,
            lambda t, y: gist_embed_loss(
                t["anchor"],
                t["positive"],
                negatives=t["negative"],
                temperature=0.1,
                margin=0.1,
                **guided,
            ),
            gist_peer(guide),
        ),
        "cosent": Case(
            CoSENTLoss(0.1),
            PAIRS,
            SCORE,
            lambda t, y: cosent_loss(*(t[r] for r in pair), y, temperature=0.1),
            from_embeddings("CoSENTLoss", scale=10),
        ),
        "angle": Case(
            AnglELoss(),
            PAIRS,
            SCORE,
            lambda t, y: angle_loss(*(t[r] for r in pair), y),
            from_embeddings("AnglELoss"),
        ),
        "matryoshka": Case(
            MatryoshkaLoss(
                MultipleNegativesRankingLoss(), [6, 2, 4], weights=[1, 0.3, 0.5]
            ),
            TRIPLETS,
            None,
            lambda t, y: matryoshka_loss(
                multiple_negatives_ranking_loss,
                list(t.values()),
                [6, 2, 4],
                [1, 0.3, 0.5],
            ),
            matryoshka_peer,
        ),
        "margin mse": Case(
            MarginMSELoss(),
            TRIPLETS,
            [3.5, -1.0, *SCORE[2:]],
            lambda t, y: margin_mse_loss(*t.values(), y),
            from_embeddings("MarginMSELoss"),
        ),
        "simcse": Case(
            SimCSELoss(0.1),
            {"text": TEXTS[:N]},
            None,
            lambda t, y: ranked(t, temperature=0.1),
            from_embeddings("MultipleNegativesRankingLoss", scale=10),
        ),
    }


NAMES = list(cases())


def made(name, dtype=torch.float64):
    """Return a case, its batch, embeddings for it and labels."""
    case = cases()[name]
    batch = batch_of(case.columns, case.label)
    texts = drawn(batch, D, seed=NAMES.index(name), dtype=dtype)
    if name == "simcse":  # two embeddings of each text
        texts = drawn(batch_of(ROWS), D, dtype=dtype)
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
