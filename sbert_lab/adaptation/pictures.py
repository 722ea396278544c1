"""The report's pictures, as SVG for light pages and for dark ones."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from sbert_lab.adaptation.outcome import Comparison
from sbert_lab.adaptation.texts import clean
from sbert_lab.adaptation.verdict import change, signed
from sbert_lab.evaluation.figures import colours, intervals, legend_below, new_figure
from sbert_lab.evaluation.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 4.6  # inches: what a phone shows without making letters smaller
_NAME = 22  # letters of a name that fit beside the axis

#: Ink, and which of the palette's colours stand out from the page, three to one.
_LIGHT: tuple[str, tuple[int, ...]] = ("#1d2329", (4, 5))  # blue, vermillion
_DARK: tuple[str, tuple[int, ...]] = ("#e6e9ec", (1, 0))  # sky blue, orange


@dataclass(frozen=True)
class Picture:
    """A picture for both kinds of page.

    Parameters
    ----------
    light, dark
        The same SVG as data URIs, for a light and for a dark page.
    width, height
        In CSS pixels.
    alt
        What it shows, for someone who cannot see it.
    """

    light: str
    dark: str
    width: int
    height: int
    alt: str


def scores_picture(scores: Sequence[Comparison]) -> Picture:
    """Draw the score of each test before and after, with its interval."""
    rows: dict[str, Interval] = {}
    kinds: dict[str, list[str]] = {"before": [], "after": []}
    for number, one in enumerate(scores):
        for when, value in (("before", one.before), ("after", one.after)):
            row = f"{number} {when}"
            rows[row] = _around(value)
            kinds[when].append(row)

    def draw() -> "Figure":
        figure, (axes,) = new_figure(width=_WIDTH, height=1.5 + 0.7 * len(scores))
        axes.set_prop_cycle(color=_series())
        intervals(axes, rows, kinds=kinds)
        axes.set_yticks([2 * i + 0.5 for i in range(len(scores))], _names(scores))
        axes.grid(False, axis="y")
        axes.set_xlabel("score, with its 95 % interval")
        axes.locator_params(axis="x", nbins=5)
        legend_below(axes, of=figure)
        return figure

    told = "; ".join(
        f"{one.name}, {one.metric}: {one.before.mean:.3f} before, "
        f"{one.after.mean:.3f} after"
        for one in scores
    )
    return _picture(
        draw, f"Dots with 95 % intervals, the score of each test by row. {told}."
    )


def differences_picture(scores: Sequence[Comparison]) -> Picture:
    """Draw each paired difference, with its interval, beside a line at 0."""
    values = {str(number): _around(one.difference) for number, one in enumerate(scores)}
    clear = [n for n, one in zip(values, scores, strict=True) if _is_clear(one)]
    kinds = {
        "interval beside 0": clear,
        "interval around 0": [n for n in values if n not in clear],
    }

    def draw() -> "Figure":
        figure, (axes,) = new_figure(width=_WIDTH, height=1.5 + 0.7 * len(scores))
        axes.set_prop_cycle(color=_series())
        intervals(axes, values, kinds=kinds)
        axes.set_yticks(range(len(scores)), _names(scores))
        axes.margins(y=0.5 / len(scores) + 0.1)
        axes.axvline(0, linestyle="--", linewidth=1, color=_ink(), zorder=0)
        axes.grid(False, axis="y")
        axes.set_xlabel("after − before, with its 95 % interval")
        axes.locator_params(axis="x", nbins=5)
        legend_below(axes, of=figure)
        return figure

    told = "; ".join(
        f"{one.name}, {one.metric}: {signed(one.difference.mean)}, from "
        f"{signed(one.difference.low)} to {signed(one.difference.high)}"
        for one in scores
    )
    return _picture(
        draw,
        "Dots with 95 % intervals, the paired difference of each test by row, beside a "
        f"line at 0. {told}.",
    )


def curve_picture(curve: Sequence[tuple[int, float]]) -> Picture:
    """Draw the training loss against the step; losses that are not finite are gaps."""
    steps, losses = zip(*curve, strict=True)

    def draw() -> "Figure":
        figure, (axes,) = new_figure(width=_WIDTH, height=2.8)
        axes.plot(
            steps,
            [loss if math.isfinite(loss) else math.nan for loss in losses],
            color=_series()[0],
            marker="o" if len(steps) <= 40 else None,
            markersize=4,
        )
        axes.set_xlabel("step")
        axes.set_ylabel("training loss")
        return figure

    return _picture(
        draw,
        f"Line of the training loss against the step: {losses[0]:.3g} at step "
        f"{steps[0]:,}, {losses[-1]:.3g} at step {steps[-1]:,}.",
    )


def _picture(draw: Callable[[], "Figure"], alt: str) -> Picture:
    """Draw twice, on transparent ground, in the ink of either page."""
    import matplotlib

    drawn = []
    for theme in (_LIGHT, _DARK):
        with matplotlib.rc_context(_style(theme)):
            figure = draw()
            drawn.append(_uri(figure))
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    light, dark = drawn
    return Picture(light, dark, width=width, height=height, alt=alt)


def _style(theme: tuple[str, tuple[int, ...]]) -> dict[Any, Any]:
    from cycler import cycler

    ink, chosen = theme
    palette = colours()

    return {
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "axes.prop_cycle": cycler(color=[palette[i] for i in chosen]),
        # Letters stay letters, in the reader's font, of any script; a name may hold
        # dollar signs, which are no formula here.
        "svg.fonttype": "none",
        "text.parse_math": False,
        "svg.hashsalt": "report",  # the same bytes every time
    }


def _series() -> list[Any]:
    """Return the colours of this page: the first series', the second's."""
    import matplotlib

    found: Mapping[str, list[Any]] = matplotlib.rcParams["axes.prop_cycle"].by_key()
    return found["color"]


def _ink() -> str:
    import matplotlib

    return str(matplotlib.rcParams["text.color"])


def _uri(figure: "Figure") -> str:
    import warnings

    buffer = BytesIO()
    with warnings.catch_warnings():
        # The reader's font draws what this machine's has no letters for.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _names(scores: Sequence[Comparison]) -> list[str]:
    return [f"{_short(one.name)}\n{_short(one.metric)}" for one in scores]


def _short(text: str) -> str:
    text = clean(text).replace("\n", " ")
    return text if len(text) <= _NAME else f"{text[: _NAME - 1]}…"


def _around(value: Interval) -> Interval:
    """Return an interval that holds its mean: one of few items can lie beside it."""
    low, high = min(value.low, value.mean), max(value.high, value.mean)
    return Interval(value.mean, low, high, value.n)


def _is_clear(score: Comparison) -> bool:
    return change(score.difference) != "inconclusive"
