"""Batches of tokens, sorted by length, and the one loop in which a model reads them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbert_lab._utils import Vectors, whole_number
from sbert_lab.models.packed_bert import is_supported, packed_bert, workspace

#: Token ids of one text, ``[L]``, or of two, ``[L, 2]``.
Tokens = Sequence[int] | NDArray[np.int64]

#: Tokens in a batch. On a CPU a batch that fits the caches is fastest (1,000 to 3,000
#: tokens are alike); a GPU wants enough work to fill it.
TOKEN_BUDGET = {"cpu": 2048, "cuda": 32768, "mps": 8192}


def in_batches(
    model: Any,  # noqa: ANN401  (any transformers model)
    sequences: Sequence[Tokens],
    read: Callable[[Any, Tensor], Tensor],
    *,
    pad: int = 0,
    token_budget: int | None = None,
    advance: Callable[[NDArray[np.int64]], object] | None = None,
    **options: Any,  # noqa: ANN401
) -> Vectors:
    """Run a transformer over n token sequences, and return what `read` takes from it.

    A sequence is token ids ``[L]``, or ``[L, 2]`` where beside each stands which of two
    texts it belongs to. `read` gets the output for B texts, whose ``last_hidden_state``
    is ``[B, L, D]``, and the mask ``[B, L]``, and returns ``[B, K]``. There is no
    dropout or gradient; on a CPU a plain BERT reads without padding (`packed_bert`),
    unless `options` for the model are given. `advance` is called after each batch with
    the positions of its texts. The result is float32 ``[n, K]``, ``[0, 0]`` for none.
    """
    if not len(sequences):
        return np.empty((0, 0), np.float32)
    device = next(model.parameters()).device
    if token_budget is None:
        token_budget = TOKEN_BUDGET.get(device.type, TOKEN_BUDGET["cpu"])
    token_budget = whole_number(token_budget, "token_budget")
    packed = device.type == "cpu" and not options and is_supported(model)
    lengths = np.array([len(ids) for ids in sequences])
    batches = list(token_budget_batches(lengths, token_budget, packed=packed))

    parts: list[Tensor] = []
    with evaluating(model):
        if packed:
            largest = max(int(lengths[rows].sum()) for rows in batches)
            space = workspace(model, largest)
        for rows in batches:
            # Texts of one length stand together, and need no padding.
            ends = np.flatnonzero(np.diff(lengths[rows])) + 1 if packed else rows[:0]
            runs = [run.tolist() for run in np.split(rows, ends)]
            padded = [pad_right([sequences[row] for row in run], pad) for run in runs]
            ids = [torch.from_numpy(part).to(device) for part, _ in padded]
            masks = [torch.from_numpy(part).to(device) for _, part in padded]
            kinds = None
            if ids[0].ndim == 3:
                kinds = [i[..., 1] * mask for i, mask in zip(ids, masks, strict=True)]
                ids = [i[..., 0] for i in ids]
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
    """Return `texts` as a list of strings; an error says which item is no text."""
    listed = check_list(texts, name)
    for position, text in enumerate(listed):
        if problem := text_problem(text):
            kind = ValueError if isinstance(text, str) else TypeError
            raise kind(f"{name}[{position}] {problem}")
    return listed


def check_list(items: object, name: str) -> list[Any]:
    """Return `items` as a list; a TypeError refuses what has no order, or headings."""
    unlike = isinstance(items, str | bytes | Mapping | set | frozenset)
    # A table has two dimensions, and an array of one text may have none.
    if unlike or not isinstance(items, Iterable) or getattr(items, "ndim", 1) != 1:
        raise TypeError(
            f"{name} must be a list of strings, not {type(items).__name__}; of a table "
            "give one column, of a set sorted(…)"
        )
    return list(items)


def text_problem(text: object) -> str:
    """Say what keeps something from being read as a text, or nothing."""
    if not isinstance(text, str):
        return f"is {text!r:.40}, not a string; leave it out"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return (
            f"has half a character, {text[error.start]!a} at {error.start}; replace "
            "it: text.encode(errors='replace').decode()"
        )
    return ""


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
    """Pad sequences ``[L]`` or ``[L, k]``: ids ``[B, L]``, ``[B, L, k]``, and mask."""
    lengths = np.array([len(sequence) for sequence in sequences])
    longest = int(lengths.max(initial=1))
    token = np.shape(sequences[0])[1:] if sequences else ()
    ids = np.full((len(sequences), longest, *token), pad, np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
    return ids, mask
