"""What an adaptation brought: two models measured on the same items, and a report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sbert_lab._utils import write_bytes, write_json
from sbert_lab.datasets.pairs import PairSearch
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.evaluators import search_quality
from sbert_lab.evaluation.metrics import Values, pairwise_cosine
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean
from sbert_lab.evaluation.tasks import similarity_score
from sbert_lab.models.sentence_encoder import SentenceEncoder

OUTCOME, REPORT = "outcome.json", "report.md"
NDCG = "nDCG@10"

_SHOWN = 10  # queries on each side
_LETTERS = 200  # of a text in a table


def measure(
    encoder: SentenceEncoder,
    search: PairSearch | None,
    general: Mapping[str, ScoredPairs],
) -> dict[str, Values]:
    """Return nDCG@10 and recall@10 of each query, and the cosines of each set."""
    found: dict[str, Values] = {}
    if search is not None:
        sides = encoder.encode_query, encoder.encode_document
        items = search.queries, search.corpus, search.relevant
        found[NDCG], found["recall@10"] = search_quality(*sides, *items)
    for name, pairs in general.items():
        vectors = encoder.encode([*pairs.first, *pairs.second], show_progress=False)
        found[name] = pairwise_cosine(*np.split(vectors, 2))
    return found


def compare(
    search: PairSearch | None,
    general: Mapping[str, ScoredPairs],
    before: Mapping[str, Values],
    after: Mapping[str, Values],
) -> dict[str, Any]:
    """Compare two models by what `measure` gave, item by item, for JSON.

    ``comparisons``, one a metric and those of the search first, have intervals
    ``before``, ``after`` and of the paired ``difference``; ``better`` and ``worse`` are
    the queries that gained most nDCG@10, and lost most.
    """
    comparisons: list[dict[str, Any]] = []
    for name, old in before.items():
        new, pairs = after[name], general.get(name)
        if pairs is None:
            about = {"name": "your pairs", "metric": name}
            groups = None if search is None else search.group
            values = old, new, new - old
            three = [bootstrap_mean(each, groups=groups) for each in values]
        else:
            about = {"name": name, "metric": "Spearman"}
            three = [similarity_score(pairs, each) for each in (old, new)]
            three.append(similarity_score(pairs, new, baseline=old))
        parts = zip(("before", "after", "difference"), map(asdict, three), strict=True)
        comparisons.append({**about, "items": len(old), **dict(parts)})
    better, worse = (
        [] if search is None else _examples(search, before[NDCG], after[NDCG], sign)
        for sign in (1, -1)
    )
    return {"comparisons": comparisons, "better": better, "worse": worse}


def _examples(
    search: PairSearch, before: Values, after: Values, sign: int
) -> list[dict[str, Any]]:
    gained = sign * (after - before)
    return [
        {
            "query": search.queries[i],
            "answer": search.corpus[search.relevant[i][0]],
            "before": round(float(before[i]), 3),
            "after": round(float(after[i]), 3),
        }
        for i in np.argsort(-gained, kind="stable")[:_SHOWN]
        if gained[i] > 0
    ]


def write_report(folder: Path, outcome: Mapping[str, Any]) -> None:
    """Write ``report.md``, and at last ``outcome.json``."""
    parts = [f"# {outcome['base']}, adapted", summary(outcome)]
    for side in ("better", "worse"):
        if rows := [list(map(_cell, one.values())) for one in outcome[side]]:
            table = _table([outcome[side][0], *rows])
            parts += [f"## Queries that got {side}, by {NDCG}", table]
    told = {**outcome["facts"], **outcome["plan"]}
    lines = [f"- {name.replace('_', ' ')}: {value}" for name, value in told.items()]
    parts += ["## Training", "\n".join(lines)]
    write_bytes(folder / REPORT, ("\n\n".join(parts) + "\n").encode())
    write_json(folder / OUTCOME, outcome)


def summary(outcome: Mapping[str, Any]) -> str:
    """Say which model to use, above a table of scores before and after, in Markdown."""
    rows = [["", "before", "after", "difference, 95 % interval", "items"]]
    for one in outcome["comparisons"]:
        before, after = (f"{one[when]['mean']:.3f}" for when in ("before", "after"))
        name, gap = f"{one['name']}, {one['metric']}", Interval(**one["difference"])
        rows.append([name, before, after, gap.signed(), f"{one['items']:,}"])
    return f"{_verdict(outcome['comparisons'])}\n\n{_table(rows)}"


def _verdict(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Name the better model; an interval around 0 decides nothing."""
    general = [one for one in comparisons if one["metric"] == "Spearman"]
    if len(general) == len(comparisons):
        return "Not measured on texts of your field: keep the base until it is."
    gain = Interval(**comparisons[0]["difference"])
    found = f"{comparisons[0]['metric']} {gain.signed()}"
    if gain.low <= 0:
        clear = "Worse" if gain.high < 0 else "No clear difference"
        return f"{clear}: {found}. Keep the base, or bring more pairs."
    fell = [one["name"] for one in general if one["difference"]["high"] < 0]
    others = f", and the base for others, for {', '.join(fell)} fell" if fell else ""
    return f"Better: {found}. Use the adapted model for texts like these{others}."


def _table(rows: Sequence[Iterable[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in (rows[0], ["-" * width for width in widths], *rows[1:]):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"
