"""Matryoshka: every leading part of an embedding must be a good embedding itself."""

from collections.abc import Mapping, Sequence

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


class MatryoshkaLoss(WrappedObjective):
    """The weighted sum of another objective over truncated embeddings.

    ``L = Σ_d w_d · loss(x[:, :d] / |x[:, :d]|)``

    The truncated embeddings are scaled to unit length, the whole ones too.
    `dimensions` are how many leading ones to keep, `weights` are 1 if not given.

    Source: Kusupati et al. 2022, equation 1.
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
        self.dimensions = tuple(dimensions)
        self.weights = (1.0,) * len(dimensions) if weights is None else tuple(weights)
        if len(self.weights) != len(dimensions):
            raise ValueError(
                f"{len(self.weights)} weights, {len(dimensions)} dimensions"
            )

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
        wide = {role: to_float32(x) for role, x in texts.items()}
        total = next(iter(wide.values())).new_zeros(())
        for d, weight in zip(self.dimensions, self.weights, strict=True):
            short = {role: F.normalize(x[:, :d], dim=-1) for role, x in wide.items()}
            total = total + weight * self.objective.value(short, batch)
        return total
