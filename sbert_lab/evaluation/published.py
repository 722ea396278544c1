"""What others published, by key: ``data/published.json``, ``data/references.json``."""

import html
import json
from dataclasses import dataclass
from typing import Any

from sbert_lab._utils import project_root
from sbert_lab.evaluation.statistics import Interval


@dataclass(frozen=True)
class Published:
    """A value, what it counts, what was measured, the source's key, and where in it."""

    value: float | str
    unit: str
    what: str
    source: str
    place: str


def published(key: str) -> Published:
    """Return a published value by its key."""
    return Published(**_all("published.json")[key])


def published_value(key: str) -> float | str | None:
    """Return a published value, or None where none is on record."""
    return published(key).value if key in _all("published.json") else None


def published_row(table: str, name: str) -> dict[str, float]:
    """Return all that a table says of a model, by task: keys ``table.name.task``."""
    start = f"{table}.{name}."
    return {
        key.removeprefix(start): float(entry["value"])
        for key, entry in _all("published.json").items()
        if key.startswith(start)
    }


def reproduced(theirs: float, ours: Interval) -> str:
    """Return what our measure says of a published difference."""
    if ours.low <= theirs <= ours.high:
        return "undecided" if ours.low <= 0 <= ours.high else "reproduced"
    same_sign = ours.low > 0 if theirs > 0 else ours.high < 0
    return "direction only" if same_sign else "not reproduced"


def references(*keys: str) -> None:
    """Display references by their keys."""
    from IPython.display import HTML, display

    items = "".join(f"<li>{_reference(key)}</li>" for key in keys)
    display(HTML(f"<ul>{items}</ul>"))


def _reference(key: str) -> str:
    entry = _all("references.json")[key]
    text = f"{entry['authors']} ({entry['year']}). {entry['title']}. {entry['where']}. "
    link = html.escape(entry["link"], quote=True)
    return f"[{html.escape(key)}] {html.escape(text)}<a href='{link}'>{link}</a>"


def _all(file: str) -> dict[str, Any]:
    path = project_root() / "data" / file
    entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return entries
