"""Triplets: the positive must be nearer than the negative, by a margin."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from sbert_lab.losses.precision import widened

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
