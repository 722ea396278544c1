"""Full studies: jobs kept and shared, their record, and what is shown of it."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import IPython.display
import numpy as np
import pytest
import study
from study import Study, main

from experiments import answer, answers, beside, recorded
from experiments.profiles import VARIABLE
from sbert_lab._utils import RESULTS
from sbert_lab.evaluation.statistics import Interval


@pytest.fixture(autouse=True)
def shown(tmp_path, monkeypatch):
    """Keep everything under a folder of the test; return what is displayed."""
    seen = []
    keep = lambda thing, **_: seen.append(thing.data)  # noqa: E731
    monkeypatch.setattr(IPython.display, "display", keep)
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(RESULTS, str(tmp_path))
    monkeypatch.setenv(VARIABLE, "full")
    monkeypatch.setattr(answers, "committed_results", lambda name: tmp_path / name)
    monkeypatch.setattr(study, "_POLL", 0.01)
    monkeypatch.setattr(study, "limit_memory", lambda: None)
    return seen


def six_jobs(made, stops_at=None, pause=0.0):
    """Return a study of six jobs, of which each notes that it was done."""

    def make(number):
        if number == stops_at:
            raise KeyboardInterrupt
        time.sleep(pause)
        made.append(number)
        return {"items": np.arange(number + 2), "names": ["a", "b"], "one": 0.5}

    found = Study("98_test", uses=["bert-mini"])
    for n in range(6):
        job = f"job {n}", lambda n=n: make(n)
        found.add(*job, seconds=60, depends={"number": n})
    return found


def conclude(of, items):
    assert items["job 3"]["items"].tolist() == [0, 1, 2, 3, 4]
    assert items["job 3"]["names"].tolist() == ["a", "b"]
    of.record("gain.all", Interval(0.25, 0.2, 0.3, 40), "Spearman")
    of.record("pairs", 5000, "pairs")
    with pytest.raises(ValueError, match="twice"):
        of.record("pairs", 5000, "pairs")


def run(made, *arguments, **told):
    return main(lambda: six_jobs(made, **told), conclude, arguments)


def test_a_stopped_study_goes_on_and_is_recorded(capsys, monkeypatch):
    made = []
    assert run(made, stops_at=2) == 130
    assert made == [0, 1]
    with pytest.raises(SystemExit, match="not done yet: job 2; job 3; job 4; job 5"):
        run(made, "--write")
    assert run(made, "--list") == 0
    assert run(made) == 0
    assert made == [0, 1, 2, 3, 4, 5]
    said = capsys.readouterr().out
    assert "    done  job 1\n    60 s  job 2\n" in said
    assert "job 6 of 6, 0 s: job 5; about 0 min left" in said
    told = (found := recorded("98")).run
    assert (told["jobs"], found["gain.all"].n) == (6, 40)
    assert "threads" in told["processor"]
    monkeypatch.setenv(VARIABLE, "smoke")  # whose results are others
    assert len(six_jobs(made).missing()) == 6


def test_time_left_is_as_wrong_as_the_guesses(monkeypatch):
    study_of = six_jobs([])
    assert study_of.left() == 360
    monkeypatch.setattr(study, "timed", lambda make: (make(), 90.0))
    assert all(study_of.jobs[f"job {n}"].do() for n in range(2))
    assert study_of.left() == 4 * 90


def test_workers_share_the_jobs():
    made = []
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: six_jobs(made, pause=0.02).run(), range(3)))
    assert sorted(made) == [0, 1, 2, 3, 4, 5]
    assert all(list(one) == [f"job {n}" for n in range(6)] for one in found)


HOLD = """
import sys, filelock
with filelock.FileLock(sys.argv[1]):
    input("held")
"""


def test_a_lock_keeps_others_out_until_its_process_dies():
    made, path = [], six_jobs([]).jobs["job 4"].path
    path.parent.mkdir(parents=True)
    held = [sys.executable, "-c", HOLD, path.with_suffix(".lock")]
    with subprocess.Popen(held, stdin=-1, stdout=-1) as holder:
        assert holder.stdout.read(4) == b"held"
        assert run(made, "--only-jobs") == 0
        assert made == [0, 1, 2, 3, 5]
        holder.kill()
    assert run(made) == 0
    assert made == [0, 1, 2, 3, 5, 4]


def test_a_job_is_told_from_every_other_and_gives_arrays():
    told = six_jobs([])
    with pytest.raises(ValueError, match="is another's"):
        told.add("another", dict, seconds=1, depends={"number": 1})
    told.add("objects", lambda: {"x": [object()]}, seconds=1, depends={})
    with pytest.raises(TypeError, match="arrays of numbers"):
        told.jobs["objects"].do()


def test_an_answer_is_filled_in_from_the_record(shown):
    answer("98", "no number")
    assert "make study ONLY=98" in shown.pop()
    run([])
    answer("98", "{gain.all}, {gain.all:+}\n{gain.all:.0%} of {pairs:,.0f}, {pairs}")
    first, second, source = shown.pop().split("\n>\n> ")
    assert first == "> 0.250 [0.200, 0.300], +0.250 [+0.200, +0.300]"
    assert second == "25% of 5,000, 5000.000"
    assert "6 jobs" in source
    answer("98", "\nOne thought\nin two lines.\n\nAnother: {gain.all:+.2f}.\n")
    first, second, source = shown.pop().split("\n>\n> ")
    assert (first, second) == ("> One thought in two lines.", "Another: +0.25.")
    with pytest.raises(KeyError, match="'gain.all'; `make study` renews"):
        answer("98", "{gain.al}")


def test_a_run_is_compared_with_the_record(shown, monkeypatch):
    with pytest.raises(FileNotFoundError, match="make study ONLY=98"):
        beside("98", {"pairs": 1.0})
    run([])
    lower, near = Interval(0.1, 0.0, 0.19, 9), Interval(0.1, 0.0, 0.2, 9)
    agree, higher, fall = "yes", "no: higher here", "no: lower here"
    for live, verdict in ((0.3, agree), (near, agree), (0.31, higher), (lower, fall)):
        assert beside("98", {"gain.all": live}) == (verdict == "yes")
        assert f">{verdict}<" in shown.pop()
    assert not beside("98", {"pairs": 5000, "gain.all": 0.5}, title="Both")
    assert shown[0].count(">yes<") == shown.pop().count(">no: higher here<") == 1
    monkeypatch.setenv(VARIABLE, "smoke")
    assert beside("98", {"gain.all": 0.5})
    assert ">not compared<" in shown.pop()
