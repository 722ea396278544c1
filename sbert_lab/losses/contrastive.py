"""Contrastive pairs: alike ones are drawn together, others pushed to a margin."""

import torch
from torch import Tensor
from torch.nn import functional as F

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
