"""Pairs of a premise and a hypothesis, and whether the one follows from the other.

`authored` is the project's own. AllNLI has licences of its own and is read from
``$SBERT_LAB_DATA_HOME``, or from the hub.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sbert_lab.datasets.pairs import read_authored
from sbert_lab.datasets.sts import read_split
from sbert_lab.models.registry import resolve

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


def all_nli(split: str = "train") -> tuple[Inference, ...]:
    """Read AllNLI: SNLI (Bowman et al. 2015) and MultiNLI (Williams et al. 2018).

    The subset ``pair-class`` of ``sentence-transformers/all-nli`` on the hub; a folder
    of that name in ``$SBERT_LAB_DATA_HOME/all-nli`` comes first. `split` is
    ``"train"``, ``"dev"`` or ``"test"``.
    """
    rows = read_split(resolve("all-nli") / "pair-class", split)
    if wrong := {row["label"] for row in rows} - set(range(len(LABELS))):
        told = "take the rows out (-1: the annotators did not agree)"
        raise ValueError(f"all-nli: labels {wrong} are none of 0, 1, 2; {told}")
    return tuple(
        Inference("", "all-nli", r["premise"], r["hypothesis"], LABELS[r["label"]])
        for r in rows
    )


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
