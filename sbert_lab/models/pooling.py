"""Token vectors and a mask become one sentence vector.

Every function takes ``tokens`` ``[B, L, D]`` and a ``mask`` ``[B, L]``, 1 at a token
and 0 at padding, which may be on either side, and returns float32 ``[B, D]``.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

Pool = Callable[[Tensor, Tensor], Tensor]


def mean_pooling(tokens: Tensor, mask: Tensor) -> Tensor:
    """Average the token vectors. Source: Reimers and Gurevych 2019, section 3."""
    total, count = _summed(tokens, mask)
    return total / count


def cls_pooling(tokens: Tensor, mask: Tensor) -> Tensor:
    """Take the first token, ``[CLS]``. Source: Devlin et al. 2019, section 3."""
    return _at(tokens, mask.long().argmax(1))


def max_pooling(tokens: Tensor, mask: Tensor) -> Tensor:
    """Take the largest value in each dimension. Source: Conneau et al. 2017."""
    padding = mask.unsqueeze(-1) == 0  # [B, L, 1]
    largest = tokens.float().masked_fill(padding, -torch.inf).amax(1)
    return largest.masked_fill(padding.all(1), 0.0)


def mean_sqrt_len_pooling(tokens: Tensor, mask: Tensor) -> Tensor:
    """Divide the sum by the square root of the length. Source: Cer et al. 2018."""
    total, count = _summed(tokens, mask)
    return total / count.sqrt()


def weighted_mean_pooling(tokens: Tensor, mask: Tensor, before: int = 0) -> Tensor:
    """Average with weights 1, 2, 3 …, counted from the first real token.

    The first `before` of them are not in the mask. Source: Muennighoff 2022 (SGPT),
    section 3.2.
    """
    position = (mask.long().cumsum(1) + before) * mask.long()  # 0 where none is
    return mean_pooling(tokens, position)


def last_token_pooling(tokens: Tensor, mask: Tensor) -> Tensor:
    """Take the last real token. Source: Neelakantan et al. 2022, section 2."""
    last = mask.shape[1] - 1 - mask.long().flip(1).argmax(1)
    return _at(tokens, last).masked_fill(~mask.any(1, keepdim=True), 0.0)


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

    def forward(self, tokens: Tensor, mask: Tensor, skipped: int = 0) -> Tensor:
        """Pool ``[B, L, D]`` with mask ``[B, L]`` into ``[B, out_dimension]``.

        The first `skipped` tokens of each text are left out, but counted as weights.
        """
        mask = mask * (mask.long().cumsum(1) > skipped)
        weighted = partial(weighted_mean_pooling, before=skipped)
        pools = POOLING | {"weightedmean": weighted}
        pooled = [pools[mode](tokens, mask) for mode in self.modes]
        return torch.cat(pooled, dim=-1)
