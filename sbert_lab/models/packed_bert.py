"""BERT without padding: the forward pass of encoding and of training on a CPU.

The T tokens of a batch stand packed in one matrix ``[T, D]``, and every linear layer is
one product over it. Texts of one length stand together, and each such group ``[B, L]``
attends on its own, with no mask. The weights are the model's own, not copies.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
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
        and all(map(_is_plain, transformer.modules()))
    )


def _is_plain(part: nn.Module) -> bool:
    """Return whether a module need not be called, and its weights are all it has.

    An adapter's layer has others beside them; a hook and checkpointing act on the call.
    """
    hooks = part._forward_hooks, part._forward_pre_hooks, part._backward_hooks
    own = type(part).__module__.startswith(("torch.nn.", "transformers."))
    return own and not any(hooks) and not getattr(part, "gradient_checkpointing", False)


def workspace(model: Any, tokens: int) -> list[Tensor]:  # noqa: ANN401
    """Return matrices for tokens; fresh ones would cost a tenth of the time."""
    config, weight = model.config, model.embeddings.word_embeddings.weight
    widths = [config.hidden_size] * 5 + [config.intermediate_size]
    return [weight.new_empty(tokens, width) for width in widths]


def packed_bert(
    model: Any,  # noqa: ANN401
    groups: Sequence[Tensor],
    space: Sequence[Tensor] | None = None,
    segments: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Run BERT over groups of texts of equal length.

    Each group is int64 ``[B, L]``, and gives its last hidden states ``[B, L, D]``.
    `segments` tell the two texts of a pair apart. With `space`, from `workspace`, there
    is no dropout or gradient; without it there are both, as the model has them.
    """
    shapes = [group.shape for group in groups]
    sizes = [batch * length for batch, length in shapes]
    x = _embedded(model.embeddings, groups, segments)  # [T, D]
    nowhere: Sequence[Tensor | None] = [None] * 6
    cut = nowhere if space is None else [matrix[: len(x)] for matrix in space]
    q, k, v, mixed, out, inner = cut
    for layer in model.encoder.layer:
        attention, dense = layer.attention.self, layer.attention.output
        parts = zip(
            _linear(x, attention.query, q).split_with_sizes(sizes),
            _linear(x, attention.key, k).split_with_sizes(sizes),
            _linear(x, attention.value, v).split_with_sizes(sizes),
            shapes,
            strict=True,
        )
        attended = [_attended(attention, part, shape) for *part, shape in parts]
        y = _linear(torch.cat(attended, out=mixed), dense.dense, out)
        x = dense.LayerNorm(_added(y, x, dense.dropout, space))
        y = _linear(x, layer.intermediate.dense, inner)
        y = F.gelu(y) if space is None else torch.ops.aten.gelu_(y)
        y = _linear(y, layer.output.dense, out)
        x = layer.output.LayerNorm(_added(y, x, layer.output.dropout, space))
    pieces = torch.split_with_sizes(x, sizes)
    return [t.view(*shape, -1) for t, shape in zip(pieces, shapes, strict=True)]


def without_padding(
    model: Any,  # noqa: ANN401
    input_ids: Tensor,
    attention_mask: Tensor,
) -> Tensor:
    """Run BERT over texts padded on the right, ``[B, L]`` -> ``[B, L, D]``.

    The padding is left out and zero in what is returned.
    """
    lengths, wide = attention_mask.sum(1), input_ids.shape[1]
    found: list[int] = sorted(set(lengths.tolist()))
    rows = [torch.nonzero(lengths == length).flatten() for length in found]
    groups = [input_ids[own, :n] for own, n in zip(rows, found, strict=True)]
    hidden = packed_bert(model, groups)
    padded = [F.pad(t, (0, 0, 0, wide - t.shape[1])) for t in hidden]
    return torch.cat(padded)[torch.cat(rows).argsort()]


def is_padded_right(attention_mask: Tensor) -> bool:
    """Return whether every text ``[B, L]`` begins with a token, padding after it."""
    falling = attention_mask[:, 1:] <= attention_mask[:, :-1]
    return bool(attention_mask[:, 0].all() and falling.all())


def _attended(attention: Any, parts: Sequence[Tensor], shape: torch.Size) -> Tensor:  # noqa: ANN401
    """Let the texts of one group attend, each to itself, ``[B · L, D]``."""
    heads = attention.num_attention_heads
    queries, keys, values = (
        part.view(*shape, heads, -1).transpose(1, 2) for part in parts
    )  # [B, H, L, D/H]
    dropped = attention.dropout.p if attention.training else 0.0
    mixed = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropped)
    return mixed.transpose(1, 2).reshape(len(parts[0]), -1)


def _added(
    y: Tensor, x: Tensor, dropout: nn.Module, space: Sequence[Tensor] | None
) -> Tensor:
    """Add what a layer says to what it was told."""
    added: Tensor = y.add_(x) if space is not None else dropout(y) + x
    return added


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
    normed = embeddings.LayerNorm(x + embeddings.position_embeddings(places))
    dropped: Tensor = embeddings.dropout(normed)
    return dropped


def _linear(x: Tensor, layer: nn.Linear, out: Tensor | None) -> Tensor:
    """Return ``x Wᵀ + b``, written into `out` if it is given."""
    if out is None:
        return F.linear(x, layer.weight, layer.bias)
    return torch.addmm(layer.bias, x, layer.weight.T, out=out)
