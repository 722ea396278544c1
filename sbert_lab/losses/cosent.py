"""CoSENT: pairs with a higher score must be more similar than those with a lower."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from sbert_lab.losses.objective import Batch, LabelRule, Objective, to_float32


def cosent_loss(
    first: Tensor, second: Tensor, score: Tensor, *, temperature: float = 0.05
) -> Tensor:
    """Return the ranking loss over all pairs of pairs, a scalar.

    ``L = log( 1 + Σ_{y_i < y_j} exp( (cos_i − cos_j) / τ ) )``

    Embeddings are ``[B, D]``; of `score`, ``[B]``, only the order matters, and pairs of
    equal score say nothing about each other. `temperature` is τ.

    Source: Su 2022, "CoSENT (1)", kexue.fm/archives/8847.
    """
    cosine = F.cosine_similarity(to_float32(first), to_float32(second), dim=-1)  # [B]
    gaps = (cosine[:, None] - cosine[None, :]) / temperature  # [B, B]
    ordered = score[:, None] < score[None, :]
    zero = gaps.new_zeros(1)
    return torch.logsumexp(torch.cat([zero, gaps[ordered]]), dim=0)


class CoSENTLoss(Objective):
    """`cosent_loss` of columns ``first``, ``second`` and ``label``."""

    roles = ("first", "second")
    label = LabelRule()
    least_rows = 2

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: more than 0")
        self.temperature = temperature

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role."""
        u, v = texts["first"], texts["second"]
        score = self.label_of(batch, u)
        return cosent_loss(u, v, score, temperature=self.temperature)
