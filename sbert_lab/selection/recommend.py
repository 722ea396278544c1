"""A choice under constraints, with its reasons.

Of the candidates that keep every constraint, the best one sets the mark. Those that
cannot be told from it (the interval of the paired difference holds zero) are as good as
it is, for all that was measured: of these the cheapest is recommended.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sbert_lab.selection.rows import Row, Survey


class NothingFits(ValueError):
    """No candidate keeps every constraint; the message says what stands in the way."""


@dataclass(frozen=True)
class Constraints:
    """What an application can bear.

    Parameters
    ----------
    task
        Whose score counts: a task of the survey.
    min_quality
        The least score.
    max_ms
        Milliseconds a query may take: encoded, and searched for exactly.
    max_mb
        MB of memory, for the model and the index together.
    max_dimensions
        Widest vectors; a lexical candidate, which has none, is not bound by it.
    corpus
        Entries to search in.
    """

    task: str = "Retrieval"
    min_quality: float | None = None
    max_ms: float | None = None
    max_mb: float | None = None
    max_dimensions: int | None = None
    corpus: int = 100_000

    def __post_init__(self) -> None:  # noqa: D105
        for name in ("max_ms", "max_mb", "max_dimensions"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value}: must be over 0")
        if self.corpus < 1:
            raise ValueError(f"corpus={self.corpus}: one entry or more")
        if self.min_quality is not None and not -1 <= self.min_quality <= 1:
            raise ValueError(
                f"min_quality={self.min_quality}: scores are fractions, 0.5 and not 50"
            )


@dataclass(frozen=True)
class Recommendation:
    """What was chosen, and why.

    Parameters
    ----------
    row
        The choice.
    reasons
        Sentences, the weightiest first.
    front
        Candidates that no other beats in quality, time and memory at once (the Pareto
        front), by falling quality.
    refused
        Name to the constraints it breaks.
    """

    row: Row
    reasons: tuple[str, ...]
    front: tuple[Row, ...]
    refused: dict[str, tuple[str, ...]]


def broken(row: Row, limits: Constraints) -> tuple[str, ...]:
    """Return which constraints a row breaks, in words; none is ``()``."""
    if limits.task not in row.quality:
        return (f"not measured on {limits.task}",)
    score, found = row.quality[limits.task].mean, []
    if limits.min_quality is not None and score < limits.min_quality:
        found.append(f"quality {score:.3f}, below {limits.min_quality:g}")
    if limits.max_ms is not None and (ms := row.ms(limits.corpus)) > limits.max_ms:
        found.append(f"{ms:.3g} ms a query, over {limits.max_ms:g}")
    if limits.max_mb is not None and (mb := row.mb(limits.corpus)) > limits.max_mb:
        found.append(f"{mb:,.0f} MB, over {limits.max_mb:,g}")
    most = limits.max_dimensions
    if most is not None and not row.lexical and row.dimension > most:
        found.append(f"{row.dimension} dimensions, over {most}")
    return tuple(found)


def pareto_front(rows: Sequence[Row], task: str, corpus: int) -> tuple[Row, ...]:
    """Return the rows that no other beats in quality, time and memory at once.

    A row is beaten if another is as good in all three, and better in one. Rows without
    the task are left out. By falling quality.
    """
    points = {
        row.name: (-row.quality[task].mean, row.ms(corpus), row.mb(corpus))
        for row in rows
        if task in row.quality
    }

    def is_beaten(name: str) -> bool:
        mine = points[name]
        return any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
            for other in points.values()
        )

    kept = [row for row in rows if row.name in points and not is_beaten(row.name)]
    return tuple(sorted(kept, key=lambda row: -row.quality[task].mean))


def recommend(survey: Survey, limits: Constraints) -> Recommendation:
    """Choose a candidate.

    Raises
    ------
    NothingFits
        Says which candidate comes nearest, and what every one of them breaks.
    KeyError
        The survey has no such task; names those it has.
    """
    if limits.task not in survey.tasks():
        raise KeyError(
            f"no task {limits.task!r} was measured; there are "
            f"{', '.join(survey.tasks())}"
        )
    refused = {row.name: broken(row, limits) for row in survey.rows}
    fitting = [row for row in survey.rows if not refused[row.name]]
    refused = {name: why for name, why in refused.items() if why}
    front = pareto_front(survey.rows, limits.task, limits.corpus)
    if not fitting:
        raise NothingFits(_nothing(survey, limits, refused))
    best = max(fitting, key=lambda row: row.quality[limits.task].mean)
    alike = [row for row in fitting if _as_good(survey, limits.task, row, best)]
    chosen = min(alike, key=lambda row: (row.ms(limits.corpus), row.mb(limits.corpus)))
    reasons = _reasons(survey, limits, chosen, best, fitting)
    return Recommendation(chosen, reasons, front, refused)


def _as_good(survey: Survey, task: str, row: Row, best: Row) -> bool:
    """Whether a row cannot be told from the best one, by their paired difference."""
    if row is best:
        return True
    gap = survey.difference(task, best.name, row.name)
    return gap is not None and gap.low <= 0


def _reasons(
    survey: Survey,
    limits: Constraints,
    chosen: Row,
    best: Row,
    fitting: Sequence[Row],
) -> tuple[str, ...]:
    task, corpus = limits.task, limits.corpus
    metric = chosen.metrics[task]
    reasons = [
        f"{chosen.name}: {task} {metric} {chosen.quality[task]}, "
        f"{chosen.ms(corpus):.3g} ms a query and {chosen.mb(corpus):,.0f} MB at "
        f"{corpus:,} entries."
    ]
    if chosen is not best:
        gap = survey.difference(task, best.name, chosen.name)
        assert gap is not None
        reasons.append(
            f"{best.name} has the highest score that fits, but the difference "
            f"{gap.signed()} may be chance; it takes {best.ms(corpus):.3g} ms and "
            f"{best.mb(corpus):,.0f} MB."
        )
    else:
        others = [row for row in fitting if row is not best]
        if others:
            second = max(others, key=lambda row: row.quality[task].mean)
            gap = survey.difference(task, best.name, second.name)
            if gap is not None and gap.low > 0:
                reasons.append(
                    f"It is better than {second.name}, the next one that fits, by "
                    f"{gap.signed()}."
                )
            else:
                reasons.append(
                    f"No candidate that cannot be told from it is cheaper; next comes "
                    f"{second.name}."
                )
        else:
            reasons.append("No other candidate keeps every constraint.")
    floor = limits.min_quality
    if floor is not None and chosen.quality[task].low < floor:
        reasons.append(
            f"Its interval reaches below the asked {floor:g}: on other items of this "
            "kind it may miss it."
        )
    return tuple(reasons)


def _nothing(
    survey: Survey, limits: Constraints, refused: dict[str, tuple[str, ...]]
) -> str:
    """Say that nothing fits, what comes nearest, and what each candidate breaks."""
    nearest = min(
        (row for row in survey.rows if limits.task in row.quality),
        key=lambda row: (len(refused[row.name]), -row.quality[limits.task].mean),
    )
    lines = [f"  {name}: {'; '.join(why)}" for name, why in refused.items()]
    return (
        f"no candidate keeps every constraint. Nearest is {nearest.name}: "
        f"{'; '.join(refused[nearest.name])}. Loosen that, or add a candidate with "
        "--models.\n" + "\n".join(lines)
    )
