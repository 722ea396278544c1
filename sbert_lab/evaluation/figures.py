"""Figures and tables that everyone can read: with text alternatives, and markers."""

import html
from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from sbert_lab.evaluation.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: A second channel beside colour, in the order of the colours.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlelocation": "left",
    "grid.alpha": 0.3,
    "font.size": 12,
}


def new_figure(
    columns: int = 1, *, width: float = 7.0, height: float = 4.0
) -> "tuple[Figure, list[Axes]]":
    """Return a figure with `columns` axes side by side, in the house style."""
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    palette = matplotlib.color_sequences["okabe_ito"]
    cycle = cycler(color=[colour for colour in palette if colour != (0, 0, 0)])
    with matplotlib.rc_context({**_STYLE, "axes.prop_cycle": cycle}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, list(axes)


def show(figure: "Figure", *, alt: str, data: Sequence[Mapping[str, Any]]) -> None:
    """Display a figure, its text alternative, and the plotted values, folded away."""
    from IPython.display import Image, display

    if len(alt) < 40:
        raise ValueError("alt text: say the kind of figure, its axes, what is compared")
    png = BytesIO()
    figure.savefig(png, format="png", dpi=100, metadata={"Software": None})
    display(Image(png.getvalue(), format="png", alt=alt, metadata={"alt": alt}))
    table(data, caption="The data behind this figure", folded=True)


def table(
    rows: Sequence[Mapping[str, Any]], *, caption: str, folded: bool = False
) -> None:
    """Display rows, which may lack a column, as a table that may be `folded` away."""
    from IPython.display import HTML, display

    columns = list(dict.fromkeys(column for row in rows for column in row))
    head = "".join(f"<th scope='col'>{html.escape(str(c))}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(_cell(row.get(column, "")) for column in columns) + "</tr>"
        for row in rows
    )
    title = html.escape(caption)
    inner = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    shown = f"<table><caption>{title}</caption>{inner}"
    if folded:
        shown = f"<details><summary>{title}</summary><table>{inner}</details>"
    display(HTML(shown), metadata={"caption": caption})


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td style='text-align:left'>{html.escape(str(value))}</td>"
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f"<td style='text-align:right'>{shown}</td>"


def intervals(
    axes: "Axes",
    values: Mapping[str, Interval],
    *,
    kinds: Mapping[str, Collection[str]],
    names: bool = True,
) -> None:
    """Draw a dot with its interval for each name; `kinds` have a marker and label."""
    order = list(values)
    for (kind, members), marker in zip(kinds.items(), MARKERS, strict=False):
        at = [row for row, name in enumerate(order) if name in members]
        found = [values[order[row]] for row in at]
        spread = [[v.mean - v.low for v in found], [v.high - v.mean for v in found]]
        axes.errorbar(
            [v.mean for v in found], at, xerr=spread, fmt=marker, capsize=3, label=kind
        )
    axes.set_yticks(range(len(order)), order if names else [])
    axes.invert_yaxis()


def curve_with_record(
    axes: "Axes",
    x: Sequence[float],
    recorded: Sequence[Interval],
    label: str,
    here: tuple[float, float] | None = None,
) -> None:
    """Draw values against `x`, their intervals as a band, and a star for this run."""
    marker = MARKERS[len(axes.collections) % len(MARKERS)]
    (line,) = axes.plot(x, [r.mean for r in recorded], marker=marker, label=label)
    ends = [r.low for r in recorded], [r.high for r in recorded]
    axes.fill_between(x, *ends, color=line.get_color(), alpha=0.2, linewidth=0)
    if here is not None:
        style: dict[str, Any] = {"color": line.get_color(), "markeredgecolor": "black"}
        axes.plot(*here, "*", markersize=15, label=f"{label}, this run", **style)


def legend_below(axes: "Axes", *, columns: int = 2) -> None:
    """Name the lines of a figure, those of one of its axes, below it."""
    figure: Any = axes.get_figure(root=True)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        fontsize=11,
        frameon=False,
    )


def label(
    axes: "Axes",
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float] = (6, -16),
) -> None:
    """Write beside a data point what its line is, `offset` points away."""
    axes.annotate(text, at, textcoords="offset points", xytext=offset, fontsize=11)


def log_x(axes: "Axes") -> None:
    """Scale the x axis by logarithms, with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(NullLocator())
