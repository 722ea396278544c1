"""Token vectors and a mask become one sentence vector.

Shapes throughout: ``B`` texts in the batch, ``L`` positions, ``D`` dimensions.
``tokens`` is ``[B, L, D]``; ``mask`` is ``[B, L]``, 1 at a token and 0 at padding.
Every function accumulates in float32 and ignores padding on either side.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Pool = Callable[[Tensor, Tensor], Tensor]


def mean_pooling(tokens: Tensor, mask: Tensor) -> Tensor:
    """Average the token vectors, ``[B, L, D] -> [B, D]``.

    Source: Reimers and Gurevych 2019, section 3 (MEAN strategy).
    """
    total, count = _summed(tokens, mask)
    return total / count


def cls_pooling(tokens: Tensor, mask: Tensor) -> Tensor:
    """Take the first token that is not padding, ``[B, L, D] -> [B, D]``.

    Source: Devlin et al. 2019, section 3 (the ``[CLS]`` token).
    """
    return _at(tokens, mask.long().argmax(1))


def max_pooling(tokens: Tensor, mask: Tensor) -> Tensor:
    """Take the largest value over tokens in each dimension, ``[B, L, D] -> [B, D]``.

    A row without any token gives zeros. Source: Conneau et al. 2017 (max-over-time).
    """
    padding = mask.unsqueeze(-1) == 0  # [B, L, 1]
    largest = tokens.float().masked_fill(padding, -torch.inf).amax(1)
    return largest.masked_fill(padding.all(1), 0.0)


def mean_sqrt_len_pooling(tokens: Tensor, mask: Tensor) -> Tensor:
    """Divide the sum by the square root of the length, ``[B, L, D] -> [B, D]``.

    Keeps the scale of a sum of independent vectors the same at every length.
    Source: Cer et al. 2018 (Universal Sentence Encoder, DAN input).
    """
    total, count = _summed(tokens, mask)
    return total / count.sqrt()


def weighted_mean_pooling(tokens: Tensor, mask: Tensor) -> Tensor:
    """Average with weights 1, 2, 3 … by token position, ``[B, L, D] -> [B, D]``.

    Positions are counted from the first real token, so that left padding does not
    move them. Source: Muennighoff 2022 (SGPT), section 3.2.
    """
    position = mask.long().cumsum(1) * mask.long()  # 1 … length at tokens, else 0
    return mean_pooling(tokens, position)


def last_token_pooling(tokens: Tensor, mask: Tensor) -> Tensor:
    """Take the last token that is not padding, ``[B, L, D] -> [B, D]``.

    Source: Neelakantan et al. 2022, section 2 (the end-of-sequence token).
    """
    last = mask.shape[1] - 1 - mask.long().flip(1).argmax(1)
    return _at(tokens, last)


def first_last_average_pooling(layers: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Average the means of the first and the last layer, ``-> [B, D]``.

    ``layers`` are the ``hidden_states`` of transformers, each ``[B, L, D]``: input
    embeddings at 0 and layer n's output at n.

    Source: Su et al. 2021 and Gao et al. 2021, table 1 (first-last average).
    """
    return mean_pooling((layers[1].float() + layers[-1].float()) / 2, mask)


def _summed(tokens: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted sum ``[B, D]`` and the sum of the weights ``[B, 1]``."""
    column = weights.unsqueeze(-1).float()  # [B, L, 1]
    return (tokens.float() * column).sum(1), column.sum(1).clamp(min=1e-9)


def _at(tokens: Tensor, position: Tensor) -> Tensor:
    """Pick one position a row: ``[B, L, D]``, ``[B]`` -> ``[B, D]``."""
    rows = torch.arange(tokens.shape[0], device=tokens.device)
    return tokens[rows, position].float()


#: Mode names of the sentence-transformers folder format, in the order in which the
#: legacy format concatenates them.
POOLING: dict[str, Pool] = {
    "cls": cls_pooling,
    "max": max_pooling,
    "mean": mean_pooling,
    "mean_sqrt_len_tokens": mean_sqrt_len_pooling,
    "weightedmean": weighted_mean_pooling,
    "lasttoken": last_token_pooling,
}


class Pooling(nn.Module):
    """Pool vectors of width `dimension` by each mode of `POOLING` and concatenate."""

    def __init__(self, dimension: int, modes: str | Sequence[str] = "mean") -> None:
        super().__init__()
        self.modes: tuple[str, ...] = (modes,) if isinstance(modes, str) else (*modes,)
        if not self.modes or not POOLING.keys() >= set(self.modes):
            raise ValueError(
                f"pooling modes {list(self.modes)}: one or more of {', '.join(POOLING)}"
            )
        self.out_dimension = dimension * len(self.modes)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pool ``[B, L, D]`` with mask ``[B, L]`` into ``[B, out_dimension]``."""
        pooled = [POOLING[mode](tokens, mask) for mode in self.modes]
        return torch.cat(pooled, dim=-1)
