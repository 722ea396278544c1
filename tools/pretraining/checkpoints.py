"""Checkpoints: all that a run needs to go on as if it had never stopped.

A run folder holds::

    plan.json                    the settings it was last started with
    latest                       name of the last checkpoint that is complete
    kept.json                    names of the checkpoints that stay
    checkpoints/step-0001628/    model, optimizer, config, state
    snapshots/0005.00M/          exported weights after so many tokens
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn
from transformers import BertForMaskedLM

from sbert_lab._utils import write_bytes, write_json
from tools.pretraining.model import model_of


@dataclass(frozen=True)
class State:
    """Where a run stands; ``history`` holds its held-out measures."""

    step: int = 0
    tokens: int = 0
    history: tuple[dict[str, float], ...] = ()


def save_checkpoint(
    run: Path, model: BertForMaskedLM, optimizer: torch.optim.Optimizer, state: State
) -> Path:
    """Write weights, optimizer and state; returns the folder.

    ``latest`` is switched only when all of them are there.
    """
    folder = run / "checkpoints" / f"step-{state.step:07d}"
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weights = {n: p.detach().cpu().contiguous() for n, p in model.named_parameters()}
    moments = {
        f"{key}/{names[id(parameter)]}": value.detach().cpu().contiguous()
        for parameter, slots in optimizer.state.items()
        for key, value in slots.items()
    }
    write_bytes(folder / "model.safetensors", save(weights))
    write_bytes(folder / "optimizer.safetensors", save(moments))
    write_json(folder / "config.json", model.config.to_dict())
    write_json(folder / "state.json", asdict(state))
    write_bytes(run / "latest", folder.name.encode())
    return folder


def latest_checkpoint(run: Path) -> Path | None:
    """Return the folder of a run's last complete checkpoint."""
    pointer = run / "latest"
    if not pointer.exists():
        return None
    return run / "checkpoints" / pointer.read_text().strip()


def load_weights(folder: Path) -> BertForMaskedLM:
    """Read the model of a checkpoint."""
    model = model_of(json.loads((folder / "config.json").read_text()))
    weights = load_file(folder / "model.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    return model


def load_moments(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Read the optimizer of a checkpoint into one that holds the model's parameters."""
    parameters = dict(model.named_parameters())
    for key, value in load_file(folder / "optimizer.safetensors").items():
        slot, _, name = key.partition("/")
        parameter = parameters[name]
        optimizer.state.setdefault(parameter, {})[slot] = value.to(parameter.device)


def load_state(folder: Path) -> State:
    """Read where a run stood at a checkpoint."""
    record = json.loads((folder / "state.json").read_text())
    return State(record["step"], record["tokens"], tuple(record["history"]))


def keep_checkpoint(run: Path, folder: Path) -> None:
    """Let a checkpoint stay for good."""
    write_json(run / "kept.json", sorted(kept_checkpoints(run) | {folder.name}))


def kept_checkpoints(run: Path) -> set[str]:
    """Return the names of the checkpoints that stay."""
    path = run / "kept.json"
    return set(json.loads(path.read_text())) if path.exists() else set()


def drop_checkpoints(run: Path) -> None:
    """Remove all checkpoints but the latest and those that stay."""
    latest, kept = latest_checkpoint(run), kept_checkpoints(run)
    for folder in (run / "checkpoints").iterdir():
        if folder != latest and folder.name not in kept:
            shutil.rmtree(folder)
