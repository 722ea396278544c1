"""The benchmarks of training run, on very little."""

import importlib.util
import json
import logging
import math
import sys

import pytest
from tiny_raw_bert import make_raw, tiny_profile

from sbert_lab import SentenceEncoder
from sbert_lab._utils import project_root
from sbert_lab.datasets.nli import authored, sick_entailment
from sbert_lab.datasets.pairs import plain
from sbert_lab.datasets.similarity import ScoredPairs, stsb
from sbert_lab.models.registry import data_home


def benchmark(name):
    """Load a file of benchmarks/, which is no package."""
    path = project_root() / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def raw_folder(tmp_path_factory):
    return make_raw(tmp_path_factory.mktemp("raw") / "bert")


# SICK, then the STS Benchmark


@pytest.fixture
def sets_here(monkeypatch):
    home = data_home() or project_root().parent / "shared" / "evaluation"
    for name in ("sick", "stsb"):
        if not (home / name).is_dir():
            pytest.skip(f"{name} is not in {home}: set SBERT_LAB_DATA_HOME")
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(home))


def test_nli_then_sts_runs(sets_here, raw_folder, monkeypatch, tmp_path, capsys):
    module = benchmark("nli_then_sts")
    test = stsb("test").only([row < 120 for row in range(1379)])
    monkeypatch.setattr(module, "PROFILES", {"laptop": tiny_profile(raw_folder)})
    monkeypatch.setattr(
        module, "stsb", lambda split: test if split == "test" else stsb(split)
    )
    out = tmp_path / "found.json"
    monkeypatch.setattr(
        sys, "argv", ["x", "--seeds", "2", "--rows", "24", "--out", str(out)]
    )
    module.main()
    record = json.loads(out.read_text())
    assert record["test"] == "STS Benchmark test, 120 pairs, Spearman"
    assert record["seeds"] == 2
    assert list(record["results"]) == [
        "untrained, cls",
        "untrained, max",
        "untrained, mean",
        "SICK entailment",
        "STS Benchmark",
        "SICK, then STS Benchmark",
    ]
    for found in record["results"].values():
        assert -1 <= found["low"] <= found["mean"] <= found["high"] <= 1
        assert found["n"] == 120
    means = [found["mean"] for found in record["results"].values()]
    assert len(set(means)) == 6  # six models
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 7
    assert shown[-1].endswith(f"too: {record['left_out']} pairs")


def test_nli_then_sts_trains_on_no_test_pair(sets_here):
    test = stsb("test")
    entailment, similarity, left_out = benchmark("nli_then_sts").training_sets(test)
    judged = {
        frozenset((plain(a), plain(b)))
        for a, b in zip(test.first, test.second, strict=True)
    }
    pairs = [(p.premise, p.hypothesis) for p in entailment]
    pairs += zip(similarity.first, similarity.second, strict=True)
    assert not [two for two in pairs if frozenset(map(plain, two)) in judged]
    everything = sick_entailment("train"), stsb("train")
    assert len(pairs) + left_out == sum(map(len, everything))
    assert 0 < left_out < 100


def test_training_pairs_that_are_judged_are_left_out(monkeypatch):
    """In either order, case and spacing; a pair that shares one sentence stays."""
    module, pairs = benchmark("nli_then_sts"), authored()[:4]
    scored = ScoredPairs(("A b", "c", "E"), ("d", "f", "g"), (1.0, 2.0, 3.0))
    monkeypatch.setattr(module, "sick_entailment", lambda split: pairs)
    monkeypatch.setattr(module, "stsb", lambda split: scored)
    test = ScoredPairs(
        (pairs[1].hypothesis.upper(), "D", "c", pairs[0].premise),
        (f" {pairs[1].premise}", "a  B", "g", "another"),
        (0.0,) * 4,
    )
    kept, new, left_out = module.training_sets(test)
    assert kept == [pairs[0], *pairs[2:]]
    assert new == ScoredPairs(("c", "E"), ("f", "g"), (2.0, 3.0))
    assert left_out == 2


def test_first_rows_of_a_set():
    first = benchmark("nli_then_sts").first
    pairs = ScoredPairs(("a", "b", "c"), ("d", "e", "f"), (1.0, 2.0, 3.0), ("x",) * 3)
    assert first(pairs, None) == first(pairs, 9) == pairs
    assert first(pairs, 2) == ScoredPairs(
        ("a", "b"), ("d", "e"), (1.0, 2.0), ("x",) * 2
    )


# Training against sentence-transformers


@pytest.fixture(scope="module")
def encoder_folder(raw_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "model"
    SentenceEncoder.from_pretrained(raw_folder, device="cpu").save(folder)
    return folder


def pairs_of_columns(count):
    pairs = authored()[: 3 * count : 3]
    return [p.premise for p in pairs], [p.hypothesis for p in pairs]


def test_training_is_timed_by_turns(encoder_folder, monkeypatch):
    module = benchmark("train")
    turns = []
    for name in ("ours", "theirs"):
        way = getattr(module, name)

        def noted(model, columns, rows, steps, name=name, way=way):
            turns.append((name, rows, steps))
            return way(model, columns, rows, steps)

        monkeypatch.setattr(module, name, noted)
    found = module.compare(
        str(encoder_folder), pairs_of_columns(16), rows=4, steps=2, repeats=2
    )
    assert set(found) == {"ours", "theirs", "ratio", "low", "high"}
    assert all(math.isfinite(value) and value > 0 for value in found.values())
    assert found["low"] <= found["ratio"] <= found["high"]
    assert turns == [("ours", 4, 7), ("theirs", 4, 7)] * 2


def test_ratios_are_worked_out_from_the_seconds(monkeypatch):
    module = benchmark("train")
    monkeypatch.setattr(module, "ours", lambda *_: 2.0)
    monkeypatch.setattr(module, "theirs", lambda *_: 5.0)
    found = module.compare("x", ([], []), rows=4, steps=10, repeats=3)
    expected = {"ours": 5.0, "theirs": 2.0, "ratio": 2.5, "low": 2.5, "high": 2.5}
    assert found == pytest.approx(expected)


def test_warm_up_is_not_counted(monkeypatch):
    module = benchmark("train")
    clock = module.Clock()
    now = iter([10.0, 10.0, 11.0, 13.5])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(now))

    class State:
        global_step = module.WARM_UP

    clock.on_step_end(None, State, None)
    for step in (1, 2):
        State.global_step = module.WARM_UP + step
        clock.on_step_end(None, State, None)
    assert clock.seconds == 3.5


def test_training_benchmark_writes_what_it_found(monkeypatch, tmp_path, capsys):
    module, asked = benchmark("train"), []

    def compare(model, columns, rows, steps, repeats):
        asked.append((model, rows, steps, repeats))
        return {"ours": 2.0, "theirs": 1.0, "ratio": 2.0, "low": 1.9, "high": 2.1}

    monkeypatch.setattr(module, "compare", compare)
    monkeypatch.setattr(module, "collections", lambda: {"terms": ([], [])})
    monkeypatch.setattr(logging, "disable", lambda level: None)
    out = tmp_path / "deep" / "train.json"
    options = ["--models", "a,b", "--rows", "4", "--steps", "2", "--repeats", "3"]
    monkeypatch.setattr(sys, "argv", ["x", *options, "--out", str(out)])
    module.main()
    assert asked == [("a", 4, 2, 3), ("b", 4, 2, 3)]
    assert list(json.loads(out.read_text())) == ["a, terms", "b, terms"]
    assert "a, terms: 2.00 steps/s against 1.00, 2.00 times" in capsys.readouterr().out


# Which learning rate suits a start


def test_rates_are_tried_from_both_starts(sets_here, raw_folder, tmp_path, monkeypatch):
    module, out = benchmark("finetuning_rates"), tmp_path / "rates.json"
    few = {
        split: ScoredPairs(*(part[:64] for part in (p.first, p.second, p.score)))
        for split in ("train", "dev")
        for p in [stsb(split)]
    }
    monkeypatch.setattr(module, "stsb", few.get)
    monkeypatch.setattr("tools.pretraining.transfer.stsb", few.get)
    monkeypatch.setattr(module, "resolve", lambda _: raw_folder)
    options = "--rates 1e-9 1e-3 --epochs 1 --seed 3 --out".split()
    monkeypatch.setattr(sys, "argv", ["rates", *options, str(out)])
    module.main()
    found = json.loads(out.read_text())["by start and rate"]
    assert list(found) == ["shipped", "random"]
    for scores in found.values():
        assert list(scores) == ["1e-09", "0.001"]
        assert scores["1e-09"] != scores["0.001"]  # the rate reaches the training
    assert found["shipped"] != found["random"]


def test_the_rate_of_transfer_is_the_best_on_record():
    from tools.pretraining.transfer import SIMILARITY

    record = project_root() / "data" / "results" / "finetuning_rates.json"
    for scores in json.loads(record.read_text())["by start and rate"].values():
        assert max(scores, key=scores.get) == f"{SIMILARITY.peak:g}"
