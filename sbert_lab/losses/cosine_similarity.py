"""Cosine similarity regression: the cosine of two texts should equal their score."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from sbert_lab.losses.objective import Batch, LabelRule, Objective, to_float32


def cosine_similarity_loss(first: Tensor, second: Tensor, score: Tensor) -> Tensor:
    """Return the mean squared error of the cosines, a scalar.

    ``L = 1/B Σ_i (cos(u_i, v_i) − y_i)²``

    Embeddings are ``[B, D]``; `score` is the similarity wanted, ``[B]``, -1 to 1.

    Source: Reimers and Gurevych 2019, section 3.1 (regression objective).
    """
    cosine = F.cosine_similarity(to_float32(first), to_float32(second), dim=-1)  # [B]
    return F.mse_loss(cosine, score.to(cosine.dtype))


class CosineSimilarityLoss(Objective):
    """`cosine_similarity_loss` of columns ``first``, ``second`` and ``label``."""

    roles = ("first", "second")
    label = LabelRule(-1, 1)

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role."""
        u, v = texts["first"], texts["second"]
        return cosine_similarity_loss(u, v, self.label_of(batch, u))
