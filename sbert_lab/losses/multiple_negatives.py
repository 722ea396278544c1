"""Multiple negatives ranking: every other row's positive is a wrong answer."""

import torch
from torch import Tensor
from torch.nn import functional as F

from sbert_lab.losses.precision import widened


def multiple_negatives_ranking_loss(
    anchors: Tensor, positives: Tensor, *, temperature: float = 0.05
) -> Tensor:
    """Return the mean cross-entropy of finding each anchor's positive, a scalar.

    ``L = −1/B Σ_i log( exp(cos(a_i, p_i)/τ) / Σ_j exp(cos(a_i, p_j)/τ) )``

    Parameters
    ----------
    anchors, positives
        Embeddings ``[B, D]``; row *i* of both belongs together.
    temperature
        τ; sentence-transformers' ``scale`` is 1/τ.

    Source: Henderson et al. 2017, section 4.4; with cosine and temperature van den
    Oord et al. 2018, equation 4.
    """
    a, p = (F.normalize(widened(x), dim=-1) for x in (anchors, positives))
    logits = a @ p.T / temperature  # [B, B]
    return F.cross_entropy(logits, torch.arange(len(a), device=a.device))
