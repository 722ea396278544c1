"""A choice under constraints, with its reasons.

Of the candidates that keep every constraint, the best one sets the mark. Those that
cannot be told from it (the interval of the paired difference holds zero) are as good as
it is, for all that was measured: of these the cheapest is recommended.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
class Spread:
    """A cost over repeats: fastest or smallest, middle, and slowest or largest."""

    minimum: float
    median: float
    maximum: float

    def __str__(self) -> str:
        """Show as ``8.1 (7.9 to 12)``."""
        return f"{self.median:.3g} ({self.minimum:.3g} to {self.maximum:.3g})"


@dataclass(frozen=True)
class Row:
    """One candidate: its score and metric on each task, and each of `COSTS`.

    The ``dimension`` of a lexical one is its vocabulary; one that is fitted to the
    corpus has no ``disk_mb``.
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

    def ms(self, corpus: int) -> float:
        """Return the milliseconds of a query: encoded (p95), searched in `corpus`."""
        search = self.cost["search_ms"].median * corpus / 1e6
        return self.cost["query_ms_p95"].median + search

    def mb(self, corpus: int) -> float:
        """Return the MB in memory: the model, and an index of `corpus` entries."""
        return self.cost["resident_mb"].median + corpus * self.bytes_per_entry / 1e6


@dataclass(frozen=True)
class Survey:
    """Rows of one run on one machine, and by task the paired differences of two rows.

    ``about`` says on which machine and on which data.
    """

    rows: Sequence[Row]
    differences: Mapping[str, Mapping[tuple[str, str], Interval]]
    about: Mapping[str, str]

    def row(self, name: str) -> Row:
        """Return a row by its name."""
        rows = {row.name: row for row in self.rows}
        if name not in rows:
            raise ValueError(f"no row {name!r}; there are {', '.join(rows)}")
        return rows[name]

    def tasks(self) -> tuple[str, ...]:
        """Return the tasks that some row was measured on, in order."""
        return tuple(self.differences)

    def difference(self, task: str, first: str, second: str) -> Interval | None:
        """Return the paired difference of two rows, or None if it was not measured."""
        known = self.differences.get(task, {})
        if (first, second) in known:
            return known[first, second]
        other = known.get((second, first))
        return other and Interval(-other.mean, -other.high, -other.low, other.n)


def write_survey(path: Path, survey: Survey) -> None:
    """Write a survey as JSON, atomically."""
    differences = {
        task: [
            {"first": first, "second": second, **asdict(gap)}
            for (first, second), gap in known.items()
        ]
        for task, known in survey.differences.items()
    }
    rows = [asdict(row) for row in survey.rows]
    about = {"format": 1, "about": dict(survey.about)}
    write_json(path, about | {"rows": rows, "differences": differences})


def read_survey(path: Path) -> Survey:
    """Read what `write_survey` wrote; a ValueError tells of damage."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        differences = {
            task: {
                (gap.pop("first"), gap.pop("second")): Interval(**gap) for gap in gaps
            }
            for task, gaps in content["differences"].items()
        }
        rows = []
        for row in content["rows"]:
            row["quality"] = {
                t: Interval(**score) for t, score in row["quality"].items()
            }
            row["cost"] = {name: Spread(**row["cost"][name]) for name in COSTS}
            rows.append(Row(**row))
        return Survey(rows, differences, content["about"])
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

    def broken_by(self, row: Row) -> tuple[str, ...]:
        """Return which constraints a row breaks, in words."""
        if self.task not in row.quality:
            return (f"not measured on {self.task}",)
        score, found = row.quality[self.task].mean, []
        if self.min_quality is not None and score < self.min_quality:
            found.append(f"quality {score:.3f}, below {self.min_quality:g}")
        if self.max_ms is not None and (ms := row.ms(self.corpus)) > self.max_ms:
            found.append(f"{ms:.3g} ms a query, over {self.max_ms:g}")
        if self.max_mb is not None and (mb := row.mb(self.corpus)) > self.max_mb:
            found.append(f"{mb:,.0f} MB, over {self.max_mb:,g}")
        most = self.max_dimensions
        if most is not None and not row.lexical and row.dimension > most:
            found.append(f"{row.dimension} dimensions, over {most}")
        return tuple(found)


def recommend(survey: Survey, limits: Constraints) -> tuple[Row, list[str]]:
    """Choose a candidate; returns its row and the reasons, the weightiest first.

    `NothingFits` says which candidate comes nearest, and what every one breaks.
    """
    task, corpus = limits.task, limits.corpus
    if task not in survey.tasks():
        raise ValueError(f"task {task!r}: one of {', '.join(survey.tasks())}")
    broken = {row.name: "; ".join(limits.broken_by(row)) for row in survey.rows}
    fitting = [row for row in survey.rows if not broken[row.name]]
    if not fitting:
        known = [row for row in survey.rows if task in row.quality]
        nearest = min(
            known,
            key=lambda row: (len(limits.broken_by(row)), -row.quality[task].mean),
        )
        lines = [f"  {name}: {why}" for name, why in broken.items()]
        raise NothingFits(
            f"no candidate keeps every constraint. Nearest is {nearest.name}: "
            f"{broken[nearest.name]}. Loosen that, or add a candidate with --models.\n"
            + "\n".join(lines)
        )
    fitting.sort(key=lambda row: -row.quality[task].mean)
    best, *others = fitting
    gaps = {row.name: survey.difference(task, best.name, row.name) for row in others}
    alike = [row for row in others if (gap := gaps[row.name]) and gap.low <= 0]
    chosen = min([best, *alike], key=lambda row: (row.ms(corpus), row.mb(corpus)))
    reasons = [
        f"{chosen.name}: {task} {chosen.metrics[task]} {chosen.quality[task]}, "
        f"{chosen.ms(corpus):.3g} ms a query and {chosen.mb(corpus):,.0f} MB at "
        f"{corpus:,} entries."
    ]
    if chosen is not best:
        gap = gaps[chosen.name]
        reasons.append(
            f"{best.name} has the highest score that fits, but the difference "
            f"{gap.signed() if gap else ''} may be chance; it takes "
            f"{best.ms(corpus):.3g} ms and {best.mb(corpus):,.0f} MB."
        )
    elif not others:
        reasons.append("No other candidate keeps every constraint.")
    elif (gap := gaps[others[0].name]) and gap.low > 0:
        reasons.append(
            f"It is better than {others[0].name}, the next one that fits, by "
            f"{gap.signed()}."
        )
    else:
        reasons.append(
            f"No candidate that cannot be told from it is cheaper; next comes "
            f"{others[0].name}."
        )
    floor = limits.min_quality
    if floor is not None and chosen.quality[task].low < floor:
        reasons.append(
            f"Its interval reaches below the asked {floor:g}: on other items of this "
            "kind it may miss it."
        )
    return chosen, reasons


def pareto_front(rows: Sequence[Row], task: str, corpus: int) -> list[Row]:
    """Return the rows that no other beats, by falling quality.

    A row is beaten by one as good in quality, time and memory, and better in one of
    these. Rows without the task are left out.
    """
    points = {
        row.name: (-row.quality[task].mean, row.ms(corpus), row.mb(corpus))
        for row in rows
        if task in row.quality
    }

    def beaten(mine: tuple[float, ...]) -> bool:
        return any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
            for other in points.values()
        )

    known = [row for row in rows if row.name in points]
    known.sort(key=lambda row: points[row.name][0])
    return [row for row in known if not beaten(points[row.name])]


def pareto_picture(survey: Survey, limits: Constraints) -> "Figure":
    """Draw each candidate's quality, with its interval, against milliseconds a query.

    Round marks are on the Pareto front, squares are beaten; hollow ones break a
    constraint. The larger a mark, the more memory. A line joins those that nothing
    faster beats in quality.
    """
    from sbert_lab.evaluation.figures import colours, label, log_x, new_figure

    task, corpus = limits.task, limits.corpus
    figure, (axes,) = new_figure(width=10, height=5)
    rows = [row for row in survey.rows if task in row.quality]
    rows.sort(key=lambda row: (row.ms(corpus), row.name))
    front = pareto_front(rows, task, corpus)
    most = max(row.mb(corpus) for row in rows)
    orange, blue, *_ = colours()
    leading: list[tuple[float, float]] = []
    for number, row in enumerate(rows, 1):
        score, at = row.quality[task], row.ms(corpus)
        axes.vlines(at, score.low, score.high, color=blue if row in front else orange)
        axes.plot(
            [at],
            [score.mean],
            "o" if row in front else "s",
            color=blue if row in front else orange,
            markersize=5 + 12 * (row.mb(corpus) / most) ** 0.5,
            markerfacecolor="white" if limits.broken_by(row) else None,
            label=f"{number}  {row.name}",
            zorder=3,
        )
        label(axes, str(number), (at, score.mean), (7 if number % 2 == 0 else -16, 7))
        if not leading or score.mean > leading[-1][1]:
            leading.append((at, score.mean))
    axes.plot(*zip(*leading, strict=True), "-", color=blue, alpha=0.4, zorder=1)
    log_x(axes)
    axes.set_xlabel(f"milliseconds a query, {corpus:,} entries")
    axes.set_ylabel(f"{task}: {rows[0].metrics[task]}")
    axes.set_title("circle: on the Pareto front; hollow: breaks a constraint")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=0.6)
    return figure
