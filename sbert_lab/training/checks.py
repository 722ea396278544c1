"""What can be seen to go wrong before the first step."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from sbert_lab.evaluation.evaluators import Evaluator
from sbert_lab.losses.objective import Objective
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training.arguments import SentenceTrainingArguments
from sbert_lab.training.data import TrainingData
from sbert_lab.training.leaks import HeldOut, leaks, refuse_leaks

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


def check_prompts(encoder: SentenceEncoder, prompts: Mapping[str, str]) -> None:
    """Refuse prompts that the encoder, in use, would leave out of its vectors."""
    if any(prompts.values()) and not encoder.layout.include_prompt:
        raise ValueError(
            "this encoder does not pool a prompt's tokens, and training would: train "
            "without prompts, or load it with include_prompt"
        )


def check_known(objectives: Mapping[str, Objective]) -> None:
    """Refuse known positives of several data sets: texts have numbers within one."""
    shared = [id(objective) for objective in objectives.values()]
    for objective in objectives.values():
        known = any(getattr(p, "_known_texts", ()) for p in objective.modules())
        if known and shared.count(id(objective)) > 1:
            raise ValueError(
                "known positives belong to one data set; give each data set an "
                "objective of its own"
            )


def check_overlap(
    sets: Sequence[TrainingData],
    evaluators: Sequence[Evaluator],
    evaluation_data: TrainingData | None,
    overlap: str,
) -> None:
    """Refuse, or warn, where something that is evaluated is also trained on."""
    if overlap not in ("refuse", "warn"):
        raise ValueError(f"overlap={overlap!r}: 'refuse' or 'warn'")
    judged: list[HeldOut] = [(e.name, e.held_out()) for e in evaluators]
    if evaluation_data is not None:
        rows = map(evaluation_data.row_texts, range(len(evaluation_data)))
        judged.append((evaluation_data.source, rows))
    if overlap == "refuse":
        refuse_leaks(sets, judged)
    elif found := leaks(sets, judged):
        log.warning("%d items are also trained on; %s", len(found), found[0])


def check_best(
    args: SentenceTrainingArguments, evaluators: Sequence[Evaluator], has_loss: bool
) -> None:
    """Refuse to keep the best model by a metric that nobody measures."""
    best = args.metric_for_best_model
    if best is None or args.eval_strategy == "no":
        return
    wanted, names = best.removeprefix("eval_"), [e.name for e in evaluators]
    if has_loss and wanted == "loss":
        return
    if not any(wanted.startswith(f"{name}_") for name in names):
        measured = [*(f"{name}_…" for name in names), *(["loss"] if has_loss else [])]
        raise ValueError(
            f"metric_for_best_model={best!r}: measured are {', '.join(measured)}"
        )


def check_batch(
    data: TrainingData, objective: Objective, args: SentenceTrainingArguments
) -> None:
    """Refuse batches in which an objective has nothing to compare.

    And, for several processes that see each other's texts, batches of different size.
    """
    least, name = objective.least_rows, type(objective).__name__
    if args.batching != "tokens" and args.train_batch_size < least:
        raise ValueError(
            f"{name} compares the rows of a batch and needs {least} or more; "
            f"per_device_train_batch_size is {args.per_device_train_batch_size}"
        )
    gathers = any(getattr(part, "gather", False) for part in objective.modules())
    alike = args.dataloader_drop_last and args.batching != "tokens"
    if gathers and args.world_size > 1 and not alike:
        raise ValueError(
            f"{name} gathers the texts of all processes, and all must bring the same "
            "number: set dataloader_drop_last=True, and batching other than 'tokens'"
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
