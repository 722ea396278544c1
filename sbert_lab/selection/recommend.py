"""A choice under constraints, with its reasons.

Of the candidates that keep every constraint, the best one sets the mark. Those that
cannot be told from it (the interval of the paired difference holds zero) are as good as
it is, for all that was measured: of these the cheapest is recommended.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from sbert_lab._utils import write_json
from sbert_lab.evaluation.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    """One candidate: its score and metric on each task, and each of `COSTS`.

    ``dimension`` is None for words; a cost has a value for each round.
    """

    name: str
    dimension: int | None
    bytes_per_entry: float
    quality: Mapping[str, Interval]
    metrics: Mapping[str, str]
    cost: Mapping[str, Sequence[float]]

    def median(self, cost: str) -> float:
        """Return the middle of the rounds of a cost."""
        return median(self.cost[cost])

    def ms(self, corpus: int) -> float:
        """Return the milliseconds of a query: encoded (p95), searched in `corpus`."""
        return self.median("query_ms_p95") + self.median("search_ms") * corpus / 1e6

    def mb(self, corpus: int) -> float:
        """Return the MB in memory: the model, and an index of `corpus` entries."""
        return self.median("resident_mb") + corpus * self.bytes_per_entry / 1e6

    def costs(self, corpus: int) -> str:
        """Return both in words."""
        return f"{self.ms(corpus):.3g} ms a query and {self.mb(corpus):,.0f} MB"


@dataclass(frozen=True)
class Survey:
    """Rows of one run, and paired differences: task to first row to second to interval.

    ``about`` says on which machine and on which data.
    """

    rows: Sequence[Row]
    differences: Mapping[str, Mapping[str, Mapping[str, Interval]]]
    about: Mapping[str, str]

    def row(self, name: str) -> Row:
        """Return a row by its name."""
        rows = {row.name: row for row in self.rows}
        if name not in rows:
            raise ValueError(f"no row {name!r}; there are {', '.join(rows)}")
        return rows[name]

    def difference(self, task: str, first: str, second: str) -> Interval:
        """Return the paired difference of two rows, in either order."""
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
    ``max_mb`` for model and index. Words have no dimensions to limit.
    """

    task: str = "Retrieval"
    min_quality: float | None = None
    max_ms: float | None = None
    max_mb: float | None = None
    max_dimensions: int | None = None
    corpus: int = 100_000

    def __post_init__(self) -> None:
        """Refuse limits that nothing can keep."""
        for name in ("max_ms", "max_mb", "max_dimensions", "corpus"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value}: must be over 0")
        if self.min_quality is not None and not -1 <= self.min_quality <= 1:
            raise ValueError(
                f"min_quality={self.min_quality}: scores are fractions, 0.5 and not 50"
            )

    def broken_by(self, row: Row) -> list[str]:
        """Return which constraints a row breaks, in words."""
        score, found = row.quality[self.task].mean, []
        if self.min_quality is not None and score < self.min_quality:
            found.append(f"quality {score:.3f}, below {self.min_quality:g}")
        if self.max_ms is not None and (ms := row.ms(self.corpus)) > self.max_ms:
            found.append(f"{ms:.3g} ms a query, over {self.max_ms:g}")
        if self.max_mb is not None and (mb := row.mb(self.corpus)) > self.max_mb:
            found.append(f"{mb:,.0f} MB, over {self.max_mb:,g}")
        most = self.max_dimensions
        if most is not None and (row.dimension or 0) > most:
            found.append(f"{row.dimension} dimensions, over {most}")
        return found


def recommend(survey: Survey, limits: Constraints) -> tuple[Row, list[str]]:
    """Choose a candidate; returns its row and the reasons, the weightiest first.

    `NothingFits` says which candidate comes nearest, and what it breaks.
    """
    task, corpus = limits.task, limits.corpus
    known = measured_on(survey, task)
    fitting = [row for row in known if not limits.broken_by(row)]
    if not fitting:
        nearest = min(known, key=lambda row: len(limits.broken_by(row)))
        raise NothingFits(
            f"no candidate keeps every constraint. Nearest is {nearest.name}: "
            f"{'; '.join(limits.broken_by(nearest))}. Loosen that, or add a candidate "
            "with --models."
        )
    best, *others = fitting
    gaps = {row.name: survey.difference(task, best.name, row.name) for row in others}
    alike = [row for row in others if gaps[row.name].low <= 0]
    chosen = min([best, *alike], key=lambda row: (row.ms(corpus), row.mb(corpus)))
    reasons = [
        f"{chosen.name}: {task} {chosen.metrics[task]} {chosen.quality[task]}, "
        f"{chosen.costs(corpus)} at {corpus:,} entries."
    ]
    if chosen is not best:
        reasons.append(
            f"{best.name} has the highest score that fits, but the difference "
            f"{gaps[chosen.name].signed()} may be chance; it takes "
            f"{best.costs(corpus)}."
        )
    elif others:
        reasons.append(
            f"The next one that fits is {others[0].name}; the difference is "
            f"{gaps[others[0].name].signed()}."
        )
    return chosen, reasons


def measured_on(survey: Survey, task: str) -> list[Row]:
    """Return the rows that have a score on a task, the best first."""
    rows = [row for row in survey.rows if task in row.quality]
    if not rows:
        known = dict.fromkeys(task for row in survey.rows for task in row.quality)
        raise ValueError(f"task {task!r}: one of {', '.join(known)}")
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
    no_worse = (points <= points[:, None]).all(2)
    better = (points < points[:, None]).any(2)
    beaten = (no_worse & better).any(1)
    return [row for row, lost in zip(rows, beaten, strict=True) if not lost]


def pareto_picture(survey: Survey, limits: Constraints) -> "Figure":
    """Draw each candidate's quality, with its interval, against milliseconds a query.

    Round marks are on the Pareto front, squares are beaten; hollow ones break a
    constraint. The larger a mark, the more memory.
    """
    from sbert_lab.evaluation.figures import colours, label, log_x, new_figure

    task, corpus = limits.task, limits.corpus
    figure, (axes,) = new_figure(width=10, height=5)
    rows = sorted(measured_on(survey, task), key=lambda row: row.ms(corpus))
    front = pareto_front(survey, task, corpus)
    most = max(row.mb(corpus) for row in rows)
    orange, blue, *_ = colours()
    for number, row in enumerate(rows, 1):
        score, at = row.quality[task], row.ms(corpus)
        shape, colour = ("o", blue) if row in front else ("s", orange)
        axes.vlines(at, score.low, score.high, color=colour)
        axes.plot(
            [at],
            [score.mean],
            shape,
            color=colour,
            markersize=5 + 12 * (row.mb(corpus) / most) ** 0.5,
            markerfacecolor="white" if limits.broken_by(row) else colour,
            label=f"{number}  {row.name}",
        )
        label(axes, str(number), (at, score.mean), (7 if number % 2 == 0 else -16, 7))
    log_x(axes)
    axes.set_xlabel(f"milliseconds a query, {corpus:,} entries")
    axes.set_ylabel(f"{task}: {rows[0].metrics[task]}")
    axes.set_title("circle: on the Pareto front; hollow: breaks a constraint")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=0.6)
    return figure
