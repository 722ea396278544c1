"""`SentenceTrainer`: transformers' trainer, made for embeddings.

Devices, mixed precision, schedules, checkpoints, callbacks and several processes come
from `transformers.Trainer`. What is added: columns by role, batches that know why, an
objective whose own weights are saved and resumed, evaluation by name, and errors before
the first step instead of after the last.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save
from torch import Tensor, distributed, nn
from torch.utils.data import ConcatDataset, DataLoader
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
)
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_utils import TrainOutput, set_seed

from sbert_lab._utils import random_state_kept, write_bytes, write_json
from sbert_lab.evaluation.evaluators import Evaluator
from sbert_lab.losses.objective import Objective
from sbert_lab.models.batching import evaluating
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training.arguments import SentenceTrainingArguments
from sbert_lab.training.blame import blame
from sbert_lab.training.checks import (
    check_batch,
    check_best,
    check_known,
    check_names,
    check_overlap,
    check_prompts,
    for_each,
    report_cut,
)
from sbert_lab.training.data import TrainingData, check_columns
from sbert_lab.training.loading import loader
from sbert_lab.training.module import TrainedModule, quick_attention
from sbert_lab.training.resuming import (
    OBJECTIVES,
    PLAN,
    STATE,
    check_plan,
    checkpoint,
    plan,
    steps,
)

log = logging.getLogger(__name__)

_ONLY = "train"  # name of the one data set where there is no other


class SentenceTrainer(Trainer):
    """Train an encoder, in place.

    Parameters
    ----------
    encoder
        The model; when training ends it is the trained one, or the best one where
        ``load_best_model_at_end`` is set.
    args
        See `SentenceTrainingArguments`.
    data
        Rows to train on; several data sets by name, each batch then of one.
    objective
        What to train for; by data set where there are several with different ones.
    evaluators
        Run at each evaluation, each under a name of its own.
    evaluation_data
        Rows whose loss is measured at each evaluation (``eval_loss``).
    overlap
        ``"refuse"`` stops where something that is evaluated is also trained on;
        ``"warn"`` says so and goes on.
    prompts
        By data set, or one for all: what to put in front of every text.
    callbacks, optimizers
        As in transformers.

    Raises
    ------
    DataError
        Columns or labels that the objective cannot read, or texts on both sides.
    ValueError
        Batches too small for the objective, names used twice, options without use.
    """

    args: SentenceTrainingArguments

    def __init__(
        self,
        encoder: SentenceEncoder,
        args: SentenceTrainingArguments,
        data: TrainingData | Mapping[str, TrainingData],
        objective: Objective | Mapping[str, Objective],
        *,
        evaluators: Sequence[Evaluator] = (),
        evaluation_data: TrainingData | None = None,
        overlap: Literal["refuse", "warn"] = "refuse",
        prompts: str | Mapping[str, str] = "",
        callbacks: Sequence[TrainerCallback] = (),
        optimizers: tuple[Any, Any] = (None, None),
    ) -> None:
        self.sets = {_ONLY: data} if isinstance(data, TrainingData) else dict(data)
        objectives = for_each(self.sets, objective)
        self.evaluators, self.evaluation_data = list(evaluators), evaluation_data
        self._prefixes = for_each(self.sets, prompts)
        check_names(self.evaluators, self.sets)
        check_prompts(encoder, self._prefixes)
        check_known(objectives)
        if args.n_gpu > 1:  # DataParallel cannot split a Batch
            log.warning("1 of %d GPUs is used; torchrun starts on all", args.n_gpu)
            args._n_gpu = 1
        for name, part in self.sets.items():
            check_columns(part, objectives[name])
            check_batch(part, objectives[name], args)
        if evaluation_data is not None:
            if len(self.sets) > 1:
                raise ValueError("evaluation_data goes with one data set, not several")
            check_columns(evaluation_data, objectives[self._only])
        sets = list(self.sets.values())
        check_overlap(sets, self.evaluators, evaluation_data, overlap)
        evaluates = self.evaluators or evaluation_data is not None
        if args.eval_strategy != "no" and not evaluates:
            raise ValueError(
                "eval_strategy asks for evaluations; give evaluators=[…] or "
                "evaluation_data=…"
            )
        check_best(args, self.evaluators, evaluation_data is not None)
        self.encoder = encoder
        self.sets = {name: self._cut(part, name) for name, part in self.sets.items()}
        if evaluation_data is not None:
            self.evaluation_data = self._cut(evaluation_data, self._only)
        for name, bound in objectives.items():
            bound.bind(encoder, self.sets[name].numbers)
        args.logging_nan_inf_filter = False  # a loss that is not finite stops the run
        self._seen: dict[str, list[float]] = defaultdict(list)
        self.trained = TrainedModule(encoder, objectives, args.group_tokens)
        with random_state_kept():  # transformers seeds the world here
            super().__init__(
                model=self.trained,
                args=args,
                train_dataset=ConcatDataset(list(self.sets.values())),
                eval_dataset={} if evaluates else None,
                callbacks=list(callbacks),
                optimizers=optimizers,
            )
        for noisy in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):
            self.remove_callback(noisy)
        self.add_callback(_Lines())

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,  # noqa: ANN401
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train; return the last step, the mean loss and what was measured.

        The encoder is left in evaluation mode, and the global random state as it was:
        all that is random follows from ``args.seed``.

        Parameters
        ----------
        resume_from_checkpoint
            A checkpoint's folder, or True for the last complete one in ``output_dir``.
        trial, ignore_keys_for_eval
            As in transformers.
        """
        if resume_from_checkpoint:
            home = Path(str(self.args.output_dir))
            folder = checkpoint(resume_from_checkpoint, home)
            check_plan(folder, self._plan())
            resume_from_checkpoint = str(folder)
            state = TrainerState.load_from_json(str(folder / STATE))
            if state.global_step >= steps(self.args, len(self.get_train_dataloader())):
                return self._finished(folder, state)
        with random_state_kept(), quick_attention(self.encoder):
            set_seed(self.args.seed)
            try:
                found = super().train(
                    resume_from_checkpoint or None, trial, ignore_keys_for_eval
                )
            finally:
                self.encoder.eval()
                if self.args.activation_checkpointing:
                    self.encoder.transformer.activation_checkpointing_disable()
        return found

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of an epoch."""
        return loader(self.sets, [self._least(name) for name in self.sets], self.args)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401
        """Return the loss of a batch, and stop where it is not a number."""
        del num_items_in_batch  # a mean over the batch, which transformers scales
        found = model(**inputs)
        if not torch.isfinite(found["loss"]):
            step = self.state.global_step + 1
            data = self.sets[inputs["dataset"]]
            raise FloatingPointError(blame(self.trained, step, data, **inputs))
        prefix = f"{inputs['dataset']}_" if len(self.sets) > 1 else ""
        for name, value in found["diagnostics"].items():
            self._seen[prefix + name].append(float(value))
        return (found["loss"], found) if return_outputs else found["loss"]

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Go one batch forward and backward.

        An objective that encodes twice goes backward in parts; its gradients are
        exchanged between processes once, when all parts are in.
        """
        together = self.args.world_size > 1
        if not (together and self.trained.objective(inputs["dataset"]).replays):
            return super().training_step(model, inputs, num_items_in_batch)
        with self.accelerator.no_sync(model):
            loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            for parameter in self.trained.parameters():
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.args.world_size
        return loss

    def evaluate(  # type: ignore[override]
        self,
        eval_dataset: TrainingData | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Run every evaluator, and the loss of the evaluation data; return the metrics.

        The encoder is as it was afterwards, dropout and all.
        """
        del ignore_keys
        data = self.evaluation_data
        if eval_dataset is not None:
            check_columns(eval_dataset, self.trained.objective(self._only))
            data = self._cut(eval_dataset, self._only)
        metrics: dict[str, float] = {}
        for evaluator in self.evaluators:
            for metric, value in evaluator(self.encoder).items():
                metrics[f"{metric_key_prefix}_{evaluator.name}_{metric}"] = value
        if data is not None:
            metrics[f"{metric_key_prefix}_loss"] = self._loss_on(data)
        best = self.args.metric_for_best_model
        if best is not None and self.args.eval_strategy != "no":
            wanted = best if best.startswith("eval_") else f"eval_{best}"
            if metric_key_prefix == "eval" and wanted not in metrics:
                raise ValueError(
                    f"metric_for_best_model={best!r}: measured are {', '.join(metrics)}"
                )
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with what explains the loss: means since the last time."""
        if "loss" in logs:
            logs |= {name: fmean(values) for name, values in self._seen.items()}
            self._seen.clear()
        super().log(logs, start_time)

    def _loss_on(self, data: TrainingData) -> float:
        """Return the mean loss of rows, in their order, without dropout."""
        size = self.args.eval_batch_size
        least = self.trained.objective(self._only).least_rows
        total, rows = 0.0, 0
        with evaluating(self.trained), random_state_kept():
            for start in range(0, len(data), size):
                wanted = range(start, min(start + size, len(data)))
                if len(wanted) < least:
                    continue
                found = self.trained(data.__getitems__(wanted), self._only)
                total += float(found["loss"]) * len(wanted)
                rows += len(wanted)
        return total / rows if rows else math.nan

    @property
    def _only(self) -> str:
        """Name of the data set, where there is one."""
        return next(iter(self.sets))

    def _cut(self, data: TrainingData, name: str) -> TrainingData:
        """Return the data with tokens of its own; other trainers may have others."""
        found = copy(data)
        longer = found.tokenize(self.encoder, self._prefixes[name])
        report_cut(found, longer, self.encoder.max_seq_length)
        return found

    def _least(self, name: str) -> int:
        least: int = self.trained.objective(name).least_rows
        if self.args.dataloader_drop_last and self.args.batching != "tokens":
            return max(least, self.args.train_batch_size)
        return least

    def save_model(
        self, output_dir: str | None = None, _internal_call: bool = False
    ) -> None:
        """Write the encoder as a model folder, from the first process."""
        super().save_model(output_dir, _internal_call)
        if _internal_call:  # a checkpoint, into which every process writes then
            self.accelerator.wait_for_everyone()

    def _save(
        self,
        output_dir: str | None = None,
        state_dict: dict[str, Any] | None = None,
    ) -> None:
        """Write the encoder as a model folder, the objectives' weights beside it."""
        del state_dict
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        if any(folder.glob("checkpoint-*")):
            raise FileExistsError(
                f"{folder} holds checkpoints, which saving a model there would remove; "
                "give save_model a folder of its own"
            )
        self.encoder.save(folder)
        own = self.trained.own_parameters()
        tensors = {name: p.detach().cpu().contiguous() for name, p in own.items()}
        write_bytes(folder / OBJECTIVES, save(tensors))
        write_json(folder / PLAN, self._plan())

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        del model
        folder = Path(resume_from_checkpoint)
        saved = SentenceEncoder.from_pretrained(folder, device="cpu", allow_hub=False)
        self.encoder.load_state_dict(saved.state_dict())
        tensors = load_file(folder / OBJECTIVES)
        own = self.trained.own_parameters()
        found, wanted = (
            {name: tensor.shape for name, tensor in part.items()}
            for part in (tensors, own)
        )
        if found != wanted:
            raise ValueError(f"{folder} was saved with another objective")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if best is None or not Path(best).is_dir():
            raise FileNotFoundError(
                f"the best checkpoint, {best}, is gone; the encoder is the last one. "
                "Raise save_total_limit"
            )
        self._load_from_checkpoint(best)

    def _plan(self) -> dict[str, Any]:
        objectives = {name: self.trained.objective(name) for name in self.sets}
        return plan(self.args, self.sets, self._prefixes, objectives)

    def _finished(self, folder: Path, state: TrainerState) -> TrainOutput:
        """Take the result of a training that is done; transformers would go on."""
        self.state = state
        self._load_from_checkpoint(str(folder))
        if self.args.load_best_model_at_end and state.best_model_checkpoint:
            self._load_best_model()
        self.encoder.eval()
        log.info("%s is at the last step; nothing is left to do", folder)
        return TrainOutput(state.global_step, 0.0, {})


class _Lines(TrainerCallback):
    """One plain line of the log for each report of the trainer."""

    def on_log(self, args, state, control, logs=None, **_) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003
        del args, control
        if state.is_world_process_zero and logs:
            shown = "  ".join(
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in logs.items()
                if name not in ("total_flos", "epoch")
            )
            log.info("step %d of %d  %s", state.global_step, state.max_steps, shown)
