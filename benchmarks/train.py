"""Time training against sentence-transformers' trainer, side by side.

    python benchmarks/train.py [--steps 40] [--repeats 5]

The same weights, pairs, batch size, optimiser, schedule, precision and dropout; the
objective is MultipleNegativesRankingLoss. Both run the same number of steps in turns,
and the first steps of each are not counted.
"""

import argparse
import json
import logging
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from sbert_lab import SentenceEncoder
from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.sts import stsb
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.losses import MultipleNegativesRankingLoss
from sbert_lab.models.registry import resolve
from sbert_lab.training import SentenceTrainer, SentenceTrainingArguments, TrainingData

WARM_UP = 5  # steps that are not counted: memory is fetched, kernels are chosen

Columns = tuple[Sequence[str], Sequence[str]]


class Clock(TrainerCallback):
    """Seconds from the end of the warm-up to the last step."""

    def __init__(self) -> None:
        self.began = self.seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start after the warm-up; look at the clock after every step."""
        if state.global_step == WARM_UP:
            self.began = time.perf_counter()
        self.seconds = time.perf_counter() - self.began


def main() -> None:
    """Print one line a collection of pairs and model, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--models", default="bert-mini,all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks/train.json"))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.__version__}"
    )
    results = {}
    for name, columns in collections().items():
        for model in options.models.split(","):
            found = compare(
                model, columns, options.rows, options.steps, options.repeats
            )
            results[f"{model}, {name}"] = found
            print(
                f"{model}, {name}: {found['ours']:.2f} steps/s against "
                f"{found['theirs']:.2f}, {found['ratio']:.2f} times "
                f"[{found['low']:.2f}, {found['high']:.2f}]",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")


def collections() -> dict[str, Columns]:
    """Return pairs to train on: medical terms and, if here, STS sentences."""
    pairs = icd10cm.split_pairs("train")
    found: dict[str, Columns] = {
        "ICD-10-CM terms": ([t for t, _ in pairs], [c.description for _, c in pairs])
    }
    try:
        sentences = stsb("train")
        found["STS Benchmark"] = (list(sentences.first), list(sentences.second))
    except FileNotFoundError as error:
        print(f"without STS Benchmark: {error}")
    return found


def compare(
    model: str, columns: Columns, rows: int, steps: int, repeats: int
) -> dict[str, float]:
    """Train by turns; return steps a second of both, and their ratio."""
    ways = {"ours": ours, "theirs": theirs}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(way(model, columns, rows, steps + WARM_UP))
    ratio = bootstrap_mean(np.divide(seconds["theirs"], seconds["ours"]))
    return {
        "ours": steps / float(np.median(seconds["ours"])),
        "theirs": steps / float(np.median(seconds["theirs"])),
        "ratio": ratio.mean,
        "low": ratio.low,
        "high": ratio.high,
    }


def common(folder: str, rows: int, steps: int) -> dict[str, Any]:
    """Return what both trainers are told."""
    return {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": rows,
        "learning_rate": 5e-5,
        "save_strategy": "no",
        "logging_steps": 1_000_000,
        "disable_tqdm": True,
        "use_cpu": True,
        "report_to": "none",
    }


def ours(model: str, columns: Columns, rows: int, steps: int) -> float:
    """Train with sbert_lab; return seconds."""
    encoder = SentenceEncoder.from_pretrained(model, device="cpu")
    data = TrainingData({"anchor": columns[0], "positive": columns[1]})
    return timed(
        lambda folder, clock: SentenceTrainer(
            encoder,
            SentenceTrainingArguments(**common(folder, rows, steps)),
            data,
            MultipleNegativesRankingLoss(),
            callbacks=[clock],
        )
    )


def theirs(model: str, columns: Columns, rows: int, steps: int) -> float:
    """Train with sentence-transformers; return seconds."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer import losses

    encoder = SentenceTransformer(str(resolve(model)), device="cpu")
    data = Dataset.from_dict({"anchor": columns[0], "positive": columns[1]})
    return timed(
        lambda folder, clock: SentenceTransformerTrainer(
            model=encoder,
            args=SentenceTransformerTrainingArguments(**common(folder, rows, steps)),
            train_dataset=data,
            loss=losses.MultipleNegativesRankingLoss(encoder),
            callbacks=[clock],
        )
    )


def timed(make: Callable[[str, Clock], Any]) -> float:
    """Make a trainer, run it, and return the seconds of its counted steps."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        make(folder, clock).train()
    return clock.seconds


if __name__ == "__main__":
    main()
