"""Training objectives: a file each, one pure function over embeddings, one module.

Embeddings are ``[B, D]``, one row a text; every function returns a scalar tensor and
works in float32 where the embeddings came in less (in float64 where they came in it).
The modules, which `SentenceTrainer` takes, say which columns and labels they read.
"""

from sbert_lab.losses.cached import (
    CachedLoss,
    CachedMultipleNegativesRankingLoss,
    cached_loss,
)
from sbert_lab.losses.contrastive import ContrastiveLoss, contrastive_loss
from sbert_lab.losses.cosent import CoSENTLoss, cosent_loss
from sbert_lab.losses.cosine_similarity import (
    CosineSimilarityLoss,
    cosine_similarity_loss,
)
from sbert_lab.losses.denoising import DenoisingAutoEncoderLoss, denoising_loss
from sbert_lab.losses.margin_mse import MarginMSELoss, margin_mse_loss
from sbert_lab.losses.matryoshka import MatryoshkaLoss, matryoshka_loss
from sbert_lab.losses.multiple_negatives import (
    MultipleNegativesRankingLoss,
    false_negatives,
    gathered,
    multiple_negatives_ranking_loss,
)
from sbert_lab.losses.objective import Objective
from sbert_lab.losses.simcse import SimCSELoss
from sbert_lab.losses.softmax import SoftmaxLoss, softmax_loss
from sbert_lab.losses.triplet import TripletLoss, triplet_loss

__all__ = [
    "CachedLoss",
    "CachedMultipleNegativesRankingLoss",
    "CoSENTLoss",
    "ContrastiveLoss",
    "CosineSimilarityLoss",
    "DenoisingAutoEncoderLoss",
    "MarginMSELoss",
    "MatryoshkaLoss",
    "MultipleNegativesRankingLoss",
    "Objective",
    "SimCSELoss",
    "SoftmaxLoss",
    "TripletLoss",
    "cached_loss",
    "contrastive_loss",
    "cosent_loss",
    "cosine_similarity_loss",
    "denoising_loss",
    "false_negatives",
    "gathered",
    "margin_mse_loss",
    "matryoshka_loss",
    "multiple_negatives_ranking_loss",
    "softmax_loss",
    "triplet_loss",
]
