"""The settings that usually do, for the functions that train in one call.

`SentenceTrainer` offers everything; `train_usually` chooses for those who only say how
long, how fast and from which seed, and keeps its checkpoints where a folder is given.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import TrainOutput

from sbert_lab._utils import Advance, progress
from sbert_lab.training.arguments import SentenceTrainingArguments
from sbert_lab.training.resuming import checkpoint, steps
from sbert_lab.training.trainer import SentenceTrainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """How a training went.

    Parameters
    ----------
    output
        Last step, mean loss and what was measured.
    curve
        Step and training loss, the mean since the entry before: about twenty entries,
        and one at the end of each epoch.
    """

    output: TrainOutput
    curve: tuple[tuple[int, float], ...]


def train_usually(
    make: Callable[[SentenceTrainingArguments], SentenceTrainer],
    *,
    device: torch.device,
    folder: str | Path | None = None,
    epochs: float = 1,
    batch_size: int = 32,
    learning_rate: float = 2e-5,
    seed: int = 0,
    bf16: bool = False,
    resume: bool = False,
    show_progress: bool | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Trained:
    """Train with Adam and a rate that rises for a tenth of the steps, then falls to 0.

    All that is random follows from `seed`; the global random state stays as it was.

    Parameters
    ----------
    make
        From the arguments to the trainer.
    device
        Where the encoder is.
    folder
        Where checkpoints go, one an epoch, the last two kept. None writes none.
    epochs, batch_size, learning_rate
        How often each row is seen, rows in a step, and the highest rate.
    seed
        Of the order of rows and of dropout.
    bf16
        Half precision on devices that have it; losses stay in float32.
    resume
        Go on from the last complete checkpoint in `folder`, or begin where there is
        none.
    show_progress
        A bar on standard error; by default on a terminal, for 100 steps or more.
    arguments
        Others of `SentenceTrainingArguments`; they win.

    Raises
    ------
    ValueError
        `resume` without a folder, or a number that is out of range.
    """
    if resume and folder is None:
        raise ValueError("resume=True needs the folder that holds the checkpoints")
    for name, value in (("epochs", epochs), ("learning_rate", learning_rate)):
        if not value > 0:
            raise ValueError(f"{name}={value}: above 0")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: one or more")
    common: dict[str, Any] = {
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
        "warmup_steps": 0.1,
        "logging_steps": 0.05,
        "seed": seed,
        "bf16": bf16,
        "use_cpu": device.type == "cpu",
        "save_strategy": "no" if folder is None else "epoch",
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
    }
    with TemporaryDirectory() as nowhere:
        home = Path(nowhere if folder is None else folder)
        args = SentenceTrainingArguments(
            **common | dict(arguments or {}), output_dir=str(home)
        )
        trainer = make(args)
        start: str | None = None
        if resume:
            try:
                start = str(checkpoint(True, home))
            except FileNotFoundError:
                log.info("%s has no complete checkpoint; training begins", home)
        total = steps(args, len(trainer.get_train_dataloader()))
        with progress(total, "train", show=show_progress, minimum=100) as move:
            trainer.add_callback(_Bar(move))
            trainer.add_callback(_Whole())
            output = trainer.train(start)
    curve = tuple(
        (int(entry["step"]), float(entry["loss"]))
        for entry in trainer.state.log_history
        if "loss" in entry
    )
    return Trained(output, curve)


class _Bar(TrainerCallback):
    """Moves a progress bar, by the steps of earlier runs at the start."""

    def __init__(self, move: Advance) -> None:
        self.move, self.at = move, 0

    def on_step_end(self, args, state, control, **_) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003
        del args, control
        self.move(state.global_step - self.at)
        self.at = state.global_step


class _Whole(TrainerCallback):
    """Logs before a checkpoint: what is not logged then is lost to a resumed curve."""

    def on_epoch_end(self, args, state, control, **_) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003
        del args, state
        control.should_log = True


def has_fast_bfloat16() -> bool:
    """Return whether matrix products in bfloat16 are quick here.

    On a processor without instructions for them they would be many times slower.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
