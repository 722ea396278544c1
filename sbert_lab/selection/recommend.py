"""A choice of model, vector format and index under constraints, with its reasons.

Of what keeps every constraint, the best one sets the mark. What scores at most a
`tolerance` less is as good for the purpose: of these the quickest is recommended, of
those as quick the smallest, of those as small the simplest.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, log, prod
from pathlib import Path
from typing import Any

import numpy as np

from sbert_lab._utils import write_json
from sbert_lab.evaluation.statistics import Interval

#: How vectors are kept and searched, by the kinds of `VectorIndex`, simplest first, and
#: the bytes that a dimension takes.
FORMATS = {
    "flat": ("float32, exact", 4.0),
    "int8": ("int8, exact", 1.0),
    "hnsw": ("float32, HNSW", 4.0),
    "hnsw-int8": ("int8, HNSW", 1.0),
    "ivfpq": ("product codes, IVF", 1 / 8),
    "ivfpq+flat": ("product codes, IVF, the best again by float32", 4 + 1 / 8),
    "ivfpq+int8": ("product codes, IVF, the best again by int8", 1 + 1 / 8),
    "binary+int8": ("bits, the best again by int8", 1 + 1 / 8),
}

_ALIKE = 1.1  # costs that differ by less than a tenth are the same
_ENDS = ("mean", "low", "high")
_LEAST_MISS = 1.2  # by how much a tenfold size may be misjudged at least


class NothingFits(ValueError):
    """Nothing keeps every constraint; the message says what stands in the way."""

    def __init__(self, nearest: "Option", broken: Mapping[str, float]) -> None:
        super().__init__(
            "No candidate keeps every constraint. Nearest is "
            f"{nearest.name}: {'; '.join(broken)}."
        )
        self.nearest = nearest


@dataclass(frozen=True)
class IndexCost:
    """One of `FORMATS`, measured at several numbers of vectors of one model."""

    kind: str
    dimension: int
    sizes: Sequence[int]  #: rising
    ms: Sequence[float]  #: to search for one query, at each size
    mb: Sequence[float]
    recall: float  #: the least of all sizes
    kept: Interval  #: share of exact search's nDCG@10

    def ms_at(self, count: int, dimension: int) -> Interval:
        """Return the milliseconds of a search in `count` vectors of a `dimension`.

        Between sizes a straight line in logarithms is followed, and beyond them the
        last one goes on. How far the line before it missed the largest size says how
        far that may be off, for each tenfold more.
        """
        if len(self.sizes) == 1:  # exact search alone: it grows with the vectors
            ms = self.ms[0] * count / self.sizes[0] * dimension / self.dimension
            return Interval(ms, ms, ms, 1)
        x, y = np.log(self.sizes), np.log(self.ms)
        beyond, off = log(count) - x[-1], 0.0
        at = float(np.interp(log(count), x, y))
        if beyond > 0:
            slopes = np.diff(y) / np.diff(x)
            at = float(y[-1] + slopes[-1] * beyond)
            missed = abs(slopes[-1] - slopes[max(-2, -len(slopes))]) * log(10)
            off = max(missed, log(_LEAST_MISS)) * beyond / log(10)
        scale = dimension / self.dimension
        low, mean, high = (scale * exp(at + way * off) for way in (-1, 0, 1))
        return Interval(mean, low, high, len(x))

    def mb_at(self, count: int, dimension: int) -> float:
        """Return the MB of `count` vectors of a `dimension` in it."""
        each = 1e6 * self.mb[-1] / self.sizes[-1]
        each += FORMATS[self.kind][1] * (dimension - self.dimension)
        return count * each / 1e6


def read_indexes(record: Path) -> list[IndexCost]:
    """Read what indexes cost and find from 04's record; none if it is not there."""
    if not record.is_file():
        return []
    found = json.loads(record.read_text(encoding="utf-8"))["results"]
    exact, width = found["relevance.cosine"]["mean"], int(found["dimension"]["mean"])
    sizes = sorted({int(k[1:].split(".")[0]) for k in found if k.endswith("flat.mb")})
    indexes = []
    for kind in FORMATS:
        ms, mb, recalls = (
            [found[f"n{size}.{kind}.{what}"]["mean"] for size in sizes]
            for what in ("single_ms", "mb", "recall")
        )
        lost = found[f"kept.{kind}"]
        mean, low, high = (1 + lost.get(end, 0) / exact for end in _ENDS)
        kept = Interval(mean, low, high, lost.get("n", 1))
        indexes.append(IndexCost(kind, width, sizes, ms, mb, min(recalls), kept))
    return indexes


@dataclass(frozen=True)
class Row:
    """One candidate: its score and metric on each task, and what `measure` timed."""

    name: str
    dimension: int  #: of a lexical one the number of its words
    bytes_per_entry: float  #: of float32 vectors
    quality: Mapping[str, Interval]
    metrics: Mapping[str, str]
    cost: Mapping[str, float]  #: medians of the rounds
    lexical: bool = False


@dataclass(frozen=True)
class Survey:
    """Rows of one run on one machine, and their paired differences."""

    rows: Sequence[Row]
    #: By task, first row and second row, in the order of the rows.
    differences: Mapping[str, Mapping[str, Mapping[str, Interval]]]
    about: Mapping[str, str]  #: the "machine", and what "quality on" is measured on
    indexes: Sequence[IndexCost] = ()  #: none: vectors are searched exactly

    def row(self, name: str) -> Row:
        """Return a row by its name."""
        rows = {row.name: row for row in self.rows}
        if name not in rows:
            raise ValueError(f"no row {name!r}; there are {', '.join(rows)}")
        return rows[name]

    def difference(self, task: str, first: str, second: str) -> Interval:
        """Return the paired difference of two rows that a task was measured on."""
        known = self.differences[task]
        if first == second:
            return Interval(0.0, 0.0, 0.0, 1)
        if second in known.get(first, {}):
            return known[first][second]
        other = known[second][first]
        return Interval(-other.mean, -other.high, -other.low, other.n)

    def options(self, task: str) -> list["Option"]:
        """Return every model with every index that a task was measured for."""
        found = []
        for row in measured_on(self, task):
            exact = _exact(row)
            indexes = self.indexes if self.indexes and not row.lexical else [exact]
            # The indexes were timed elsewhere; exact search here tells the pace.
            million = indexes[0].ms_at(10**6, exact.dimension).mean
            pace = exact.ms[0] / million
            found += [Option(row, index, pace, task) for index in indexes]
        return found


def _exact(row: Row) -> IndexCost:
    """Return what exact search costs by a row's own measurement."""
    sizes, ms, mb = [10**6], [row.cost["search_ms"]], [row.bytes_per_entry]
    whole = Interval(1.0, 1.0, 1.0, 1)
    return IndexCost("flat", row.dimension, sizes, ms, mb, 1.0, whole)


@dataclass(frozen=True)
class Option:
    """A model, a format of its vectors and an index, for one task."""

    row: Row
    index: IndexCost
    pace: float  #: milliseconds of this machine, for one of the index's
    task: str

    @property
    def name(self) -> str:
        """Name model, format and index."""
        how = "words, exact" if self.row.lexical else FORMATS[self.index.kind][0]
        return f"{self.row.name} ({how})"

    @property
    def kept(self) -> Interval:
        """The share of the score that the index leaves; a task without search, all."""
        searched = self.row.metrics[self.task].startswith("ndcg")
        return self.index.kept if searched else Interval(1.0, 1.0, 1.0, 1)

    @property
    def quality(self) -> Interval:
        """The score at the recall that the index reaches, the interval the model's."""
        score, share = self.row.quality[self.task], self.kept.mean
        low, high = share * score.low, share * score.high
        return Interval(share * score.mean, low, high, score.n)

    def ms(self, corpus: int) -> Interval:
        """Return the median milliseconds of a query, encoded and searched for."""
        found = self.index.ms_at(corpus, self.row.dimension)
        encode, pace = self.row.cost["query_ms_p50"], self.pace
        mean, low, high = (encode + pace * getattr(found, end) for end in _ENDS)
        return Interval(mean, low, high, found.n)

    def mb(self, corpus: int) -> float:
        """Return the MB in memory: the whole process, and an index of `corpus`."""
        held = self.index.mb_at(corpus, self.row.dimension)
        return self.row.cost["process_mb"] + held

    def dollars(self, corpus: int, price: float) -> tuple[float, float]:
        """Return the cost of a million documents, and of a million queries.

        At a `price` an hour: documents encoded in batches, queries one after the other.
        """
        documents = 1e6 / self.row.cost["short_texts"]
        queries = 1e6 * self.ms(corpus).mean / 1e3
        return documents * price / 3600, queries * price / 3600


def write_survey(path: Path, survey: Survey) -> None:
    """Write a survey as JSON, atomically."""
    write_json(path, asdict(survey))


def read_survey(path: Path) -> Survey:
    """Read what `write_survey` wrote; a ValueError tells of damage."""

    def interval(found: dict[str, Any]) -> Any:  # noqa: ANN401
        return Interval(**found) if "low" in found else found

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=interval)
        content["rows"] = [Row(**row) for row in content["rows"]]
        content["indexes"] = [IndexCost(**one) for one in content["indexes"]]
        return Survey(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no survey of this release ({error}); make one with "
            "`python -m sbert_lab select --measure`"
        ) from error


@dataclass(frozen=True)
class Constraints:
    """What an application can bear, for a `task` of the survey.

    ``max_ms`` is for a query, encoded and searched for in `corpus` entries; ``max_mb``
    for the whole process with its index. ``tolerance`` is how much of the score may be
    given up for speed and memory; ``price`` is that of the machine, in dollars an hour.
    """

    task: str = "Retrieval"
    min_quality: float | None = None
    max_ms: float | None = None
    max_mb: float | None = None
    corpus: int = 100_000
    tolerance: float = 0.01
    price: float = 0.1

    def broken_by(self, option: Option) -> dict[str, float]:
        """Return which constraints an option breaks, in words, and how many times."""
        score = option.quality.mean
        ms, mb = option.ms(self.corpus), option.mb(self.corpus)
        found = {}
        for limit, value, sign, words in (
            (self.min_quality, score, -1, f"quality {score:.3f}, below"),
            (self.max_ms, ms.mean, 1, f"{about(ms)} ms a query, over"),
            (self.max_mb, mb, 1, f"{mb:,.0f} MB, over"),
        ):
            if limit is not None and sign * (value - limit) > 0:
                times = max(value, 1e-9) / max(limit, 1e-9)  # a limit may be 0
                found[f"{words} {limit:,g}"] = times**sign
        return found


def about(value: Interval) -> str:
    """Show a value to three digits, or what is reckoned beyond all sizes to two."""
    if value.low == value.high:
        return f"{value.mean:,.3g}"
    mean, low, high = (float(f"{getattr(value, end):.2g}") for end in _ENDS)
    return f"about {mean:,g} ({low:,g} to {high:,g})"


def recommend(survey: Survey, limits: Constraints) -> tuple[Option, list[str]]:
    """Choose model, format and index; returns them, and the reasons, weightiest first.

    `NothingFits` says what comes nearest, and which constraints it breaks.
    """
    task, corpus = limits.task, limits.corpus
    known = survey.options(task)
    fitting = [option for option in known if not limits.broken_by(option)]
    if not fitting:
        nearest = min(known, key=lambda one: prod(limits.broken_by(one).values()))
        raise NothingFits(nearest, limits.broken_by(nearest))
    best = max(fitting, key=lambda one: one.quality.mean)
    enough = best.quality.mean - max(0, limits.tolerance)
    chosen = _cheapest([o for o in fitting if o.quality.mean >= enough], corpus)
    documents, queries = chosen.dollars(corpus, limits.price)
    reasons = [
        f"{chosen.name}: {task} {chosen.row.metrics[task]} {chosen.quality} at recall "
        f"{chosen.index.recall:.2f}, {about(chosen.ms(corpus))} ms a query and "
        f"{chosen.mb(corpus):,.0f} MB at {corpus:,} entries.",
        f"At {limits.price:g} dollars an hour a million documents cost {documents:.2g} "
        f"to encode, a million queries {queries:.2g}.",
    ]
    if chosen.row is not best.row:
        gap = survey.difference(task, best.row.name, chosen.row.name)
        reasons.append(
            f"{best.name} scores most of all that fits, {best.quality.mean:.3f} (its "
            f"model: {gap.signed()}), in {about(best.ms(corpus))} ms and "
            f"{best.mb(corpus):,.0f} MB."
        )
    return chosen, reasons


def _cheapest(options: Sequence[Option], corpus: int) -> Option:
    """Return the quickest; of those as quick the smallest; of those the simplest."""
    quickest = min(one.ms(corpus).mean for one in options)
    quick = [one for one in options if one.ms(corpus).mean <= _ALIKE * quickest]
    smallest = min(one.mb(corpus) for one in quick)
    options = [one for one in quick if one.mb(corpus) <= _ALIKE * smallest]
    order = list(FORMATS)
    return min(options, key=lambda one: order.index(one.index.kind))


def measured_on(survey: Survey, task: str) -> list[Row]:
    """Return the rows that have a score on a task, the best first."""
    rows = [row for row in survey.rows if task in row.quality]
    if not rows:
        raise ValueError(f"task {task!r}: one of {', '.join(survey.differences)}")
    return sorted(rows, key=lambda row: -row.quality[task].mean)


def pareto_front(options: Sequence[Option], corpus: int) -> list[Option]:
    """Return the options that no other beats, by falling quality.

    One is beaten by another as good in quality, time and memory, and better in one.
    """
    ranked = sorted(options, key=lambda one: -one.quality.mean)
    points = np.array(
        [(-o.quality.mean, o.ms(corpus).mean, o.mb(corpus)) for o in ranked]
    )
    no_worse = np.all(points <= points[:, None], axis=2)
    better = np.any(points < points[:, None], axis=2)
    beaten = np.any(no_worse & better, axis=1).tolist()
    return [one for one, lost in zip(ranked, beaten, strict=True) if not lost]
