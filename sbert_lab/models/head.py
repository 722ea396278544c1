"""What may follow pooling: linear layers and scaling to unit length.

Shapes: ``[B, D] -> [B, D']``.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from sbert_lab.models.checkpoint import ACTIVATIONS, DenseSpec


class Dense(nn.Module):
    """``y = activation(W x + b)``, built from its saved form."""

    def __init__(self, spec: DenseSpec) -> None:
        super().__init__()
        self.activation_name = spec.activation
        bias = "linear.bias" in spec.weights
        self.linear = nn.Linear(spec.in_features, spec.out_features, bias=bias)
        self.load_state_dict(spec.weights)
        self.activation = ACTIVATIONS[spec.activation]()

    def forward(self, vectors: Tensor) -> Tensor:
        """Map ``[B, in_features]`` to ``[B, out_features]``."""
        mapped: Tensor = self.activation(self.linear(vectors))
        return mapped

    def spec(self) -> DenseSpec:
        """Return the saved form of the present weights."""
        return DenseSpec(
            self.linear.in_features,
            self.linear.out_features,
            self.activation_name,
            {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()},
        )


class Normalize(nn.Module):
    """Scale each vector to unit length."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Map ``[B, D]`` to ``[B, D]`` with norm 1; zero vectors stay zero."""
        return nn.functional.normalize(vectors, dim=-1)


Part = DenseSpec | Literal["normalize"]


def build(parts: Sequence[Part]) -> nn.Sequential:
    """Build the modules of a `Layout`'s head, in order."""
    return nn.Sequential(
        *[Dense(part) if isinstance(part, DenseSpec) else Normalize() for part in parts]
    )


def describe(head: nn.Sequential) -> tuple[Part, ...]:
    """Return the saved form of a head, the inverse of `build`."""
    return tuple(
        layer.spec() if isinstance(layer, Dense) else "normalize" for layer in head
    )
