"""`SentenceTrainer`: transformers' trainer for sentence encoders and cross-encoders.

Devices, precision, schedules, checkpoints, callbacks and several processes come from
`transformers.Trainer`. Added are columns by role, objectives whose own weights are
trained and saved, evaluators, and refusals before the first step.
"""

import json
import logging
import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput, set_seed

from sbert_lab._utils import (
    LISTING,
    new_folder,
    progress,
    random_state_kept,
    write_bytes,
    write_json,
)
from sbert_lab.datasets.leaks import find_leaks
from sbert_lab.datasets.pairs import DataError
from sbert_lab.evaluation.evaluators import Evaluator
from sbert_lab.losses.objective import Batch, Objective, Tokens
from sbert_lab.losses.pair_scores import ListwiseCrossEntropy
from sbert_lab.models.batching import pad_right, token_budget_batches
from sbert_lab.models.checkpoint import CheckpointError, check_files
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training.batch_samplers import BatchSampler
from sbert_lab.training.data import TrainingData, check_columns

log = logging.getLogger(__name__)

AnyEncoder = SentenceEncoder | CrossEncoder

#: Step and training loss, the mean since the entry before.
Curve = tuple[tuple[int, float], ...]

#: Padded tokens that go through the model together. On a CPU a group that fits the
#: caches is fastest; a GPU takes the whole batch at once.
GROUP = {"cpu": 2048, "cuda": 1 << 17, "mps": 1 << 15}

#: Options of transformers that `SentenceTrainer` would not read.
_UNREAD = (
    "label_smoothing_factor", "neftune_noise_alpha", "use_liger_kernel",
    "torch_compile", "activation_checkpointing", "train_sampling_strategy",
    "include_for_metrics", "prediction_loss_only", "deepspeed", "fsdp", "push_to_hub",
    "auto_find_batch_size", "dataloader_num_workers", "data_seed",
)  # fmt: skip

#: Arguments that a resumed run has in common with its beginning.
_RECIPE = (
    "seed", "per_device_train_batch_size", "dataloader_drop_last", "world_size",
    "gradient_accumulation_steps", "learning_rate", "optim", "lr_scheduler_type",
    "lr_scheduler_kwargs", "warmup_steps", "weight_decay", "adam_beta1", "adam_beta2",
    "adam_epsilon", "max_grad_norm", "metric_for_best_model", "greater_is_better",
    "bf16", "fp16",
)  # fmt: skip

#: What may have changed since, and is told.
_TOLD = ("bf16", "fp16", "callbacks", "steps", "weights")

# Files of a checkpoint; transformers writes the last one last.
_OBJECTIVE, _PLAN, _STATE = "objective.safetensors", "plan.json", "trainer_state.json"


@dataclass
class SentenceTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments`; refuses those that would have no effect."""

    def __post_init__(self) -> None:
        """Check."""
        super().__post_init__()
        for name in _UNREAD:
            value = getattr(self, name)
            if value and value != getattr(TrainingArguments, name, None):
                raise ValueError(
                    f"{name}={value!r}: SentenceTrainer has no use for it; leave it out"
                )


class SentenceTrainer(Trainer):
    """Train a sentence encoder or a cross-encoder, in place.

    A cross-encoder takes `ListwiseCrossEntropy`, a sentence encoder all other
    objectives; `args` and `callbacks` are as in transformers. The metrics of
    `evaluators` are called ``eval_{name}_{metric}``. A `DataError` tells of columns or
    labels that the objective cannot read, and of texts that are both trained on and
    evaluated.
    """

    control: Any  #: transformers' switchboard

    args: SentenceTrainingArguments

    def __init__(
        self,
        encoder: AnyEncoder,
        args: SentenceTrainingArguments,
        data: TrainingData,
        objective: Objective,
        *,
        evaluators: Sequence[Evaluator] = (),
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        if isinstance(objective, type) or not isinstance(data, TrainingData):
            raise TypeError(
                "train on TrainingData, as TrainingData.from_pairs(pairs), with an "
                "objective that is made, as MultipleNegativesRankingLoss()"
            )
        pairwise = isinstance(objective, ListwiseCrossEntropy)
        if isinstance(encoder, CrossEncoder) != pairwise:
            raise TypeError(
                f"{type(objective).__name__} does not train a {type(encoder).__name__}:"
                " a CrossEncoder takes ListwiseCrossEntropy, and nothing else does"
            )
        check_columns(data, objective)
        _check_batch(data, objective, args)
        _check_no_leak(data, evaluators)
        if args.n_gpu > 1:  # DataParallel cannot split a Batch
            log.warning("1 of %d GPUs is used; torchrun starts on all", args.n_gpu)
            args._n_gpu = 1
        self.encoder, self.evaluators = encoder, list(evaluators)
        self.data = copy(data)  # another trainer may have other tokens of it
        if isinstance(encoder, SentenceEncoder):  # else pairs are tokenised, not texts
            self.data.tokenize(encoder)
        objective.bind(encoder, self.data.numbers)
        args.logging_nan_inf_filter = False  # a loss that is not finite stops the run
        self._begun_with: str | None = encoder.fingerprint()
        self.trained = TrainedModule(encoder, objective)
        with random_state_kept():  # transformers seeds the world here
            super().__init__(
                model=self.trained,
                args=args,
                train_dataset=self.data,
                eval_dataset={} if self.evaluators else None,
                callbacks=list(callbacks),
            )
        for noisy in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):
            self.remove_callback(noisy)
        self._tell_unused()

    def _tell_unused(self) -> None:
        """Tell of rows that teach nothing."""
        args, data, objective = self.args, self.data, self.trained.objective
        sampler: Any = self.get_train_dataloader().batch_sampler
        steps = self.last_step() * args.gradient_accumulation_steps
        seen = steps * args.train_batch_size * args.world_size
        left_out: int = len(data) - min(len(data) - sampler.left_out, seen)
        if left_out:
            told = "%s: %d of %d rows are in no batch, or in one after the last step"
            log.warning(told, data.source, left_out, len(data))
        negatives = data.columns.get("negative", ("",))[0]
        if objective.least_rows > 1 and not len(negatives):
            role = objective.roles[-1]
            values = data.columns[role][0]
            idle = sum(len(rows) for rows in sampler if len({*values[rows]}) == 1)
            told = f"{data.source}: {idle} of {len(data)} rows are in batches of one "
            told += f"{role} and teach nothing: bring others, negatives, larger "
            told += "batches or, for few classes, SoftmaxLoss"
            if len({*values}) == 1:
                raise DataError([told])
            if idle:
                log.warning(told)

    def train(
        self,
        resume_from_checkpoint: str | Path | bool | None = None,
    ) -> TrainOutput:
        """Train, or go on from a checkpoint's folder; True is the last in `output_dir`.

        A run that was stopped and is resumed ends with the weights that it would have
        had, to the bit; a checkpoint of other data, objective or settings is refused.
        Callbacks go on with what they had counted; a run that is done, or was stopped
        early, does nothing.
        All that is random follows from ``args.seed``; the global random state stays as
        it was. A loss that is not finite is a `FloatingPointError`.
        """
        for path in _numbered(str(self.args.output_dir)).values():
            if self.args.save_strategy != "no" and not (path / _PLAN).is_file():
                raise FileExistsError(
                    f"{path} is no checkpoint of ours, and in the place of one: move "
                    "it, or give another output_dir"
                )
        folder: str | None = None
        if resume_from_checkpoint:
            found = Path(str(resume_from_checkpoint))
            if resume_from_checkpoint is True:
                found = last_checkpoint(str(self.args.output_dir)) or found
            if damage := _damage(found):
                raise FileNotFoundError(
                    f"no complete checkpoint: {self.args.output_dir}, {damage}; train "
                    "without resume_from_checkpoint"
                )
            self._check_plan(found)
            folder = str(found)
            self.state = TrainerState.load_from_json(str(found / _STATE))
            ended = self.state.global_step >= self.last_step()
            if self._restore_callbacks() or ended:
                return self._finished(folder)
        transformer = self.encoder.transformer
        attention = transformer.config._attn_implementation
        with random_state_kept():
            set_seed(self.args.seed)
            try:
                if self.encoder.device.type == "cpu" and attention == "sdpa":
                    # The fused kernel is slower going backward.
                    transformer.set_attn_implementation("eager")
                return super().train(folder)
            finally:
                self.encoder.eval()
                transformer.set_attn_implementation(attention)

    def last_step(self) -> int:
        """Count the steps of the whole training."""
        if self.args.max_steps > 0:
            return int(self.args.max_steps)
        batches = len(self.get_train_dataloader())
        steps = math.ceil(batches / self.args.gradient_accumulation_steps)
        return math.ceil(self.args.num_train_epochs * steps)

    def get_train_dataloader(self) -> Any:  # noqa: ANN401
        """Return the batches of an epoch, those of this process."""
        args = self.args
        least: int = self.trained.objective.least_rows
        if args.dataloader_drop_last:
            least = max(least, args.train_batch_size)
        sampler = BatchSampler(
            len(self.data),
            args.train_batch_size,
            seed=args.seed,
            least_rows=least,
            process=args.process_index,
            processes=args.world_size,
        )
        loader: Any = DataLoader(
            self.data,
            batch_sampler=sampler,
            collate_fn=lambda batch: {"batch": batch},
        )
        loader.set_epoch = sampler.set_epoch  # transformers calls it
        return loader

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], **_: object
    ) -> Tensor:
        """Return the loss of a batch, and stop where it is not finite."""
        loss: Tensor = model(**inputs)["loss"]
        if not torch.isfinite(loss):
            step = self.state.global_step + 1
            rows = [self.data.row_names[row] for row in inputs["batch"].rows]
            raise FloatingPointError(
                f"step {step}: the loss of {self.data.source}, rows {rows}, is not "
                "finite: lower learning_rate, or warm up longer"
            )
        return loss

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Go one batch forward and backward.

        Where an objective goes backward in parts, gradients are exchanged once.
        """
        if self.args.world_size == 1 or not self.trained.objective.replays:
            return super().training_step(model, inputs, num_items_in_batch)
        with self.accelerator.no_sync(model):
            loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            for parameter in self.trained.parameters():
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.args.world_size
        return loss

    def evaluate(
        self, *_: object, metric_key_prefix: str = "eval", **__: object
    ) -> dict[str, float]:
        """Run every evaluator; return the metrics as ``{prefix}_{name}_{metric}``."""
        encoder: Any = self.encoder  # a cross-encoder's evaluators take one
        metrics = {
            f"{metric_key_prefix}_{evaluator.name}_{metric}": value
            for evaluator in self.evaluators
            for metric, value in evaluator(encoder).items()
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, in a line of this package's log too."""
        super().log(logs, start_time)
        if self.is_world_process_zero():
            log.info(
                "step %d of %d: %s", self.state.global_step, self.state.max_steps, logs
            )

    def save_model(
        self, output_dir: str | None = None, _internal_call: bool = False
    ) -> None:
        """Write the encoder as a model folder, from the first process."""
        super().save_model(output_dir, _internal_call)
        if _internal_call:  # a checkpoint, into which every process writes then
            self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, *_: object, **__: object) -> None:
        """Write the encoder as a model folder, the objective's weights beside it."""
        if not self.args.should_save:
            return
        home = Path(str(self.args.output_dir))
        others = {*home.glob("checkpoint-*/")}.difference(_numbered(home).values())
        if others and self.args.save_total_limit:
            log.warning("save_total_limit is off, since it would remove %s", others)
            self.args.save_total_limit = None
        folder = Path(output_dir or home)
        own = self.trained.own_parameters()
        tensors = {name: p.detach().cpu().contiguous() for name, p in own.items()}
        with new_folder(folder) as target:
            self.encoder.save(target)
            write_bytes(target / _OBJECTIVE, save(tensors))
            write_json(target / _PLAN, self._plan())
            if (folder / LISTING).is_file():
                # No checkpoint any more, until transformers has written the rest.
                (folder / _STATE).unlink(missing_ok=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *_: object) -> None:
        saved = type(self.encoder).from_pretrained(
            resume_from_checkpoint, device="cpu", allow_hub=False
        )
        self.encoder.load_state_dict(saved.state_dict())
        tensors = load_file(Path(resume_from_checkpoint) / _OBJECTIVE)
        with torch.no_grad():
            for name, parameter in self.trained.own_parameters().items():
                parameter.copy_(tensors[name])

    def _load_best_model(self) -> None:
        best = Path(str(self.state.best_model_checkpoint))
        moved = Path(str(self.args.output_dir)) / best.name
        self._load_from_checkpoint(str(best if best.is_dir() else moved))

    def _plan(self) -> dict[str, Any]:
        """Return what a resumed run must have in common with its beginning."""
        kept = (int, float, str, tuple)
        objective = [
            (type(part), name, name != "training" and value)
            for part in self.trained.objective.modules()
            if isinstance(part, Objective)
            for name, value in vars(part).items()
            if isinstance(value, kept)
        ]
        own, callbacks = self.trained.own_parameters(), self._stateful()
        shapes = [(name, tuple(value.shape)) for name, value in own.items()]
        return {
            "data": self.data.fingerprint(),
            "encoder": sha256(self.encoder.described().encode()).hexdigest(),
            "objective": sha256(repr(objective + shapes).encode()).hexdigest(),
            **{name: getattr(self.args, name) for name in _RECIPE},
            "callbacks": [[str(type(c)), c.state().get("args")] for c in callbacks],
            "steps": self.last_step(),
            "weights": self._begun_with,
        }

    def _check_plan(self, folder: Path) -> None:
        saved, now = json.loads((folder / _PLAN).read_text("utf-8")), self._plan()
        changed = [key for key in now if saved.get(key) != now[key]]
        if refused := [key for key in changed if key not in _TOLD]:
            raise ValueError(
                f"{folder} cannot be resumed: changed since are {', '.join(refused)}. "
                "Take back the change, or begin anew in another output_dir"
            )
        if changed:
            told = "%s: changed since are %s; its weights are taken, all else as given"
            log.warning(told, folder, ", ".join(changed))
        self._begun_with = saved.get("weights")

    def _stateful(self) -> list[Any]:
        every = self.callback_handler.callbacks
        return [callback for callback in every if isinstance(callback, ExportableState)]

    def _restore_callbacks(self) -> bool:
        """Give callbacks their counts, not old settings; True if patience is over."""
        saved: Any = self.state.stateful_callbacks
        over = False
        for callback in reversed(self._stateful()):
            states = saved.get(type(callback).__name__) or [{}]
            # Of several of a kind each checkpoint added the states to the list.
            state = states.pop() if isinstance(states, list) else states
            for attribute, value in state.get("attributes", {}).items():
                setattr(callback, attribute, value)
            if isinstance(callback, EarlyStoppingCallback):
                waited = callback.early_stopping_patience_counter
                over |= waited >= callback.early_stopping_patience
        return over

    def _load_callback_state(self) -> None:
        """Let the next checkpoint have callbacks that are new; it takes known names."""
        saved: Any = self.state.stateful_callbacks
        for callback in self._stateful():
            saved.setdefault(type(callback).__name__, callback.state())

    def _finished(self, folder: str) -> TrainOutput:
        """Take the result of a training that is done; transformers would go on."""
        log.warning("%s is the end of its training: nothing is left to do", folder)
        self._load_from_checkpoint(folder)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint:
            self._load_best_model()
        self.encoder.eval()
        return TrainOutput(self.state.global_step, 0.0, {})


def fit(
    encoder: AnyEncoder,
    data: TrainingData,
    objective: Objective,
    *,
    folder: str | Path | None = None,
    epochs: float = 1,
    batch_size: int = 32,
    callbacks: Sequence[TrainerCallback] = (),
    **arguments: Any,  # noqa: ANN401
) -> Curve:
    """Train an encoder in place, with the settings that usually do.

    The learning rate rises for a tenth of the steps, then falls to 0. Checkpoints go
    into `folder` after each epoch, and a training that finds one there goes on from it.
    `arguments` are others of `SentenceTrainingArguments`, and win.
    """
    usual: dict[str, Any] = {
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch_size,
        "learning_rate": 2e-5,
        "warmup_steps": 0.1,
        "logging_steps": 0.05,
        "seed": 0,
        "use_cpu": encoder.device.type == "cpu",
        "save_strategy": "no" if folder is None else "epoch",
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
    }
    with TemporaryDirectory() as nowhere:
        home = str(nowhere if folder is None else folder)
        args = SentenceTrainingArguments(home, **usual | arguments)
        trainer = SentenceTrainer(encoder, args, data, objective, callbacks=callbacks)
        total = trainer.last_step()
        with progress(total, "train", minimum=100) as move:
            trainer.add_callback(_Watched(move))
            trainer.train(last_checkpoint(str(args.output_dir)))
    return tuple(
        (int(entry["step"]), float(entry["loss"]))
        for entry in trainer.state.log_history
        if "loss" in entry
    )


class TrainedModule(nn.Module):
    """An encoder and its objective, whose own weights are trained with the rest."""

    accepts_loss_kwargs = False  # transformers then scales accumulated gradients

    def __init__(self, encoder: AnyEncoder, objective: Objective) -> None:
        super().__init__()
        self.encoder, self.objective = encoder, objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ``loss`` of a batch, worked out in float32."""
        kind = self.encoder.device.type
        mixed, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def encode(texts: Sequence[Tokens]) -> Tensor:
            # Said anew, for a cached loss encodes again when it goes backward.
            with torch.autocast(kind, dtype=dtype, enabled=mixed):
                return encode_tokens(self.encoder, texts, GROUP.get(kind, GROUP["cpu"]))

        with torch.autocast(kind, enabled=False):
            return {"loss": self.objective(encode, batch)}

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights of the objective that are not the encoder's."""
        shared = {id(parameter) for parameter in self.encoder.parameters()}
        return {
            name: parameter
            for name, parameter in self.objective.named_parameters()
            if id(parameter) not in shared
        }


def encode_tokens(encoder: AnyEncoder, texts: Sequence[Tokens], budget: int) -> Tensor:
    """Embed token ids with gradients, ``[n, D]``, in order.

    Texts of like length go through the model together, each group within a budget of
    padded tokens: in a random batch of short texts half of them would be padding.
    """
    lengths = np.array([len(ids) for ids in texts])
    pad = encoder.pad_id  # by which a decoder finds its last token
    parts, order = [], []
    for rows in token_budget_batches(lengths, budget):
        ids, mask = pad_right([texts[row] for row in rows], pad)
        on_device = [torch.from_numpy(part).to(encoder.device) for part in (ids, mask)]
        parts.append(encoder(*on_device))
        order.append(rows)
    back = torch.from_numpy(np.argsort(np.concatenate(order)))
    return torch.cat(parts)[back.to(encoder.device)]


def set_dropout(encoder: SentenceEncoder, probability: float) -> None:
    """Set the dropout of every layer of an encoder, and of its saved configuration."""
    for part in encoder.modules():
        if isinstance(part, nn.Dropout):
            part.p = probability
        # Attention keeps a number of its own in some models, as in MPNet's.
        if isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = probability  # type: ignore[assignment]
    config = encoder.transformer.config
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if hasattr(config, name):
            setattr(config, name, probability)


def has_fast_bfloat16() -> bool:
    """Return whether this machine has instructions for bfloat16."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def _check_batch(
    data: TrainingData, objective: Objective, args: SentenceTrainingArguments
) -> None:
    """Refuse batches in which an objective has nothing to compare."""
    least, name = objective.least_rows, type(objective).__name__
    if min(args.train_batch_size, len(data)) < least:
        raise ValueError(
            f"{name} compares the rows of a batch and needs {least} or more; "
            f"per_device_train_batch_size is {args.per_device_train_batch_size}, and "
            f"{data.source} has {len(data)}"
        )


def _check_no_leak(data: TrainingData, evaluators: Sequence[Evaluator]) -> None:
    """Refuse texts that are both trained on and evaluated."""
    names = [evaluator.name for evaluator in evaluators]
    if len(set(names)) < len(names):
        raise ValueError(f"evaluators {names}: give each a name of its own")
    judged = [(e.name, item) for e in evaluators for item in e.held_out()]
    problems = [
        f"{judged[item][0]}: {' / '.join(judged[item][1])[:100]!r} is also in "
        f"{data.source}, row {data.row_names[row]}; keep it on one side"
        for item, row in find_leaks(data.row_texts(), [item for _, item in judged])
    ]
    if problems:
        raise DataError(problems)


def last_checkpoint(folder: str | Path) -> Path | None:
    """Return the last checkpoint in a folder that is whole; tell of those after it."""
    found = _numbered(folder)
    for number in sorted(found, reverse=True):
        if not (damage := _damage(found[number])):
            return found[number]
        log.warning("%s is passed over: %s", found[number].name, damage)
    return None


def _numbered(folder: str | Path) -> dict[int, Path]:
    """Return the folders that have the name of a checkpoint, by step."""
    named = {
        path.name.removeprefix("checkpoint-"): path
        for path in Path(folder).glob("checkpoint-*/")
    }
    return {int(step): path for step, path in named.items() if step.isdecimal()}


def _damage(checkpoint: Path) -> str:
    """Return what is missing or cut short in a checkpoint, or an empty text."""
    file = checkpoint / _PLAN
    try:
        processes = json.loads(file.read_text("utf-8"))["world_size"]
        ranks = [f"_{rank}" for rank in range(processes)] if processes > 1 else [""]
        # Where one of these is missing, transformers goes on without it or two.
        names = ["optimizer.pt", "scheduler.pt", *(f"rng_state{n}.pth" for n in ranks)]
        for file in (checkpoint / name for name in names):
            ZipFile(file).close()
        file = checkpoint / _OBJECTIVE
        load_file(file)
        file = checkpoint / _STATE
        json.loads(file.read_text("utf-8"))
        check_files(checkpoint)
    except CheckpointError as error:
        return str(error)
    except (OSError, ValueError, BadZipFile, SafetensorError):
        return f"{file} is missing or damaged"
    return ""


class _Watched(TrainerCallback):
    """Moves a bar; logs before each checkpoint, so that a resumed curve is whole."""

    def __init__(self, move: Callable[[int], object]) -> None:
        self.move, self.at = move, 0

    def on_step_end(self, args, state, control, **_) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003
        del args
        self.move(state.global_step - self.at)
        self.at = state.global_step
        control.should_log |= control.should_save

    def on_epoch_end(self, args, state, control, **_) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003
        del args, state
        control.should_log = True
