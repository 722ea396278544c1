"""Margin distillation: the gap between two passages should be a teacher's gap."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from sbert_lab.losses.objective import Batch, LabelRule, Objective, to_float32


def margin_mse_loss(
    query: Tensor, positive: Tensor, negative: Tensor, margin: Tensor
) -> Tensor:
    """Return the mean squared error of the score margins, a scalar.

    ``L = 1/B Σ_i ( (q_i·p_i − q_i·n_i) − Δ_i )²``

    Embeddings are ``[B, D]``, scores dot products. `margin` is Δ, ``[B]``: what a
    cross-encoder gives the positive minus what it gives the negative.

    Source: Hofstätter et al. 2020, equation 5.
    """
    q, p, n = to_float32(query), to_float32(positive), to_float32(negative)
    gap = (q * p).sum(-1) - (q * n).sum(-1)  # [B]
    return F.mse_loss(gap, margin.to(gap.dtype))


class MarginMSELoss(Objective):
    """`margin_mse_loss` of ``anchor``, ``positive``, one ``negative`` and ``label``."""

    roles = ("anchor", "positive", "negative")
    label = LabelRule()

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role."""
        query, positive, negative = (texts[role] for role in self.roles)
        if not np.array_equal(batch.owner, np.arange(len(query))):
            raise ValueError("MarginMSELoss needs one negative in every row")
        return margin_mse_loss(query, positive, negative, self.label_of(batch, query))
