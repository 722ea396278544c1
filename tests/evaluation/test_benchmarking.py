"""The commands `reproduce` and `benchmark`: what they print, and their exit status."""

import json
import math

import pytest
from conftest import tiny_encoder

from sbert_lab.__main__ import main
from sbert_lab.evaluation import benchmark as benchmarking
from sbert_lab.evaluation.benchmark import (
    REPRODUCED,
    TOLERANCE,
    Reproduction,
    installed_models,
    reproduce,
    run_benchmark,
)
from sbert_lab.evaluation.icd10cm_tasks import TASKS
from sbert_lab.evaluation.mteb import evaluate
from sbert_lab.evaluation.published import published

STS = ("STSBenchmark",)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "my-model"
    tiny_encoder(head=("normalize",), max_seq_length=24).save(path)
    return path


def test_scores_are_on_record_for_every_pair_that_is_reproduced():
    for model in REPRODUCED:
        for task in benchmarking.LOCAL_TASKS:
            found = published(f"mteb.{model}.{task}")
            assert found.unit.endswith("× 100")
            assert benchmarking._theirs(model, task) == found.value / 100
            assert 0.7 < found.value / 100 < 0.9
    assert benchmarking._theirs("bert-mini", "STSBenchmark") is None


def test_agreement_is_within_the_tolerance():
    def line(ours, theirs=0.8):
        return Reproduction("m", "t", theirs, ours)

    assert line(0.8 + 0.9 * TOLERANCE).agrees
    assert line(0.8 - 0.9 * TOLERANCE).agrees
    assert not line(0.8 + 1.1 * TOLERANCE).agrees
    assert not line(0.8 - 1.1 * TOLERANCE).agrees
    assert not line(None).agrees
    assert not line(0.8, None).agrees


def test_missing_data_and_models_say_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("sbert_lab.models.registry._from_hub", lambda *_: None)
    assert main(["reproduce", "all-MiniLM-L6-v2"]) == 2
    said = capsys.readouterr().out
    for name in ("stsb", "sick", "banking77"):
        assert f"$SBERT_LAB_DATA_HOME/{name}" in said
    assert "3 not measured" in said
    monkeypatch.setattr("sbert_lab.models.registry.locate", lambda *_: None)
    found = list(reproduce(["all-mpnet-base-v2"]))
    assert [line.ours for line in found] == [None] * 3
    assert all("make mpnet" in line.reason for line in found)


def test_a_model_without_published_scores_is_said_so():
    found = list(reproduce(["bert-mini"], STS))
    assert [line.reason for line in found] == [
        "data/published.json has no score of bert-mini"
    ]


def test_a_difference_is_status_1(monkeypatch, capsys):
    """With the very measurement left out: another score than the published one."""
    lines = [
        Reproduction("all-MiniLM-L6-v2", "STSBenchmark", 0.8203, 0.8206),
        Reproduction("all-MiniLM-L6-v2", "SICK-R", 0.7758, 0.7758),
    ]
    monkeypatch.setattr(benchmarking, "reproduce", lambda _: iter(lines))
    assert main(["reproduce"]) == 1
    said = capsys.readouterr().out
    assert said.count("DIFFERS") == 1
    assert "1 differ by more than 0.0002" in said
    monkeypatch.setattr(benchmarking, "reproduce", lambda _: iter(lines[1:]))
    assert main(["reproduce"]) == 0


def test_our_own_score_is_what_is_compared(
    folder, evaluation_data, monkeypatch, tmp_path
):
    """The whole way with a tiny model: what `evaluate` finds is what is reported."""
    from sbert_lab.evaluation.mteb_local import with_local_data
    from sbert_lab.models.sentence_encoder import SentenceEncoder

    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(evaluation_data))
    monkeypatch.setattr(benchmarking, "_theirs", lambda *_: 0.5)
    (line,) = reproduce([str(folder)], STS, tmp_path / "cache")
    encoder = SentenceEncoder.from_pretrained(folder)
    (score,) = evaluate(
        encoder, [with_local_data("STSBenchmark")], cache_folder=tmp_path / "cache"
    )
    assert line.ours == score.score
    assert line.difference == score.score - 0.5
    assert not line.agrees


def test_default_models_are_those_installed(monkeypatch):
    monkeypatch.setattr(benchmarking, "locate", lambda _: None)
    assert installed_models() == ["all-MiniLM-L6-v2"]
    monkeypatch.setattr(benchmarking, "locate", lambda entry: entry)
    assert installed_models() == list(REPRODUCED)


def test_benchmark_of_a_readers_own_folder(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SBERT_LAB_RESULTS", str(tmp_path / "results"))
    assert main(["benchmark", str(folder), "--size", "16"]) == 0
    said = capsys.readouterr().out
    (path,) = (tmp_path / "results").rglob("*.json")
    record = json.loads(path.read_text())
    assert path.parent.name == "benchmark"
    assert path.name == f"my-model-{record['revision'][:12]}-size16.json"
    assert record["model"] == "local/my-model"
    assert record["benchmark"] == "ICD-10-CM(eng, size 16)"
    assert [task["task"] for task in record["tasks"]] == list(TASKS)
    mean = math.fsum(task["score"] for task in record["tasks"]) / 6
    assert record["mean"] == pytest.approx(mean)
    for task in record["tasks"]:
        assert f"{task['task']:34} {task['metric']:16} {task['score']:.4f}" in said
    scores, again = run_benchmark(str(folder), 16)
    assert again == path
    assert [one.score for one in scores] == [t["score"] for t in record["tasks"]]


def test_mistakes_of_the_command_line_are_plain_words(tmp_path):
    with pytest.raises(SystemExit, match="16 or more"):
        main(["benchmark", "all-MiniLM-L6-v2", "--size", "3"])
    with pytest.raises(SystemExit, match="did you mean all-MiniLM-L6-v2"):
        main(["benchmark", "all-minilm-l6-v3"])
    with pytest.raises(SystemExit, match="the folder is empty"):
        main(["benchmark", str(tmp_path)])
