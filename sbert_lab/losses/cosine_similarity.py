"""Cosine similarity regression: the cosine of two texts should equal their score."""

from torch import Tensor
from torch.nn import functional as F

from sbert_lab.losses.precision import widened


def cosine_similarity_loss(first: Tensor, second: Tensor, score: Tensor) -> Tensor:
    """Return the mean squared error of the cosines, a scalar.

    ``L = 1/B Σ_i (cos(u_i, v_i) − y_i)²``

    Parameters
    ----------
    first, second
        Embeddings ``[B, D]`` of the two texts of each pair.
    score
        Similarity wanted, ``[B]``, between -1 and 1.

    Source: Reimers and Gurevych 2019, section 3.1 (regression objective).
    """
    cosine = F.cosine_similarity(widened(first), widened(second), dim=-1)  # [B]
    return F.mse_loss(cosine, score.to(cosine.dtype))
