"""What a training step asks of an objective: texts by role go in, one number comes out.

Every objective is a pure function over embeddings; the module around it says which
columns it reads, which labels it understands, and what to watch while it is trained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

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
    """The texts of one training step.

    Parameters
    ----------
    texts
        By role, the texts themselves: one a row, but any number of ``negative``.
    tokens
        By role, their token ids.
    numbers
        By role, which text each is, int64 ``[n]``: equal texts have equal numbers.
    label
        ``[B]``, or None.
    rows
        Where in the data the rows stand, int64 ``[B]``.
    owner
        For each ``negative`` the place of its row in the batch, int64.
    """

    texts: Mapping[str, Sequence[str]]
    tokens: Mapping[str, Sequence[Tokens]]
    numbers: Mapping[str, NDArray[np.int64]]
    label: NDArray[np.float64] | None
    rows: NDArray[np.int64]
    owner: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def only(self, place: int) -> "Batch":
        """Return the batch that holds one row only."""
        kept = {role: np.array([place]) for role in self.texts}
        if "negative" in kept:
            kept["negative"] = np.flatnonzero(self.owner == place)
        return replace(
            self,
            texts={r: [self.texts[r][i] for i in kept[r]] for r in kept},
            tokens={r: [self.tokens[r][i] for i in kept[r]] for r in kept},
            numbers={r: self.numbers[r][kept[r]] for r in kept},
            label=None if self.label is None else self.label[[place]],
            rows=self.rows[[place]],
            owner=np.zeros(len(kept.get("negative", ())), np.int64),
        )


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


class Outcome(NamedTuple):
    """The loss, a scalar to go backward from, and what explains it, by name."""

    loss: Tensor
    diagnostics: dict[str, Tensor]


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
        """Look up and check what depends on model and data; before the first step.

        Parameters
        ----------
        encoder
            The `SentenceEncoder` in training.
        numbers
            The number of each text of the data.
        """

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss, a scalar.

        Parameters
        ----------
        texts
            By role, embeddings ``[B, D]``; those of ``negative`` ``[N, D]``.
        batch
            Labels and numbers of the texts.
        """
        raise NotImplementedError

    def diagnostics(
        self, texts: Mapping[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Return scalars that explain the loss; no gradient goes through them."""
        del texts, batch
        return {}

    def forward(self, encode: Encode, batch: Batch) -> Outcome:
        """Embed the texts of a batch, and return its `Outcome`."""
        texts = embedded(encode, batch)
        return self.outcome(texts, batch)

    def outcome(self, texts: Mapping[str, Tensor], batch: Batch) -> Outcome:
        """Return the loss of embeddings and what explains it."""
        loss = self.value(texts, batch)
        with torch.no_grad():
            return Outcome(loss, self.diagnostics(texts, batch))

    def label_of(self, batch: Batch, like: Tensor) -> Tensor:
        """Return the labels ``[B]`` where `like` is; whole ones as int64."""
        if batch.label is None:
            raise ValueError(f"{type(self).__name__} needs a column 'label'")
        label = torch.from_numpy(batch.label).to(like.device)
        whole = self.label is not None and self.label.whole
        return label.long() if whole else label.to(torch.float32)


def trained_width(encoder: nn.Module, otherwise: int) -> int:
    """Return the D of training: `truncate_dim` cuts what `encode` returns, not this."""
    shown = getattr(encoder, "dimension", otherwise)
    width: int = getattr(encoder, "_full_dimension", shown)
    return width


def embedded(encode: Encode, batch: Batch) -> dict[str, Tensor]:
    """Embed all columns of a batch together, ``[n, D]`` each.

    Together, so that texts of like length can share a pass whatever column they are in.
    """
    rows = encode([ids for column in batch.tokens.values() for ids in column])
    return split(rows, batch)


def split(rows: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Split the embeddings of all columns, one after the other, into roles."""
    sizes = [len(column) for column in batch.tokens.values()]
    parts = torch.split(rows, sizes)
    return dict(zip(batch.tokens, parts, strict=True))
