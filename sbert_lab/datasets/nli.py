"""Pairs of a premise and a hypothesis, and whether the one follows from the other.

`authored` is the project's own.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sbert_lab.datasets.pairs import read_authored

Label = Literal["entailment", "neutral", "contradiction"]
#: A label's place is its class number, as in AllNLI on the hub.
LABELS: tuple[Label, ...] = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class Inference:
    """A premise, which may have a name, a hypothesis, and how they stand together."""

    premise_id: str
    topic: str
    premise: str
    hypothesis: str
    label: Label


def authored() -> tuple[Inference, ...]:
    """Read the project's own 1,200 pairs, data/authored/nli.csv; rules beside it."""
    return tuple(Inference(**row) for row in read_authored("nli.csv"))  # type: ignore[arg-type]


def nli_triplets(pairs: Sequence[Inference]) -> list[tuple[str, str, str]]:
    """Return (premise, entailed hypothesis, contradicting hypothesis) triplets.

    As in SimCSE (Gao et al. 2021, section 4), but the i-th entailment of a premise goes
    with its i-th contradiction, up to the fewer of the two, so that nothing is drawn.
    """
    found: dict[tuple[str, Label], list[str]] = defaultdict(list)
    for pair in pairs:
        found[pair.premise, pair.label].append(pair.hypothesis)
    return [
        (premise, positive, negative)
        for premise in dict.fromkeys(pair.premise for pair in pairs)
        for positive, negative in zip(
            found[premise, "entailment"],
            found[premise, "contradiction"],
            strict=False,
        )
    ]
