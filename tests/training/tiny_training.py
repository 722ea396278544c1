"""A tiny BERT in a folder, sentences of made-up words, and short trainings."""

from pathlib import Path

import numpy as np
import torch
from conftest import random_bert, word_tokenizer
from tiny_cross_encoder import WORDS
from transformers import TrainerCallback

from sbert_lab import SentenceEncoder
from sbert_lab.models.checkpoint import Layout
from sbert_lab.training import (
    SentenceTrainer,
    SentenceTrainingArguments,
    TrainingData,
    set_dropout,
)

WIDTH = 32

#: Evaluates and saves after every step, and loads what `Scripted` scored best.
BEST = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "told_score",
    "save_strategy": "steps",
    "save_steps": 1,
}


def make_folder(folder: Path) -> Path:
    """Save a random two-layer BERT of width 32 that knows 150 words."""
    tokenizer = word_tokenizer(WORDS, 24)
    model = random_bert(len(tokenizer), WIDTH)
    encoder = SentenceEncoder(model, tokenizer, Layout(dimension=WIDTH))
    encoder.save(folder)
    return folder


def load(folder: Path, dropout: float = 0.1, *, double: bool = False):
    """Load the model; in float64 rounding does not grow with Adam's steps."""
    encoder = SentenceEncoder.from_pretrained(folder, device="cpu", allow_hub=False)
    set_dropout(encoder, dropout)
    return encoder.double() if double else encoder


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return different sentences of 2 to 9 words."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(rng.choice(WORDS, rng.integers(2, 10)))] = None
    return list(found)


def pairs(count: int, seed: int = 0) -> TrainingData:
    texts = sentences(2 * count, seed)
    columns = {"anchor": texts[:count], "positive": texts[count:]}
    return TrainingData(columns, source="made-up pairs")


def scored(count: int, seed: int = 0) -> TrainingData:
    texts = sentences(2 * count, seed)
    label = np.random.default_rng(seed).uniform(0, 1, count).round(2)
    columns = {"first": texts[:count], "second": texts[count:], "label": label}
    return TrainingData(columns, source="made-up scores")


def classed(count: int, seed: int = 0) -> TrainingData:
    texts = sentences(2 * count, seed)
    label = np.random.default_rng(seed).integers(0, 3, count)
    columns = {"first": texts[:count], "second": texts[count:], "label": label}
    return TrainingData(columns, source="made-up classes")


def plain_texts(count: int, seed: int = 0) -> TrainingData:
    return TrainingData({"text": sentences(count, seed)}, source="made-up texts")


def arguments(folder: Path, **options) -> SentenceTrainingArguments:
    common = {
        "output_dir": str(folder),
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    if "num_train_epochs" in options:
        common["max_steps"] = -1
    return SentenceTrainingArguments(**common | options)


def made(encoder, folder, data, objective, **options) -> SentenceTrainer:
    """Return a trainer; options are its own or those of its arguments."""
    names = {"evaluators", "callbacks"} & options.keys()
    own = {name: options.pop(name) for name in names}
    return SentenceTrainer(
        encoder, arguments(folder, **options), data, objective, **own
    )


def train(encoder, folder, data, objective, resume=None, **options) -> SentenceTrainer:
    """Train and return the trainer."""
    trainer = made(encoder, folder, data, objective, **options)
    trainer.train(resume)
    return trainer


def weights(*modules) -> dict[str, torch.Tensor]:
    return {
        f"{number} {name}": parameter.detach().clone()
        for number, module in enumerate(modules)
        for name, parameter in module.named_parameters()
    }


def unequal(first, second) -> list[str]:
    """Return the names of the weights that differ in any bit."""
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


def farthest(first, second) -> float:
    """Return the largest difference of any weight."""
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def logged(trainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


class AfterStep(TrainerCallback):
    """Calls a function after every step."""

    def __init__(self, call) -> None:
        self.call = call

    def on_step_end(self, args, state, control, **_):
        self.call()


class StopAt(TrainerCallback):
    """Ends a training as a power cut would, when its checkpoint has been written."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_save(self, args, state, control, **_):
        control.should_training_stop |= state.global_step == self.step


class Scripted:
    """An evaluator that says what it is told to, and keeps the weights it saw."""

    def __init__(self, name: str, values=(), texts=()) -> None:
        self.name, self.values, self.texts = name, list(values), list(texts)
        self.seen: list[dict[str, torch.Tensor]] = []

    def __call__(self, encoder) -> dict[str, float]:
        self.seen.append(weights(encoder))
        return {"score": self.values[len(self.seen) - 1]}

    def held_out(self):
        return self.texts
