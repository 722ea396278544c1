"""Candidates of all processes: each sees every other one's texts as wrong answers."""

import torch
from torch import Tensor, distributed


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all processes, and where this one's begin.

    Gradients flow back to the process that each row came from. Averaged over processes,
    as data-parallel training does, they are those of the joined batch.

    Parameters
    ----------
    rows
        Embeddings ``[B, D]``, the same B in every process.

    Returns
    -------
    Tensor
        ``[processes · B, D]``; ``rows`` itself where there is only one process.
    int
        Row at which this process's own begin: the ``offset`` of
        `multiple_negatives_ranking_loss`.

    Raises
    ------
    ValueError
        The processes bring different numbers of rows.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows, 0
    from torch.distributed.nn.functional import all_gather

    counts = [0] * distributed.get_world_size()
    distributed.all_gather_object(counts, len(rows))
    if len(set(counts)) > 1:
        raise ValueError(
            f"the processes bring {counts} rows: drop the last, smaller batch "
            "(drop_last), and give all rows as many negatives, so that all processes "
            "bring the same number"
        )
    parts = all_gather(rows)  # type: ignore[no-untyped-call]
    return torch.cat(list(parts)), distributed.get_rank() * len(rows)
