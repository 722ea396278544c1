"""Pairs of sentences with a human score of their similarity, and texts with a class.

`ladder` is the project's own. The others are read from ``$SBERT_LAB_DATA_HOME`` in the
form in which their authors publish them, or from the hub.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from sbert_lab.datasets.pairs import read_authored, read_table
from sbert_lab.models.registry import BY_NAME, resolve

#: The files in which SICK's authors publish it, by split.
SICK_FILES = {
    "train": "SICK_train.txt",
    "trial": "SICK_trial.txt",
    "test": "SICK_test_annotated.txt",
}


@dataclass(frozen=True)
class ScoredPairs:
    """Sentence pairs and their gold scores, on the set's own scale.

    Pairs of one `group` resemble each other, and an interval draws them together; empty
    where every pair stands for itself.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    score: tuple[float, ...]
    group: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.score)

    def only(self, kept: Sequence[bool]) -> "ScoredPairs":
        """Return the pairs for which `kept`, ``[n]``, is true."""
        columns = (self.first, self.second, self.score, self.group)
        return ScoredPairs(*(tuple(compress(column, kept)) for column in columns))


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and the name of the class of each; `group` as in `ScoredPairs`."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    group: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.texts)


def stsb(split: str = "test") -> ScoredPairs:
    """Read a split of the STS Benchmark (Cer et al. 2017), scored from 0 to 5."""
    home = resolve("stsb")
    if split_files(home, "test"):
        return _from_snapshot(home, {"dev": "validation"}.get(split, split))
    path = local_file(home, "stsb", f"stsb-en-{split}.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return _scored([row[:3] for row in csv.reader(file)])


def sick(split: str = "test") -> ScoredPairs:
    """Read SICK (Marelli et al. 2014), relatedness from 1 to 5.

    `split` is ``"train"``, ``"trial"``, ``"test"``, or ``"all"``, which is what MTEB's
    SICK-R measures on.
    """
    home = resolve("sick")
    if split_files(home, "test"):
        if split != "all":
            raise ValueError(f"the hub's copy of SICK has no split {split!r}: 'all'")
        return _from_snapshot(home, "test")
    splits = SICK_FILES if split == "all" else (split,)
    return _scored(
        [
            (row["sentence_A"], row["sentence_B"], row["relatedness_score"])
            for part in splits
            for row in sick_rows(home, part)
        ]
    )


def sick_rows(home: Path, split: str) -> list[dict[str, str]]:
    """Return the rows of one of SICK's files: tabs, and quotation marks as they are."""
    path = local_file(home, "sick", SICK_FILES[split])
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def ladder(anchors: int | None = None) -> ScoredPairs:
    """Return the project's own pairs, data/authored/similarity_ladder.csv, 0 to 5.

    Each anchor has six partners, one for each score, and is a group. `anchors` takes so
    many from the start; None for all 120.
    """
    rows = read_authored("similarity_ladder.csv")
    kept = set(list(dict.fromkeys(row["anchor_id"] for row in rows))[:anchors])
    rows = [row for row in rows if row["anchor_id"] in kept]
    return ScoredPairs(
        tuple(row["anchor"] for row in rows),
        tuple(row["partner"] for row in rows),
        tuple(float(row["score"]) for row in rows),
        tuple(row["anchor_id"] for row in rows),
    )


def by_name(name: str) -> ScoredPairs:
    """Return the test pairs of a set: ladder, stsb, sick, or SemEval's sts12 to 16."""
    if name == "ladder":
        return ladder()
    if name == "stsb":
        return stsb("test")
    if name == "sick":
        return sick("all")
    if name in ("sts12", "sts13", "sts14", "sts15", "sts16"):
        return _from_snapshot(resolve(name), "test")
    raise ValueError(f"no similarity set {name!r}: ladder, sts12 to sts16, stsb, sick")


def banking77(split: str = "test") -> LabelledTexts:
    """Read Banking77 (Casanueva et al. 2020): what bank customers type, 77 intents.

    In the order of the files: it decides on which rows MTEB's protocol trains.
    """
    home = resolve("banking77")
    if split_files(home, "test"):
        found = [(r["text"], r["label_text"]) for r in read_split(home, split)]
    else:
        table = read_table(local_file(home, "banking77", f"{split}.csv"))
        found = [(row["text"], row["category"]) for _, row in table[1]]
    return LabelledTexts(*zip(*found, strict=True))


def local_file(home: Path, name: str, file: str) -> Path:
    """Return a file of a registry entry's folder; an error says how to get it."""
    path = home / file
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {BY_NAME[name].install}")
    return path


def split_files(folder: Path, split: str) -> list[Path]:
    """Return the files of a split, JSON lines or else parquet, pieces in order."""
    lines = sorted(folder.rglob(f"{split}*.jsonl*"))
    return lines or sorted(folder.rglob(f"{split}*.parquet"))


def read_split(folder: Path, split: str) -> list[dict[str, Any]]:
    """Return the rows of a split of a snapshot."""
    files = split_files(folder, split)
    if not files:
        raise FileNotFoundError(f"{folder} has no file for the split {split!r}")
    return [row for path in files for _, row in read_table(path)[1]]


def _from_snapshot(folder: Path, split: str) -> ScoredPairs:
    rows = read_split(folder, split)
    return _scored([(r["sentence1"], r["sentence2"], r["score"]) for r in rows])


def _scored(rows: Sequence[Sequence[str]]) -> ScoredPairs:
    first, second, score = zip(*rows, strict=True)
    return ScoredPairs(first, second, tuple(map(float, score)))
