"""`python -m sbert_lab select`: what it prints, writes and refuses."""

import csv
import json
import os
import subprocess
import sys

import pytest
from conftest import tiny_encoder

from sbert_lab.__main__ import main
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.selection import command, survey
from sbert_lab.selection.picture import pareto_picture
from sbert_lab.selection.recommend import Constraints
from sbert_lab.selection.rows import Row, Spread, Survey, read_survey, write_survey

TASKS = ("Retrieval", "Clustering")


def row(name, score, ms, mb, *, lexical=False):
    cost = {
        "query_ms_p95": ms,
        "resident_mb": mb,
        "search_ms": 100.0,
        "short_texts": 12_345.0,
    }
    tasks = TASKS[:1] if lexical else TASKS
    return Row(
        name=name,
        about=f"the {name} one",
        dimension=9_000 if lexical else 384,
        bytes_per_entry=40.0 if lexical else 1_536.0,
        disk_mb=None if lexical else mb,
        quality={t: Interval(score, score - 0.02, score + 0.02, 50) for t in tasks},
        metrics=dict.fromkeys(tasks, "ndcg_at_10"),
        cost={key: Spread(v, v, v) for key, v in cost.items()},
        lexical=lexical,
    )


WORDS = row("words", 0.3, 0.1, 5, lexical=True)
SMALL = row("small", 0.5, 5, 120)
WORSE = row("worse", 0.45, 9, 200)
LARGE = row("large", 0.6, 40, 450)
ROWS = (WORDS, SMALL, WORSE, LARGE)
SURVEY = Survey(
    ROWS,
    {
        task: {
            (a.name, b.name): Interval(gap, gap - 0.01, gap + 0.01, 50)
            for i, a in enumerate(ROWS)
            for b in ROWS[i + 1 :]
            if task in a.quality
            for gap in [a.quality[task].mean - b.quality[task].mean]
        }
        for task in TASKS
    },
    {"machine": "two cores", "quality on": "test data"},
)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """The committed survey of this test, and nothing written elsewhere."""
    folder = tmp_path / "committed"
    monkeypatch.setattr(command, "committed_results", lambda _: folder)
    monkeypatch.setenv("SBERT_LAB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_survey(folder / "selection.json", SURVEY)
    return folder / "selection.json"


@pytest.fixture
def say(recorded, capsys):
    def run(*arguments, status=0):
        assert main(["select", *map(str, arguments)]) == status
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(recorded, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["select", *map(str, arguments)])
        assert isinstance(caught.value.code, str)  # a message, and status 1
        return caught.value.code

    return run


@pytest.fixture
def measured(recorded, monkeypatch):
    """Take note of what would be measured."""
    calls = []

    def measure(names, **options):
        calls.append((tuple(names), options))
        return SURVEY

    monkeypatch.setattr(survey, "measure_survey", measure)
    return calls


def test_the_table_reads_well(say):
    lines = say("--max-ms", 20).splitlines()
    assert lines[0] == (
        "Retrieval, 100,000 entries; quality on test data; times on two cores"
    )
    assert lines[1].split()[:2] == ["candidate", "ndcg_at_10"]
    assert [line[3:8] for line in lines[2:6]] == ["large", "small", "worse", "words"]
    assert [line[0] for line in lines[2:6]] == ["*", "*", " ", "*"]
    assert lines[2].endswith("12,345  50 ms a query, over 20")
    assert lines[5].split()[-5:] == ["0.320]", "10.1", "9", "words", "12,345"]
    for heading in ("ms a query", "MB", "dimensions", "short texts/s"):
        end = lines[1].index(heading) + len(heading)
        assert all(line[end - 1] != " " for line in lines[2:6])  # to the right
        assert all(line[end : end + 1] in ("", " ") for line in lines[2:6])
    (choice,) = [line for line in lines if line.startswith("Recommended: ")]
    assert choice.startswith("Recommended: small: Retrieval ndcg_at_10 0.500 [0.480")
    assert "--measure measures here" in lines[-1]


def test_another_task_leaves_out_who_was_not_measured(say):
    text = say("--task", "Clustering")
    assert "not measured on Clustering: words" in text
    assert text.startswith("Clustering, 100,000 entries")
    assert "not measured on" not in say()


def test_json(say):
    found = json.loads(say("--format", "json", "--max-ms", 20, "--corpus-size", 1e5))
    assert found["recommendation"] == "small"
    assert found["constraints"]["max_ms"] == 20
    assert found["constraints"]["corpus"] == 100_000
    assert found["pareto_front"] == ["large", "small", "words"]
    assert found["about"] == dict(SURVEY.about)
    rows = {one["name"]: one for one in found["rows"]}
    assert rows["large"]["breaks"] == ["50 ms a query, over 20"]
    assert rows["small"]["breaks"] == []
    assert rows["small"]["ms_a_query"] == pytest.approx(5 + 10)
    assert rows["small"]["mb"] == pytest.approx(120 + 153.6)
    assert rows["small"]["quality"]["Retrieval"]["low"] == pytest.approx(0.48)
    assert rows["words"]["disk_mb"] is None


@pytest.mark.parametrize("format_", ["table", "json"])
def test_out_holds_what_would_be_printed(say, tmp_path, format_):
    printed = say("--format", format_)
    path = tmp_path / "new" / "choice.txt"
    assert say("--format", format_, "--out", path) == f"written: {path}\n"
    assert path.read_text() == printed


def test_picture(say, tmp_path):
    text = say("--format", "picture", "--out", tmp_path / "choice.png")
    assert text.splitlines()[0] == f"written: {tmp_path / 'choice.png'}"
    assert "Recommended: large" in text
    assert (tmp_path / "choice.png").read_bytes().startswith(b"\x89PNG\r\n")
    say("--format", "picture")
    assert (tmp_path / "selection.png").read_bytes().startswith(b"\x89PNG\r\n")


def texts_of(figure):
    from matplotlib.text import Text

    return [one.get_text() for one in figure.findobj(Text)]


def test_the_picture_names_every_candidate():
    written = texts_of(pareto_picture(SURVEY, Constraints()))
    order = sorted(ROWS, key=lambda one: one.ms(100_000))
    for number, one in enumerate(order, 1):
        assert written.count(f"{number}  {one.name}") == 1  # in the legend
        assert written.count(str(number)) == 1  # beside its mark
    assert "milliseconds a query, 100,000 entries" in written
    assert "Retrieval: ndcg_at_10" in written
    assert "circle: on the Pareto front; hollow: breaks a constraint" in written
    written = texts_of(pareto_picture(SURVEY, Constraints(task="Clustering")))
    assert not any("words" in text for text in written)


def test_the_picture_puts_marks_where_they_belong_hollow_if_refused():
    figure = pareto_picture(SURVEY, Constraints(max_ms=20))
    (axes,) = figure.axes
    marks = {
        (line.get_xdata()[0], line.get_ydata()[0]): line
        for line in axes.lines
        if line.get_marker() in ("o", "s")
    }
    wanted = {(one.ms(100_000), one.quality["Retrieval"].mean) for one in ROWS}
    assert set(marks) == wanted
    hollow = {y for (_, y), m in marks.items() if m.get_markerfacecolor() == "white"}
    assert hollow == {0.6}
    sizes = [marks[one.ms(100_000), one.quality["Retrieval"].mean] for one in ROWS]
    grown = [mark.get_markersize() for mark in sizes]
    assert grown == sorted(grown)
    (front,) = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert list(front.get_xdata()) == sorted(front.get_xdata())
    assert list(front.get_ydata()) == [0.3, 0.5, 0.6]


def test_a_picture_of_a_score_outside_its_interval():
    """Few items give such intervals; they are drawn to the score, not refused."""
    odd = Row(**{**vars(SMALL), "quality": {"Retrieval": Interval(0.5, 0.52, 0.6, 5)},
        "metrics": {"Retrieval": "cosine_ap"}})  # fmt: skip
    assert "1  small" in texts_of(pareto_picture(Survey([odd]), Constraints()))


def test_status_is_1_when_nothing_fits(say):
    text = say("--min-quality", 0.9, status=1)
    assert "no candidate keeps every constraint. Nearest is large: quality" in text
    assert "Recommended" not in text
    found = json.loads(say("--min-quality", 0.9, "--format", "json", status=1))
    assert found["recommendation"] is None
    assert "no candidate keeps" in found["reasons"][0]
    text = say("--min-quality", 0.9, "--format", "picture", status=1)
    assert "Nearest is large" in text


def test_some_of_the_recorded_rows(say, refused):
    text = say("--models", "words", "worse")
    assert "Recommended: worse" in text
    assert "large" not in text
    said = refused("--models", "small", "other")
    assert said.startswith("no recorded row 'other'; there are large, small, words")
    assert "--measure or --pairs" in said


def test_a_survey_by_path(say, refused, tmp_path):
    path = tmp_path / "mine.json"
    write_survey(path, Survey([WORSE], {}, {"machine": "mine"}))
    assert "Recommended: worse" in say("--survey", path)
    assert "no recorded survey" in refused("--survey", tmp_path / "none.json")


def test_a_damaged_survey(refused, recorded):
    whole = json.loads(recorded.read_text())
    for damaged in (
        recorded.read_text()[:200],
        json.dumps(whole | {"about": "a machine"}),
        json.dumps(whole | {"rows": [whole["rows"][0] | {"cost": {}}]}),
        json.dumps(whole | {"rows": [whole["rows"][0] | {"quality": {}}]}),
    ):
        recorded.write_text(damaged)
        assert "is no survey of this release" in refused()
    recorded.write_bytes(b"\xff\xfe\x00")
    assert "is no survey of this release" in refused()


def test_a_row_without_the_other_costs_is_shown(say, recorded):
    whole = json.loads(recorded.read_text())
    for one in whole["rows"]:
        del one["cost"]["short_texts"]
    recorded.write_text(json.dumps(whole))
    assert "Recommended: large" in say()


NONSENSE = [
    (("--corpus-size", "0"), "--corpus-size 0: a whole number"),
    (("--corpus-size", "1.5"), "--corpus-size 1.5"),
    (("--corpus-size", "nan"), "--corpus-size nan"),
    (("--corpus-size", "inf"), "--corpus-size inf"),
    (("--corpus-size", "-3"), "--corpus-size -3"),
    (("--min-quality", "50"), "0.5 and not 50"),
    (("--min-quality", "nan"), "min_quality=nan"),
    (("--max-ms", "0"), "max_ms=0.0: must be over 0"),
    (("--max-ms", "nan"), "max_ms=nan"),
    (("--max-mb", "-1"), "max_mb=-1"),
    (("--max-dimensions", "0"), "max_dimensions=0"),
    (("--task", "Foo"), "--task Foo: one of Retrieval, "),
    (("--format", "picture", "--out", "choice.jpg"), "ends in .png"),
    (("--out", "."), "is a folder"),
]


@pytest.mark.parametrize(("options", "said"), NONSENSE)
def test_nonsense_is_refused(refused, options, said):
    assert said in refused(*options)


@pytest.mark.parametrize(("options", "said"), NONSENSE)
def test_nonsense_is_refused_before_minutes_of_measuring(
    refused, measured, options, said
):
    assert said in refused("--measure", *options)
    assert not measured


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pairs", "x.csv", "--measure"), "--pairs or --measure, not both"),
        (("--pairs", "x.csv", "--survey", "y"), "--pairs or --survey, not both"),
        (("--measure", "--survey", "y.json"), "--measure or --survey, not both"),
        (("--anchor", "question"), "name columns of --pairs FILE"),
        (("--positive", "answer", "--measure"), "name columns of --pairs FILE"),
        (("--pairs", "x.csv", "--task", "Retrieval"), "one of your pairs"),
        (("--pairs", "none.csv"), "none.csv: no such file"),
    ],
)
def test_options_that_do_not_go_together(refused, measured, options, said):
    assert said in refused(*options)
    assert not measured


def test_unknown_models_are_refused_with_a_near_one(refused):
    said = refused("--measure", "--models", "bm52")
    assert "no candidate 'bm52' (did you mean bm25?)" in said


def test_measure_keeps_its_rows(say, measured, tmp_path):
    text = say("--measure", "--models", "bm25", "bert-mini")
    ((names, options),) = measured
    assert names == ("bm25", "bert-mini")
    assert options["pairs"] is None
    assert options["cache"].folder == tmp_path / "cache" / "embeddings"
    path = tmp_path / "results" / "selection" / "selection.json"
    assert f"--survey {path} shows them again" in text
    assert list(read_survey(path).rows) == list(ROWS)
    assert say("--survey", path).splitlines()[1:-2] == text.splitlines()[1:-2]


def test_measure_takes_what_is_here_by_default(say, measured, monkeypatch):
    monkeypatch.setattr(command, "names_here", lambda: ("bm25",))
    say("--measure")
    assert measured[0][0] == ("bm25",)


def test_columns_of_pairs(say, refused, measured, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("question,answer\na,b\nc,d\n")
    said = refused("--pairs", path)
    assert "column 'anchor' is missing" in said
    assert said.endswith("here: --anchor COLUMN --positive COLUMN")
    assert "row" in said or "has no role" in said
    assert not measured
    say("--pairs", path, "--anchor", "question", "--positive", "answer")
    own = measured[0][1]["pairs"]
    assert (own.anchor, own.positive) == (("a", "c"), ("b", "d"))
    assert (tmp_path / "results" / "selection" / "own.json").is_file()
    path.write_text("question,positive\na,b\nc,d\n")
    say("--pairs", path, "--anchor", "question")
    assert measured[1][1]["pairs"].anchor == ("a", "c")
    said = refused("--pairs", path, "--anchor", "query")
    assert "column 'query' is missing; the file has 'question', 'positive'" in said
    assert "--anchor COLUMN" not in said  # it was given


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("anchor,positive\na,\n", "row 2, column 'positive': the text is empty"),
        ("anchor,positive\na,b\na,b\n", "the same pair as row 2"),
        ("", "the file is empty"),
        ("anchor;positive\na;b\n", "separate the columns with commas"),
    ],
)
def test_bad_pairs_are_refused(refused, measured, tmp_path, content, said):
    (tmp_path / "own.csv").write_text(content)
    assert said in refused("--pairs", tmp_path / "own.csv")
    assert not measured


@pytest.mark.slow
def test_pairs_end_to_end(tmp_path):
    """A reader's file and model, from the shell to the choice."""
    tiny_encoder(head=("normalize",), max_seq_length=24).save(tmp_path / "own-model")
    with (tmp_path / "own.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["anchor", "positive"])
        for i, animal in enumerate(("cat", "dog", "bird", "fox", "lazy fox", "mat")):
            table.writerow([f"where is the {animal}", f"{animal} sat on hill {i}"])
    environment = os.environ | {
        "SBERT_LAB_CACHE": str(tmp_path / "cache"),
        "SBERT_LAB_RESULTS": str(tmp_path / "results"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "sbert_lab", "select", "--pairs", "own.csv",
         "--models", "own-model", "bm25", "--corpus-size", "1e4"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "your pairs, 10,000 entries; quality on own.csv, 6 pairs" in done.stdout
    assert "Recommended: " in done.stdout
    kept = read_survey(tmp_path / "results" / "selection" / "own.json")
    assert [one.name for one in kept.rows] == ["own-model", "bm25"]
    assert kept.rows[1].quality["your pairs"].n == 6
