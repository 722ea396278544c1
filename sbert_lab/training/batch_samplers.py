"""Which rows are trained on together: seeded batches, the same in a resumed run."""

from collections.abc import Iterator

import numpy as np


class BatchSampler:
    """`count` rows in random order, a batch at a time, for one process of several.

    The order follows from seed and epoch alone, so a resumed run goes on with the
    batches that an uninterrupted one would have had. Batches of less than `least_rows`
    are left out. This process has every `processes`-th batch; all have the same number
    of them, for they exchange gradients in every step. A row that an epoch leaves out
    is left out again only when all others have been.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int,
        least_rows: int = 1,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.count, self.batch_size = count, batch_size
        self.seed, self.epoch = seed, 0
        self.process, self.processes = process, processes
        rest = count % batch_size
        batches = count // batch_size + (rest >= max(1, least_rows))
        self.length = batches // processes
        if not self.length:
            raise ValueError(
                f"{count} rows make {batches} batches of {batch_size}, too few for "
                f"{processes} process(es): give more rows, or make batches smaller"
            )
        #: Rows that are in no batch of an epoch, of any process.
        self.left_out = max(0, count - self.length * processes * batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Count the batches of an epoch, for one process."""
        return self.length

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rows of each batch."""
        first, order = (
            np.random.default_rng([self.seed, epoch, 0, 0]).permutation(self.count)
            for epoch in (0, self.epoch)
        )
        # Last, and left out, are the end of the first order, then what is before it.
        places = np.arange(-self.left_out, 0) - self.left_out * self.epoch
        last = first[places % self.count]
        order = np.append(np.setdiff1d(order, last, assume_unique=True), last)
        for number in range(self.length):
            start = (number * self.processes + self.process) * self.batch_size
            yield order[start : start + self.batch_size].tolist()
