"""Batches of tokens, sorted by length, and the one loop in which a model reads them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbert_lab._utils import Vectors
from sbert_lab.models.packed_bert import is_supported, packed_bert, workspace

#: Token ids of one text.
Tokens = Sequence[int] | NDArray[np.int64]

#: Tokens in a batch. On a CPU a batch that fits the caches is fastest (1,000 to 3,000
#: tokens are alike); a GPU wants enough work to fill it.
TOKEN_BUDGET = {"cpu": 2048, "cuda": 32768, "mps": 8192}


def in_batches(
    model: Any,  # noqa: ANN401  (any transformers model)
    sequences: Sequence[Tokens],
    read: Callable[[Any, Tensor], Tensor],
    *,
    token_type_ids: Sequence[Tokens] | None = None,
    pad: int = 0,
    token_budget: int | None = None,
    advance: Callable[[NDArray[np.int64]], object] | None = None,
    **options: Any,  # noqa: ANN401
) -> Vectors:
    """Run a transformer over n token sequences, and return what `read` takes from it.

    `read` gets the output for B texts, whose ``last_hidden_state`` is ``[B, L, D]``,
    and the mask ``[B, L]``, and returns ``[B, K]``. There is no dropout or gradient; on
    a CPU a plain BERT reads without padding (`packed_bert`), unless `options` for the
    model are given. `token_type_ids` say which of two texts each token belongs to;
    `advance` is called after each batch with the positions of its texts. The result is
    float32 ``[n, K]`` in the order of `sequences`, ``[0, 0]`` for none.
    """
    if not len(sequences):
        return np.empty((0, 0), np.float32)
    device = next(model.parameters()).device
    if token_budget is None:
        token_budget = TOKEN_BUDGET.get(device.type, TOKEN_BUDGET["cpu"])
    packed = device.type == "cpu" and not options and is_supported(model)
    lengths = np.array([len(ids) for ids in sequences])
    batches = list(token_budget_batches(lengths, token_budget, packed=packed))

    def padded(
        source: Sequence[Tokens], rows: Sequence[int], fill: int
    ) -> list[Tensor]:
        found = pad_right([source[row] for row in rows], fill)
        return [torch.from_numpy(part).to(device) for part in found]

    parts: list[Tensor] = []
    with evaluating(model):
        if packed:
            largest = max(int(lengths[rows].sum()) for rows in batches)
            space = workspace(model, largest)
        for rows in batches:
            # Texts of one length stand together, and need no padding.
            ends = np.flatnonzero(np.diff(lengths[rows])) + 1 if packed else rows[:0]
            runs = [run.tolist() for run in np.split(rows, ends)]
            ids, masks = zip(
                *[padded(sequences, run, pad) for run in runs], strict=True
            )
            kinds = None
            if token_type_ids is not None:
                kinds = [padded(token_type_ids, run, 0)[0] for run in runs]
            if packed:
                hidden = packed_bert(model, ids, space, kinds)
                outputs = [SimpleNamespace(last_hidden_state=t) for t in hidden]
            else:
                more = {} if kinds is None else {"token_type_ids": kinds[0]}
                outputs = [
                    model(input_ids=ids[0], attention_mask=masks[0], **more, **options)
                ]
            parts += map(read, outputs, masks)
            if advance is not None:
                advance(rows)
        # Copied back once: on a GPU every copy would wait for the queue.
        joined = torch.cat(parts).float().cpu().numpy()
    found: Vectors = np.empty_like(joined)
    found[np.concatenate(batches)] = joined
    return found


def check_texts(texts: object, name: str = "texts") -> list[str]:
    """Return `texts` as a list of strings; TypeError says which item is not one."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} must be a list of strings, not {texts!r:.40}")
    listed = list(texts)
    for position, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{position}] is {text!r:.40}, not a string")
    return listed


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch dropout off and gradients too, and leave every module as it was."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part, training in modes.items():
            part.training = training


def token_budget_batches(
    lengths: NDArray[np.int64], budget: int, *, packed: bool = False
) -> Iterator[NDArray[np.int64]]:
    """Yield batches of positions ``[b]`` into `lengths` ``[n]``, longest texts first.

    A batch costs its rows times its longest text or, `packed`, its tokens: `budget` at
    most, unless one text alone is longer.
    """
    if budget < 1:
        raise ValueError(f"token budget {budget}: a batch needs at least one token")
    order = np.argsort(-lengths, kind="stable")
    total = np.concatenate([[0], lengths[order].cumsum()])
    start = 0
    while start < len(order):
        if packed:
            end = int(total.searchsorted(total[start] + budget, side="right")) - 1
        else:
            end = start + budget // max(1, int(lengths[order[start]]))
        end = max(end, start + 1)
        yield order[start:end]
        start = end


def pad_right(
    sequences: Sequence[Tokens], pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad token sequences to the longest: ids and mask, int64 ``[B, L]``.

    Where each token is a row of several numbers, ``[L, k]``, the ids are ``[B, L, k]``.
    """
    lengths = np.array([len(sequence) for sequence in sequences])
    longest = int(lengths.max(initial=1))
    token = np.shape(sequences[0])[1:] if sequences else ()
    ids = np.full((len(sequences), longest, *token), pad, np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
    return ids, mask
