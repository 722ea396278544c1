"""Gradient cache: any objective over large batches, in the memory of small ones.

Texts are encoded twice: first in mini-batches without gradients, to work out the loss
and its gradient with respect to the embeddings alone; then once more, mini-batch by
mini-batch, to carry that gradient back into the weights. Dropout draws the same numbers
both times, so the result is the gradient of the whole batch.

Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup", section 3.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbert_lab.losses.multiple_negatives import MultipleNegativesRankingLoss
from sbert_lab.losses.objective import (
    Batch,
    Encode,
    Objective,
    WrappedObjective,
    split,
)
from sbert_lab.models.batching import token_budget_batches


def cached_loss(
    encode: Callable[[Any], Tensor],
    batches: Sequence[Any],
    loss: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return the loss, a scalar, whose ``backward`` goes mini-batch by mini-batch.

    `encode` makes embeddings ``[b, D]`` of one mini-batch, `loss` a scalar of them all,
    ``[B, D]``, in order; its own parameters (a linear layer) get their gradient too.
    ``backward``, on the scalar or on what is made of it, may be called once.
    """
    states: list[_RandomState] = []
    parts: list[Tensor] = []
    with torch.no_grad():
        for batch in batches:
            states.append(_RandomState())
            parts.append(encode(batch))
    embeddings = torch.cat(parts).requires_grad_(torch.is_grad_enabled())
    value = loss(embeddings)
    if not torch.is_grad_enabled():
        return value

    def replay(upstream: Tensor) -> None:
        embeddings.grad = torch.zeros_like(embeddings)
        torch.autograd.backward(value, upstream)  # the loss's parameters, embeddings
        wanted = torch.split(embeddings.grad, [len(part) for part in parts])
        for batch, state, gradient in zip(batches, states, wanted, strict=True):
            with torch.enable_grad(), state.again():
                torch.autograd.backward(encode(batch), gradient)

    found = value.detach().requires_grad_()
    found.register_hook(replay)  # type: ignore[no-untyped-call]
    return found


class _RandomState:
    """The state of the random generators that dropout draws from, to go back to."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        on_gpu = torch.cuda.is_available()
        self.cuda = torch.cuda.get_rng_state() if on_gpu else None

    @contextmanager
    def again(self) -> Iterator[None]:
        """Start from this state, and leave no trace of what was drawn."""
        devices = [] if self.cuda is None else [torch.cuda.current_device()]
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda)
            yield


class CachedLoss(WrappedObjective):
    """`cached_loss` of another objective, which keeps its columns and labels.

    `tokens` padded tokens are in memory with their activations at a time.
    """

    replays = True

    def __init__(self, objective: Objective, tokens: int = 4096) -> None:
        super().__init__(objective)
        if tokens < 1:
            raise ValueError(f"tokens={tokens}: one or more, thousands are usual")
        self.tokens = tokens

    def forward(self, encode: Encode, batch: Batch) -> Tensor:
        """Return the loss, whose ``backward`` encodes once more, part by part."""
        tokens = [ids for column in batch.tokens.values() for ids in column]
        lengths = np.array([len(ids) for ids in tokens])
        groups = list(token_budget_batches(lengths, self.tokens))
        back = torch.from_numpy(np.argsort(np.concatenate(groups)))

        def loss(rows: Tensor) -> Tensor:
            return self.objective.value(split(rows[back], batch), batch)

        parts = [[tokens[i] for i in group] for group in groups]
        return cached_loss(encode, parts, loss)


class CachedMultipleNegativesRankingLoss(CachedLoss):
    """`MultipleNegativesRankingLoss`, its options too, as a `CachedLoss`."""

    def __init__(
        self,
        temperature: float = 0.05,
        *,
        tokens: int = 4096,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(MultipleNegativesRankingLoss(temperature, **options), tokens)
