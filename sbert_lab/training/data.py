"""Texts to train on: columns by role, every different text tokenised once."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sbert_lab.datasets.pairs import DataError, Pairs
from sbert_lab.losses.objective import Batch, Objective, Tokens
from sbert_lab.models.batching import check_list, text_problem
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.models.transformer import tell_unknown

log = logging.getLogger(__name__)

Numbers = NDArray[np.int64]


class TrainingData(Dataset[Batch]):
    """Rows of texts, by role, with or without a label.

    `columns` are by role (``anchor``, ``positive``, ``negative``, ``first``,
    ``second``, ``text``, ``label``), one entry a row. A ``negative`` may also be a list
    of texts, longer or shorter from row to row, or empty. Messages call it `source`.

    A `DataError` has every problem: columns of different length, a row that is not
    text or is empty, a label that is no number.
    """

    def __init__(
        self, columns: Mapping[str, Sequence[Any]], source: str = "training data"
    ) -> None:
        self.source = source
        columns = {role: check_list(items, role) for role, items in columns.items()}
        lengths = {role: len(column) for role, column in columns.items()}
        self.roles = tuple(role for role in columns if role != "label")
        if not self.roles or len({0, *lengths.values()}) != 2:
            raise DataError(
                [f"{source}: columns of text of one length are needed, not {lengths}"]
            )
        self.count = lengths[self.roles[0]]
        #: What messages call the rows.
        self.row_names: Sequence[int] = range(self.count)
        problems: list[str] = []
        self.numbers: dict[str, int] = {}  # by text
        self.label = None
        if "label" in columns:
            try:
                self.label = np.array([float(value) for value in columns["label"]])
            except (TypeError, ValueError) as error:
                problems.append(f"{source}, column 'label': {error}")
        #: By role the number of each text, and the row that it is in.
        self.columns = {
            role: self._numbered(role, columns[role], problems) for role in self.roles
        }
        if problems:
            raise DataError(problems)
        self.texts = list(self.numbers)
        self._tokens: list[Tokens] = []

    @classmethod
    def from_pairs(cls, pairs: Pairs) -> Self:
        """Take the rows of a file that `read_pairs` has read."""
        columns = {
            role: getattr(pairs, role)
            for role in ("anchor", "positive", "negative", "label")
            if getattr(pairs, role) is not None
        }
        found = cls(columns, source=str(pairs.source))
        found.row_names = pairs.rows  # as an editor numbers the lines
        return found

    def __len__(self) -> int:
        """Count the rows."""
        return self.count

    def tokenize(self, encoder: SentenceEncoder) -> None:
        """Tokenise every different text once; say how many were too long."""
        self._tokens = encoder.token_ids(self.texts)
        if encoder.last_truncated:
            log.warning(
                "%s: %d of %d texts are longer than %d tokens and are cut there",
                self.source,
                encoder.last_truncated,
                len(self.texts),
                encoder.max_seq_length,
            )
        tell_unknown(encoder.last_unknown, len(self.texts), "training texts")

    def lengths(self) -> Numbers:
        """Return the tokens of each row, all its texts together, ``[n]``."""
        size = np.array([len(ids) for ids in self._tokens])
        total = np.zeros(self.count, np.int64)
        for column, owner in self.columns.values():
            total += np.bincount(owner, size[column], self.count).astype(np.int64)
        return total

    def row_texts(self) -> list[list[str]]:
        """Return the texts of each row, its negatives too."""
        found: list[list[str]] = [[] for _ in range(self.count)]
        for column, owner in self.columns.values():
            for number, row in zip(column.tolist(), owner.tolist(), strict=True):
                found[row].append(self.texts[number])
        return found

    def fingerprint(self) -> str:
        """Return a hash of all rows, in order."""
        digest = hashlib.sha256("\0".join(self.texts).encode())
        for role in self.roles:
            digest.update(role.encode())
            for part in self.columns[role]:
                digest.update(part.tobytes())
        if self.label is not None:
            digest.update(self.label.tobytes())
        return digest.hexdigest()

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        """Return the batch of these rows; `DataLoader` asks for it so."""
        wanted = np.asarray(rows, np.int64)
        numbers: dict[str, Numbers] = {}
        owners = np.zeros(0, np.int64)
        for role, (column, owner) in self.columns.items():
            first = np.searchsorted(owner, wanted, side="left")
            last = np.searchsorted(owner, wanted, side="right")
            spans = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
            numbers[role] = column[np.concatenate(spans)]
            if role == "negative":
                owners = np.repeat(np.arange(len(wanted)), last - first)
        if "negative" in numbers and not len(numbers["negative"]):
            del numbers["negative"]  # no row of this batch has one
        tokens: dict[str, list[Tokens]] = {}
        if self._tokens:  # a cross-encoder tokenises pairs, not texts
            tokens = {r: [self._tokens[n] for n in ns] for r, ns in numbers.items()}
        return Batch(
            texts={r: [self.texts[n] for n in ns] for r, ns in numbers.items()},
            tokens=tokens,
            numbers=numbers,
            label=None if self.label is None else self.label[wanted],
            rows=wanted,
            owner=owners,
        )

    def _numbered(
        self, role: str, column: Sequence[Any], problems: list[str]
    ) -> tuple[Numbers, Numbers]:
        """Return the number of each text of a column, and the row that it is in."""
        found, owner = [], []
        for row, entry in enumerate(column):
            several = role == "negative" and isinstance(entry, (list, tuple))
            for text in entry if several else [entry]:
                problem = text_problem(text) or ("" if text.strip() else "empty")
                if problem:
                    kind = problem if isinstance(text, str) else type(text).__name__
                    problems.append(
                        f"{self.source}, row {row}, column {role!r}: {kind}, not a text"
                    )
                    continue
                found.append(self.numbers.setdefault(text, len(self.numbers)))
                owner.append(row)
        return np.array(found, np.int64), np.array(owner, np.int64)


def check_columns(data: TrainingData, objective: Objective) -> None:
    """Refuse columns that an objective does not read or lacks, and wrong labels."""
    name, rule = type(objective).__name__, objective.label
    reads = [*objective.roles, *objective.optional]
    problems = []
    if not set(objective.roles) <= set(data.roles) <= set(reads):
        problems.append(
            f"{data.source} has columns {', '.join(data.roles)}; {name} reads "
            f"{', '.join(reads)} and needs {', '.join(objective.roles)}"
        )
    if rule is None and data.label is not None:
        problems.append(f"{data.source}: {name} reads no label; leave that column out")
    elif rule is not None and data.label is None:
        problems.append(f"{data.source}: {name} needs a column 'label', {rule}")
    elif rule is not None and data.label is not None:
        problems += [
            f"{data.source}, row {data.row_names[row]}, column 'label': "
            f"{value:g}; {name} takes {rule}"
            for row, value in enumerate(data.label)
            if not rule.fits(value)
        ]
    if "negative" in objective.roles and "negative" in data.columns:
        counts = np.bincount(data.columns["negative"][1], minlength=len(data))
        one, most = ("one or more", np.inf) if rule is None else ("one", 1)
        problems += [
            f"{data.source}, row {data.row_names[row]}: {counts[row]} negatives; "
            f"{name} needs {one}: leave such rows out"
            for row in np.flatnonzero((counts < 1) | (counts > most)).tolist()
        ]
    if problems:
        raise DataError(problems)
