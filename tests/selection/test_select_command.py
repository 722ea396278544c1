"""`python -m sbert_lab select`: what it prints, writes and refuses."""

import csv
from dataclasses import replace

import pytest
from conftest import tiny_encoder
from test_recommend import ROWS, SURVEY

from sbert_lab.__main__ import main
from sbert_lab.selection import command, measure
from sbert_lab.selection.recommend import read_survey, write_survey


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """The committed survey of this test, and nothing written elsewhere."""
    folder = tmp_path / "committed"
    monkeypatch.setattr(command, "committed_results", lambda _: folder)
    monkeypatch.setenv("SBERT_LAB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_survey(folder / "selection.json", SURVEY)


@pytest.fixture
def say(recorded, capsys):
    def run(*arguments, status=0):
        assert main(["select", *map(str, arguments)]) == status
        return capsys.readouterr().out

    return run


def refused(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(["select", *map(str, arguments)])
    return caught.value.code


@pytest.fixture
def measured(recorded, monkeypatch):
    """Take note of what would be measured."""
    calls = []

    def take_note(names, **options):
        calls.append((tuple(names), options))
        return SURVEY, {}

    monkeypatch.setattr(measure, "measure_all", take_note)
    return calls


def test_the_table_reads_well(say):
    lines = say("--max-ms", 20).splitlines()
    assert lines[0].startswith("Retrieval, 100,000 entries; quality on toys")
    assert lines[1].split()[:4] == ["candidate", "(vectors,", "index)", "ndcg_at_10"]
    names = [line[1:].split()[0] for line in lines[2:7]]
    assert names == ["large", "small", "quick", "static", "words"]
    assert "(float32, exact)" in lines[2]
    assert all(line[0] == "*" for line in lines[2:7])
    assert lines[2].endswith("50 ms a query, over 20")
    assert lines[6].split()[-5:] == ["[0.280,", "0.320]", "2.1", "9", "0.058"]
    (choice,) = [line for line in lines if line.startswith("Recommended: ")]
    assert choice.startswith("Recommended: quick (float32, exact): Retrieval")
    assert "--measure or --pairs FILE measures here" in lines[-1]


def test_status_is_1_when_nothing_fits(say):
    text = say("--min-quality", 0.9, status=1)
    assert (
        "No candidate keeps every constraint. Nearest is large (float32, exact): q"
        in text
    )


def test_other_rows(say, tmp_path):
    text = say("--models", "words", "quick", "quick")
    assert "Recommended: quick" in text
    assert "large" not in text
    assert refused("--models", "small", "other").startswith("no row 'other'; there are")
    path = tmp_path / "mine.json"
    write_survey(path, replace(SURVEY, about={"machine": "mine", "quality on": "it"}))
    assert "quality on it; times on mine" in say("--survey", path)
    assert "is no survey" in refused("--survey", tmp_path / "none.json")


def test_measure_keeps_its_rows(say, measured, tmp_path):
    text = say("--measure", "--models", "bm25", "bert-mini")
    ((names, options),) = measured
    assert names == ("bm25", "bert-mini")
    assert options["pairs"] is None
    path = tmp_path / "results" / "selection" / "selection.json"
    assert f"--survey {path} shows them again" in text
    assert list(read_survey(path).rows) == list(ROWS)


def test_rows_that_cannot_be_kept_are_shown(say, measured, tmp_path):
    (tmp_path / "results").write_text("a file")
    text = say("--measure")
    assert "Recommended: large" in text
    assert "The rows are not kept" in text.splitlines()[-1]
    assert "SBERT_LAB_RESULTS" in text.splitlines()[-1]


def test_what_cannot_be_asked_is_refused_before_measuring(measured, capsys):
    assert refused("--measure", "--task", "x").startswith("--task 'x': one of Retrie")
    for value in ("nan", "inf", "-1", "0", "many"):
        assert refused("--measure", f"--max-ms={value}") == 2
        assert "argument --max-ms: invalid positive" in capsys.readouterr().err
    assert not measured


def test_columns_of_pairs(say, measured, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("question,positive\na,b\nc,d\n")
    assert "missing.csv" in refused("--pairs", "missing.csv")
    assert "column 'anchor' is missing" in refused("--pairs", path)
    assert not measured
    say("--pairs", path, "--anchor", "question")
    own = measured[0][1]["pairs"]
    assert (own.anchor, own.positive) == (("a", "c"), ("b", "d"))
    assert (tmp_path / "results" / "selection" / "own.json").is_file()


@pytest.mark.slow
def test_pairs_end_to_end(say, tmp_path):
    """A reader's file and model, from the command to the choice."""
    tiny_encoder(head=("normalize",), max_seq_length=24).save(tmp_path / "own-model")
    with (tmp_path / "own.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["anchor", "positive"])
        for i, animal in enumerate(("cat", "dog", "bird", "fox", "lazy fox", "mat")):
            table.writerow([f"where is the {animal}", f"{animal} sat on hill {i}"])
    text = say("--pairs", "own.csv", "--models", "bm25", "own-model")
    assert text.startswith("your pairs, 100,000 entries; quality on own.csv")
    assert "Recommended: bm25" in text
    rows = read_survey(tmp_path / "results" / "selection" / "own.json").rows
    assert [row.name for row in rows] == ["bm25", "own-model"]
    assert rows[0].lexical
    for row in rows:
        assert all(cost > 0 for cost in row.cost.values())
