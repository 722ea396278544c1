"""Pairs of a premise and a hypothesis, and whether the one follows from the other."""

import csv
from dataclasses import dataclass
from typing import Literal

from sbert_lab.paths import root

Label = Literal["entailment", "neutral", "contradiction"]
LABELS: tuple[Label, ...] = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class Inference:
    """A premise, a hypothesis, and how they stand to each other."""

    premise_id: str
    topic: str
    premise: str
    hypothesis: str
    label: Label


def authored() -> tuple[Inference, ...]:
    """Read the project's own pairs, data/authored/nli.csv.

    400 premises, each with an entailed, a neutral and a contradicting hypothesis; the
    label rules stand in data/authored/README.md.
    """
    path = root() / "data" / "authored" / "nli.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(Inference(**row) for row in csv.DictReader(file))  # type: ignore[arg-type]
