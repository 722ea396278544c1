"""What an adaptation brought: two models measured on the same items, and a report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import write_bytes, write_json
from sbert_lab.datasets.pairs import PairSearch
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.figures import intervals, legend_below, new_figure, png
from sbert_lab.evaluation.metrics import ndcg_at_k, pairwise_cosine, recall_at_k
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean
from sbert_lab.evaluation.tasks import similarity_score
from sbert_lab.index.exact import exact_search
from sbert_lab.models.sentence_encoder import SentenceEncoder

OUTCOME, REPORT = "outcome.json", "report.md"

_DEPTH = 100  # ranks that are looked at
_SHOWN = 10  # queries on each side
_LETTERS = 200  # of a text in a table


class Measured:
    """One model's results, item by item.

    ``found`` are the nearest corpus rows of each query, int64 ``[q, 100]``, in order;
    ``cosines`` those of the pairs of each general set.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        search: PairSearch | None,
        general: Mapping[str, ScoredPairs],
        show_progress: bool | None = None,
    ) -> None:
        self.cosines = {}
        for name, pairs in general.items():
            vectors = encoder.encode([*pairs.first, *pairs.second], show_progress=False)
            halves = np.split(vectors, 2)
            self.cosines[name] = pairwise_cosine(halves[0], halves[1])
        self.found = np.empty((0, 0), np.int64)
        if search is not None:
            corpus = encoder.encode_document(search.corpus, show_progress=show_progress)
            asked = encoder.encode_query(search.queries, show_progress=show_progress)
            self.found = exact_search(asked, corpus, _DEPTH)[1]

    def by_query(self, search: PairSearch) -> dict[str, NDArray[np.float64]]:
        """Return each metric, query by query."""
        found, relevant = self.found.tolist(), search.relevant
        return {
            "nDCG@10": ndcg_at_k(found, relevant, 10),
            "recall@1": recall_at_k(found, relevant, 1),
            "recall@10": recall_at_k(found, relevant, 10),
        }

    def ranks(self, search: PairSearch) -> NDArray[np.int64]:
        """Return the best rank of each query's answers, ``[q]``, from 1 to 101."""
        both = zip(self.found, search.relevant, strict=True)
        is_answer = np.array([np.isin(row, answers) for row, answers in both])
        return np.where(is_answer.any(1), is_answer.argmax(1) + 1, _DEPTH + 1)


def compare(
    search: PairSearch | None,
    general: Mapping[str, ScoredPairs],
    before: Measured,
    after: Measured,
) -> dict[str, Any]:
    """Compare two models item by item, for JSON.

    ``comparisons``, one a metric and those of the search first, have intervals
    ``before``, ``after`` and of the paired ``difference``; ``better`` and ``worse`` are
    the queries that gained most ranks, and lost most.
    """
    comparisons: list[dict[str, Any]] = []

    def add(name: str, metric: str, *three: Interval) -> None:
        parts = zip(("before", "after", "difference"), map(asdict, three), strict=True)
        about = {"name": name, "metric": metric, "items": three[0].n}
        comparisons.append(about | dict(parts))

    better: list[dict[str, Any]] = []
    worse: list[dict[str, Any]] = []
    if search is not None:
        old, new = before.by_query(search), after.by_query(search)
        for metric, a in new.items():
            values = (old[metric], a, a - old[metric])
            three = [bootstrap_mean(v, groups=search.group) for v in values]
            add("your pairs", metric, *three)
        better = _examples(search, before, after)
        worse = _examples(search, before, after, sign=-1)
    for name, pairs in general.items():
        b, a = before.cosines[name], after.cosines[name]
        three = [similarity_score(pairs, values) for values in (b, a)]
        add(name, "Spearman", *three, similarity_score(pairs, a, baseline=b))
    return {"comparisons": comparisons, "better": better, "worse": worse}


def _examples(
    search: PairSearch, before: Measured, after: Measured, sign: int = 1
) -> list[dict[str, Any]]:
    old, new = before.ranks(search), after.ranks(search)
    gained = sign * (old - new)
    return [
        {
            "query": search.queries[i],
            "answer": search.corpus[search.relevant[i][0]],
            "rank before": int(old[i]),
            "rank after": int(new[i]),
        }
        for i in np.argsort(-gained, kind="stable")[:_SHOWN]
        if gained[i] > 0
    ]


def write_report(folder: Path, outcome: Mapping[str, Any]) -> None:
    """Write ``report.md``, its pictures, and at last ``outcome.json``."""
    comparisons = outcome["comparisons"]
    parts = [f"# {outcome['base']}, adapted", summary(outcome)]
    if comparisons:
        write_bytes(folder / "scores.png", _scores_picture(comparisons))
        parts.append("![scores](scores.png)")
    for side in ("better", "worse"):
        if rows := [list(map(_cell, one.values())) for one in outcome[side]]:
            parts += [f"## Queries that got {side}", _table([outcome[side][0], *rows])]
    write_bytes(folder / "loss.png", _loss_picture(outcome["curve"]))
    parts += ["## Training", "![training loss by step](loss.png)"]
    told = {**outcome["facts"], **outcome["plan"]}
    parts.append("\n".join(f"- {k.replace('_', ' ')}: {v}" for k, v in told.items()))
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


def _scores_picture(comparisons: Sequence[Mapping[str, Any]]) -> bytes:
    figure, (axes,) = new_figure(height=1.5 + 0.7 * len(comparisons))
    scores: dict[str, Interval] = {}
    kinds: dict[str, list[str]] = {"before": [], "after": []}
    for one in comparisons:
        for when, rows in kinds.items():
            rows.append(f"{one['name']}, {one['metric']}, {when}")
            value = Interval(**one[when])
            # The interval of few items can lie beside their mean.
            low, high = min(value.low, value.mean), max(value.high, value.mean)
            scores[rows[-1]] = Interval(value.mean, low, high, value.n)
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
