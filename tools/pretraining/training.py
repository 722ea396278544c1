"""Training: begin or resume, step by step, and stop without losing anything."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional as F
from transformers import BertForMaskedLM

from tools.pretraining import model as models
from tools.pretraining.batches import Streams, batch_at
from tools.pretraining.checkpoints import (
    State,
    drop_checkpoints,
    keep_checkpoint,
    load_moments,
    load_state,
    load_weights,
    save_checkpoint,
)
from tools.pretraining.export import export, export_static
from tools.pretraining.heldout import HeldOut, evaluate
from tools.pretraining.masking import mask_tokens, step_generator
from tools.pretraining.plan import Plan, learning_rate, save_plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learner:
    """A model, its optimizer, and where they stand."""

    model: BertForMaskedLM
    optimizer: torch.optim.Optimizer
    state: State


def begin(
    data: Path, plan: Plan, device: torch.device, init: Path | None = None
) -> Learner:
    """Return a learner at step 0.

    Parameters
    ----------
    data
        A prepared folder, whose static vectors the model starts from.
    plan
        Settings of the run.
    device
        Where to train.
    init
        Folder of exported weights to start from instead.
    """
    if init is None:
        statics = load_file(data / "static_vectors.safetensors")
        shape = models.Shape(positions=2 * plan.length)
        model = models.make_model(shape, statics, plan.seed)
    else:
        models.check_vocabulary(init, data)
        model = models.load_model(init)
    models.place(model, device)
    return Learner(model, make_optimizer(model, plan.weight_decay), State())


def resume(checkpoint: Path, plan: Plan, device: torch.device) -> Learner:
    """Return the learner of a checkpoint."""
    model = load_weights(checkpoint)
    models.place(model, device)
    optimizer = make_optimizer(model, plan.weight_decay)
    load_moments(checkpoint, model, optimizer)
    return Learner(model, optimizer, load_state(checkpoint))


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW; biases, norms and embeddings do not decay."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        plain = parameter.dim() == 2 and "embeddings" not in name
        (decayed if plain else others).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-6, fused=True)


def train(
    learner: Learner,
    streams: Streams,
    held: Sequence[NDArray[np.int64]],
    data: Path,
    run: Path,
    plan: Plan,
    stop: Sequence[bool] = (False,),
) -> State:
    """Train to ``plan.total``, and return where the run then stands.

    Logs progress and held-out measures, writes checkpoints, and a snapshot (an
    exported folder and a checkpoint that stays) whenever the plan asks for one.

    Parameters
    ----------
    learner
        From `begin` or `resume`.
    streams, held
        Text to train on, and batches to measure on.
    data, run
        The prepared folder, and the run folder to write.
    plan
        Settings of the run.
    stop
        ``stop[0]`` turning true ends the run after a checkpoint.
    """
    model, optimizer, state = learner.model, learner.optimizer, learner.state
    frequency = load_file(data / "static_vectors.safetensors")["frequency"]
    save_plan(plan, run)
    export_static(data, run / "snapshots" / "static_vectors")
    saved = lap = time.monotonic()
    losses: list[float] = []
    model.train()
    while state.step < plan.total and not stop[0]:
        losses.append(train_step(model, optimizer, streams, plan, state.step))
        tokens = state.tokens + plan.tokens_per_step
        state = replace(state, step=state.step + 1, tokens=tokens)
        if len(losses) == plan.log_every:
            now = time.monotonic()
            _log_progress(state, losses, plan, now - lap)
            losses, lap = [], now
        snapshot = state.step == plan.total or plan.is_snapshot(tokens)
        if snapshot or state.step % plan.evaluate_every == 0:
            measure = evaluate(model, held, frequency, bf16=plan.bf16)
            state = _with_measure(state, measure)
        if snapshot or time.monotonic() - saved > plan.checkpoint_seconds:
            folder = save_checkpoint(run, model, optimizer, state)
            if snapshot:
                name = f"{tokens / 1e6:07.2f}M"
                export(model, data, run / "snapshots" / name, plan, state)
                keep_checkpoint(run, folder)
            drop_checkpoints(run)
            saved = time.monotonic()
    save_checkpoint(run, model, optimizer, state)
    drop_checkpoints(run)
    return state


def train_step(
    model: BertForMaskedLM,
    optimizer: torch.optim.Optimizer,
    streams: Streams,
    plan: Plan,
    step: int,
) -> float:
    """Take one optimizer step; returns its mean loss over the masked positions."""
    device = next(model.parameters()).device
    batch = batch_at(streams, step, plan.seed, plan.rows, plan.length, plan.long_every)
    ids = torch.from_numpy(batch)
    generator = step_generator(plan.seed, step)
    masked, chosen = mask_tokens(ids, generator, int(model.config.vocab_size))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, plan)
    optimizer.zero_grad(set_to_none=True)
    with models.autocast(device, plan.bf16):
        logits = models.masked_logits(model, masked.to(device), chosen.to(device))
    loss = F.cross_entropy(logits.float(), ids[chosen].to(device))
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
    optimizer.step()
    return loss.item()


def _with_measure(state: State, measure: HeldOut) -> State:
    """Return the state with a measure added to its history, and log it."""
    log.info(
        "held-out  %.2f M tokens  loss %.3f (unigram %.3f)  "
        "accuracy %.3f (unigram %.3f)",
        state.tokens / 1e6,
        measure.loss,
        measure.unigram_loss,
        measure.accuracy,
        measure.unigram_accuracy,
    )
    entry = {"step": state.step, "tokens": state.tokens, **asdict(measure)}
    return replace(state, history=(*state.history, entry))


def _log_progress(
    state: State, losses: Sequence[float], plan: Plan, seconds: float
) -> None:
    log.info(
        "step %d  %.2f M tokens  loss %.3f  lr %.2e  %.0f tokens/s",
        state.step,
        state.tokens / 1e6,
        sum(losses) / len(losses),
        learning_rate(state.step, plan),
        len(losses) * plan.tokens_per_step / seconds,
    )
