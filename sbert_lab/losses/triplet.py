"""Triplets: the positive must be nearer than the negative, by a margin."""

import logging
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sbert_lab.losses.objective import Batch, Objective
from sbert_lab.losses.precision import widened

log = logging.getLogger(__name__)

Metric = Literal["euclidean", "manhattan", "cosine"]


def distance(first: Tensor, second: Tensor, metric: Metric) -> Tensor:
    """Return the distance of each row to its partner, ``[B, D], [B, D] -> [B]``.

    The cosine distance is ``1 − cos``.
    """
    a, b = widened(first), widened(second)
    if metric == "cosine":
        return 1 - F.cosine_similarity(a, b, dim=-1)
    # As sentence-transformers: pairwise_distance adds 1e-6 to every difference, which
    # keeps the gradient finite where two rows are equal.
    return F.pairwise_distance(a, b, p=2 if metric == "euclidean" else 1)


def triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    metric: Metric,
    margin: float,
) -> Tensor:
    """Return the mean hinge over triplets, a scalar.

    ``L = 1/B Σ_i max(0, d(a_i, p_i) − d(a_i, n_i) + m)``

    Parameters
    ----------
    anchor, positive, negative
        Embeddings ``[B, D]``.
    metric, margin
        d and m, chosen together: the paper's are ``"euclidean"`` and 1; cosine
        distances lie between 0 and 2.

    Source: Reimers and Gurevych 2019, section 3.1 (triplet objective); Schroff et al.
    2015, equation 1.
    """
    near = distance(anchor, positive, metric)  # [B]
    far = distance(anchor, negative, metric)  # [B]
    return F.relu(near - far + margin).mean()


class TripletLoss(Objective):
    """`triplet_loss` of columns ``anchor``, ``positive`` and ``negative``.

    Parameters
    ----------
    metric, margin
        d and m, chosen together: a cosine distance is at most 2, and so is the
        euclidean distance of unit vectors; a margin above that can never be met, and
        one is warned of.
    """

    roles = ("anchor", "positive", "negative")

    def __init__(self, metric: Metric = "euclidean", margin: float = 1.0) -> None:
        super().__init__()
        if margin < 0:
            raise ValueError(f"margin={margin}: 0 or more")
        self.metric: Metric = metric
        self.margin = margin
        if metric == "cosine" and margin >= 2:
            log.warning(_NEVER, margin, "a cosine distance")

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Warn where the model scales its vectors, and the hinge cannot close."""
        del numbers
        layout = getattr(encoder, "layout", None)
        unit = layout is not None and layout.head[-1:] == ("normalize",)
        if unit and self.metric == "euclidean" and self.margin >= 2:
            log.warning(_NEVER, self.margin, "the euclidean distance of unit vectors")

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role."""
        positive, negative = self._rows(texts, batch)
        return triplet_loss(*positive, negative, metric=self.metric, margin=self.margin)

    def diagnostics(
        self, texts: Mapping[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Return how often the positive is nearer, and how often by the margin."""
        (anchor, positive), negative = self._rows(texts, batch)
        gap = distance(anchor, negative, self.metric) - distance(
            anchor, positive, self.metric
        )
        return {
            "nearer": (gap > 0).float().mean(),
            "margin_met": (gap >= self.margin).float().mean(),
        }

    @staticmethod
    def _rows(
        texts: Mapping[str, Tensor], batch: Batch
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return anchor and positive once for each negative, and the negatives."""
        owner = batch.owner
        return (texts["anchor"][owner], texts["positive"][owner]), texts["negative"]


_NEVER = (
    "margin %g: %s is at most 2, so the hinge never closes and every triplet goes on "
    "pulling for ever; take a margin below 1"
)
