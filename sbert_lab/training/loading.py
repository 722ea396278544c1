"""From data sets to the batches of an epoch."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, Dataset

from sbert_lab.training.arguments import SentenceTrainingArguments
from sbert_lab.training.batch_samplers import (
    Batching,
    BatchSampler,
    no_duplicate_batches,
    random_batches,
    token_batches,
)
from sbert_lab.training.data import TrainingData


def loader(
    sets: Mapping[str, TrainingData],
    least_rows: Sequence[int],
    args: SentenceTrainingArguments,
) -> DataLoader[Any]:
    """Return the batches of an epoch, each of one data set, for this process.

    Parameters
    ----------
    sets
        Tokenised, by name.
    least_rows
        For each set the size below which a batch is left out.
    args
        Seed, size and kind of batches, and which process this is.
    """
    rows = _Rows(sets)
    sampler = BatchSampler(
        [_batching(part, args) for part in sets.values()],
        rows.starts,
        seed=args.seed if args.data_seed is None else args.data_seed,
        least_rows=least_rows,
        mixing=args.mixing,
        process=args.process_index,
        processes=args.world_size,
    )
    return _Loader(rows, batch_sampler=sampler, collate_fn=_unchanged)


def _batching(data: TrainingData, args: SentenceTrainingArguments) -> Batching:
    size = args.train_batch_size
    if args.batching == "no_duplicates":
        return partial(no_duplicate_batches, data.text_numbers, size)
    if args.batch_tokens is not None:
        return partial(token_batches, data.lengths(), args.batch_tokens)
    return partial(random_batches, len(data), size)


class _Rows(Dataset[dict[str, Any]]):
    """The rows of all data sets, one set after the other; a batch is of one of them."""

    def __init__(self, sets: Mapping[str, TrainingData]) -> None:
        self.sets = dict(sets)
        self.starts: list[int] = []
        for part in sets.values():
            self.starts.append(len(self))
            self.count = len(self) + len(part)

    def __len__(self) -> int:
        return getattr(self, "count", 0)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Any]:
        number = sum(start <= rows[0] for start in self.starts) - 1
        name = list(self.sets)[number]
        inside = [row - self.starts[number] for row in rows]
        return {"batch": self.sets[name].__getitems__(inside), "dataset": name}


class _Loader(DataLoader[Any]):
    """A loader whose sampler hears of the epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def _unchanged(batch: Any) -> Any:  # noqa: ANN401  (made by __getitems__)
    return batch
