"""What a notebook shows of its full study: the answer in numbers, and a comparison.

The record is ``data/results/full/NN.json``, which a script of ``studies/`` makes.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from experiments.profiles import current
from sbert_lab._utils import committed_results
from sbert_lab.evaluation.figures import table
from sbert_lab.evaluation.statistics import Interval

#: ``{key}`` or ``{key:format}`` in a template.
PLACE = re.compile(r"\{([^{}:]+):?([^{}]*)\}")


@dataclass(frozen=True)
class Figure(Interval):
    """A recorded value. One without an interval has both ends at its mean.

    As a format, ``""`` gives the mean with its interval and ``"+"`` both with signs;
    others are for the mean alone: ``".2f"``, ``"+.3f"``, ``",.0f"``, ``".0%"``.
    """

    unit: str

    def __format__(self, spec: str) -> str:
        """Show as a template says."""
        if spec not in ("", "+"):
            return format(self.mean, spec)
        if self.low == self.high:
            return format(self.mean, f"{spec}.3f")
        return self.signed() if spec else str(self)


class Recorded(dict[str, Figure]):
    """The results of a full study by their keys, and what the study took."""

    run: dict[str, Any]

    def __missing__(self, key: str) -> Figure:
        """Tell which keys are near."""
        near = " or ".join(map(repr, get_close_matches(key, self))) or "none like it"
        raise KeyError(f"{key!r} is not recorded, but {near}; `make study` renews it")


def recorded(notebook: str) -> Recorded:
    """Return what the full study of a notebook, told by its number, found."""
    path = committed_results("full") / f"{notebook}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path.name}: `make study ONLY={notebook}` makes it")
    told, found = json.loads(path.read_text(encoding="utf-8")), Recorded()
    found.run = told["run"]
    for key, row in told["results"].items():
        low, high = row.get("low", row["mean"]), row.get("high", row["mean"])
        found[key] = Figure(row["mean"], low, high, row.get("n", 1), row["unit"])
    return found


def answer(notebook: str, template: str) -> None:
    """Show the answer to a notebook's question, its numbers from the full study.

    Each line of the template is a paragraph or, where there are empty lines, what
    stands between them. See `Figure` for the formats of its ``{key:format}``.
    """
    from IPython.display import Markdown, display

    try:
        found = recorded(notebook)
    except FileNotFoundError as error:
        display(Markdown(f"> No full study is recorded in {error}"))
        return
    text = PLACE.sub(lambda place: format(found[place[1]], place[2]), template)
    parts = re.split(r"\n\s*\n" if "\n\n" in text.strip() else r"\n", text)
    jobs, hours = found.run["jobs"], found.run["seconds"] / 3600
    parts.append(f"*Full study: {jobs} jobs, {hours:.1f} h, {found.run['processor']}*")
    lines = [" ".join(part.split()) for part in parts if part.strip()]
    display(Markdown("> " + "\n>\n> ".join(lines)))


def beside(
    notebook: str,
    measured: Mapping[str, float | Interval],
    *,
    title: str = "This run beside the full study",
) -> bool:
    """Show what this run measured beside the record, and return whether they agree.

    `measured` are values by keys of the record. Two intervals agree if they overlap, a
    number if it is in the recorded interval. A profile that decides nothing compares
    nothing, and agrees.
    """
    found = recorded(notebook)
    rows: list[dict[str, str]] = []
    for key, value in measured.items():
        own = value if isinstance(value, Interval) else Interval(value, value, value, 1)
        above, below = own.low > found[key].high, own.high < found[key].low
        verdict = "no: higher here" if above else "no: lower here" if below else "yes"
        row = {
            "what": key,
            "unit": found[key].unit,
            "measured here": str(value) if own is value else f"{value:.3f}",
            "full study": f"{found[key]}",
            "agrees?": verdict if current().decides else "not compared",
        }
        rows.append(row)
    table(rows, caption=title)
    return not any(row["agrees?"].startswith("no:") for row in rows)
