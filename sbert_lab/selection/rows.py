"""What was measured of each candidate: quality with intervals, costs with their spread.

A `Survey` is one run: all its candidates took turns on one machine, so that their rows
can be compared with each other. Those of another machine cannot.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from sbert_lab._utils import write_json
from sbert_lab.evaluation.statistics import Interval

#: Costs of a row, each with its unit, as it is shown.
COSTS = {
    "short_texts": "short texts a second, in batches",
    "short_texts_alone": "short texts a second, one at a time",
    "long_texts": "long texts a second, in batches",
    "long_texts_alone": "long texts a second, one at a time",
    "query_ms_p50": "milliseconds to encode a query, 50th percentile",
    "query_ms_p95": "milliseconds to encode a query, 95th percentile",
    "search_ms": "milliseconds to search a million entries, exactly",
    "resident_mb": "MB of memory the model takes, loaded and used once",
    "load_s": "seconds to load it, or to fit it",
}

#: Those that `Row.ms` and `Row.mb` are reckoned from.
_NEEDED = ("query_ms_p95", "search_ms", "resident_mb")

_FORMAT = 1  # of the file; a reader of another one would misread it


@dataclass(frozen=True)
class Spread:
    """A cost over repeats: fastest or smallest, middle, and slowest or largest."""

    minimum: float
    median: float
    maximum: float

    def __post_init__(self) -> None:  # noqa: D105
        if not 0 <= self.minimum <= self.median <= self.maximum < float("inf"):
            raise ValueError(
                f"minimum {self.minimum}, median {self.median}, maximum "
                f"{self.maximum}: must be finite, rise, and not be negative"
            )

    def __str__(self) -> str:
        """Show as ``8.1 (7.9 to 12)``."""
        return f"{self.median:.3g} ({self.minimum:.3g} to {self.maximum:.3g})"


@dataclass(frozen=True)
class Row:
    """One candidate.

    Parameters
    ----------
    name, about
        What it is called, and what it is.
    dimension
        Width of its vectors; of a lexical one, its vocabulary.
    bytes_per_entry
        What an entry of the index takes.
    disk_mb
        Its files, in MB of a million bytes; None where there are none, since it is
        fitted to the corpus.
    quality
        Task to score, with its 95 % interval and number of items.
    metrics
        Task to the name of its score.
    cost
        Some of `COSTS`; ``query_ms_p95``, ``search_ms`` and ``resident_mb`` at least.
    lexical
        True if its dimensions are words.
    """

    name: str
    about: str
    dimension: int
    bytes_per_entry: float
    disk_mb: float | None
    quality: Mapping[str, Interval]
    metrics: Mapping[str, str]
    cost: Mapping[str, Spread]
    lexical: bool = False

    def __post_init__(self) -> None:  # noqa: D105
        if self.quality.keys() != self.metrics.keys() or not self.quality:
            raise ValueError(f"{self.name}: each task needs a score and its metric")
        unknown = self.cost.keys() - COSTS.keys()
        if unknown:
            raise ValueError(f"{self.name}: unknown cost {sorted(unknown)[0]!r}")
        missing = [cost for cost in _NEEDED if cost not in self.cost]
        if missing:
            raise ValueError(f"{self.name}: the cost {missing[0]!r} is missing")

    def ms(self, corpus: int) -> float:
        """Return the milliseconds of a query: encoded (p95), searched in `corpus`."""
        return self.cost["query_ms_p95"].median + self.search_ms(corpus)

    def search_ms(self, corpus: int) -> float:
        """Return the milliseconds of an exact search in `corpus` entries."""
        return self.cost["search_ms"].median * corpus / 1e6

    def mb(self, corpus: int) -> float:
        """Return the MB in memory: the model, and an index of `corpus` entries."""
        return self.cost["resident_mb"].median + corpus * self.bytes_per_entry / 1e6


@dataclass(frozen=True)
class Survey:
    """Rows of one run.

    Parameters
    ----------
    rows
        One a candidate, with different names.
    differences
        Task to ``(first, second)`` to the paired difference first − second, on the
        same items, for each two candidates that were measured on it.
    about
        Machine, versions, data: what a reader of the figures must know.
    """

    rows: Sequence[Row]
    differences: Mapping[str, Mapping[tuple[str, str], Interval]] = field(
        default_factory=dict
    )
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:  # noqa: D105
        names = [row.name for row in self.rows]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"rows must have different names, one at least: {names}")
        for task, known in self.differences.items():
            strange = {name for pair in known for name in pair} - set(names)
            if strange:
                raise ValueError(f"{task}: differences of unknown rows {strange}")

    def row(self, name: str) -> Row:
        """Return a row by its name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no row {name!r}; there are {[r.name for r in self.rows]}")

    def tasks(self) -> tuple[str, ...]:
        """Return the tasks that some row was measured on, in order."""
        return tuple(dict.fromkeys(task for row in self.rows for task in row.quality))

    def difference(self, task: str, first: str, second: str) -> Interval | None:
        """Return the paired difference of two rows, or None if it was not measured."""
        known = self.differences.get(task, {})
        if (first, second) in known:
            return known[first, second]
        other = known.get((second, first))
        return other and Interval(-other.mean, -other.high, -other.low, other.n)


def write_survey(path: Path, survey: Survey) -> None:
    """Write a survey as JSON, atomically."""
    write_json(
        path,
        {
            "format": _FORMAT,
            "about": dict(survey.about),
            "rows": [asdict(row) for row in survey.rows],
            "differences": {
                task: [
                    {"first": first, "second": second, **asdict(gap)}
                    for (first, second), gap in known.items()
                ]
                for task, known in survey.differences.items()
            },
        },
    )


def read_survey(path: Path) -> Survey:
    """Read what `write_survey` wrote.

    Raises
    ------
    FileNotFoundError
        There is none; says how to make one.
    ValueError
        It is damaged, or of another release.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no recorded survey; `python -m sbert_lab select --measure` "
            "measures the candidates on this machine"
        )
    try:
        content = json.loads(path.read_text())
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']}, not {_FORMAT}")
        return Survey(
            [_row(entry) for entry in content["rows"]],
            {
                task: {(gap["first"], gap["second"]): _interval(gap) for gap in known}
                for task, known in content["differences"].items()
            },
            dict(content["about"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no survey of this release ({error}); make it anew with "
            "`python -m sbert_lab select --measure`"
        ) from error


def every_two(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return every two of the names, the earlier one first."""
    return list(combinations(names, 2))


def _row(entry: Mapping[str, Any]) -> Row:
    quality = {task: _interval(found) for task, found in entry["quality"].items()}
    cost = {name: Spread(**found) for name, found in entry["cost"].items()}
    return Row(**{**entry, "quality": quality, "cost": cost})


def _interval(entry: Mapping[str, Any]) -> Interval:
    return Interval(entry["mean"], entry["low"], entry["high"], entry["n"])
