"""What an adaptation brought: scores before and after, and what they cost elsewhere.

An `Outcome` is kept as JSON beside the model, so that the page and the table can be
made again without a second of computation.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from sbert_lab._utils import write_json
from sbert_lab.evaluation.statistics import Interval

#: What a model was adapted with.
Method = Literal["pairs", "simcse", "tsdae", "pseudo-labels"]
METHODS: tuple[Method, ...] = get_args(Method)

_FORMAT = 1  # of the file; a reader of another one would misread it


@dataclass(frozen=True)
class Comparison:
    """Two models on the same items.

    Parameters
    ----------
    name
        Of the items: ``"your pairs"``, ``"ladder"`` or ``"STSBenchmark"``.
    metric
        What is measured, e.g. ``"nDCG@10"``; higher is better.
    items
        How many queries or pairs.
    before, after
        The score of the base and of the adapted model, with 95 % intervals.
    difference
        After minus before, paired item by item.
    """

    name: str
    metric: str
    items: int
    before: Interval
    after: Interval
    difference: Interval


@dataclass(frozen=True)
class Example:
    """A test query whose answer changed its place.

    Parameters
    ----------
    query, answer
        The anchor, and that of its positives which stood best afterwards.
    rank_before, rank_after
        Best rank among the query's positives in the corpus, from 1.
    top_before, top_after
        What stood first.
    """

    query: str
    answer: str
    rank_before: int
    rank_after: int
    top_before: str
    top_after: str

    def __post_init__(self) -> None:  # noqa: D105
        if min(self.rank_before, self.rank_after) < 1:
            raise ValueError(f"{self.query!r}: ranks begin with 1")


@dataclass(frozen=True)
class Outcome:
    """All that is known of one adaptation.

    Parameters
    ----------
    base, base_fingerprint
        Name and weights of the model that was begun with.
    fingerprint
        Weights of the adapted one.
    method
        One of `METHODS`.
    recipe
        How it was trained, field by field.
    data
        ``source``, ``rows``, ``train``, ``test``, ``corpus``, ``groups`` and whatever
        else describes the data.
    mined
        How many candidates mining took away, by reason; empty if nothing was mined.
    domain
        On the test pairs; the first one is what counts. Empty if there was no test.
    general
        On texts of no domain: what was lost, or won, elsewhere.
    curve
        Step and training loss.
    better, worse
        Test queries that gained most ranks, and lost most, the largest change first.
    seconds
        What each stage took, in order.
    about
        Versions, machine, sha256 of the data.
    """

    base: str
    base_fingerprint: str
    fingerprint: str
    method: Method
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    mined: Mapping[str, int] = field(default_factory=dict)
    domain: tuple[Comparison, ...] = ()
    general: tuple[Comparison, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()
    better: tuple[Example, ...] = ()
    worse: tuple[Example, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:  # noqa: D105
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r}: one of {', '.join(METHODS)}")


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write an outcome as JSON, atomically.

    Raises
    ------
    ValueError
        A number is not finite.
    """
    write_json(path, {"format": _FORMAT, **asdict(outcome)})


def read_outcome(path: Path) -> Outcome:
    """Read what `write_outcome` wrote.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        It is damaged, or of another release.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no outcome; `python -m sbert_lab adapt` makes one"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        form = content.pop("format")
        if form != _FORMAT:
            raise ValueError(f"its format is {form}, not {_FORMAT}")
        return Outcome(
            **{
                **content,
                "domain": tuple(map(_comparison, content["domain"])),
                "general": tuple(map(_comparison, content["general"])),
                "curve": tuple((int(at), float(loss)) for at, loss in content["curve"]),
                "better": tuple(Example(**entry) for entry in content["better"]),
                "worse": tuple(Example(**entry) for entry in content["worse"]),
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no outcome of this release ({error}); adapt anew into another "
            "folder"
        ) from error


def _comparison(entry: Mapping[str, Any]) -> Comparison:
    parts = {name: _interval(entry[name]) for name in ("before", "after", "difference")}
    return Comparison(**{**entry, **parts})


def _interval(entry: Mapping[str, Any]) -> Interval:
    found = Interval(**entry)
    if not all(map(math.isfinite, (found.mean, found.low, found.high))):
        raise ValueError(f"{entry} is not finite")
    return found
