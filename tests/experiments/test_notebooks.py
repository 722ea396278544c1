"""Every notebook runs top to bottom in the smoke profile, within its budget."""

import sys

import pytest

from sbert_lab._utils import notebook_paths
from sbert_lab.experiments.notebooks import (
    NotebookFailed,
    first_run_s,
    run,
    within_budget,
)
from sbert_lab.experiments.profiles import PROFILES


@pytest.mark.notebook
@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_smoke(path, tmp_path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    done = run(path, "smoke", out=tmp_path)
    assert path.read_bytes() == before, "a run must not touch the notebook"
    assert done.record["claims"]
    assert {c["verdict"] for c in done.record["claims"].values()} == {"not tested"}
    assert done.record["run"]["seconds"] <= done.record["run"]["budget_s"] == 60
    page = done.page.read_text()
    assert "<h1" in page
    assert "No description has been provided" not in page


def make(tmp_path, *cells):
    import nbformat

    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    path = tmp_path / "99_test.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.mark.notebook
def test_an_error_in_a_cell_is_shown(tmp_path):
    with pytest.raises(NotebookFailed, match="ZeroDivisionError"):
        run(make(tmp_path, "1 / 0"), "smoke", out=tmp_path)


@pytest.mark.notebook
def test_a_notebook_over_its_budget_fails(tmp_path):
    source = (
        "from sbert_lab.experiments import experiment\n"
        "exp = experiment.start('99_test')\n"
        "exp._started -= 3_600\n"
        "exp.finish()"
    )
    with pytest.raises(NotebookFailed, match="allows 60 s"):
        run(make(tmp_path, source), "smoke", out=tmp_path)


SLOW_TRAINING = """
from pathlib import Path
from sbert_lab.lab import experiment
exp = experiment.start('99_test', trains=True)
kept = Path({kept!r})
if not kept.exists():
    exp.trained = 1
    exp._started -= {first}
    kept.touch()
else:
    exp._started -= {later}
exp.finish()
"""


def slow_training(tmp_path, **seconds):
    source = SLOW_TRAINING.format(kept=str(tmp_path / "kept"), **seconds)
    return make(tmp_path, source)


@pytest.mark.notebook
def test_after_a_slow_training_the_next_run_counts(tmp_path, caplog):
    path = slow_training(tmp_path, first=70, later=0)
    done = run(path, "smoke", out=tmp_path)
    assert done.slow_s == pytest.approx(70, abs=20)
    assert done.record["run"]["models_trained"] == 0
    assert done.record["run"]["seconds"] < 60
    assert "run again" in caplog.text


@pytest.mark.notebook
@pytest.mark.parametrize("seconds", [(70, 70), (3_600, 0)])
def test_a_training_is_not_slow_without_limit(tmp_path, seconds):
    first, later = seconds
    path = slow_training(tmp_path, first=first, later=later)
    with pytest.raises(NotebookFailed, match="allows 60 s"):
        run(path, "smoke", out=tmp_path)


@pytest.mark.notebook
def test_a_notebook_without_record_fails(tmp_path):
    with pytest.raises(NotebookFailed, match=r"exp\.finish"):
        run(make(tmp_path, "1 + 1"), "smoke", out=tmp_path)


@pytest.mark.notebook
def test_the_kernel_is_this_python(tmp_path):
    seen = tmp_path / "python.txt"
    source = f"import sys; open({str(seen)!r}, 'w').write(sys.executable)"
    with pytest.raises(NotebookFailed, match="no record"):
        run(make(tmp_path, source), "smoke", out=tmp_path)
    assert seen.read_text() == sys.executable


def test_a_notebook_that_trains_has_the_time_for_it():
    profile = PROFILES["laptop"]
    found = {p.name[:2]: first_run_s(p, profile) for p in notebook_paths()}
    assert {found.pop("07"), found.pop("08")} == {profile.training_run_s}
    assert set(found.values()) == {profile.first_run_s}


@pytest.mark.parametrize(
    ("name", "budget", "most"),
    [
        ("laptop", "budget_s", 4_000),
        ("laptop", "first_run_s", 4_000),
        ("laptop", "training_run_s", 6_000),
        ("smoke", "training_run_s", 3_000),
    ],
)
def test_only_a_first_run_that_trains_may_take_more_memory(name, budget, most):
    profile = PROFILES[name]
    spent = {"seconds": 1, "budget_s": getattr(profile, budget)}
    spent |= {"peak_mb": most, "budget_mb": profile.budget_mb}
    within_budget("07", {"run": spent}, profile)
    with pytest.raises(NotebookFailed, match=f"allows {most:,} MB"):
        within_budget("07", {"run": spent | {"peak_mb": most + 1}}, profile)


def test_a_slow_first_run_says_that_the_second_is_short():
    profile = PROFILES["laptop"]
    spent = {"peak_mb": 1, "budget_mb": profile.budget_mb}
    for budget, more in (
        (profile.training_run_s, "is kept: a second run is short."),
        (profile.budget_s, "or slow?"),
    ):
        slow = spent | {"seconds": budget + 1, "budget_s": budget}
        with pytest.raises(NotebookFailed, match=f"allows {budget} s") as failed:
            within_budget("07", {"run": slow}, profile)
        assert str(failed.value).endswith(more)
