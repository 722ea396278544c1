"""Pairs of a premise and a hypothesis, and whether the one follows from the other.

`authored` is the project's own. SICK, SNLI and MultiNLI have licences of their own and
are not part of this project: they are read from ``$SBERT_LAB_DATA_HOME``, and the last
two, joined as AllNLI, from the hub too.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sbert_lab._utils import project_root
from sbert_lab.datasets.similarity import (
    SICK_FILES,
    is_snapshot,
    local_file,
    read_rows,
    split_files,
)
from sbert_lab.models.registry import BY_NAME, resolve

Label = Literal["entailment", "neutral", "contradiction"]
#: A label's place is its class number, as in AllNLI on the hub.
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
    path = project_root() / "data" / "authored" / "nli.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(Inference(**row) for row in csv.DictReader(file))  # type: ignore[arg-type]


def sick_entailment(split: str = "train") -> tuple[Inference, ...]:
    """Read the entailment judgements of SICK (Marelli et al. 2014).

    Its splits share most of their sentences, and 49 test pairs are training pairs too.

    Parameters
    ----------
    split
        ``"train"``, ``"trial"`` or ``"test"``: 4,500, 500 and 4,927 pairs.

    Returns
    -------
    tuple of Inference
        In the file's order. `topic` is the set's name; `premise_id` names the split and
        the first pair with that premise, so equal premises of a split have equal ones.

    Raises
    ------
    FileNotFoundError
        The authors' files are not here. The hub's copy has no entailment judgement.
    ValueError
        No such split, or a row that is not a labelled pair; names file and row.
    """
    _known(split, tuple(SICK_FILES))
    home = resolve("sick")
    if is_snapshot(home) and not (home / SICK_FILES[split]).is_file():
        raise FileNotFoundError(
            f"{home} is the hub's copy of SICK, which has relatedness but no "
            f"entailment; {BY_NAME['sick'].install}"
        )
    path = local_file(home, "sick", SICK_FILES[split])
    columns = ("sentence_A", "sentence_B", "entailment_judgment")
    return tuple(_read("sick", split, [path], columns))


def snli_sample(split: str) -> tuple[Inference, ...]:
    """Read a sample of SNLI (Bowman et al. 2015).

    Two premises are in both splits, no pair is.

    Parameters
    ----------
    split
        ``"dev"`` or ``"test"``, both to measure on: 1,273 and 1,254 pairs.

    Returns
    -------
    tuple of Inference
        As `sick_entailment` returns them.

    Raises
    ------
    FileNotFoundError
        ``dev.tsv`` or ``test.tsv`` is not in ``$SBERT_LAB_DATA_HOME/snli-sample``.
    ValueError
        No such split, or a row that is not a labelled pair; names file and row.
    """
    _known(split, ("dev", "test"))
    path = local_file(resolve("snli-sample"), "snli-sample", f"{split}.tsv")
    return tuple(_read("snli-sample", split, [path]))


def all_nli(
    split: str = "train", rows: int | None = None, seed: int = 0
) -> tuple[Inference, ...]:
    """Read AllNLI: SNLI (Bowman et al. 2015) and MultiNLI (Williams et al. 2018).

    Sentence-BERT (Reimers and Gurevych 2019) was trained on the two. This is the subset
    ``pair-class`` of ``sentence-transformers/all-nli`` on the hub; a folder of that
    name in ``$SBERT_LAB_DATA_HOME/all-nli`` comes first. Pairs on which the annotators
    did not agree are not in it.

    Parameters
    ----------
    split
        ``"train"``, ``"dev"`` or ``"test"``: 942,069, 19,657 and 19,656 pairs.
    rows
        Draw so many pairs without replacement; None takes all. Every row is read and
        checked all the same.
    seed
        Of the draw.

    Returns
    -------
    tuple of Inference
        As `sick_entailment` returns them, in the file's order, drawn ones too. A pair
        has the same `premise_id` in every draw.

    Raises
    ------
    FileNotFoundError
        The set is not here, or its folder lacks the split; the message says what to do.
    ValueError
        No such split, more rows than there are, or a row that is not a labelled pair;
        the last names file and row.
    """
    _known(split, ("train", "dev", "test"))
    folder = resolve("all-nli") / "pair-class"
    files = split_files(folder, split)
    if not files:
        raise FileNotFoundError(
            f"{folder} has no file for the split {split!r}; to get it: "
            f"{BY_NAME['all-nli'].install}"
        )
    pairs = _read("all-nli", split, files)
    if rows is None:
        return tuple(pairs)
    if not 1 <= rows <= len(pairs):
        raise ValueError(f"rows={rows}: 1 to {len(pairs)}, or None for all of them")
    drawn = np.random.default_rng(seed).choice(len(pairs), rows, replace=False)
    return tuple(pairs[place] for place in np.sort(drawn))


def nli_triplets(pairs: Sequence[Inference]) -> list[tuple[str, str, str]]:
    """Return (premise, entailed hypothesis, contradicting hypothesis) triplets.

    As in SimCSE (Gao et al. 2021, section 4), where the contradiction is the hard
    negative. That paper draws one of a premise's contradictions; here the i-th
    entailment goes with the i-th contradiction, up to the fewer of the two, so that
    nothing is left to chance and no hypothesis comes twice.

    Parameters
    ----------
    pairs
        Of any set. Pairs of one premise are those with the same text, wherever they
        stand. Neutral pairs count for nothing.

    Returns
    -------
    list of tuple
        Premises in the order in which they first come; those without an entailment or
        without a contradiction are left out.
    """
    found: dict[str, tuple[list[str], list[str]]] = {}
    for pair in pairs:
        entailed, contradicting = found.setdefault(pair.premise, ([], []))
        if pair.label == "entailment":
            entailed.append(pair.hypothesis)
        elif pair.label == "contradiction":
            contradicting.append(pair.hypothesis)
    return [
        (premise, positive, negative)
        for premise, both in found.items()
        for positive, negative in zip(*both, strict=False)
    ]


def _known(split: str, splits: tuple[str, ...]) -> None:
    if split not in splits:
        raise ValueError(f"split={split!r}: {' or '.join(map(repr, splits))}")


def _read(
    name: str,
    split: str,
    files: Sequence[Path],
    columns: tuple[str, str, str] = ("premise", "hypothesis", "label"),
) -> list[Inference]:
    """Read and check files whose `columns` are premise, hypothesis and label."""
    first: dict[str, str] = {}  # premise to the id of its first pair
    pairs: list[Inference] = []
    for path in files:
        for row, record in read_rows(path):
            try:
                premise, hypothesis, label = _cells(record, columns)
            except ValueError as error:
                raise ValueError(f"{path}, row {row}: {error}") from None
            premise_id = first.setdefault(premise, f"{split}-{len(pairs) + 1}")
            pairs.append(Inference(premise_id, name, premise, hypothesis, label))
    return pairs


def _cells(
    record: dict[Any, Any], columns: tuple[str, str, str]
) -> tuple[str, str, Label]:
    """Return a row's premise, hypothesis and label; an error says what is amiss."""
    for column in columns:
        if column not in record:
            raise ValueError(f"no column {column!r}; needed are {', '.join(columns)}")
    if None in record:  # where DictReader puts the cells beyond the header
        raise ValueError("more cells than headings; take the tabs out of the texts")
    for column in columns[:2]:
        if not isinstance(record[column], str):
            raise ValueError(f"{column} is {record[column]!r}, not a text")
    premise, hypothesis, value = (record[column] for column in columns)
    if isinstance(value, str) and value.lower() in LABELS:  # SICK has capitals
        return premise, hypothesis, LABELS[LABELS.index(value.lower())]
    # A list would take -1, too, and True.
    if type(value) is int and 0 <= value < len(LABELS):
        return premise, hypothesis, LABELS[value]
    raise ValueError(
        f"{columns[2]} {value!r} is none of {', '.join(LABELS)} or their numbers 0, 1, "
        "2; take the row out ('-' and -1 mark pairs whose annotators did not agree)"
    )
