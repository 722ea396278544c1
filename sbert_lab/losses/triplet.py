"""Triplets: the positive must be nearer than the negative, by a margin."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from sbert_lab.losses.objective import Batch, Objective, to_float32


def triplet_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float
) -> Tensor:
    """Return the mean hinge over triplets, a scalar.

    ``L = 1/B Σ_i max(0, d(a_i, p_i) − d(a_i, n_i) + m)``

    Embeddings are ``[B, D]``, d is the euclidean distance, and margin m in the paper 1.
    Distances of unit vectors are at most 2.

    Source: Reimers and Gurevych 2019, section 3.1 (triplet objective); Schroff et al.
    2015, equation 1.
    """
    a, p, n = to_float32(anchor), to_float32(positive), to_float32(negative)
    # As sentence-transformers: pairwise_distance adds 1e-6 to every difference, which
    # keeps the gradient finite where two rows are equal.
    near, far = F.pairwise_distance(a, p), F.pairwise_distance(a, n)  # [B]
    return F.relu(near - far + margin).mean()


class TripletLoss(Objective):
    """`triplet_loss` of columns ``anchor``, ``positive`` and ``negative``."""

    roles = ("anchor", "positive", "negative")

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        if margin < 0:
            raise ValueError(f"margin={margin}: 0 or more")
        self.margin = margin

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role; each negative makes a triplet."""
        anchor, positive = texts["anchor"][batch.owner], texts["positive"][batch.owner]
        return triplet_loss(anchor, positive, texts["negative"], margin=self.margin)
