"""The order of an experiment, its verdicts, and its record."""

import json

import pytest

from experiments.profiles import PROFILES
from experiments.record import Experiment
from sbert_lab._utils import RESULTS
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.models.embedding_cache import EmbeddingCache
from tools.notebooks import differences


def begin(tmp_path, decides=True):
    profile = PROFILES["laptop"].but(decides=decides)
    return Experiment("99_test", profile, EmbeddingCache(tmp_path), {})


def between(low, high):
    return Interval((low + high) / 2, low, high, 50)


@pytest.mark.parametrize(
    ("direction", "low", "high", "verdict"),
    [
        (">", 0.6, 0.8, "holds"),
        (">", 0.4, 0.6, "inconclusive"),
        (">", 0.2, 0.4, "fails"),
        ("<", 0.2, 0.4, "holds"),
        ("<", 0.4, 0.6, "inconclusive"),
        ("<", 0.6, 0.8, "fails"),
        ("within", -0.4, 0.4, "holds"),
        ("within", 0.3, 0.7, "inconclusive"),
        ("within", 0.6, 0.7, "fails"),
        ("within", -0.7, -0.6, "fails"),
    ],
)
def test_verdict_follows_the_interval(tmp_path, direction, low, high, verdict):
    exp = begin(tmp_path)
    exp.hypothesis("h", "It is so.", "unit", direction, 0.5)
    if verdict == "fails":
        with pytest.raises(AssertionError, match=r"It is so\."):
            exp.claim("h", between(low, high))
    else:
        assert exp.claim("h", between(low, high)) == verdict
    assert exp.claims["h"]["verdict"] == verdict


def test_machine_and_repute_may_fail_and_are_recorded(tmp_path):
    exp = begin(tmp_path)
    exp.hypothesis("fast", "It is fast.", "ratio", ">", 2.0, machine=True)
    exp.hypothesis("said", "They say so.", "unit", ">", 0.5, reputed=True)
    assert exp.claim("fast", 1.1) == exp.claim("said", between(0.1, 0.2)) == "fails"
    old = {"results": {}, "claims": exp.claims}
    new = {name: claim | {"verdict": "holds"} for name, claim in exp.claims.items()}
    found = differences(old, {"results": {}, "claims": new})
    assert found == ["claim said: fails is now holds"]  # of the machine nothing
    smoke = begin(tmp_path, decides=False)
    smoke.hypothesis("h", "It is so.", "unit", ">", 0.5)
    assert smoke.claim("h", between(0.1, 0.2)) == "not tested"


def test_hypotheses_come_first_and_each_gets_its_claim(tmp_path):
    exp = begin(tmp_path)
    with pytest.raises(KeyError, match="state it before"):
        exp.claim("h", 1.0)
    exp.hypothesis("h", "It is so.", "unit", ">", 0.5)
    with pytest.raises(ValueError, match="twice"):
        exp.hypothesis("h", "It is so.", "unit", ">", 0.5)
    with pytest.raises(ValueError, match="needs an Interval"):
        exp.record("x", 0.5, "share")
    exp.record("n", 3, "items", compare="exact")
    with pytest.raises(RuntimeError, match="after a result"):
        exp.hypothesis("later", "I knew it.", "unit", ">", 0)
    with pytest.raises(RuntimeError, match="without a claim: h"):
        exp.finish()


def test_record_is_written_and_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(RESULTS, str(tmp_path / "results"))
    exp = begin(tmp_path)
    exp.hypothesis("h", "It is so.", "unit", ">", 0.5)
    exp.record("n", 3, "items", compare="exact")
    exp.record("score", between(0.6, 0.7), "share")
    exp.record("loss", 0.1, "nats", compare="tolerance", tolerance=0.01)
    exp.record("seconds", 5.0, "s", compare="ignore")
    exp.claim("h", between(0.6, 0.7))
    exp._started -= 1_000  # over its budget, which stops nothing
    exp.trained = 2
    path = exp.finish()
    assert path == tmp_path / "results" / "laptop" / "99_test.json"
    committed = json.loads(path.read_text())
    assert differences(committed, committed) == []
    spent = committed["run"]
    assert spent["seconds"] >= 1_000 > spent["budget_s"] == 240
    assert (spent["first_run"], spent["models_trained"]) == (True, 2)

    fresh = json.loads(path.read_text())
    fresh["results"]["seconds"]["mean"] = 500.0
    fresh["results"]["score"] |= {"low": 0.69, "high": 0.8}
    fresh["results"]["loss"]["mean"] = 0.105
    assert differences(committed, fresh) == []
    fresh["results"]["n"]["mean"] = 4
    fresh["results"]["score"] |= {"low": 0.71}
    fresh["results"]["loss"]["mean"] = 0.12
    fresh["claims"]["h"]["verdict"] = "inconclusive"
    found = differences(committed, fresh)
    assert [line.split(":")[0] for line in found] == ["n", "score", "loss", "claim h"]
