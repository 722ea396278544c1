"""Training objectives: a file each, one pure function over embeddings, one module.

Embeddings are ``[B, D]``, one row a text; every function returns a scalar tensor and
works in float32 where the embeddings came in less (in float64 where they came in it).
The modules, which `SentenceTrainer` takes, say which columns and labels they read.
"""

from sbert_lab.losses.cached import CachedLoss, CachedMultipleNegativesRankingLoss
from sbert_lab.losses.cosine_similarity import CosineSimilarityLoss
from sbert_lab.losses.denoising import DenoisingAutoEncoderLoss
from sbert_lab.losses.matryoshka import MatryoshkaLoss
from sbert_lab.losses.multiple_negatives import (
    MultipleNegativesRankingLoss,
    multiple_negatives_ranking_loss,
)
from sbert_lab.losses.objective import Objective
from sbert_lab.losses.simcse import SimCSELoss
from sbert_lab.losses.softmax import SoftmaxLoss, softmax_loss
from sbert_lab.losses.triplet import TripletLoss, triplet_loss

__all__ = [
    "CachedLoss",
    "CachedMultipleNegativesRankingLoss",
    "CosineSimilarityLoss",
    "DenoisingAutoEncoderLoss",
    "MatryoshkaLoss",
    "MultipleNegativesRankingLoss",
    "Objective",
    "SimCSELoss",
    "SoftmaxLoss",
    "TripletLoss",
    "multiple_negatives_ranking_loss",
    "softmax_loss",
    "triplet_loss",
]
