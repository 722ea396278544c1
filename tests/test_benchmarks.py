"""The benchmarks run, on very little; what they find here means nothing."""

import importlib.util
import math

import pytest

from sbert_lab._utils import project_root
from sbert_lab.datasets.nli import authored


def benchmark(name):
    """Load a file of benchmarks/, which is no package."""
    path = project_root() / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_training_is_timed_by_turns(tiny, tmp_path, monkeypatch):
    tiny.save(tmp_path / "model")
    module, turns = benchmark("train"), []

    def noted(name, seconds, way):
        def timed(*told):
            assert math.isfinite(way(*told))
            turns.append((name, *told[2:]))
            return seconds

        return timed

    for name, seconds in (("ours", 2.0), ("theirs", 5.0)):
        way = getattr(module, name)
        monkeypatch.setattr(module, name, noted(name, seconds, way))
    pairs = authored()[:48:3]
    columns = [p.premise for p in pairs], [p.hypothesis for p in pairs]
    found = module.compare(str(tmp_path / "model"), columns, rows=4, steps=2, repeats=2)
    expected = {"ours": 1.0, "theirs": 0.4, "ratio": 2.5, "low": 2.5, "high": 2.5}
    assert found == pytest.approx(expected)
    assert turns == [("ours", 4, 7), ("theirs", 4, 7)] * 2


def test_encoding_is_compared(minilm, peer, monkeypatch):
    module = benchmark("encode")
    monkeypatch.setattr(module, "BATCH_SIZES", (4,))
    texts = [p.premise for p in authored()[:8]]
    found = module.compare("x", texts, minilm, peer, 2, 1e9)
    assert found["largest_difference"] < 1e-5
    assert found["ratio"] == pytest.approx(found["sbert_lab"] / found["peer"])
