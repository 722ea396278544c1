"""An outcome is kept whole, and what is no outcome is refused."""

import json
from dataclasses import replace

import pytest

from sbert_lab.adaptation.outcome import (
    Comparison,
    Example,
    Outcome,
    read_outcome,
    write_outcome,
)
from sbert_lab.evaluation.statistics import Interval

OUTCOME = Outcome(
    base="a",
    base_fingerprint="1",
    fingerprint="2",
    method="pairs",
    recipe={"epochs": 3, "rank": [0, 30], "keep": 0.3},
    data={"source": "pairs.csv", "rows": 120, "ratio": 0.5},
    mined={"known": 3},
    domain=(
        Comparison(
            "your pairs",
            "nDCG@10",
            40,
            Interval(0.4, 0.3, 0.5, 40),
            Interval(0.6, 0.5, 0.7, 40),
            Interval(0.2, 0.1, 0.3, 40),
        ),
    ),
    general=(),
    curve=((1, 2.5), (2, 1.25)),
    better=(Example("q", "a", 9, 1, "b", "a"),),
    worse=(Example("ü", "a", 1, 2, "a", "b"),),
    seconds={"check": 0.5, "train": 20.0},
    about={"machine": "one"},
)


def test_an_outcome_comes_back_as_it_was(tmp_path):
    write_outcome(tmp_path / "outcome.json", OUTCOME)
    assert read_outcome(tmp_path / "outcome.json") == OUTCOME


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content | {"format": 0},
        lambda content: content | {"strange": 1},
        lambda content: content | {"method": "magic"},
        lambda content: content | {"curve": [[1]]},
        lambda content: {k: v for k, v in content.items() if k != "domain"},
        lambda content: content | {"better": [{"query": "q"}]},
        lambda content: [content],
        lambda content: content | {"domain": [content["domain"][0] | {"before": None}]},
    ],
)
def test_what_is_damaged_or_foreign_is_refused(tmp_path, change):
    path = tmp_path / "outcome.json"
    write_outcome(path, OUTCOME)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match="no outcome of this release"):
        read_outcome(path)


def test_half_a_file_and_no_file_are_refused(tmp_path):
    path = tmp_path / "outcome.json"
    with pytest.raises(FileNotFoundError, match="adapt"):
        read_outcome(path)
    write_outcome(path, OUTCOME)
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match="no outcome of this release"):
        read_outcome(path)


def test_what_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_outcome(tmp_path / "o.json", replace(OUTCOME, curve=((1, float("nan")),)))
    assert not (tmp_path / "o.json").exists()


def test_ranks_begin_with_one_and_methods_are_known():
    with pytest.raises(ValueError, match="begin with 1"):
        Example("q", "a", 0, 1, "b", "a")
    with pytest.raises(ValueError, match="pseudo-labels"):
        replace(OUTCOME, method="magic")
