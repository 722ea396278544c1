"""Where a stopped training goes on, and what must be the same when it does."""

import json
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sbert_lab.losses.objective import Objective
from sbert_lab.training.arguments import SentenceTrainingArguments
from sbert_lab.training.data import TrainingData

log = logging.getLogger(__name__)

OBJECTIVES = "objectives.safetensors"  # the objectives' own weights
PLAN = "plan.json"
STATE = "trainer_state.json"  # which transformers writes last

#: Arguments that a resumed run must have in common with its beginning.
_SAME = (
    "seed", "data_seed", "per_device_train_batch_size", "batching", "batch_tokens",
    "mixing", "dataloader_drop_last", "world_size", "gradient_accumulation_steps",
    "learning_rate", "optim",
)  # fmt: skip


def plan(
    args: SentenceTrainingArguments,
    sets: Mapping[str, TrainingData],
    prompts: Mapping[str, str],
    objectives: Mapping[str, Objective],
) -> dict[str, Any]:
    """Return what a resumed run must have in common with its beginning, for JSON."""
    kinds = {
        name: [
            [type(part).__name__, _settings(part)]
            for part in bound.modules()
            if isinstance(part, Objective)
        ]
        for name, bound in objectives.items()
    }
    return {
        "data": {name: part.fingerprint() for name, part in sets.items()},
        "prompts": dict(prompts),
        "objective": kinds,
        **{name: getattr(args, name) for name in _SAME},
    }


def _settings(objective: Objective) -> dict[str, Any]:
    """Return the numbers and words that an objective was made with."""
    return {
        name: value
        for name, value in sorted(vars(objective).items())
        if name != "training" and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(isinstance(part, bool | int | float | str) for part in value)
    return isinstance(value, bool | int | float | str)


def steps(args: SentenceTrainingArguments, batches: int) -> int:
    """Count the steps of a whole training, from the batches of an epoch."""
    if args.max_steps > 0:
        return int(args.max_steps)
    each = math.ceil(batches / args.gradient_accumulation_steps)
    return math.ceil(args.num_train_epochs * each)


def checkpoint(wanted: str | bool, home: Path) -> Path:
    """Return the folder to resume from, passing over what was half written.

    Parameters
    ----------
    wanted
        The folder, or True for the last complete one.
    home
        Where checkpoints are.

    Raises
    ------
    FileNotFoundError
        There is no complete one.
    """
    if wanted is not True:
        folder = Path(str(wanted))
        if not _is_complete(folder):
            raise FileNotFoundError(f"{folder} is not a complete checkpoint")
        return folder
    found = sorted(
        (int(number[1]), path)
        for path in home.glob("checkpoint-*")
        if (number := re.fullmatch(r"checkpoint-(\d+)", path.name))
    )
    for _, folder in reversed(found):
        if _is_complete(folder):
            return folder
        log.warning("%s is incomplete and passed over", folder)
    raise FileNotFoundError(
        f"{home} has no complete checkpoint; train without resume_from_checkpoint"
    )


def check_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    """Refuse to go on with another plan than the one that a checkpoint was made with.

    Raises
    ------
    ValueError
        Naming what has changed.
    """
    saved = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    now = json.loads(json.dumps(plan))
    changed = [key for key in now if saved.get(key) != now[key]]
    if changed:
        raise ValueError(
            f"{folder} cannot be resumed: changed since are {', '.join(changed)}. "
            "Take back the change, or begin anew in another output_dir"
        )


def _is_complete(folder: Path) -> bool:
    """Return whether a checkpoint was written to its end."""
    try:
        json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    needed = (OBJECTIVES, PLAN, "optimizer.pt", "scheduler.pt")
    return all((folder / name).is_file() for name in needed)
