"""The choice as one picture: quality against time, memory by the size of the mark."""

from typing import TYPE_CHECKING

from sbert_lab.evaluation.figures import colours, label, log_x, new_figure
from sbert_lab.selection.recommend import Constraints, broken, pareto_front
from sbert_lab.selection.rows import Row, Survey

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pareto_picture(survey: Survey, limits: Constraints) -> "Figure":
    """Draw each candidate's quality, with its interval, against milliseconds a query.

    Round marks are on the Pareto front of quality, time and memory, squares are beaten
    in all three; hollow ones break a constraint. The larger a mark, the more memory. A
    line joins those that nothing faster beats in quality. Numbers stand for names.
    """
    figure, (axes,) = new_figure(width=10, height=5)
    rows = [row for row in survey.rows if limits.task in row.quality]
    rows.sort(key=lambda row: (row.ms(limits.corpus), row.name))
    front = pareto_front(rows, limits.task, limits.corpus)
    most = max(row.mb(limits.corpus) for row in rows)
    orange, blue, *_ = colours()
    for number, row in enumerate(rows, 1):
        score, at = row.quality[limits.task], row.ms(limits.corpus)
        drawn = axes.errorbar(
            [at],
            [score.mean],
            # An interval of few items can lie beside its score.
            yerr=[
                [max(0.0, score.mean - score.low)],
                [max(0.0, score.high - score.mean)],
            ],
            fmt="o" if row in front else "s",
            color=blue if row in front else orange,
            markersize=5 + 12 * (row.mb(limits.corpus) / most) ** 0.5,
            markerfacecolor="white" if broken(row, limits) else None,
            capsize=3,
            label=f"{number}  {row.name}",
        )
        drawn.lines[0].set_zorder(3)
        side = 7 if number % 2 == 0 else -16  # neighbours on either side
        label(axes, str(number), (at, score.mean), (side, 7))
    reached = [row for i, row in enumerate(rows) if _leads(rows[: i + 1], limits.task)]
    axes.plot(
        [row.ms(limits.corpus) for row in reached],
        [row.quality[limits.task].mean for row in reached],
        "-",
        color=blue,
        alpha=0.4,
        zorder=1,
    )
    log_x(axes)
    axes.set_xlabel(f"milliseconds a query, {limits.corpus:,} entries")
    axes.set_ylabel(f"{limits.task}: {rows[0].metrics[limits.task]}")
    axes.set_title("circle: on the Pareto front; hollow: breaks a constraint")
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=0.6)
    for text in legend.get_texts():
        text.set_fontsize(11)
    return figure


def _leads(rows: list[Row], task: str) -> bool:
    """Whether the last of the rows, which are ever slower, is the best so far."""
    return all(
        row.quality[task].mean < rows[-1].quality[task].mean for row in rows[:-1]
    )
