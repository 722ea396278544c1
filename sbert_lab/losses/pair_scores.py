"""Objectives of a cross-encoder: over the scores of pairs, not over embeddings."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sbert_lab.losses.objective import (
    Batch,
    Encode,
    LabelRule,
    Objective,
    Outcome,
    to_float32,
)
from sbert_lab.models.cross_encoder import CrossEncoder

Item = TypeVar("Item")
Numbers = NDArray[np.int64]


def listwise_cross_entropy_loss(
    positive: Tensor, negative: Tensor, owner: Tensor
) -> Tensor:
    """Return the mean cross-entropy of finding each row's positive, a scalar.

    ``L = −1/B Σ_i log( exp(p_i) / (exp(p_i) + Σ_n exp(n)) )``

    The sum is over the negatives n of row i. `positive` are scores ``[B]``, `negative`
    those of all negatives ``[N]``, the first row's first, and `owner` their rows,
    int64 ``[N]``.

    Source: Cao et al. 2007, section 4.2 (ListNet with one right answer); Gao et al.
    2021, equation 3 (for rerankers: the localised contrastive loss).
    """
    counts = torch.bincount(owner, minlength=len(positive))  # [B]
    place = torch.arange(len(owner), device=owner.device)
    place = place - (counts.cumsum(0) - counts)[owner] + 1
    shape = len(positive), 1 + int(counts.max())
    table = positive.new_full(shape, -torch.inf)  # [B, 1 + most]
    table[:, 0] = positive
    table[owner, place] = negative
    return F.cross_entropy(table, torch.zeros_like(counts))


class PairObjective(Objective):
    """An objective over the scores of pairs, to train a cross-encoder with."""

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Take the cross-encoder's way to join two texts."""
        del numbers
        if not isinstance(encoder, CrossEncoder):
            raise TypeError(
                f"{type(self).__name__} trains a CrossEncoder, not a "
                f"{type(encoder).__name__}"
            )
        self._pair_ids = encoder.pair_ids

    def pairs(
        self, columns: Mapping[str, Sequence[Item]], owner: Numbers
    ) -> tuple[list[Item], list[Item]]:
        """Return the first and the second of each pair, from columns by role.

        By default ``anchor`` with ``positive`` in every row, then with each
        ``negative``, whose row is in `owner`.
        """
        anchor, negative = columns["anchor"], columns.get("negative", ())
        first = [*anchor, *(anchor[row] for row in owner.tolist())]
        return first, [*columns["positive"], *negative]

    def score_loss(self, scores: Tensor, batch: Batch) -> Outcome:
        """Return loss and diagnostics of the scores of `pairs`, in their order."""
        raise NotImplementedError

    def forward(self, encode: Encode, batch: Batch) -> Outcome:
        """Score the pairs of a batch, and return its `Outcome`."""
        first, second = self.pairs(batch.texts, batch.owner)
        scores = encode(self._pair_ids(first, second))  # [n, 1]
        return self.score_loss(to_float32(scores)[:, 0], batch)


class BinaryCrossEntropy(PairObjective):
    """Binary cross-entropy of ``anchor``, ``text`` and ``label``, from 0 to 1.

    ``L = −1/B Σ_i ( y_i log σ(s_i) + (1 − y_i) log(1 − σ(s_i)) )``

    Source: Nogueira and Cho 2019, equation 1.
    """

    roles = ("anchor", "text")
    label = LabelRule(0, 1)

    def pairs(
        self, columns: Mapping[str, Sequence[Item]], owner: Numbers
    ) -> tuple[list[Item], list[Item]]:
        """Return ``anchor`` and ``text`` of each row."""
        del owner
        return list(columns["anchor"]), list(columns["text"])

    def score_loss(self, scores: Tensor, batch: Batch) -> Outcome:
        """Return the loss, and how many scores are on their label's side of 1/2."""
        label = self.label_of(batch, scores).to(scores.dtype)
        right = ((scores > 0) == (label > 0.5)).to(scores.dtype).mean()
        loss = F.binary_cross_entropy_with_logits(scores, label)
        return Outcome(loss, {"accuracy": right.detach()})


class ListwiseCrossEntropy(PairObjective):
    """`listwise_cross_entropy_loss` of ``anchor``, ``positive`` and ``negative``.

    A row without a negative teaches nothing.
    """

    roles = ("anchor", "positive", "negative")

    def score_loss(self, scores: Tensor, batch: Batch) -> Outcome:
        """Return the loss, and how many positives are above all their negatives."""
        positive, negative = scores[: len(batch)], scores[len(batch) :]
        owner = torch.from_numpy(batch.owner).to(scores.device)
        loss = listwise_cross_entropy_loss(positive, negative, owner)
        lost = torch.zeros_like(positive)
        lost[owner[negative >= positive[owner]]] = 1
        return Outcome(loss, {"accuracy": 1 - lost.mean()})
