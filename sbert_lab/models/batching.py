"""Which texts go through the model together: batches by tokens, not by rows.

A batch is padded to its longest text, so its cost is rows times that length. Sorting
by length and closing a batch at a budget of tokens keeps both the waste and the
memory constant, whatever the texts are.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def token_budget_batches(
    lengths: NDArray[np.int64], budget: int, *, packed: bool = False
) -> Iterator[NDArray[np.int64]]:
    """Yield batches of positions, longest texts first, each within `budget` tokens.

    Parameters
    ----------
    lengths
        Tokens of each text, ``[n]``.
    budget
        Largest size of a batch. A text longer than the budget makes a batch of its own.
    packed
        What a batch costs: padded, its rows times its longest text; packed, its
        tokens.

    Yields
    ------
    NDArray
        Positions into `lengths`; together each position once.
    """
    if budget < 1:
        raise ValueError(f"budget={budget}: a batch needs at least one token")
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


def equal_lengths(
    rows: NDArray[np.int64], lengths: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Split positions that are sorted by length into runs of one length."""
    return np.split(rows, np.flatnonzero(np.diff(lengths[rows])) + 1)


def pad_right(
    sequences: Sequence[Sequence[int] | NDArray[np.int64]], pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad token sequences to the longest: ids and mask, int64 ``[B, L]``."""
    lengths = np.array([len(sequence) for sequence in sequences])
    longest = int(lengths.max(initial=1))
    ids = np.full((len(sequences), longest), pad, np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
    return ids, mask
