"""A choice under constraints, with its reasons.

Of the candidates that keep every constraint, the best one sets the mark. Those that
cannot be told from it (the interval of the paired difference holds zero) are as good as
it is, for all that was measured: of these the cheapest is recommended.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sbert_lab._utils import write_json
from sbert_lab.evaluation.statistics import Interval

#: Costs of a row, each with its unit, as it is shown.
COSTS = {
    "short_texts": "short texts a second, in batches",
    "short_texts_alone": "short texts a second, one at a time",
    "long_texts": "long texts a second, in batches",
    "query_ms_p50": "milliseconds to encode a query, 50th percentile",
    "query_ms_p95": "milliseconds to encode a query, 95th percentile",
    "search_ms": "milliseconds to search a million entries, exactly",
    "resident_mb": "MB of memory the model takes, loaded and used once",
    "load_s": "seconds to load it, or to fit it",
}


class NothingFits(ValueError):
    """No candidate keeps every constraint; the message says what stands in the way."""


@dataclass(frozen=True)
class Row:
    """One candidate: its score and metric on each task, and each of `COSTS`."""

    name: str
    dimension: int  #: of a lexical one the number of its words
    bytes_per_entry: float
    quality: Mapping[str, Interval]
    metrics: Mapping[str, str]
    cost: Mapping[str, float]  #: medians of the rounds
    lexical: bool = False

    def ms(self, corpus: int) -> float:
        """Return the milliseconds of a query: encoded (p95), searched in `corpus`."""
        search = self.cost["search_ms"] * corpus / 1e6
        return self.cost["query_ms_p95"] + search

    def mb(self, corpus: int) -> float:
        """Return the MB in memory: the model, and an index of `corpus` entries."""
        return self.cost["resident_mb"] + corpus * self.bytes_per_entry / 1e6


@dataclass(frozen=True)
class Survey:
    """Rows of one run on one machine, and their paired differences."""

    rows: Sequence[Row]
    #: By task, first row and second row, in the order of the rows.
    differences: Mapping[str, Mapping[str, Mapping[str, Interval]]]
    about: Mapping[str, str]  #: the "machine", and what "quality on" is measured on

    def row(self, name: str) -> Row:
        """Return a row by its name."""
        rows = {row.name: row for row in self.rows}
        if name not in rows:
            raise ValueError(f"no row {name!r}; there are {', '.join(rows)}")
        return rows[name]

    def difference(self, task: str, first: str, second: str) -> Interval:
        """Return the paired difference of two rows that a task was measured on."""
        known = self.differences[task]
        if second in known.get(first, {}):
            return known[first][second]
        other = known[second][first]
        return Interval(-other.mean, -other.high, -other.low, other.n)


def write_survey(path: Path, survey: Survey) -> None:
    """Write a survey as JSON, atomically."""
    write_json(path, asdict(survey))


def read_survey(path: Path) -> Survey:
    """Read what `write_survey` wrote; a ValueError tells of damage."""

    def interval(found: dict[str, Any]) -> Any:  # noqa: ANN401
        return Interval(**found) if "low" in found else found

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=interval)
        content["rows"] = [Row(**row) for row in content["rows"]]
        return Survey(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no survey of this release ({error}); make one with "
            "`python -m sbert_lab select --measure`"
        ) from error


@dataclass(frozen=True)
class Constraints:
    """What an application can bear, for a `task` of the survey.

    ``max_ms`` is for a query, encoded and searched for exactly in `corpus` entries;
    ``max_mb`` for model and index. A lexical candidate has no dimensions to limit.
    """

    task: str = "Retrieval"
    min_quality: float | None = None
    max_ms: float | None = None
    max_mb: float | None = None
    max_dimensions: int | None = None
    corpus: int = 100_000

    def broken_by(self, row: Row) -> dict[str, float]:
        """Return which constraints a row breaks, in words, and how many times over."""
        score, width = row.quality[self.task].mean, 0 if row.lexical else row.dimension
        ms, mb = row.ms(self.corpus), row.mb(self.corpus)
        found = {}
        for limit, value, sign, words in (
            (self.min_quality, score, -1, f"quality {score:.3f}, below"),
            (self.max_ms, ms, 1, f"{ms:.3g} ms a query, over"),
            (self.max_mb, mb, 1, f"{mb:,.0f} MB, over"),
            (self.max_dimensions, width, 1, f"{width} dimensions, over"),
        ):
            if limit is not None and sign * (value - limit) > 0:
                times = max(value, 1e-9) / max(limit, 1e-9)  # a limit may be 0
                found[f"{words} {limit:,g}"] = times**sign
        return found


def recommend(survey: Survey, limits: Constraints) -> tuple[Row, list[str]]:
    """Choose a candidate; returns its row and the reasons, the weightiest first.

    `NothingFits` says which candidate comes nearest, and what it breaks.
    """
    task, corpus = limits.task, limits.corpus
    known = measured_on(survey, task)
    fitting = [row for row in known if not limits.broken_by(row)]
    if not fitting:
        nearest = min(known, key=lambda row: prod(limits.broken_by(row).values()))
        raise NothingFits(
            f"No candidate keeps every constraint. Nearest is {nearest.name}: "
            f"{'; '.join(limits.broken_by(nearest))}."
        )
    best, *others = fitting
    gaps = {row.name: survey.difference(task, best.name, row.name) for row in others}
    alike = [row for row in others if gaps[row.name].low <= 0]
    chosen = min([best, *alike], key=lambda row: (row.ms(corpus), row.mb(corpus)))
    reasons = [
        f"{chosen.name}: {task} {chosen.metrics[task]} {chosen.quality[task]}, "
        f"{chosen.ms(corpus):.3g} ms a query and {chosen.mb(corpus):,.0f} MB at "
        f"{corpus:,} entries."
    ]
    if chosen is not best:
        reasons.append(
            f"{best.name} has the highest score that fits, but the difference "
            f"{gaps[chosen.name].signed()} may be chance; it takes "
            f"{best.ms(corpus):.3g} ms and {best.mb(corpus):,.0f} MB."
        )
    elif others:
        gap = gaps[others[0].name].signed()
        reasons.append(f"The next one that fits is {others[0].name}: {gap}.")
    return chosen, reasons


def measured_on(survey: Survey, task: str) -> list[Row]:
    """Return the rows that have a score on a task, the best first."""
    rows = [row for row in survey.rows if task in row.quality]
    if not rows:
        raise ValueError(f"task {task!r}: one of {', '.join(survey.differences)}")
    return sorted(rows, key=lambda row: -row.quality[task].mean)


def pareto_front(survey: Survey, task: str, corpus: int) -> list[Row]:
    """Return the rows that no other beats, by falling quality.

    A row is beaten by one as good in quality, time and memory, and better in one of
    these. Rows without the task are left out.
    """
    rows = measured_on(survey, task)
    points = np.array(
        [(-row.quality[task].mean, row.ms(corpus), row.mb(corpus)) for row in rows]
    )
    no_worse = np.all(points <= points[:, None], axis=2)
    better = np.any(points < points[:, None], axis=2)
    beaten = np.any(no_worse & better, axis=1).tolist()
    return [row for row, lost in zip(rows, beaten, strict=True) if not lost]
