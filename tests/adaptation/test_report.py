"""The report says what was measured, and which model to use."""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest
from adapt_cases import general

from sbert_lab.adaptation.report import compare, measure, summary, write_report
from sbert_lab.datasets.pairs import PairSearch
from sbert_lab.evaluation.evaluators import search_quality
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean


def comparison(low, high, what="your pairs, nDCG@10"):
    middle = (low + high) / 2
    return {
        "what": what,
        "before": asdict(Interval(0.4321, 0.4, 0.46, 1234)),
        "after": asdict(Interval(0.4321 + middle, 0.5, 0.7, 1234)),
        "difference": asdict(Interval(middle, low, high, 1234)),
    }


OUTCOME = {
    "base": "all-MiniLM-L6-v2",
    "fingerprint": "fa57",
    "plan": {"base": "ba5e", "batch_size": 64},
    "facts": {"trained on": 160, "queries": 40},
    "comparisons": [comparison(0.1, 0.3), comparison(-0.01, 0.02, "ladder, Spearman")],
    "curve": [[1, 2.5], [2, 1.25]],
    "better": [{"query": "a | b\nc", "answer": "x" * 500, "before": 0.2}],
    "worse": [{"query": "query", "answer": "answer", "before": 0.5}],
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
        "… | 0.200 |",
        "## Queries that got worse",
        "- queries: 40",
        "- batch size: 64",
    ):
        assert wanted in text
    assert "x" * 201 not in text
    assert "- loss, from start to end: 2.5, 1.25" in text
    assert json.loads((tmp_path / "outcome.json").read_text()) == OUTCOME
    write_report(tmp_path, OUTCOME | {"better": []})
    assert "got better" not in (tmp_path / "report.md").read_text()
    write_report(tmp_path, OUTCOME | {"comparisons": []})
    assert "Not measured" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("own", "ladder", "said", "use"),
    [
        ((0.1, 0.3), (-0.01, 0.01), "Better", "Use it for texts like these."),
        ((0.1, 0.3), (-0.03, -0.01), "Better", "worse by ladder, Spearman: use"),
        ((0.0, 0.2), (0.1, 0.2), "No clear difference", "Keep the base"),
        ((-0.1, 0.2), (0.1, 0.2), "No clear difference", "Keep the base"),
        ((-0.2, -0.1), (0.1, 0.2), "Worse", "Keep the base"),
    ],
)
def test_the_verdict_follows_from_the_intervals(own, ladder, said, use):
    both = [comparison(*own), comparison(*ladder, "ladder, Spearman")]
    found = summary({"comparisons": both})
    assert found.startswith(said)
    assert use in found


class Vectors:
    """An encoder of given vectors, text by text."""

    def __init__(self, table, metric):
        self.table, self.metric = table, metric

    def encode(self, texts, **_):
        return np.array([self.table[text] for text in texts], np.float32)

    encode_query = encode_document = encode


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_two_models_are_compared_item_by_item(metric):
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
    models = [Vectors(table, metric) for table in tables]
    measured = [measure(model, search, sets) for model in models]
    outcome = compare(search, sets, *measured)
    ndcg, recall, similarity = outcome["comparisons"]
    both = []
    for side, one in zip(("before", "after"), models, strict=True):
        told = queries, corpus, relevant, metric
        values, shares = search_quality(one.encode, one.encode, *told)
        both.append(values)
        assert ndcg[side]["mean"] == pytest.approx(np.mean(values))
        assert recall[side]["mean"] == pytest.approx(np.mean(shares))
    gains = both[1] - both[0]
    wanted = bootstrap_mean(gains, groups=group)
    assert ndcg["difference"] == pytest.approx(asdict(wanted))
    assert similarity["difference"]["n"] == 12
    for side, sign in (("better", 1), ("worse", -1)):
        expected = sorted((g for g in sign * gains if g > 0), reverse=True)[:10]
        found = [one["nDCG@10 after"] - one["nDCG@10 before"] for one in outcome[side]]
        assert sign * np.array(found) == pytest.approx(expected)
        for one in outcome[side]:
            row = queries.index(one["query"])
            assert one["answer"] == corpus[relevant[row][0]]
            assert one["nDCG@10 before"] == pytest.approx(both[0][row])
