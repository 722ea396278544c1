"""Matryoshka: every leading part of an embedding must be a good embedding itself."""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F


def matryoshka_loss(
    loss: Callable[..., Tensor],
    embeddings: Sequence[Tensor],
    dimensions: Sequence[int],
    weights: Sequence[float] | None = None,
    *,
    normalize: bool = True,
) -> Tensor:
    """Return the weighted sum of a loss over truncated embeddings, a scalar.

    ``L = Σ_d w_d · loss(x[:, :d] / |x[:, :d]|)``

    Nothing is patched and nothing depends on the order of the dimensions: the loss is a
    function of embeddings, and it is called on shorter ones.

    Parameters
    ----------
    loss
        A function of the embeddings, in their order.
    embeddings
        ``[B, D]`` each.
    dimensions, weights
        How many leading dimensions, each at most D, and the weight of each; 1 if not
        given.
    normalize
        Scale the truncated embeddings to unit length, the whole ones too.

    Source: Kusupati et al. 2022, equation 1.
    """
    weights = [1.0] * len(dimensions) if weights is None else weights
    width = min(x.shape[-1] for x in embeddings)
    if not dimensions or any(not 1 <= d <= width for d in dimensions):
        raise ValueError(f"dimensions {list(dimensions)}: each from 1 to {width}")
    if len(weights) != len(dimensions):
        raise ValueError(f"{len(weights)} weights for {len(dimensions)} dimensions")
    total = embeddings[0].new_zeros(())
    for d, weight in zip(dimensions, weights, strict=True):
        short = [x[..., :d] for x in embeddings]
        if normalize:
            short = [F.normalize(x, dim=-1) for x in short]
        total = total + weight * loss(*short)
    return total
