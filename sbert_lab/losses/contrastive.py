"""Contrastive pairs: alike ones are drawn together, others pushed to a margin."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from sbert_lab.losses.objective import Batch, LabelRule, Objective
from sbert_lab.losses.triplet import Metric, distance


def contrastive_loss(
    first: Tensor,
    second: Tensor,
    same: Tensor,
    *,
    metric: Metric = "cosine",
    margin: float = 0.5,
) -> Tensor:
    """Return the mean contrastive loss, a scalar.

    ``L = 1/2B Σ_i ( y_i d_i² + (1 − y_i) max(0, m − d_i)² )``

    `first` and `second` are embeddings ``[B, D]`` of the two texts of each pair; `same`
    is 1 where they belong together, else 0, ``[B]``; d is the `metric`, m the `margin`.

    Source: Hadsell et al. 2006, equation 4.
    """
    d = distance(first, second, metric)  # [B]
    y = same.to(d.dtype)
    return 0.5 * (y * d**2 + (1 - y) * F.relu(margin - d) ** 2).mean()


class ContrastiveLoss(Objective):
    """`contrastive_loss` of ``first``, ``second`` and ``label`` (1 alike, 0 not)."""

    roles = ("first", "second")
    label = LabelRule(0, 1, whole=True)

    def __init__(self, metric: Metric = "cosine", margin: float = 0.5) -> None:
        super().__init__()
        self.metric: Metric = metric
        self.margin = margin

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role."""
        u, v = texts["first"], texts["second"]
        same = self.label_of(batch, u)
        return contrastive_loss(u, v, same, metric=self.metric, margin=self.margin)
