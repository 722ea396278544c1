"""Pairs of a premise and a hypothesis, and whether the one follows from the other.

`authored` is the project's own, `icd10cm_entailment` is read off the hierarchy of
ICD-10-CM. SICK and AllNLI have licences of their own and are read from
``$SBERT_LAB_DATA_HOME``, AllNLI from the hub too.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sbert_lab.datasets.icd10cm import (
    Code,
    ancestors,
    block_of,
    book,
    load,
    split_of,
)
from sbert_lab.datasets.pairs import read_authored
from sbert_lab.datasets.sts import read_split, sick_rows
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


def sick_entailment(split: str = "train") -> tuple[Inference, ...]:
    """Read the entailment judgements of SICK; its splits share most sentences."""
    return tuple(
        Inference("", "sick", row["sentence_A"], row["sentence_B"], label)
        for row in sick_rows(split)
        for label in LABELS
        if label == row["entailment_judgment"].lower()
    )


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


_CODE_IN_NOTE = re.compile(r"\s*\([^()]*\b[A-Z]\d[0-9A-Z][^()]*\)\s*$")
_MARK = re.compile(r"\b(right|left|with|without)\b", re.IGNORECASE)


def icd10cm_entailment(split: str = "train") -> tuple[Inference, ...]:
    """Return pairs labelled by ICD-10-CM, as many of each label, in random order.

    - entailment: a code, and a heading above it in its category
    - contradiction: a code, and the opposite of itself or of such a heading (*right*
      and *left*, *with* and *without*), or what its Excludes1 note names
    - neutral: a code, and a code of another category of its block, or what its
      Excludes2 note names ("not included here")

    All codes are of one split. A pair of texts with two labels is left out. A word such
    as *without* must not tell the label: each has as many hypotheses with one.
    """
    rng = np.random.default_rng(0)
    found = _labelled(split, rng)
    strata: dict[tuple[Label, bool], list[tuple[str, str]]] = defaultdict(list)
    for texts, (_, labels) in found.items():
        if len(labels) == 1:
            strata[next(iter(labels)), bool(_MARK.search(texts[1]))].append(texts)
    sizes = [min(len(strata[lab, mark]) for lab in LABELS) for mark in (False, True)]
    chosen = [
        (strata[label, mark][row], label)
        for label in LABELS
        for mark, size in zip((False, True), sizes, strict=True)
        for row in rng.choice(len(strata[label, mark]), size, replace=False)
    ]
    pairs = []
    for row in rng.permutation(len(chosen)):
        (premise, hypothesis), label = chosen[row]
        code, _ = found[premise, hypothesis]
        pairs.append(Inference(code.code, code.chapter, premise, hypothesis, label))
    return tuple(pairs)


def _labelled(
    split: str, rng: np.random.Generator
) -> dict[tuple[str, str], tuple[Code, set[Label]]]:
    """Return pairs of texts with the labels that the rules give them."""
    icd = book()
    codes = [c for c in load() if c.category and split_of(c.category) == split]
    if not codes:
        raise ValueError(f"split={split!r}: 'train' or 'test'")
    opposite = _opposites(codes)
    nearby: dict[tuple[Code, bool], list[Code]] = defaultdict(list)
    for code in codes:
        if len(code.code) <= 7:  # longer ones say which encounter it is
            nearby[block_of(code), bool(_MARK.search(code.description))].append(code)
    found: dict[tuple[str, str], tuple[Code, set[Label]]] = {}

    def add(code: Code, hypothesis: str, label: Label) -> None:
        if code.description.lower() != hypothesis.lower():
            key = (code.description, hypothesis)
            found.setdefault(key, (code, set()))[1].add(label)

    for code in codes:
        line = [code, *(a for a in ancestors(code) if a.category)]
        for above in line[1:]:
            add(code, above.description, "entailment")
        for entry in line:
            if entry.code in opposite:
                add(code, opposite[entry.code].description, "contradiction")
        for mark in (False, True):
            pool = nearby[block_of(code), mark]
            other = pool[rng.integers(len(pool))] if pool else code
            if other.category != code.category:
                add(code, other.description, "neutral")
        notes: list[tuple[Label, str]] = []
        notes += [("contradiction", note) for note in icd.get_excludes1(code.code)]
        notes += [("neutral", note) for note in icd.get_excludes2(code.code)]
        for label, note in notes:
            # All codes that a note names must be of the split.
            if set(map(split_of, re.findall(r"\b[A-Z]\d[0-9A-Z]", note))) == {split}:
                add(code, _CODE_IN_NOTE.sub("", note), label)
    return found


def _opposites(codes: list[Code]) -> dict[str, Code]:
    """Return the sibling that differs from a code in one pair of opposite words."""
    alike: dict[tuple[str, str, str], list[Code]] = defaultdict(list)
    for words in (r"\b(right|left)\b", r"\b(with|without)\b"):
        for code in codes:
            text, count = re.subn(words, "…", code.description.lower())
            if count:
                alike[words, code.parent, text].append(code)
    result: dict[str, Code] = {}
    for a, b in (siblings for siblings in alike.values() if len(siblings) == 2):
        result.setdefault(a.code, b)
        result.setdefault(b.code, a)
    return result
