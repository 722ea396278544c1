"""The choice as one picture: quality against time, memory by the size of the mark."""

from typing import TYPE_CHECKING

from sbert_lab.lab.figures import label, log_x, new_figure
from sbert_lab.selection.recommend import Constraints, broken, pareto_front
from sbert_lab.selection.rows import Row, Survey

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pareto_picture(survey: Survey, limits: Constraints) -> "Figure":
    """Draw each candidate's quality, with its interval, against milliseconds a query.

    Joined by a line are those on the Pareto front of quality, time and memory; hollow
    ones break a constraint. The larger a mark, the more memory.
    """
    figure, (axes,) = new_figure(width=9, height=5)
    rows = [row for row in survey.rows if limits.task in row.quality]
    front = pareto_front(rows, limits.task, limits.corpus)
    most = max(row.mb(limits.corpus) for row in rows)
    on_front = {row.name for row in front}
    for kind, marker, members in (
        ("on the Pareto front", "o", [r for r in rows if r.name in on_front]),
        ("beaten by another", "s", [r for r in rows if r.name not in on_front]),
    ):
        for place, row in enumerate(members):
            score = row.quality[limits.task]
            drawn = axes.errorbar(
                [row.ms(limits.corpus)],
                [score.mean],
                # An interval of few items can lie beside its score.
                yerr=[
                    [max(0.0, score.mean - score.low)],
                    [max(0.0, score.high - score.mean)],
                ],
                fmt=marker,
                color="C0" if marker == "o" else "C1",
                markersize=5 + 12 * (row.mb(limits.corpus) / most) ** 0.5,
                markerfacecolor="white" if broken(row, limits) else None,
                capsize=3,
                label=kind if place == 0 else None,
            )
            drawn.lines[0].set_zorder(3)
    if len(front) > 1:
        line = sorted(front, key=lambda row: row.ms(limits.corpus))
        axes.plot(
            [row.ms(limits.corpus) for row in line],
            [row.quality[limits.task].mean for row in line],
            "-",
            color="C0",
            alpha=0.4,
            zorder=1,
        )
    _named(axes, rows, limits)
    log_x(axes)
    axes.set_xlabel(f"milliseconds a query, {limits.corpus:,} entries")
    axes.set_ylabel(f"{limits.task}: {rows[0].metrics[limits.task]}")
    axes.legend(loc="lower right")
    return figure


def _named(axes: object, rows: list[Row], limits: Constraints) -> None:
    """Write names beside the marks, above or below where two come close."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    below = False
    for row in sorted(rows, key=lambda row: row.ms(limits.corpus)):
        at = (row.ms(limits.corpus), row.quality[limits.task].mean)
        label(axes, row.name, at, (8, -18) if below else (8, 8))
        below = not below
