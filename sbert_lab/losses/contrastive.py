"""Contrastive pairs: alike ones are drawn together, others pushed to a margin."""

from collections.abc import Mapping
from typing import Any

import torch
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

    Parameters
    ----------
    first, second
        Embeddings ``[B, D]`` of the two texts of each pair.
    same
        1 where they belong together, else 0, ``[B]``.
    metric, margin
        d and m.

    Source: Hadsell et al. 2006, equation 4.
    """
    d = distance(first, second, metric)  # [B]
    y = same.to(d.dtype)
    return 0.5 * (y * d**2 + (1 - y) * F.relu(margin - d) ** 2).mean()


def online_contrastive_loss(
    first: Tensor,
    second: Tensor,
    same: Tensor,
    *,
    metric: Metric = "cosine",
    margin: float = 0.5,
) -> Tensor:
    """Return the contrastive loss of the hard pairs of a batch, a scalar, summed.

    Hard are positives farther apart than the nearest negative, and negatives nearer
    than the farthest positive. Where the batch has one kind only, the mean distance of
    that kind stands for the other's limit. The sum, without ½, is as published, and
    grows with the batch.

    The arguments are those of `contrastive_loss`.

    Source: sentence-transformers, OnlineContrastiveLoss.
    """
    d = distance(first, second, metric)  # [B]
    positive = same.to(torch.bool)
    near, far = d[positive], d[~positive]
    limit_far = near.max() if len(near) else far.mean()
    limit_near = far.min() if len(far) else near.mean()
    hard_far, hard_near = far[far < limit_far], near[near > limit_near]
    return (hard_near**2).sum() + (F.relu(margin - hard_far) ** 2).sum()


class ContrastiveLoss(Objective):
    """`contrastive_loss` of ``first``, ``second`` and ``label`` (1 alike, 0 not).

    Parameters
    ----------
    metric, margin
        d and m.
    """

    roles = ("first", "second")
    label = LabelRule(0, 1, whole=True)

    def __init__(self, metric: Metric = "cosine", margin: float = 0.5) -> None:
        super().__init__()
        self.metric: Metric = metric
        self.margin = margin

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role."""
        return contrastive_loss(*self._arguments(texts, batch), **self._distance())

    def diagnostics(
        self, texts: Mapping[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Return the mean distance of pairs that are alike, and of others."""
        first, second, same = self._arguments(texts, batch)
        d = distance(first, second, self.metric)
        kinds = {"distance_alike": same == 1, "distance_apart": same == 0}
        return {name: d[kind].mean() for name, kind in kinds.items() if kind.any()}

    def _arguments(
        self, texts: Mapping[str, Tensor], batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor]:
        first = texts["first"]
        return first, texts["second"], self.label_of(batch, first)

    def _distance(self) -> dict[str, Any]:
        return {"metric": self.metric, "margin": self.margin}


class OnlineContrastiveLoss(ContrastiveLoss):
    """`online_contrastive_loss` of ``first``, ``second`` and ``label``."""

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role."""
        found = self._arguments(texts, batch)
        return online_contrastive_loss(*found, **self._distance())
