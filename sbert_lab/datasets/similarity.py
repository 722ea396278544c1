"""Pairs of sentences with a human score of their similarity.

`similarity_ladder` is the project's own. STS Benchmark, SICK and the SemEval sets have
licences of their own and are not part of this project; the first two are read from
``$SBERT_LAB_DATA_HOME`` in the form in which their authors publish them, and all of
them from the hub.
"""

import csv
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from sbert_lab._utils import project_root
from sbert_lab.models.registry import BY_NAME, resolve

#: The files in which SICK's authors publish it, by split.
SICK_FILES = {
    "train": "SICK_train.txt",
    "trial": "SICK_trial.txt",
    "test": "SICK_test_annotated.txt",
}


@dataclass(frozen=True)
class ScoredPairs:
    """Sentence pairs and their gold scores.

    Parameters
    ----------
    first, second
        The sentences.
    score
        Gold similarity, on the set's own scale.
    group
        Pairs of one group resemble each other (those of one anchor), and an interval
        draws them together; empty where every pair stands for itself.
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
        if len(kept) != len(self):
            raise ValueError(f"kept has {len(kept)} entries, and there are {len(self)}")
        return ScoredPairs(
            tuple(compress(self.first, kept)),
            tuple(compress(self.second, kept)),
            tuple(compress(self.score, kept)),
            tuple(compress(self.group, kept)),
        )


def stsb(split: str = "test") -> ScoredPairs:
    """Read the STS Benchmark (Cer et al. 2017), English; scores from 0 to 5.

    Parameters
    ----------
    split
        ``"train"``, ``"dev"`` or ``"test"``: 5,749, 1,500 and 1,379 pairs.
    """
    home = resolve("stsb")
    if is_snapshot(home):
        return _from_snapshot(home, {"dev": "validation"}.get(split, split))
    path = local_file(home, "stsb", f"stsb-en-{split}.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return _scored([(row[0], row[1], row[2]) for row in rows])


def sick(split: str = "test") -> ScoredPairs:
    """Read SICK (Marelli et al. 2014), relatedness from 1 to 5.

    Parameters
    ----------
    split
        ``"train"``, ``"trial"`` or ``"test"``: 4,500, 500 and 4,927 pairs; ``"all"``
        joins the three, which is what MTEB's SICK-R measures on.
    """
    home = resolve("sick")
    if is_snapshot(home):
        if split != "all":
            raise ValueError(
                f"the hub's copy of SICK has no split {split!r}, only 'all'"
            )
        return _from_snapshot(home, "test")
    rows: list[tuple[str, str, str]] = []
    for name in SICK_FILES.values() if split == "all" else [SICK_FILES[split]]:
        rows += [
            (row["sentence_A"], row["sentence_B"], row["relatedness_score"])
            for _, row in read_rows(local_file(home, "sick", name))
        ]
    return _scored(rows)


def semeval(year: int) -> ScoredPairs:
    """Read a SemEval similarity task, 2012 to 2016, all its parts, from 0 to 5.

    From the hub, as MTEB measures it.
    """
    if not 2012 <= year <= 2016:
        raise ValueError(f"year={year}: 2012 to 2016")
    return _from_snapshot(resolve(f"sts{year - 2000}"), "test")


def ladder(anchors: int | None = None) -> ScoredPairs:
    """Return the project's own pairs, those of one anchor as a group.

    Parameters
    ----------
    anchors
        So many from the start, six pairs each; None for all 120.
    """
    rungs = similarity_ladder()
    kept = set(list(dict.fromkeys(pair.anchor_id for pair in rungs))[:anchors])
    rungs = tuple(pair for pair in rungs if pair.anchor_id in kept)
    return ScoredPairs(
        first=tuple(pair.anchor for pair in rungs),
        second=tuple(pair.partner for pair in rungs),
        score=tuple(float(pair.score) for pair in rungs),
        group=tuple(pair.anchor_id for pair in rungs),
    )


def by_name(name: str) -> ScoredPairs:
    """Return the test pairs of a set: ladder, sts12 to sts16, stsb or sick."""
    if name == "ladder":
        return ladder()
    if name == "stsb":
        return stsb("test")
    if name == "sick":
        return sick("all")
    if name.startswith("sts") and name[3:].isdigit():
        return semeval(2000 + int(name[3:]))
    raise ValueError(f"no similarity set {name!r}: ladder, sts12 to sts16, stsb, sick")


def local_file(home: Path, name: str, file: str) -> Path:
    """Return a file of a catalogue entry's folder; an error says how to get it."""
    path = home / file
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {BY_NAME[name].install}")
    return path


def is_snapshot(folder: Path) -> bool:
    """Return whether a folder is laid out as MTEB's data sets on the hub are."""
    return bool(split_files(folder, "test"))


def split_files(folder: Path, split: str) -> list[Path]:
    """Return the files of a split, JSON lines or else parquet, pieces in order."""
    lines = sorted(folder.rglob(f"{split}*.jsonl*"))
    return lines or sorted(folder.rglob(f"{split}*.parquet"))


def _from_snapshot(folder: Path, split: str) -> ScoredPairs:
    """Read ``sentence1``, ``sentence2``, ``score`` of JSON lines or parquet."""
    files = split_files(folder, split)
    if not files:
        raise FileNotFoundError(f"{folder} has no file for the split {split!r}")
    rows = [row for path in files for _, row in read_rows(path)]
    return _scored([(r["sentence1"], r["sentence2"], r["score"]) for r in rows])


def read_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Read parquet, JSON lines (or these as gzip), or tab-separated text with a header.

    Rows are numbered as an editor numbers lines, those of parquet from 1. A quotation
    mark in tab-separated text is a character like any other.
    """
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return list(enumerate(parquet.read_table(path).to_pylist(), 1))
    if path.suffix in (".txt", ".tsv"):
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            return [(reader.line_num, row) for row in reader]
    opened = gzip.open if path.suffix == ".gz" else open
    rows = []
    with opened(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                rows += [(number, json.loads(line))] if line.strip() else []
            except json.JSONDecodeError as error:
                where = f"{path}, row {number}: {error.msg}"
                raise json.JSONDecodeError(where, error.doc, error.pos) from None
    return rows


def _scored(rows: list[tuple[str, str, str]]) -> ScoredPairs:
    first, second, score = zip(*rows, strict=True)
    return ScoredPairs(tuple(first), tuple(second), tuple(map(float, score)))


@dataclass(frozen=True)
class LadderPair:
    """One rung: an anchor, a partner, and how alike a careful reader finds them.

    Parameters
    ----------
    anchor_id, anchor, partner
        The sentences; each anchor has six partners.
    score
        5 (same meaning) to 0 (unrelated), once each for every anchor.
    trap
        What leads word overlap astray here (``"negation"``, ``"no_shared_word"`` …), or
        ``"none"``.
    topic, grammar, length
        Of the anchor.
    """

    anchor_id: str
    topic: str
    grammar: str
    length: str
    anchor: str
    partner: str
    score: int
    trap: str


def similarity_ladder() -> tuple[LadderPair, ...]:
    """Read the project's own graded pairs, data/authored/similarity_ladder.csv.

    720 pairs written for this project; the scale, the rules and the limits of the set
    stand in data/authored/README.md.
    """
    path = project_root() / "data" / "authored" / "similarity_ladder.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        LadderPair(
            **{k: v for k, v in row.items() if k != "score"}, score=int(row["score"])
        )
        for row in rows
    )
