"""Training objectives: pure functions over embeddings, one file each.

Embeddings are ``[B, D]``, one row a text; every function returns a scalar tensor and
works in float32 where the embeddings came in less (in float64 where they came in it).
"""

from sbert_lab.losses.contrastive import contrastive_loss, online_contrastive_loss
from sbert_lab.losses.cosent import angle_loss, cosent_loss
from sbert_lab.losses.cosine_similarity import cosine_similarity_loss
from sbert_lab.losses.gather import gathered
from sbert_lab.losses.gist import gist_embed_loss
from sbert_lab.losses.gradient_cache import cached_loss
from sbert_lab.losses.margin_mse import margin_mse_loss
from sbert_lab.losses.matryoshka import matryoshka_loss
from sbert_lab.losses.multiple_negatives import (
    false_negatives,
    multiple_negatives_ranking_loss,
)
from sbert_lab.losses.softmax import SoftmaxLoss, softmax_loss
from sbert_lab.losses.triplet import triplet_loss

__all__ = [
    "SoftmaxLoss",
    "angle_loss",
    "cached_loss",
    "contrastive_loss",
    "cosent_loss",
    "cosine_similarity_loss",
    "false_negatives",
    "gathered",
    "gist_embed_loss",
    "margin_mse_loss",
    "matryoshka_loss",
    "multiple_negatives_ranking_loss",
    "online_contrastive_loss",
    "softmax_loss",
    "triplet_loss",
]
