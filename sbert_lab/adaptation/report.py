"""One page about an adaptation: what it gained, what it cost, which model to use.

The page is a single file without scripts that asks nothing of any network, and it can
be sent to a colleague: of files and folders it tells the names, not where they lie.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sbert_lab.adaptation.outcome import Comparison, Outcome
from sbert_lab.adaptation.pictures import (
    Picture,
    curve_picture,
    differences_picture,
    scores_picture,
)
from sbert_lab.adaptation.texts import (
    clean,
    clipped,
    duration,
    file_name,
    without_folders,
)
from sbert_lab.adaptation.verdict import Change, change, signed, verdict
from sbert_lab.evaluation.statistics import Interval

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATE = "report.html.jinja"
_POINTS = 12  # of the curve, in its table

#: Sign and word for a difference, so that colour says nothing alone.
MARKS: dict[Change, tuple[str, str]] = {
    "rose": ("▲", "rose"),
    "inconclusive": ("◆", "open"),
    "fell": ("▼", "fell"),
}

_METHODS = {
    "pairs": "trained on pairs",
    "simcse": "SimCSE on texts without pairs",
    "tsdae": "TSDAE on texts without pairs",
    "pseudo-labels": "generative pseudo-labels on texts without pairs",
}

#: Why mining took a candidate away, by the name of its option.
_REASONS = {
    "known": "a known positive of the query",
    "guard": "forbidden by the guard, such as a relative of the right answer",
    "score": "score outside the range",
    "absolute_margin": "too near the positive’s score (absolute margin)",
    "relative_margin": "too near the positive’s score (relative margin)",
    "judge": "right in the eyes of the cross-encoder",
}

_LABELS = {
    "source": "file",
    "rows": "rows",
    "train": "rows to train on",
    "test": "rows kept aside to test on",
    "corpus": "texts in the corpus",
    "groups": "groups that share no text",
    "keep": "share of the base in the average",
    "rate": "learning rate",
    "batch": "batch size",
    "negatives": "mined negatives a query",
    "rank": "ranks mined (from, to)",
}


def require() -> None:
    """Check that the page can be made, before anything takes time.

    Raises
    ------
    ModuleNotFoundError
        A library is missing; names what to install.
    """
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"the report needs {' and '.join(missing)}: pip install {' '.join(missing)}"
        )


def report(outcome: Outcome) -> str:
    """Return an outcome as one self-contained HTML page.

    Parts that there is nothing to say about are left out. All texts are escaped, and
    of files only the names are told.

    Raises
    ------
    ModuleNotFoundError
        jinja2 or matplotlib is missing.
    """
    require()
    domain, general = (
        tuple(
            replace(one, name=clipped(one.name), metric=clipped(one.metric))
            for one in part
        )
        for part in (outcome.domain, outcome.general)
    )
    outcome = replace(outcome, domain=domain, general=general)
    found = verdict(outcome)
    page = _environment().get_template(_TEMPLATE)
    text = page.render(
        verdict=found,
        sentence=str(found),
        base=_base(outcome.base),
        method=_METHODS[outcome.method],
        tables=[
            (title, [(one, change(one.difference)) for one in part])
            for title, part in (
                ("Your domain", domain),
                ("General similarity", general),
            )
            if part
        ],
        pictures=_pictures((*domain, *general)),
        curve=curve_picture(outcome.curve) if outcome.curve else None,
        points=_thinned(outcome.curve),
        examples=[
            (title, part)
            for title, part in (
                ("Got better", outcome.better),
                ("Got worse", outcome.worse),
            )
            if part
        ],
        mined=[(_REASONS.get(k, _label(k)), v) for k, v in outcome.mined.items()],
        data=list(_data(outcome)),
        recipe=list(_facts(outcome.recipe)),
        stages=_stages(outcome.seconds),
        total=duration(sum(outcome.seconds.values())),
        about=[*_weights(outcome), *_facts(_without_sums(outcome.about))],
    )
    return f"{text.strip()}\n"


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("sbert_lab.adaptation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # What a macro made is no plain text, and stays.
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    found.filters |= {"clipped": clipped, "signed": signed, "range": _range}
    found.globals["marks"] = MARKS
    return found


def _pictures(scores: Sequence[Comparison]) -> list[tuple[str, Picture]]:
    if not scores:
        return []
    return [
        ("Scores before and after", scores_picture(scores)),
        ("Differences, paired item by item", differences_picture(scores)),
    ]


def _thinned(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return some points of the curve, evenly spaced, the first and last among them."""
    if len(curve) <= _POINTS:
        return list(curve)
    step = (len(curve) - 1) / (_POINTS - 1)
    return [curve[round(i * step)] for i in range(_POINTS)]


def _data(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Yield what describes the data, its checksum with it."""
    for key, value in outcome.data.items():
        if key == "source":
            files = value if isinstance(value, list | tuple) else [value]
            yield _label(key), ", ".join(file_name(str(file)) for file in files)
        else:
            yield _label(key), _shown(value)
    for key, value in outcome.about.items():
        if "sha256" in key:
            yield _label(key), _shown(value)


def _without_sums(about: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in about.items() if "sha256" not in key}


def _weights(outcome: Outcome) -> list[tuple[str, str]]:
    return [
        ("weights of the base", outcome.base_fingerprint),
        ("weights of the adapted model", outcome.fingerprint),
    ]


def _facts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        yield _label(key), _shown(value)


def _label(key: str) -> str:
    return _LABELS.get(key, key.replace("_", " "))


def _shown(value: object) -> str:
    """Show a value of the recipe or the data as a reader would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_label(str(k))}: {_shown(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return without_folders(str(value))


def _base(name: str) -> str:
    """Return a model's name; a folder's is its last part, ``owner/name`` stays."""
    is_repository = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)
    return name if is_repository else file_name(name)


def _stages(seconds: Mapping[str, float]) -> list[tuple[str, str, float]]:
    """Return stage, duration and percentage of the whole."""
    total = sum(seconds.values()) or 1.0
    return [
        (k.replace("_", " "), duration(v), 100 * v / total) for k, v in seconds.items()
    ]


def _range(value: Interval, with_sign: bool = False) -> str:
    low, high = (
        signed(end) if with_sign else f"{end:.3f}".replace("-", "−")
        for end in (value.low, value.high)
    )
    return f"{low}\N{NO-BREAK SPACE}to {high}"
