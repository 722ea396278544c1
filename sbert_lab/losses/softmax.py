"""Siamese classification: a linear layer over two embeddings and what they make."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sbert_lab.losses.objective import (
    Batch,
    LabelRule,
    Objective,
    to_float32,
    trained_width,
)

PARTS = 3  #: of what is concatenated


def concatenated(u: Tensor, v: Tensor) -> Tensor:
    """Return ``[u; v; |u − v|]``, ``[B, D], [B, D] -> [B, 3 D]``.

    Source: Reimers and Gurevych 2019, table 6.
    """
    return torch.cat([u, v, (u - v).abs()], dim=-1)


def softmax_loss(u: Tensor, v: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Return the mean cross-entropy of the label, a scalar.

    ``L = −1/B Σ_i log softmax(W [u; v; |u − v|])_{y_i}``

    `u` and `v` are embeddings ``[B, D]`` of premise and hypothesis, `label` is int64
    ``[B]``, `weight` W, ``[labels, 3 D]``.

    Source: Reimers and Gurevych 2019, section 3.1 (classification objective).
    """
    features = concatenated(to_float32(u), to_float32(v))
    return F.cross_entropy(features @ to_float32(weight).T, label)


class SoftmaxLoss(Objective):
    """`softmax_loss` of columns ``first``, ``second`` and ``label``.

    Its linear layer over embeddings of `dimension` is trained, saved and resumed with
    the objective, and left behind when the encoder is used. Labels are numbers from 0
    to ``labels - 1``; `generator` draws the first weights.
    """

    roles = ("first", "second")

    def __init__(
        self,
        dimension: int,
        labels: int = 3,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.label = LabelRule(0, labels - 1, whole=True)
        width = dimension * PARTS
        bound = width**-0.5  # as torch.nn.Linear
        self.weight = nn.Parameter(
            torch.empty(labels, width).uniform_(-bound, bound, generator=generator)
        )

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Refuse a layer that was made for embeddings of another width."""
        del numbers
        fits = self.weight.shape[1] // PARTS
        wide = trained_width(encoder, fits)
        if wide != fits:
            raise ValueError(
                f"SoftmaxLoss was made for {fits} dimensions and the encoder has {wide}"
                f"; make it with SoftmaxLoss({wide})"
            )

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role."""
        u, v = texts["first"], texts["second"]
        return softmax_loss(u, v, self.label_of(batch, u), self.weight)
