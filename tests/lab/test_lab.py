"""Figures, timings, exercises, sources, README and the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from sbert_lab import paths
from sbert_lab.__main__ import main
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.exact import exact_search
from sbert_lab.lab import figures, findings, sources
from sbert_lab.lab.exercises import check
from sbert_lab.lab.sources import reproduced
from sbert_lab.lab.timing import side_by_side, timed


def test_figure_carries_its_alt_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda x, **_: shown.append(x))
    figure, (left, right) = figures.new_figure(2)
    left.plot([1, 2], label="a")
    right.plot([2, 1], label="b")
    alt = "Two line charts: one rises and the other falls."
    figures.show(figure, alt=alt, data=[{"x": 1, "y": 2.34567}])
    picture, table = shown
    assert picture._repr_png_()[1] == {"alt": alt}
    assert picture.data.startswith(b"\x89PNG")
    assert len(picture.data) < 150_000
    assert "<details>" in table.data
    assert "2.346" in table.data
    with pytest.raises(ValueError, match="alt text"):
        figures.show(figure, alt="chart", data=[])


def test_table_escapes_what_it_shows(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda x, **_: shown.append(x.data))
    figures.table([{"a": "<b>", "n": 12345}], caption="x & y")
    assert "&lt;b&gt;" in shown[0]
    assert "x &amp; y" in shown[0]
    assert "12,345" in shown[0]


def test_side_by_side_alternates():
    turns = []
    ways = {n: lambda n=n: turns.append(n) for n in ("a", "b")}
    timings = side_by_side(ways, repeats=3)
    assert turns == ["a", "b"] * 4
    assert all(len(t.seconds) == 3 for t in timings.values())
    assert all(t.fastest <= t.median <= t.slowest for t in timings.values())
    result, seconds = timed(lambda: 7)
    assert result == 7
    assert seconds >= 0


def mean_cosine(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    total, n = unit.sum(0), len(unit)
    return (total @ total - n) / (n * (n - 1))


RIGHT = {
    "01.1": lambda t, m: (m[:, :, None] * t).sum(1) / m.sum(1, keepdims=True),
    "01.2": lambda n, ms: n * (n - 1) / 2 * ms / 3_600_000,
    "01.3": mean_cosine,
    "04.1": lambda q, c, k: exact_search(q, c, k, "cosine")[1],
    "04.2": lambda squared_distance: 1 - squared_distance / 2,
    "04.3": lambda count, dimension, links: count * (4 * dimension + 8 * links),
}


@pytest.mark.parametrize("number", RIGHT)
def test_exercises_know_right_from_wrong(number):
    assert check(number, RIGHT[number]) == "Right."


def test_exercises_give_hints():
    assert "padding" in check("01.1", lambda t, m: t.mean(1))
    assert "twice" in check("01.2", lambda n, ms: n * (n - 1) * ms / 3_600_000)
    assert "itself" in check("01.3", lambda v: cosine_similarity(v).mean())
    assert "dot product" in check(
        "04.1", lambda q, c, k: exact_search(q, c, k, "dot")[1]
    )
    assert "upside down" in check(
        "04.1", lambda q, c, k: exact_search(q, c, k)[1][:, ::-1]
    )
    assert "shape" in check("04.1", lambda q, c, k: np.zeros(3))
    assert "nothing yet" in check("04.1", lambda q, c, k: None)
    assert "ZeroDivisionError" in check("04.2", lambda d: 1 / 0)
    assert "expand" in check("04.2", lambda squared_distance: 1 - squared_distance)
    assert "edges" in check(
        "04.3", lambda count, dimension, links: count * dimension * 4
    )
    with pytest.raises(KeyError, match=r"04\.1"):
        check("99.9", print)


@pytest.mark.parametrize(
    ("theirs", "low", "high", "verdict"),
    [
        (0.3, 0.2, 0.4, "reproduced"),
        (0.3, 0.1, 0.2, "direction only"),
        (0.3, -0.1, 0.2, "not reproduced"),
        (-0.3, -0.2, -0.1, "direction only"),
        (-0.3, 0.1, 0.2, "not reproduced"),
    ],
)
def test_what_was_published_is_compared_by_rule(theirs, low, high, verdict):
    assert reproduced(theirs, Interval((low + high) / 2, low, high, 9)) == verdict


def test_intervals_are_drawn_in_order():
    _, (ax,) = figures.new_figure()
    values = {name: Interval(x, x - 1, x + 1, 9) for x, name in enumerate("abc", 1)}
    figures.intervals(ax, values, kinds={"odd": {"a", "c"}, "even": {"b"}})
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    dots = [line for line in ax.get_lines() if line.get_marker() in figures.MARKERS[:2]]
    assert [(list(d.get_xdata()), list(d.get_ydata())) for d in dots] == [
        ([1, 3], [0, 2]),
        ([2], [1]),
    ]
    assert ax.yaxis_inverted()
    plain = figures.new_figure()[1][0]
    figures.intervals(plain, values, kinds={"all": set("abc")}, names=False)
    assert not [t for t in plain.get_yticklabels() if t.get_text()]


def test_sources_are_complete():
    published = json.loads((paths.root() / "data" / "published.json").read_text())
    known = json.loads((paths.root() / "data" / "references.json").read_text())
    for key in published:
        assert sources.published(key).source in known
    with pytest.raises(KeyError, match="no entry"):
        sources.published("nothing")


def test_readme_findings_are_those_of_the_records():
    text = (paths.root() / "README.md").read_text(encoding="utf-8")
    assert findings.renewed(text) == text, "run `python -m sbert_lab readme`"
    assert findings.committed(), "no committed records"


def test_findings_show_every_claim():
    for record in findings.committed():
        table = findings.findings([record])
        for claim in record["claims"].values():
            assert claim["statement"] in table
            assert claim["verdict"] in table


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "verified  all-MiniLM-L6-v2" in out
    assert "PyTorch" in out


def test_notebooks_are_chosen_by_number():
    from sbert_lab.__main__ import _chosen

    assert _chosen(["4"]) == _chosen(["04"]) == _chosen(["04_similarity_search"])


def test_output_may_be_cut_off():
    done = subprocess.run(
        f"{sys.executable} -m sbert_lab doctor | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Python 3")
    assert "Traceback" not in done.stderr


def test_command_line_refuses_nonsense():
    with pytest.raises(SystemExit, match="there are: 01_why_bert_cls_fails, 04_simi"):
        main(["run", "77"])
    with pytest.raises(SystemExit, match="smoke, laptop, paper"):
        main(["run", "--profile", "huge"])
    done = subprocess.run(
        [sys.executable, "-m", "sbert_lab"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "command" in done.stderr
