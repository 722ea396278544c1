"""BERT without padding: the forward pass that `encode` takes on a CPU.

The T tokens of a batch stand packed in one matrix ``[T, D]``, and every linear layer is
one product over it. Texts of one length stand together, and each such group ``[B, L]``
attends on its own, with no mask. The weights are the model's own, not copies.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def is_supported(transformer: Any) -> bool:  # noqa: ANN401  (any transformers model)
    """Return whether `packed_bert` computes what this model computes: a plain BERT."""
    from transformers import BertModel

    config = transformer.config
    return (
        type(transformer) is BertModel
        and config.hidden_act == "gelu"
        and not config.is_decoder
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
    )


def workspace(model: Any, tokens: int) -> list[Tensor]:  # noqa: ANN401
    """Return matrices for tokens; fresh ones would cost a tenth of the time."""
    config, weight = model.config, model.embeddings.word_embeddings.weight
    widths = [config.hidden_size] * 5 + [config.intermediate_size]
    return [weight.new_empty(tokens, width) for width in widths]


def packed_bert(
    model: Any,  # noqa: ANN401
    groups: Sequence[Tensor],
    space: Sequence[Tensor],
    segments: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Run BERT over groups of texts of equal length, without dropout or gradient.

    Each group is int64 ``[B, L]``, and gives its last hidden states ``[B, L, D]``.
    `space` is from `workspace`; `segments` tell the two texts of a pair apart.
    """
    shapes = [group.shape for group in groups]
    sizes = [batch * length for batch, length in shapes]
    x = _embedded(model.embeddings, groups, segments)  # [T, D]
    q, k, v, mixed, out, inner = (matrix[: len(x)] for matrix in space)
    for layer in model.encoder.layer:
        attention, dense = layer.attention.self, layer.attention.output
        _linear(x, attention.query, q)
        _linear(x, attention.key, k)
        _linear(x, attention.value, v)
        heads, start = attention.num_attention_heads, 0
        for shape, size in zip(shapes, sizes, strict=True):
            rows = slice(start, start + size)
            start += size
            queries, keys, values = (
                t[rows].view(*shape, heads, -1).transpose(1, 2) for t in (q, k, v)
            )
            # [B, H, L, D/H]
            attended = F.scaled_dot_product_attention(queries, keys, values)
            mixed[rows].view(*shape, heads, -1).copy_(attended.transpose(1, 2))
        x = dense.LayerNorm(_linear(mixed, dense.dense, out).add_(x))
        torch.ops.aten.gelu_(_linear(x, layer.intermediate.dense, inner))
        x = layer.output.LayerNorm(_linear(inner, layer.output.dense, out).add_(x))
    pieces = torch.split_with_sizes(x, sizes)
    return [t.view(*shape, -1) for t, shape in zip(pieces, shapes, strict=True)]


def _embedded(
    embeddings: Any,  # noqa: ANN401
    groups: Sequence[Tensor],
    segments: Sequence[Tensor] | None,
) -> Tensor:
    """Return word, position and segment embeddings, normalised, ``[T, D]``."""
    ids = torch.cat([group.reshape(-1) for group in groups])
    places = torch.cat(
        [
            torch.arange(group.shape[1], device=group.device).repeat(group.shape[0])
            for group in groups
        ]
    )
    kinds = embeddings.token_type_embeddings.weight
    if segments is None:
        segment = kinds[0]
    else:
        segment = kinds[torch.cat([part.reshape(-1) for part in segments])]
    x = embeddings.word_embeddings(ids) + segment
    normed: Tensor = embeddings.LayerNorm(x + embeddings.position_embeddings(places))
    return normed


def _linear(x: Tensor, layer: torch.nn.Linear, out: Tensor) -> Tensor:
    """Write ``x Wᵀ + b`` into `out`, and return it."""
    return torch.addmm(layer.bias, x, layer.weight.T, out=out)
