"""Banking77: what bank customers type, and what they want (Casanueva et al. 2020).

Not part of this project: it is read from ``$SBERT_LAB_DATA_HOME``, in the form in which
its authors publish it, or from the hub.
"""

import csv
from dataclasses import dataclass

from sbert_lab.datasets.similarity import (
    is_snapshot,
    local_file,
    read_rows,
    split_files,
)
from sbert_lab.models.registry import resolve


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and the class of each.

    Parameters
    ----------
    texts
        What was written.
    labels
        Name of the class, one for each text.
    group
        Texts of one group resemble each other, as in `ScoredPairs`; empty where every
        text stands for itself.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    group: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.texts)


def banking77(split: str = "test") -> LabelledTexts:
    """Read Banking77, 77 intents, in the order of its files.

    The order of the training rows decides which of them MTEB's protocol draws.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``: 10,003 and 3,080 texts.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r}: 'train' or 'test'")
    home = resolve("banking77")
    if is_snapshot(home):
        rows = [row for path in split_files(home, split) for _, row in read_rows(path)]
        found = [(row["text"], row["label_text"]) for row in rows]
    else:
        path = local_file(home, "banking77", f"{split}.csv")
        with path.open(encoding="utf-8", newline="") as file:
            found = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    texts, labels = zip(*found, strict=True)
    return LabelledTexts(texts, labels)
