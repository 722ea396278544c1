"""Training objectives: pure functions over embeddings, one file each.

Embeddings are ``[B, D]``, one row a text; every function returns a scalar tensor and
works in float32 where the embeddings came in less (in float64 where they came in it).
"""

from sbert_lab.losses.cosine_similarity import cosine_similarity_loss
from sbert_lab.losses.multiple_negatives import multiple_negatives_ranking_loss

__all__ = ["cosine_similarity_loss", "multiple_negatives_ranking_loss"]
