"""Siamese classification: a linear layer over two embeddings and what they make."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sbert_lab.losses.precision import widened

#: What can be concatenated, by the paper's names.
PARTS = ("u", "v", "|u-v|", "u*v")


def concatenated(u: Tensor, v: Tensor, parts: Sequence[str]) -> Tensor:
    """Concatenate what is asked for, ``[B, D], [B, D] -> [B, len(parts) D]``.

    Source: Reimers and Gurevych 2019, table 6.
    """
    made = {"u": u, "v": v, "|u-v|": (u - v).abs(), "u*v": u * v}
    return torch.cat([made[part] for part in parts], dim=-1)


def softmax_loss(
    u: Tensor, v: Tensor, label: Tensor, weight: Tensor, parts: Sequence[str]
) -> Tensor:
    """Return the mean cross-entropy of the label, a scalar.

    ``L = −1/B Σ_i log softmax(W [u; v; |u − v|])_{y_i}``

    Parameters
    ----------
    u, v
        Embeddings ``[B, D]`` of premise and hypothesis.
    label
        int64 ``[B]``.
    weight
        W, ``[labels, len(parts) D]``.
    parts
        What is concatenated, of `PARTS`.

    Source: Reimers and Gurevych 2019, section 3.1 (classification objective).
    """
    features = concatenated(widened(u), widened(v), parts)
    return F.cross_entropy(features @ widened(weight).T, label)


class SoftmaxLoss(nn.Module):
    """`softmax_loss` with its linear layer, which is learned and belongs to the loss.

    Parameters
    ----------
    dimension
        D of the embeddings.
    labels
        How many classes.
    parts
        What is concatenated, of `PARTS`; the paper's choice is the default.
    generator
        Draws the layer's first weights.
    """

    def __init__(
        self,
        dimension: int,
        labels: int = 3,
        parts: Sequence[str] = ("u", "v", "|u-v|"),
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        unknown = [part for part in parts if part not in PARTS]
        if unknown or not parts or len(set(parts)) < len(parts):
            raise ValueError(
                f"parts {list(parts)}: one or more different ones of {', '.join(PARTS)}"
            )
        if labels < 2:
            raise ValueError(f"labels={labels}: a classification has two or more")
        self.parts = tuple(parts)
        width = dimension * len(self.parts)
        bound = width**-0.5  # as torch.nn.Linear
        self.weight = nn.Parameter(
            torch.empty(labels, width).uniform_(-bound, bound, generator=generator)
        )

    def forward(self, u: Tensor, v: Tensor, label: Tensor) -> Tensor:
        """Return `softmax_loss` of embeddings ``[B, D]`` and labels ``[B]``."""
        return softmax_loss(u, v, label, self.weight, self.parts)
