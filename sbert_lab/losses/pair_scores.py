"""Listwise ranking for a cross-encoder: over scores of pairs, not over embeddings."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sbert_lab.losses.objective import Batch, Encode, Objective, to_float32
from sbert_lab.models.cross_encoder import CrossEncoder


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


class ListwiseCrossEntropy(Objective):
    """`listwise_cross_entropy_loss` of ``anchor``, ``positive`` and ``negative``.

    It trains a cross-encoder. Every row needs a negative.
    """

    roles = ("anchor", "positive", "negative")

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Take the cross-encoder's way to join two texts."""
        del numbers
        if not isinstance(encoder, CrossEncoder):
            raise TypeError(f"a {type(encoder).__name__} does not score pairs")
        self._pair_ids = encoder.pair_ids

    def forward(self, encode: Encode, batch: Batch) -> Tensor:
        """Score the pairs of a batch, and return the loss."""
        anchor, positive = batch.texts["anchor"], batch.texts["positive"]
        first = [*anchor, *(anchor[row] for row in batch.owner.tolist())]
        second = [*positive, *batch.texts.get("negative", ())]
        scores = to_float32(encode(self._pair_ids(first, second)))[:, 0]
        right, wrong = scores[: len(batch)], scores[len(batch) :]
        owner = torch.from_numpy(batch.owner).to(scores.device)
        return listwise_cross_entropy_loss(right, wrong, owner)
