"""Pairs of a premise and a hypothesis, and whether the one follows from the other.

`authored` is the project's own, `icd10cm_entailment` is read off the hierarchy of
ICD-10-CM. SICK and AllNLI have licences of their own and are read from
``$SBERT_LAB_DATA_HOME``, AllNLI from the hub too.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sbert_lab._utils import project_root
from sbert_lab.datasets.icd10cm import Code, ancestors, block_of, load, split_of
from sbert_lab.datasets.pairs import read_table
from sbert_lab.datasets.sts import SICK_FILES, sick_rows, split_files
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
    """Read the project's own 1,200 pairs, data/authored/nli.csv; rules beside it."""
    path = project_root() / "data" / "authored" / "nli.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(Inference(**row) for row in csv.DictReader(file))  # type: ignore[arg-type]


def sick_entailment(split: str = "train") -> tuple[Inference, ...]:
    """Read the entailment judgements of SICK; its splits share most sentences."""
    _check_split(split, tuple(SICK_FILES))
    home = resolve("sick")
    pairs = _Pairs("sick", split)
    for row in sick_rows(home, split):
        label = row["entailment_judgment"].lower()
        pairs.add(row["sentence_A"], row["sentence_B"], label)
    return tuple(pairs.found)


def all_nli(split: str = "train") -> tuple[Inference, ...]:
    """Read AllNLI: SNLI (Bowman et al. 2015) and MultiNLI (Williams et al. 2018).

    The subset ``pair-class`` of ``sentence-transformers/all-nli`` on the hub; a folder
    of that name in ``$SBERT_LAB_DATA_HOME/all-nli`` comes first. `split` is
    ``"train"``, ``"dev"`` or ``"test"``. A row that is no labelled pair is named with
    its file.
    """
    _check_split(split, ("train", "dev", "test"))
    folder = resolve("all-nli") / "pair-class"
    files = split_files(folder, split)
    if not files:
        raise FileNotFoundError(
            f"{folder} has no file for the split {split!r}; to get it: "
            f"{BY_NAME['all-nli'].install}"
        )
    pairs = _Pairs("all-nli", split)
    for path in files:
        for row, record in read_table(path)[1]:
            try:
                pairs.add(record["premise"], record["hypothesis"], record["label"])
            except (KeyError, ValueError) as error:
                raise ValueError(f"{path}, row {row}: {error}") from None
    return tuple(pairs.found)


def nli_triplets(pairs: Sequence[Inference]) -> list[tuple[str, str, str]]:
    """Return (premise, entailed hypothesis, contradicting hypothesis) triplets.

    As in SimCSE (Gao et al. 2021, section 4), but the i-th entailment of a premise goes
    with its i-th contradiction, up to the fewer of the two, so that nothing is drawn.
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


def _check_split(split: str, splits: tuple[str, ...]) -> None:
    if split not in splits:
        raise ValueError(f"split={split!r}: {' or '.join(map(repr, splits))}")


class _Pairs:
    """Collects the checked pairs of a set's split."""

    def __init__(self, name: str, split: str) -> None:
        self.name, self.split = name, split
        self.found: list[Inference] = []
        self._first: dict[str, str] = {}  # premise to the id of its first pair

    def add(self, premise: object, hypothesis: object, label: object) -> None:
        if not isinstance(premise, str) or not isinstance(hypothesis, str):
            raise ValueError(f"{premise!r}, {hypothesis!r}: not two texts")
        # A list would take -1, too, and True.
        if type(label) is int and 0 <= label < len(LABELS):
            label = LABELS[label]
        if label not in LABELS:
            raise ValueError(
                f"label {label!r} is none of {', '.join(LABELS)} or 0, 1, 2; take the "
                "row out ('-' and -1 mark pairs whose annotators did not agree)"
            )
        number = f"{self.split}-{len(self.found) + 1}"
        premise_id = self._first.setdefault(premise, number)
        self.found.append(Inference(premise_id, self.name, premise, hypothesis, label))


_CODE_IN_NOTE = re.compile(r"\s*\([^()]*\b[A-Z]\d[0-9A-Z][^()]*\)\s*$")
_OPPOSITES = (("right", "left"), ("with", "without"))
_MARK = re.compile(r"\b(right|left|with|without)\b", re.IGNORECASE)


def icd10cm_entailment(split: str = "train") -> tuple[Inference, ...]:
    """Return pairs labelled by ICD-10-CM, as many of each label, in random order.

    ============== ==================================================================
    entailment     a code, and a heading above it in its category
    contradiction  a code, and the opposite of itself or of a heading above it: the
                   sibling that differs in *right* and *left*, or *with* and *without*
    contradiction  a code, and what its Excludes1 note names ("cannot occur together")
    neutral        a code, and what its Excludes2 note names ("not included here")
    neutral        a code, and a heading of another category of its block
    ============== ==================================================================

    All codes are of categories of one split. A pair of texts with two labels is left
    out. A hypothesis with *right* or *without* in it must not give its label away: all
    labels get as many with such a word, and as many without.
    """
    _check_split(split, ("train", "test"))
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
    codes = [c for c in load() if c.category and split_of(c.category) == split]
    opposite = _opposites(codes)
    blocks = {code.code: block_of(code).code for code in codes}
    nearby: dict[tuple[str, bool], list[Code]] = defaultdict(list)
    for code in codes:
        if len(code.code) <= 7:  # longer ones say which encounter it is
            nearby[blocks[code.code], bool(_MARK.search(code.description))].append(code)
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
            pool = nearby[blocks[code.code], mark]
            other = pool[rng.integers(len(pool))] if pool else code
            if other.category != code.category:
                add(code, other.description, "neutral")
        for label, note in _notes(code, split):
            add(code, note, label)
    return found


def _opposites(codes: list[Code]) -> dict[str, Code]:
    """Return the sibling that differs from a code in one pair of opposite words."""
    result: dict[str, Code] = {}
    for one, other in _OPPOSITES:
        alike: dict[tuple[str, str], list[Code]] = defaultdict(list)
        pattern = re.compile(rf"\b({one}|{other})\b", re.IGNORECASE)
        for code in codes:
            text, count = pattern.subn("…", code.description.lower())
            if count:
                alike[code.parent, text].append(code)
        for siblings in alike.values():
            if len(siblings) == 2:
                a, b = siblings
                result.setdefault(a.code, b)
                result.setdefault(b.code, a)
    return result


def _notes(code: Code, split: str) -> list[tuple[Label, str]]:
    """Return what a code's notes name, where all codes they name are of the split."""
    import simple_icd_10_cm as icd

    kinds: tuple[tuple[Label, list[str]], ...] = (
        ("contradiction", icd.get_excludes1(code.code)),
        ("neutral", icd.get_excludes2(code.code)),
    )
    return [
        (label, _CODE_IN_NOTE.sub("", note))
        for label, notes in kinds
        for note in notes
        if (named := re.findall(r"\b[A-Z]\d[0-9A-Z]", note))
        and all(split_of(category) == split for category in named)
    ]
