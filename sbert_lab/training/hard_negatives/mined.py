"""What was mined, for training, and kept on disk."""

import io
import json
import logging
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from sbert_lab._utils import Vectors, write_bytes
from sbert_lab.training.hard_negatives.candidates import Rows

log = logging.getLogger(__name__)

#: Anchors, positives, corpus.
Texts = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Mined:
    """What was mined for n pairs. Pairs of one anchor have the same negatives.

    Parameters
    ----------
    anchors, positives, corpus
        The texts, as given; without a corpus it is the positives.
    negatives
        Corpus rows, int64 ``[n, per_anchor]``, nearest first; -1 where there are fewer.
        Of a text that repeats, the first row.
    scores
        Their similarity to the anchor, float32 ``[n, per_anchor]``; minus infinity
        where there is none.
    positive_scores
        That of each pair's own positive, float32 ``[n]``.
    removed
        How many candidates each option took away, by its name, in the order in which
        they are asked: ``known`` and ``guard`` (passed over before ranks are counted),
        ``score``, ``absolute_margin``, ``relative_margin``, ``judge``. A candidate is
        one text for one anchor, and counts for the first that took it.
    fewer, without
        Of the different anchors, how many got fewer negatives than asked, and none.
    """

    anchors: tuple[str, ...] = field(repr=False)
    positives: tuple[str, ...] = field(repr=False)
    corpus: tuple[str, ...] = field(repr=False)
    negatives: Rows = field(repr=False)
    scores: Vectors = field(repr=False)
    positive_scores: Vectors = field(repr=False)
    removed: dict[str, int]
    fewer: int
    without: int

    def __len__(self) -> int:
        """Count the negatives of all pairs."""
        return int((self.negatives >= 0).sum())

    @property
    def rows(self) -> Rows:
        """Numbers of the pairs that have a negative, rising."""
        return np.flatnonzero((self.negatives >= 0).any(1))

    def triplets(self) -> dict[str, list[str]]:
        """Return columns ``anchor``, ``positive``, ``negative``: one row a negative.

        Pairs without a negative are left out. For `training.data.TrainingData`.
        """
        row, place = np.nonzero(self.negatives >= 0)
        return {
            "anchor": [self.anchors[i] for i in row],
            "positive": [self.positives[i] for i in row],
            "negative": [self.corpus[i] for i in self.negatives[row, place]],
        }

    def columns(self) -> dict[str, list[str] | list[list[str]]]:
        """Return the same columns, one row a pair, with a list of its negatives.

        All n pairs are there, in their order; a list may be empty. For objectives that
        take any number of negatives, such as multiple negatives ranking.
        """
        lists = [[self.corpus[i] for i in row if i >= 0] for row in self.negatives]
        return {
            "anchor": list(self.anchors),
            "positive": list(self.positives),
            "negative": lists,
        }

    def write(self, path: Path) -> None:
        """Write all but the texts to an ``.npz`` file, atomically."""
        counts = {
            "removed": self.removed,
            "fewer": self.fewer,
            "without": self.without,
        }
        file = io.BytesIO()
        np.savez(
            file,
            negatives=self.negatives,
            scores=self.scores,
            positive_scores=self.positive_scores,
            counts=np.array(json.dumps(counts)),
        )
        write_bytes(path, file.getvalue())

    @classmethod
    def read(cls, path: Path, texts: Texts) -> Self | None:
        """Read what `write` wrote for these texts; None if it is absent or damaged."""
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                counts = json.loads(str(file["counts"]))
                return cls(
                    *texts,
                    negatives=file["negatives"],
                    scores=file["scores"],
                    positive_scores=file["positive_scores"],
                    removed=counts["removed"],
                    fewer=counts["fewer"],
                    without=counts["without"],
                )
        except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
            log.warning("%s is damaged (%s); mining again", path, error)
            return None
