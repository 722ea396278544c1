import pytest

from sbert_lab.datasets.similarity import sick, stsb


def test_sizes_and_scales(evaluation_data, monkeypatch):
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(evaluation_data))
    assert [len(stsb(s)) for s in ("train", "dev", "test")] == [5749, 1500, 1379]
    assert [len(sick(s)) for s in ("train", "trial", "test")] == [4500, 500, 4927]
    assert len(sick("all")) == 9927
    assert 0 <= min(stsb().score) < max(stsb().score) <= 5
    assert 1 <= min(sick().score) < max(sick().score) <= 5


def test_absence_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("SBERT_LAB_DATA_HOME", raising=False)
    with pytest.raises(FileNotFoundError, match="SBERT_LAB_DATA_HOME"):
        stsb()
    (tmp_path / "sick").mkdir()
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="SICK_test"):
        sick()
