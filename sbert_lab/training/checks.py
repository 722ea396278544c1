"""What can be seen to go wrong before the first step."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from sbert_lab.evaluation.evaluators import Evaluator
from sbert_lab.losses.objective import Objective
from sbert_lab.training.arguments import SentenceTrainingArguments
from sbert_lab.training.data import TrainingData

log = logging.getLogger(__name__)

Value = TypeVar("Value")


def for_each(
    names: Iterable[str], value: Value | Mapping[str, Value]
) -> dict[str, Value]:
    """Return a value for each data set, from one for all or one by name.

    Raises
    ------
    ValueError
        The names are not those of the data sets.
    """
    names = list(names)
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, value)
    if set(value) != set(names):
        raise ValueError(f"given for {sorted(value)}, and the data sets are {names}")
    return {name: value[name] for name in names}


def check_names(evaluators: Sequence[Evaluator], sets: Iterable[str]) -> None:
    """Refuse names that are used twice, or that cannot be part of a metric's name."""
    seen: set[str] = set()
    for evaluator in evaluators:
        if evaluator.name in seen:
            raise ValueError(
                f"two evaluators are called {evaluator.name!r}, and one would hide the "
                "other; give each a name of its own"
            )
        seen.add(evaluator.name)
    for name in sets:
        if not name or "." in name:
            raise ValueError(f"data set {name!r}: a name without a point, please")


def check_batch(
    data: TrainingData, objective: Objective, args: SentenceTrainingArguments
) -> None:
    """Refuse batches in which an objective has nothing to compare."""
    least, name = objective.least_rows, type(objective).__name__
    if args.batching != "tokens" and args.train_batch_size < least:
        raise ValueError(
            f"{name} compares the rows of a batch and needs {least} or more; "
            f"per_device_train_batch_size is {args.per_device_train_batch_size}"
        )
    if len(data) < least:
        raise ValueError(
            f"{name} needs {least} rows, and {data.source} has {len(data)}"
        )


def report_cut(data: TrainingData, cut: int, longest: int) -> None:
    """Say how many texts are longer than the encoder reads."""
    if cut:
        log.warning(
            "%s: %d of %d texts are longer than %d tokens and are cut there",
            data.source,
            cut,
            len(data.texts),
            longest,
        )
