"""What an adaptation brought: an `Outcome`, and ``report.md`` with two pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sbert_lab._utils import write_bytes, write_json
from sbert_lab.evaluation.figures import intervals, legend_below, new_figure, png
from sbert_lab.evaluation.statistics import Interval

OUTCOME, REPORT = "outcome.json", "report.md"

_LETTERS = 200  # of a text in a table


@dataclass(frozen=True)
class Comparison:
    """A score of two models on the same items, and its difference, paired by item."""

    name: str
    metric: str
    items: int
    before: Interval
    after: Interval
    difference: Interval


@dataclass(frozen=True)
class Example:
    """A test query, its answer, and the answer's rank from 1; 101 is any above 100."""

    query: str
    answer: str
    rank_before: int
    rank_after: int


@dataclass(frozen=True)
class Outcome:
    """All that is known of one adaptation.

    Parameters
    ----------
    base
        Name of the model that was begun with.
    plan
        What decides the weights: hash of the base, method, recipe, hashes of the data.
    fingerprint
        Hash of the adapted weights.
    facts
        Counts of the data, and of what mining passed over.
    comparisons
        Before and after, first on the test pairs, if there are any.
    curve
        Step and training loss.
    better, worse
        Test queries that gained most ranks, and lost most.
    seconds
        From the last start to the end.
    """

    base: str
    plan: Mapping[str, Any]
    fingerprint: str
    facts: Mapping[str, Any]
    comparisons: tuple[Comparison, ...]
    curve: tuple[tuple[int, float], ...]
    better: tuple[Example, ...]
    worse: tuple[Example, ...]
    seconds: float


def read_outcome(folder: Path) -> Outcome:
    """Read the outcome that `write_report` left in a folder."""
    content = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
    for entry in content["comparisons"]:
        for name in ("before", "after", "difference"):
            entry[name] = Interval(**entry[name])
    content["comparisons"] = tuple(Comparison(**c) for c in content["comparisons"])
    content["curve"] = tuple(map(tuple, content["curve"]))
    for side in ("better", "worse"):
        content[side] = tuple(Example(**example) for example in content[side])
    return Outcome(**content)


def write_report(folder: Path, outcome: Outcome) -> None:
    """Write ``report.md``, its pictures, and at last ``outcome.json``."""
    parts = [f"# {outcome.base}, adapted", verdict(outcome)]
    if outcome.comparisons:
        write_bytes(folder / "scores.png", _scores_picture(outcome.comparisons))
        parts += ["\n".join(score_table(outcome.comparisons)), "![scores](scores.png)"]
    for title, shown in (("better", outcome.better), ("worse", outcome.worse)):
        if shown:
            rows = [[_cell(v) for v in asdict(example).values()] for example in shown]
            head = ["query", "answer", "rank before", "rank after"]
            parts += [f"## Queries that got {title}", "\n".join(_table([head, *rows]))]
    write_bytes(folder / "loss.png", _loss_picture(outcome.curve))
    parts += ["## Training", "![training loss by step](loss.png)"]
    seconds = round(outcome.seconds)
    told = {**outcome.facts, "seconds": seconds, **outcome.plan}
    told["adapted weights"] = outcome.fingerprint
    parts.append("\n".join(f"- {k.replace('_', ' ')}: {v}" for k, v in told.items()))
    write_bytes(folder / REPORT, ("\n\n".join(parts) + "\n").encode())
    write_json(folder / OUTCOME, asdict(outcome))


def verdict(outcome: Outcome) -> str:
    """Say in a sentence which model to use; an interval around 0 decides nothing."""
    own = [one for one in outcome.comparisons if one.metric != "Spearman"]
    fell = [
        one.name
        for one in outcome.comparisons
        if one.metric == "Spearman" and one.difference.high < 0
    ]
    if not own:
        return "Not measured on texts of your field: keep the base until it is."
    first = own[0]
    found = f"{first.metric} on {first.name}: {first.difference.signed()}"
    if first.difference.high < 0:
        return f"Worse. {found}. Keep the base."
    if first.difference.low <= 0:
        return f"No clear difference. {found}. Keep the base, or bring more test pairs."
    if fell:
        return (
            f"Better. {found}. General similarity fell on {' and '.join(fell)}: use "
            "the adapted model for texts like these, and the base for others."
        )
    return f"Better. {found}. Use the adapted model."


def score_table(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the lines of a table of scores before and after, in Markdown."""
    head = ["", "before", "after", "difference, 95 % interval", "items"]
    rows = [
        [
            f"{one.name}, {one.metric}",
            f"{one.before.mean:.3f}",
            f"{one.after.mean:.3f}",
            one.difference.signed(),
            f"{one.items:,}",
        ]
        for one in comparisons
    ]
    return _table([head, *rows])


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]


def _cell(value: object) -> str:
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"


def _scores_picture(comparisons: Sequence[Comparison]) -> bytes:
    figure, (axes,) = new_figure(height=1.5 + 0.7 * len(comparisons))
    scores: dict[str, Interval] = {}
    kinds: dict[str, list[str]] = {"before": [], "after": []}
    for one in comparisons:
        for when, value in (("before", one.before), ("after", one.after)):
            row = f"{one.name}, {one.metric}, {when}"
            kinds[when].append(row)
            # The interval of few items can lie beside their mean.
            low, high = min(value.low, value.mean), max(value.high, value.mean)
            scores[row] = Interval(value.mean, low, high, value.n)
    intervals(axes, scores, kinds=kinds)
    axes.set_xlabel("score, with its 95 % interval")
    legend_below(axes)
    return png(figure)


def _loss_picture(curve: Sequence[tuple[int, float]]) -> bytes:
    figure, (axes,) = new_figure(height=3)
    axes.plot(*zip(*curve, strict=True), marker="o")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    return png(figure)
