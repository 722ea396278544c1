"""What a training step asks of an objective: texts by role go in, one number comes out.

Every objective is a pure function over embeddings; the module around it says which
columns it reads and which labels it understands.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

#: Token ids of one text, int64 ``[L]``.
Tokens = NDArray[np.int64]

#: From the token ids of n texts to their embeddings ``[n, D]``.
Encode = Callable[[Sequence[Tokens]], Tensor]


@dataclass(frozen=True)
class Batch:
    """The texts of one training step, by role (``anchor``, ``positive``, …)."""

    #: The texts themselves: one a row, but any number of ``negative``.
    texts: Mapping[str, Sequence[str]]
    #: Their token ids.
    tokens: Mapping[str, Sequence[Tokens]]
    #: Which text each is, int64 ``[n]``: equal texts have equal numbers.
    numbers: Mapping[str, NDArray[np.int64]]
    #: ``[B]``, or None.
    label: NDArray[np.float64] | None
    #: Where in the data the rows stand, int64 ``[B]``.
    rows: NDArray[np.int64]
    #: For each ``negative`` the place of its row in the batch, int64.
    owner: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)


@dataclass(frozen=True)
class LabelRule:
    """Which labels an objective understands: from `low` to `high`, whole or not."""

    low: float = -np.inf
    high: float = np.inf
    whole: bool = False

    def fits(self, label: float) -> bool:
        """Return whether a label is one of these."""
        inside = bool(np.isfinite(label)) and self.low <= label <= self.high
        return inside and (not self.whole or float(label).is_integer())

    def __str__(self) -> str:
        """Say it in words."""
        kind = "a whole number" if self.whole else "a number"
        if np.isinf(self.low) and np.isinf(self.high):
            return kind
        return f"{kind} from {self.low:g} to {self.high:g}"


class Objective(nn.Module):
    """An objective that `SentenceTrainer` can train with.

    A subclass names its columns and writes `value`; one that needs more than the
    embeddings writes `forward`.
    """

    #: Text columns that must be there.
    roles: ClassVar[tuple[str, ...]] = ()
    #: Text columns that may be there.
    optional: ClassVar[tuple[str, ...]] = ()
    #: Rows that a batch must have at least.
    least_rows: ClassVar[int] = 1
    #: Which labels, or None where there are none.
    label: LabelRule | None = None
    #: True if texts go through the model more than once a step, with one exchange of
    #: gradients between processes at its end.
    replays: bool = False

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Check what depends on the model and the numbers of the data's texts."""

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss, a scalar, of embeddings by role: ``[B, D]`` each.

        Those of ``negative`` are ``[N, D]``. `batch` has labels and numbers.
        """
        raise NotImplementedError

    def forward(self, encode: Encode, batch: Batch) -> Tensor:
        """Embed the texts of a batch, and return the loss, to go backward from."""
        return self.value(embedded(encode, batch), batch)

    def label_of(self, batch: Batch, like: Tensor) -> Tensor:
        """Return the labels ``[B]`` where `like` is; whole ones as int64."""
        if batch.label is None:
            raise ValueError(f"{type(self).__name__} needs a column 'label'")
        label = torch.from_numpy(batch.label).to(like.device)
        whole = self.label is not None and self.label.whole
        return label.long() if whole else label.to(torch.float32)


class WrappedObjective(Objective):
    """An objective around another one, whose columns and labels it keeps."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        if objective.replays or type(objective).forward is not Objective.forward:
            raise ValueError(
                f"{type(objective).__name__} embeds its texts itself and cannot be put "
                f"into {type(self).__name__}"
            )
        self.objective = objective
        self.roles, self.optional = objective.roles, objective.optional  # type: ignore[misc]
        self.least_rows = objective.least_rows  # type: ignore[misc]
        self.label = objective.label

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Bind the objective inside."""
        self.objective.bind(encoder, numbers)


def to_float32(embeddings: Tensor) -> Tensor:
    """Return embeddings in float32 where they are narrower; float64 stays.

    Every loss is worked out so: at a temperature of 0.05 a logit in bfloat16 would move
    in steps of an eighth.
    """
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))


def trained_width(encoder: nn.Module, otherwise: int) -> int:
    """Return the D of training: `truncate_dim` cuts what `encode` returns, not this."""
    shown = getattr(encoder, "dimension", otherwise)
    width: int = getattr(encoder, "_full_dimension", shown)
    return width


def embedded(encode: Encode, batch: Batch) -> dict[str, Tensor]:
    """Embed all columns, ``[n, D]`` each, at once: like lengths can share a pass."""
    rows = encode([ids for column in batch.tokens.values() for ids in column])
    return split(rows, batch)


def split(rows: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Split the embeddings of all columns, one after the other, into roles."""
    sizes = [len(column) for column in batch.tokens.values()]
    parts = torch.split(rows, sizes)
    return dict(zip(batch.tokens, parts, strict=True))
