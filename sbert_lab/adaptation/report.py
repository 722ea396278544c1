"""What an adaptation brought: two models measured on the same items, and a report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
    base, fingerprint
        Name of the model that was begun with, and hash of the adapted weights.
    plan
        What decides the weights: hash of the base, method, recipe, hashes of the data.
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
    fingerprint: str
    plan: Mapping[str, Any]
    facts: Mapping[str, Any]
    comparisons: Sequence[Comparison]
    curve: Sequence[tuple[int, float]]
    better: Sequence[Example]
    worse: Sequence[Example]
    seconds: float


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
) -> list[Comparison]:
    """Compare two models; the first metric of the search, if there is one, counts."""
    comparisons = []
    if search is not None:
        old, new = before.by_query(search), after.by_query(search)
        for metric, a in new.items():
            b = old[metric]
            three = [bootstrap_mean(v, groups=search.group) for v in (b, a, a - b)]
            comparisons.append(Comparison("your pairs", metric, len(a), *three))
    for name, pairs in general.items():
        b, a = before.cosines[name], after.cosines[name]
        three = [similarity_score(pairs, values) for values in (b, a)]
        three.append(similarity_score(pairs, a, baseline=b))
        comparisons.append(Comparison(name, "Spearman", len(pairs), *three))
    return comparisons


def examples(
    search: PairSearch | None, before: Measured, after: Measured
) -> tuple[list[Example], list[Example]]:
    """Return the queries that gained most ranks, and those that lost most."""
    if search is None:
        return [], []
    old, new = before.ranks(search), after.ranks(search)
    sides = []
    for gained in (old - new, new - old):
        rows = np.argsort(-gained, kind="stable")[:_SHOWN]
        sides.append(
            [
                Example(
                    search.queries[i],
                    search.corpus[search.relevant[i][0]],
                    int(old[i]),
                    int(new[i]),
                )
                for i in rows
                if gained[i] > 0
            ]
        )
    return sides[0], sides[1]


def write_report(folder: Path, outcome: Outcome) -> None:
    """Write ``report.md``, its pictures, and at last ``outcome.json``."""
    parts = [f"# {outcome.base}, adapted", verdict(outcome.comparisons)]
    if outcome.comparisons:
        write_bytes(folder / "scores.png", _scores_picture(outcome.comparisons))
        parts += [score_table(outcome.comparisons), "![scores](scores.png)"]
    for title, shown in (("better", outcome.better), ("worse", outcome.worse)):
        if shown:
            rows = [list(map(_cell, asdict(one).values())) for one in shown]
            head = ["query", "answer", "rank before", "rank after"]
            parts += [f"## Queries that got {title}", _table([head, *rows])]
    write_bytes(folder / "loss.png", _loss_picture(outcome.curve))
    parts += ["## Training", "![training loss by step](loss.png)"]
    told = {**outcome.facts, "seconds": round(outcome.seconds), **outcome.plan}
    told["adapted weights"] = outcome.fingerprint
    parts.append("\n".join(f"- {k.replace('_', ' ')}: {v}" for k, v in told.items()))
    write_bytes(folder / REPORT, ("\n\n".join(parts) + "\n").encode())
    write_json(folder / OUTCOME, asdict(outcome))


def read_outcome(folder: Path) -> Outcome:
    """Read the outcome that `write_report` left in a folder."""
    content = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
    for entry in content["comparisons"]:
        for name in ("before", "after", "difference"):
            entry[name] = Interval(**entry[name])
    content["comparisons"] = [Comparison(**c) for c in content["comparisons"]]
    content["curve"] = tuple(map(tuple, content["curve"]))
    for side in ("better", "worse"):
        content[side] = [Example(**example) for example in content[side]]
    return Outcome(**content)


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Say in a sentence which model to use; an interval around 0 decides nothing."""
    general = [one for one in comparisons if one.metric == "Spearman"]
    if len(general) == len(comparisons):
        return "Not measured on texts of your field: keep the base until it is."
    gain = comparisons[0].difference
    found = f"{comparisons[0].metric} {gain.signed()}"
    if gain.low <= 0:
        clear = "Worse" if gain.high < 0 else "No clear difference"
        return f"{clear}: {found}. Keep the base, or bring more pairs."
    fell = [one.name for one in general if one.difference.high < 0]
    others = f", and the base for others, for {', '.join(fell)} fell" if fell else ""
    return f"Better: {found}. Use the adapted model for texts like these{others}."


def score_table(comparisons: Sequence[Comparison]) -> str:
    """Return a table of scores before and after, in Markdown."""
    rows = [["", "before", "after", "difference, 95 % interval", "items"]]
    for one in comparisons:
        before, after = f"{one.before.mean:.3f}", f"{one.after.mean:.3f}"
        name, gap = f"{one.name}, {one.metric}", one.difference.signed()
        rows.append([name, before, after, gap, f"{one.items:,}"])
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in (rows[0], ["-" * width for width in widths], *rows[1:]):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


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
