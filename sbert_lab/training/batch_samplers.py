"""Which rows are trained on together: batches that are seeded, exact, and know why.

Each way of batching is a pure function of a random generator. `BatchSampler` calls it
anew for every epoch, with a generator made of seed and epoch: the same seed gives the
same batches, another gives others, and a resumed run goes on where it stopped.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Batching = Callable[[np.random.Generator], list[Rows]]
Mixing = Literal["proportional", "round_robin"]


def random_batches(count: int, size: int, rng: np.random.Generator) -> list[Rows]:
    """Return all rows in random order, `size` at a time; the last may be smaller."""
    order = rng.permutation(count)
    return [order[start : start + size] for start in range(0, count, size)]


def no_duplicate_batches(
    numbers: NDArray[np.int64], size: int, rng: np.random.Generator
) -> list[Rows]:
    """Return batches in which no text stands twice, smaller ones last.

    A row whose text is already in a batch goes to the next one that has room, so that
    no row is lost. In-batch negatives need this where texts repeat, unless the
    objective masks them.

    Parameters
    ----------
    numbers
        Which texts each row has, int64 ``[n, columns]``, equal texts by equal numbers;
        below 0 is no text. The same text twice in one row does not matter.
    size
        Rows in a batch.
    rng
        Draws the order.
    """
    batches: list[list[int]] = []
    after: dict[int, int] = defaultdict(int)  # first batch without a text's number
    roomy: list[int] = []  # next batch at or after this one that may have room

    def with_room(batch: int) -> int:
        passed = []
        while batch < len(roomy) and roomy[batch] != batch:
            passed.append(batch)
            batch = roomy[batch]
        for one in passed:
            roomy[one] = batch
        return batch

    for row in rng.permutation(len(numbers)):
        texts = {int(number) for number in numbers[row] if number >= 0}
        place = with_room(max((after[text] for text in texts), default=0))
        while place >= len(batches):
            roomy.append(len(batches))
            batches.append([])
        batches[place].append(int(row))
        if len(batches[place]) == size:
            roomy[place] = place + 1
        for text in texts:
            after[text] = place + 1
    batches.sort(key=len, reverse=True)
    return [np.array(batch) for batch in batches]


def token_batches(
    lengths: NDArray[np.int64], budget: int, rng: np.random.Generator
) -> list[Rows]:
    """Return batches of at most `budget` tokens each, in random order.

    Rows of like length share a batch, so batches of short texts have more rows. A row
    longer than the budget makes a batch of its own.

    Parameters
    ----------
    lengths
        Tokens of each row, all its texts together, ``[n]``.
    budget
        Tokens in a batch.
    rng
        Draws who shares a batch with whom, among rows of a tenth's difference in
        length, and the order of the batches.
    """
    if budget < 1:
        raise ValueError(f"budget={budget}: a batch needs at least one token")
    blurred = np.log(np.maximum(lengths, 1)) + rng.uniform(0, 0.1, len(lengths))
    order = np.argsort(blurred, kind="stable")
    batches, start, tokens = [], 0, 0
    for place, row in enumerate(order):
        if place > start and tokens + lengths[row] > budget:
            batches.append(order[start:place])
            start, tokens = place, 0
        tokens += lengths[row]
    if len(order):
        batches.append(order[start:])
    return [batches[i] for i in rng.permutation(len(batches))]


def mixed(
    counts: Sequence[int], how: Mixing, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return from which data set each batch of an epoch comes.

    Parameters
    ----------
    counts
        Batches of each data set.
    how
        ``"proportional"``: all batches of all sets, in random order.
        ``"round_robin"``: one of each in turn, until the smallest set ends.
    rng
        Draws the order.
    """
    if how == "round_robin":
        return np.tile(np.arange(len(counts)), min(counts))
    if how != "proportional":
        raise ValueError(f"mixing={how!r}: 'proportional' or 'round_robin'")
    return rng.permutation(np.repeat(np.arange(len(counts)), counts))


class BatchSampler:
    """The batches of each epoch, of one data set or several, for one process of many.

    An epoch always has as many batches as the first one: where texts repeat, another
    order may make one more or less, and a schedule needs to know.

    Parameters
    ----------
    sets
        For each data set how its batches are made.
    offsets
        What is added to the rows of each set, which stand one after the other.
    seed
        Of all orders, together with the epoch.
    least_rows
        For each set; smaller batches are left out.
    mixing
        How batches of several sets follow each other.
    process, processes
        Which of the batches are this process's: of each set every `processes`-th. In
        one step all processes have batches of the same set, for they exchange
        gradients, and what one objective gathers another would not send.

    Raises
    ------
    ValueError
        A data set has not one batch for each process.
    """

    def __init__(
        self,
        sets: Sequence[Batching],
        offsets: Sequence[int],
        *,
        seed: int,
        least_rows: Sequence[int],
        mixing: Mixing = "proportional",
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.sets, self.offsets, self.least_rows = sets, offsets, least_rows
        self.seed, self.mixing, self.epoch = seed, mixing, 0
        self.process, self.processes = process, processes
        self.counts = [len(self._of(number, 0, 0)) for number in range(len(sets))]
        self.shares = [count // processes for count in self.counts]
        if min(self.shares) == 0:
            raise ValueError(
                f"the data make {self.counts} batches, too few for {processes} "
                "process(es): give more rows, or make batches smaller"
            )

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Count the batches of an epoch, for one process."""
        if self.mixing == "round_robin":
            return min(self.shares) * len(self.shares)
        return sum(self.shares)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rows of each batch."""
        left = [iter(self._full(number)) for number in range(len(self.sets))]
        rng = np.random.default_rng([self.seed, self.epoch, len(self.sets)])
        for number in mixed(self.shares, self.mixing, rng):
            batches = [next(left[number]) for _ in range(self.processes)]
            yield (batches[self.process] + self.offsets[number]).tolist()

    def _full(self, number: int) -> list[Rows]:
        """Return exactly as many batches as an epoch has."""
        found: list[Rows] = []
        again = 0
        while len(found) < self.counts[number]:
            found += self._of(number, self.epoch, again)
            again += 1
        return found[: self.counts[number]]

    def _of(self, number: int, epoch: int, again: int) -> list[Rows]:
        rng = np.random.default_rng([self.seed, epoch, number, again])
        least = self.least_rows[number]
        return [rows for rows in self.sets[number](rng) if len(rows) >= least]
