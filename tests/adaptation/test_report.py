"""The report says what was measured, and which model to use."""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest
from adapt_cases import general

from sbert_lab.adaptation.report import compare, measure, summary, write_report
from sbert_lab.datasets.pairs import PairSearch
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean


def comparison(low, high, name="your pairs", metric="nDCG@10"):
    middle = (low + high) / 2
    return {
        "name": name,
        "metric": metric,
        "items": 1234,
        "before": asdict(Interval(0.4321, 0.4, 0.46, 40)),
        "after": asdict(Interval(0.4321 + middle, 0.5, 0.7, 40)),
        "difference": asdict(Interval(middle, low, high, 40)),
    }


def example(query, answer, before, after):
    return {"query": query, "answer": answer, "before": before, "after": after}


OUTCOME = {
    "base": "all-MiniLM-L6-v2",
    "fingerprint": "fa57",
    "plan": {"base": "ba5e", "batch_size": 64},
    "facts": {"trained on": 160, "passed over, known": 3},
    "comparisons": [
        comparison(0.1, 0.3),
        comparison(-0.01, 0.02, "ladder", "Spearman"),
    ],
    "curve": [[1, 2.5], [2, 1.25]],
    "better": [example("a | b\nc", "x" * 500, 0.25, 1.0)],
    "worse": [example("query", "answer", 0.5, 0.0)],
}


def test_the_report_holds_the_numbers_measured(tmp_path):
    write_report(tmp_path, OUTCOME)
    text = re.sub(" +", " ", (tmp_path / "report.md").read_text(encoding="utf-8"))
    for wanted in (
        "# all-MiniLM-L6-v2, adapted",
        "Better: nDCG@10 +0.200 [+0.100, +0.300].",
        "| your pairs, nDCG@10 | 0.432 | 0.632 | +0.200 [+0.100, +0.300] | 1,234 |",
        "| ladder, Spearman | 0.432 | 0.437 | +0.005 [-0.010, +0.020] | 1,234 |",
        "## Queries that got better",
        "a \\| b c",
        "| 0.25 | 1.0 |",
        "## Queries that got worse",
        "- passed over, known: 3",
    ):
        assert wanted in text
    assert "x" * 201 not in text
    assert json.loads((tmp_path / "outcome.json").read_text()) == OUTCOME


@pytest.mark.parametrize(
    ("own", "ladder", "said", "use"),
    [
        ((0.1, 0.3), (-0.01, 0.01), "Better", "Use the adapted model for texts"),
        ((0.1, 0.3), (-0.03, -0.01), "Better", "the base for others, for ladder fell"),
        ((-0.1, 0.2), (0.1, 0.2), "No clear difference", "Keep the base"),
        ((-0.2, -0.1), (0.1, 0.2), "Worse", "Keep the base"),
    ],
)
def test_the_verdict_follows_from_the_intervals(own, ladder, said, use):
    general = comparison(*ladder, "ladder", "Spearman")
    found = summary({"comparisons": [comparison(*own), general]})
    assert found.startswith(said)
    assert use in found
    assert summary({"comparisons": [general]}).startswith("Not measured")


class Vectors:
    """An encoder of given vectors, text by text."""

    def __init__(self, table):
        self.table = table

    def encode(self, texts, **_):
        return np.array([self.table[text] for text in texts], np.float32)

    encode_query = encode_document = encode


def test_two_models_are_compared_item_by_item():
    """Against loops over queries and pairs."""
    rng = np.random.default_rng(0)
    queries, corpus = [f"q{i}" for i in range(30)], [f"d{i}" for i in range(150)]
    relevant = [
        tuple(rng.choice(150, rng.integers(1, 4), replace=False)) for _ in queries
    ]
    group = np.arange(30) // 2
    search = PairSearch(tuple(queries), tuple(corpus), tuple(relevant), group)
    sets = general()
    texts = [*queries, *corpus, *sets["made up"].first, *sets["made up"].second]
    tables = [{text: rng.normal(size=3) for text in texts} for _ in range(2)]
    models = [measure(Vectors(table), search, sets) for table in tables]
    outcome = compare(search, sets, *models)
    found = {one["metric"]: one for one in outcome["comparisons"]}
    gains_of = []
    for side, table in zip(("before", "after"), tables, strict=True):
        ndcg, recall = [], []
        for query, answers in zip(queries, relevant, strict=True):
            q = table[query] / np.linalg.norm(table[query])
            scores = [table[d] @ q / np.linalg.norm(table[d]) for d in corpus]
            order = list(np.argsort(-np.array(scores)))
            places = [order.index(a) + 1 for a in answers if order.index(a) < 10]
            ideal = sum(1 / np.log2(p + 2) for p in range(len(answers)))
            ndcg.append(sum(1 / np.log2(p + 1) for p in places) / ideal)
            recall.append(len(places) / len(answers))
        gains_of.append(np.array(ndcg))
        assert found["nDCG@10"][side]["mean"] == pytest.approx(np.mean(ndcg))
        assert found["recall@10"][side]["mean"] == pytest.approx(np.mean(recall))
    gained = gains_of[1] - gains_of[0]
    wanted = bootstrap_mean(gained, groups=group)
    assert found["nDCG@10"]["difference"] == pytest.approx(asdict(wanted))
    assert found["Spearman"]["items"] == 12
    for side, sign in (("better", 1), ("worse", -1)):
        most = np.argsort(-sign * gained, kind="stable")[:10]
        names = [queries[row] for row in most if sign * gained[row] > 0]
        assert [one["query"] for one in outcome[side]] == names
        assert len(names) > 3
