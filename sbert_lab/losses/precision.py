"""The precision that losses are worked out in: float32, or float64 if it came so."""

import torch
from torch import Tensor


def widened(embeddings: Tensor) -> Tensor:
    """Return embeddings in float32 where they are narrower; float64 stays."""
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
