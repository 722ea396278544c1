"""Which texts go through the model together: batches by tokens, not by rows.

A batch is padded to its longest text, so its cost is rows times that length. Sorting
by length and closing a batch at a budget of tokens keeps both the waste and the
memory constant, whatever the texts are.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def token_budget_batches(
    lengths: NDArray[np.int64], budget: int
) -> Iterator[NDArray[np.int64]]:
    """Yield batches of positions whose padded size stays within `budget` tokens.

    Parameters
    ----------
    lengths
        Tokens of each text, ``[n]``.
    budget
        Largest rows × longest text of a batch. A text longer than the budget makes a
        batch of its own.

    Yields
    ------
    NDArray
        Positions into `lengths`, longest texts first; together each position once.
    """
    if budget < 1:
        raise ValueError(f"budget={budget}: a batch needs at least one token")
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        rows = max(1, budget // longest)
        yield order[start : start + rows]
        start += rows


def pad_right(
    sequences: Sequence[Sequence[int]], pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad token sequences to the longest: ids and mask, int64 ``[B, L]``."""
    lengths = np.array([len(sequence) for sequence in sequences])
    longest = int(lengths.max(initial=1))
    ids = np.full((len(sequences), longest), pad, np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
    return ids, mask
