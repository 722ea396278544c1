"""Gradient cache: a large contrastive batch in the memory of a small one.

In-batch losses need every embedding of the batch at once, but not every activation.
So texts are encoded twice: first in mini-batches without gradients, to work out the
loss and its gradient with respect to the embeddings alone; then once more, mini-batch
by mini-batch, to carry that gradient back into the weights. Dropout draws the same
numbers both times, so the result is the gradient of the whole batch.

Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup", section 3.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

Encode = Callable[[Any], Tensor]
Wait = Callable[[], AbstractContextManager[Any]]


def cached_loss(
    encode: Encode,
    columns: Sequence[Sequence[Any]],
    loss: Callable[..., Tensor],
    *,
    wait: Wait = nullcontext,
) -> Tensor:
    """Return the loss of a batch whose ``backward`` goes mini-batch by mini-batch.

    Parameters
    ----------
    encode
        From one mini-batch to its embeddings ``[b, D]``.
    columns
        For each column of the batch its mini-batches, in order.
    loss
        Function of the columns' embeddings, ``[B, D]`` each, to a scalar. Parameters of
        its own (a temperature) get their gradient too.
    wait
        Returns a context in which processes do not yet exchange gradients
        (``model.no_sync``); all mini-batches but the last are in it.

    Returns
    -------
    Tensor
        A scalar. ``backward``, on it or on what is made of it, may be called once.
    """
    if not columns or not all(columns):
        raise ValueError("a cached loss needs columns, each with a mini-batch or more")
    batches = [batch for column in columns for batch in column]
    states: list[RandomState] = []
    parts: list[Tensor] = []
    with torch.no_grad():
        for batch in batches:
            states.append(RandomState())
            parts.append(encode(batch))
    embeddings: list[Tensor] = []
    done = 0
    for column in columns:
        rows = torch.cat(parts[done : done + len(column)])
        embeddings.append(rows.detach().requires_grad_(torch.is_grad_enabled()))
        done += len(column)
    value = loss(*embeddings)
    if not torch.is_grad_enabled():
        return value
    sizes = [len(part) for part in parts]

    def replay(upstream: Tensor) -> None:
        torch.autograd.backward(value, upstream)  # the loss's parameters, embeddings
        wanted = torch.split(torch.cat([_gradient(e) for e in embeddings]), sizes)
        for number, batch in enumerate(batches):
            with states[number].again(), _unless(number == len(batches) - 1, wait):
                torch.autograd.backward(encode(batch), wanted[number])

    start = torch.zeros((), requires_grad=True, device=value.device)
    found: Tensor = _Replay.apply(start, value.detach(), replay)  # type: ignore[no-untyped-call]
    return found


class RandomState:
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


class _Replay(torch.autograd.Function):
    """A value whose backward pass is a function of the gradient that reaches it."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        start: Tensor,
        value: Tensor,
        replay: Callable[[Tensor], None],
    ) -> Tensor:
        ctx.replay = replay
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        with torch.enable_grad():
            ctx.replay(upstream[0])
        return torch.zeros_like(upstream[0]), None, None


def _gradient(embedding: Tensor) -> Tensor:
    """Return the gradient that reached an embedding; zeros where none did."""
    return torch.zeros_like(embedding) if embedding.grad is None else embedding.grad


def _unless(last: bool, wait: Wait) -> AbstractContextManager[Any]:
    return nullcontext() if last else wait()
