"""Any objective over large batches, in the memory of small ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sbert_lab.losses.gradient_cache import cached_loss
from sbert_lab.losses.multiple_negatives import MultipleNegativesRankingLoss
from sbert_lab.losses.objective import Batch, Encode, Objective, Outcome, split
from sbert_lab.models.batching import token_budget_batches


class CachedLoss(Objective):
    """`cached_loss` of another objective, which keeps its columns and labels.

    Parameters
    ----------
    objective
        One whose `value` is a function of the embeddings.
    tokens
        Padded tokens that are in memory with their activations at a time.
    """

    replays = True

    def __init__(self, objective: Objective, tokens: int = 4096) -> None:
        super().__init__()
        if tokens < 1:
            raise ValueError(f"tokens={tokens}: one or more, thousands are usual")
        if objective.replays or type(objective).forward is not Objective.forward:
            raise ValueError(
                f"{type(objective).__name__} embeds its texts itself and cannot be "
                "cached"
            )
        self.objective = objective
        self.tokens = tokens
        self.roles, self.optional = objective.roles, objective.optional  # type: ignore[misc]
        self.least_rows = objective.least_rows  # type: ignore[misc]
        self.label = objective.label

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Bind the objective."""
        self.objective.bind(encoder, numbers)

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the objective's loss."""
        return self.objective.value(texts, batch)

    def forward(self, encode: Encode, batch: Batch) -> Outcome:
        """Return the loss, whose ``backward`` encodes once more, part by part."""
        tokens = [ids for column in batch.tokens.values() for ids in column]
        lengths = np.array([len(ids) for ids in tokens])
        groups = list(token_budget_batches(lengths, self.tokens))
        back = torch.from_numpy(np.argsort(np.concatenate(groups)))
        explained: dict[str, Tensor] = {}

        def loss(rows: Tensor) -> Tensor:
            outcome = self.objective.outcome(split(rows[back], batch), batch)
            explained.update(outcome.diagnostics)
            return outcome.loss

        parts = [[tokens[i] for i in group] for group in groups]
        return Outcome(cached_loss(encode, [parts], loss), explained)


class CachedMultipleNegativesRankingLoss(CachedLoss):
    """`MultipleNegativesRankingLoss` with a batch as large as wanted.

    Parameters
    ----------
    temperature
        τ.
    tokens
        As `CachedLoss`.
    options
        Those of `MultipleNegativesRankingLoss`.

    Source: Gao et al. 2021, section 3.
    """

    def __init__(
        self,
        temperature: float = 0.05,
        *,
        tokens: int = 4096,
        **options: Any,  # noqa: ANN401
    ) -> None:
        objective = MultipleNegativesRankingLoss(temperature, **options)
        super().__init__(objective, tokens)
