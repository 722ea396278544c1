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
    """The sum of another objective over truncated embeddings.

    ``L = Σ_d loss(x[:, :d] / |x[:, :d]|)``

    The truncated embeddings are scaled to unit length, the whole ones too.
    `dimensions` are how many leading ones to keep.

    Source: Kusupati et al. 2022, equation 1.
    """

    def __init__(self, objective: Objective, dimensions: Sequence[int]) -> None:
        super().__init__(objective)
        if isinstance(objective, SoftmaxLoss):
            raise ValueError(
                "SoftmaxLoss has a layer of one width and cannot take shorter "
                "embeddings; train MatryoshkaLoss over a ranking or cosine objective"
            )
        self.dimensions = tuple(dimensions)

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
        """Return the sum over the dimensions."""
        wide = {role: to_float32(x) for role, x in texts.items()}
        total = next(iter(wide.values())).new_zeros(())
        for d in self.dimensions:
            short = {role: F.normalize(x[:, :d], dim=-1) for role, x in wide.items()}
            total = total + self.objective.value(short, batch)
        return total
