"""Matryoshka: every leading part of an embedding must be a good embedding itself."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from sbert_lab.losses.objective import (
    Batch,
    Objective,
    WrappedObjective,
    to_float32,
    trained_width,
)
from sbert_lab.losses.softmax import SoftmaxLoss


def matryoshka_loss(
    loss: Callable[..., Tensor],
    embeddings: Sequence[Tensor],
    dimensions: Sequence[int],
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Return the weighted sum of a loss over truncated embeddings, a scalar.

    ``L = Σ_d w_d · loss(x[:, :d] / |x[:, :d]|)``

    The truncated embeddings are scaled to unit length, the whole ones too.

    `loss` is a function of the `embeddings`, ``[B, D]`` each; `dimensions` are how many
    leading ones to keep, each at most D, and `weights` are 1 if not given.

    Source: Kusupati et al. 2022, equation 1.
    """
    weights = [1.0] * len(dimensions) if weights is None else weights
    width = min(x.shape[-1] for x in embeddings)
    if not dimensions or any(not 1 <= d <= width for d in dimensions):
        raise ValueError(f"dimensions {list(dimensions)}: each from 1 to {width}")
    if len(weights) != len(dimensions):
        raise ValueError(f"{len(weights)} weights for {len(dimensions)} dimensions")
    embeddings = [to_float32(x) for x in embeddings]
    total = embeddings[0].new_zeros(())
    for d, weight in zip(dimensions, weights, strict=True):
        short = (F.normalize(x[..., :d], dim=-1) for x in embeddings)
        total = total + weight * loss(*short)
    return total


class MatryoshkaLoss(WrappedObjective):
    """`matryoshka_loss` over another objective, which keeps its columns and labels.

    Dimensions and weights are those of `matryoshka_loss`.
    """

    def __init__(
        self,
        objective: Objective,
        dimensions: Sequence[int],
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(objective)
        if isinstance(objective, SoftmaxLoss):
            raise ValueError(
                "SoftmaxLoss has a layer of one width and cannot take shorter "
                "embeddings; train MatryoshkaLoss over a ranking or cosine objective"
            )
        self.dimensions, self.weights = tuple(dimensions), weights

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Refuse dimensions that the encoder does not have."""
        width = trained_width(encoder, max(self.dimensions, default=0))
        wrong = [d for d in self.dimensions if not 1 <= d <= width]
        if wrong or not self.dimensions:
            raise ValueError(
                f"dimensions {list(self.dimensions)}: this encoder has 1 to {width}"
            )
        super().bind(encoder, numbers)

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the weighted sum over the dimensions."""

        def short(*embeddings: Tensor) -> Tensor:
            by_role = dict(zip(texts, embeddings, strict=True))
            return self.objective.value(by_role, batch)

        return matryoshka_loss(
            short, list(texts.values()), self.dimensions, self.weights
        )
