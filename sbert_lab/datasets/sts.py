"""Pairs of sentences with a human score of their similarity, and texts with a class.

`ladder` and `everyday` are the project's own. The others are read from
``$SBERT_LAB_DATA_HOME`` in the form in which their authors publish them, or from the
hub.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import compress
from pathlib import Path
from typing import Any

from sbert_lab.datasets.pairs import read_authored, read_table, read_utf8
from sbert_lab.models.registry import resolve


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
        return ScoredPairs(
            tuple(compress(self.first, kept)),
            tuple(compress(self.second, kept)),
            tuple(compress(self.score, kept)),
            tuple(compress(self.group, kept)),
        )


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
    lines = StringIO(read_utf8(home / f"stsb-en-{split}.csv"), newline="")
    return _scored([row[:3] for row in csv.reader(lines)])


def sick() -> ScoredPairs:
    """Read all of SICK (Marelli et al. 2014), as MTEB's SICK-R, scored from 1 to 5."""
    home = resolve("sick")
    if split_files(home, "test"):
        return _from_snapshot(home, "test")
    rows: list[dict[str, str]] = []
    for name in ("SICK_train", "SICK_trial", "SICK_test_annotated"):
        lines = StringIO(read_utf8(home / f"{name}.txt"), newline="")
        # Tabs, and quotation marks as they are.
        rows += csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    keys = ("sentence_A", "sentence_B", "relatedness_score")
    return _scored([[row[key] for key in keys] for row in rows])


def ladder(anchors: int | None = None) -> ScoredPairs:
    """Return the project's own pairs, data/authored/similarity_ladder.csv, 0 to 5.

    Each anchor has six partners, one for each score, and is a group. `anchors` takes so
    many from the start; None for all 120.
    """
    rows = read_authored("similarity_ladder.csv")
    rows = rows if anchors is None else rows[: 6 * anchors]
    keys = ("anchor", "partner", "score", "anchor_id")
    return _scored([[row[key] for key in keys] for row in rows])


def everyday(
    anchors: int | None = None, *, lures: bool = True, same_form: bool = False
) -> ScoredPairs:
    """Return data/authored/everyday_pairs.csv, frozen before an encoder read them.

    Each anchor has six partners and is a group. Five share no content word with it; the
    `lures` repeat its words and say something else. With `same_form` there are no lures
    either, and partners of little or no likeness have the form of the anchor: a
    question's are questions. The score, 0 to 5, is the mean of two readers. `anchors`
    takes so many from the start; None for all 100.
    """
    rows = read_authored("everyday_pairs.csv")
    text = {row["anchor_id"]: row["anchor"] for row in rows}
    kinds = {"same", "near", "part", "topic", "apart"} | ({"lure"} if lures else set())
    if same_form:
        rows += read_authored("everyday_forms.csv")
        kinds = {"same", "near", "part", "topic_like", "apart_like"}
    chosen = set(list(text)[:anchors])
    kept = [r for r in rows if r["kind"] in kinds and r["anchor_id"] in chosen]
    kept.sort(key=lambda row: row["anchor_id"])
    return ScoredPairs(
        first=tuple(text[row["anchor_id"]] for row in kept),
        second=tuple(row["partner"] for row in kept),
        score=tuple((int(r["score"]) + int(r["second_score"])) / 2 for r in kept),
        group=tuple(row["anchor_id"] for row in kept),
    )


def banking77(split: str = "test") -> LabelledTexts:
    """Read Banking77 (Casanueva et al. 2020): what bank customers type, 77 intents.

    In the order of the files: it decides on which rows MTEB's protocol trains.
    """
    home = resolve("banking77")
    if split_files(home, "test"):
        found = [(r["text"], r["label_text"]) for r in read_split(home, split)]
    else:
        table = read_table(home / f"{split}.csv")[1]
        found = [(row["text"], row["category"]) for _, row in table]
    return LabelledTexts(*zip(*found, strict=True))


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
    first, second, score, *group = zip(*rows, strict=True)
    return ScoredPairs(first, second, tuple(map(float, score)), *group)
