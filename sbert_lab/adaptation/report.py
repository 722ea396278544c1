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
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of

OUTCOME, REPORT = "outcome.json", "report.md"

_NDCG, _RECALL, _SPEARMAN = "your pairs, nDCG@10", "your pairs, recall@10", "Spearman"
_SHOWN = 10  # queries on each side
_LETTERS = 200  # of a text in a table


def measure(
    encoder: SentenceEncoder,
    search: PairSearch | None,
    general: Mapping[str, ScoredPairs],
) -> dict[str, Values]:
    """Return each query's nDCG@10 and recall@10, and each scored pair's cosine."""
    found: dict[str, Values] = {}
    if search is not None:
        sides = encoder.encode_query, encoder.encode_document
        texts, metric = (search.queries, search.corpus), metric_of(encoder)
        both = search_quality(*sides, *texts, search.relevant, metric)
        found[_NDCG], found[_RECALL] = both
    for name, pairs in general.items():
        first, second = np.split(encoder.encode([*pairs.first, *pairs.second]), 2)
        found[f"{name}, {_SPEARMAN}"] = pairwise_cosine(first, second)
    return found


def compare(
    search: PairSearch | None,
    general: Mapping[str, ScoredPairs],
    before: Mapping[str, Values],
    after: Mapping[str, Values],
) -> dict[str, Any]:
    """Compare two models, by what `measure` returned of each, for JSON.

    ``comparisons``, those of the search first, have intervals ``before``, ``after`` and
    of the paired ``difference``; ``better`` and ``worse`` are the queries whose nDCG@10
    gained most, and lost most.
    """
    found: dict[str, Any] = {"comparisons": [], "better": [], "worse": []}

    def add(what: str, *three: Interval) -> None:
        parts = zip(("before", "after", "difference"), map(asdict, three), strict=True)
        found["comparisons"].append({"what": what, **dict(parts)})

    if search is not None:
        for what in (_NDCG, _RECALL):
            b, a = before[what], after[what]
            add(what, *(bootstrap_mean(v, groups=search.group) for v in (b, a, a - b)))
        old, new = before[_NDCG], after[_NDCG]
        for side, gain in (("better", new - old), ("worse", old - new)):
            order = np.argsort(-gain, kind="stable")[:_SHOWN]
            found[side] = [
                {
                    "query": search.queries[i],
                    "answer": search.corpus[search.relevant[i][0]],
                    "nDCG@10 before": float(old[i]),
                    "nDCG@10 after": float(new[i]),
                }
                for i in order[gain[order] > 0]
            ]
    for name, pairs in general.items():
        what = f"{name}, {_SPEARMAN}"
        b, a = before[what], after[what]
        gap = similarity_score(pairs, a, baseline=b)
        add(what, similarity_score(pairs, b), similarity_score(pairs, a), gap)
    return found


def write_report(folder: Path, outcome: Mapping[str, Any]) -> None:
    """Write ``report.md``, and then ``outcome.json``."""
    parts = [f"# {outcome['base']}, adapted", summary(outcome)]
    for side in ("better", "worse"):
        if rows := [list(map(_cell, one.values())) for one in outcome[side]]:
            parts += [f"## Queries that got {side}", _table([outcome[side][0], *rows])]
    parts.append("## Training")
    losses = ", ".join(f"{loss:.3g}" for _, loss in outcome["curve"])
    told = {**outcome["facts"], "loss, from start to end": losses, **outcome["plan"]}
    parts.append("\n".join(f"- {k.replace('_', ' ')}: {v}" for k, v in told.items()))
    write_bytes(folder / REPORT, ("\n\n".join(parts) + "\n").encode())
    write_json(folder / OUTCOME, outcome)


def summary(outcome: Mapping[str, Any]) -> str:
    """Say which model to use, above a table of scores before and after, in Markdown."""
    rows = [["", "before", "after", "difference, 95 % interval", "items"]]
    for one in outcome["comparisons"]:
        before, after = (f"{one[when]['mean']:.3f}" for when in ("before", "after"))
        gap = Interval(**one["difference"])
        rows.append([one["what"], before, after, gap.signed(), f"{gap.n:,}"])
    return f"{_verdict(outcome['comparisons'])}\n\n{_table(rows)}"


def _verdict(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Name the better model; an interval around 0 decides nothing."""
    gaps = {one["what"]: Interval(**one["difference"]) for one in comparisons}
    if _NDCG not in gaps:
        return "Not measured on texts of your field: keep the base until it is."
    gain = gaps[_NDCG]
    if gain.low <= 0:
        clear = "Worse" if gain.high < 0 else "No clear difference"
        return f"{clear}: nDCG@10 {gain.signed()}. Keep the base, or bring more pairs."
    fell = [what for what, gap in gaps.items() if gap.high < 0]
    others = (
        f"; it is worse by {', '.join(fell)}: use the base for others" if fell else ""
    )
    return f"Better: nDCG@10 {gain.signed()}. Use it for texts like these{others}."


def _table(rows: Sequence[Iterable[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in (rows[0], ["-" * width for width in widths], *rows[1:]):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = " ".join(value.split()).replace("|", "\\|")
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"
