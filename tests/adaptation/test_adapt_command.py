"""`python -m sbert_lab adapt`: what it prints, and what it refuses in one line."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from adapt_cases import make_base, own_pairs, sentences
from test_outcome import OUTCOME

from sbert_lab.__main__ import main
from sbert_lab.adaptation import command
from sbert_lab.adaptation.command import as_table
from sbert_lab.adaptation.data import read_texts
from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.datasets.pairs import DataError
from sbert_lab.models.cross_encoder import CrossEncoder


def write_pairs(path, pairs, names=("anchor", "positive")):
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = zip(pairs.anchor, pairs.positive, strict=True)
        csv.writer(file).writerows([names, *rows])
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A base, files of pairs, and things that are none."""
    folder = tmp_path_factory.mktemp("home")
    make_base(folder / "base")
    pairs = own_pairs(120)
    write_pairs(folder / "pairs.csv", pairs)
    write_pairs(folder / "named.csv", pairs, ("question", "answer"))
    write_pairs(folder / "test.csv", pairs.pick(range(80, 120)))
    write_pairs(folder / "few.csv", pairs.pick(range(10)))
    (folder / "texts.txt").write_text("\n".join(sentences(50, 3)))
    (folder / "empty.csv").write_text("anchor,positive\na,\n")
    (folder / "latin.csv").write_bytes(b"anchor,positive\n\xe4,b\n")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("years of work")
    (folder / "no model").mkdir()
    return folder


@pytest.fixture
def asked(monkeypatch):
    """Take note of what would be done."""
    calls = []

    def note(*arguments, **options):
        calls.append((arguments, options))
        return OUTCOME

    monkeypatch.setattr(command, "adapt_to_pairs", note)
    monkeypatch.setattr(command, "adapt_texts", note)
    return calls


@pytest.fixture
def refused(home, capsys):
    def run(*arguments):
        before = sorted(home.rglob("*"))
        with pytest.raises(SystemExit) as caught:
            main(["adapt", *arguments])
        code = caught.value.code
        text = code if isinstance(code, str) else capsys.readouterr().err
        assert isinstance(code, str) or code == 2
        assert sorted(home.rglob("*")) == before  # nothing begun, nothing lost
        return text

    return run


def given(home, **changes):
    """Return the command line of a usual run, with options changed or left out."""
    options = {"pairs": "pairs.csv", "base": "base", "out": "out"} | changes
    files = ("pairs", "base", "out", "test", "corpus", "texts", "judge")
    found = []
    for name, value in options.items():
        if value is not None:
            shown = str(home / value) if name in files else str(value)
            found += [f"--{name.replace('_', '-')}", shown]
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": "absent.csv"}, "absent.csv: no such file"),
        ({"pairs": "named.csv"}, "here: --anchor COLUMN --positive COLUMN"),
        ({"anchor": "question"}, "column 'question' is missing"),
        ({"pairs": "empty.csv"}, "row 2, column 'positive': the text is empty"),
        ({"pairs": "latin.csv"}, "is not UTF-8"),
        ({"pairs": "texts.txt"}, ".txt suffix"),
        ({"pairs": "few.csv"}, "10 pairs are too few"),
        ({"test": "test.csv"}, "is also in"),
        ({"test": "few.csv"}, "is also in"),
        ({"corpus": "absent.txt"}, "absent.txt: no such file"),
        ({"corpus": "pairs.csv"}, "column 'text' is missing"),
        ({"corpus": "texts.txt"}, "is not in the corpus"),
        ({"out": "pairs.csv"}, "is a file; give the path of a folder"),
        ({"out": "full"}, "holds other files (thesis.tex)"),
        ({"base": "absent"}, "no model or data set"),
        ({"base": "no model"}, "no model"),
        ({"keep": 2}, "--keep 2.0: from 0 to 1"),
        ({"epochs": 0}, "--epochs 0: a whole number, 1 or more"),
        ({"batch_size": 1}, "--batch-size 1: a whole number"),
        ({"batch_size": 100}, "a batch of 100 is larger than the 9"),
        ({"rate": -1}, "--rate -1.0: a finite number above 0"),
        ({"rate": "nan"}, "--rate nan: a finite number above 0"),
        ({"negatives": -1}, "--negatives -1: a whole number"),
        ({"margin": 1.5}, "--margin 1.5: from 0 to 1"),
        ({"seed": -1}, "--seed -1: a whole number"),
        ({"epochs": "many"}, "invalid int value: 'many'"),
        ({"method": "simcse"}, "--method is for --texts"),
        ({"texts": "texts.txt"}, "--pairs FILE, or --texts FILE"),
        ({"pairs": None}, "--pairs FILE, or --texts FILE"),
        ({"pairs": None, "texts": "texts.txt"}, "--texts needs --method"),
        (
            {"pairs": None, "texts": "texts.txt", "method": "pseudo-labels"},
            "--judge MODEL go together",
        ),
        (
            {"pairs": None, "texts": "texts.txt", "method": "magic"},
            "invalid choice: 'magic'",
        ),
        (
            {"pairs": None, "texts": "texts.txt", "method": "tsdae", "batch_size": 99},
            "a batch of 99 is larger than the 50",
        ),
        ({"base": None}, "required: --base"),
        ({"out": None}, "required: --out"),
    ],
)
def test_nonsense_is_refused_before_anything_is_done(home, refused, changes, message):
    usual = (
        {} if "batch_size" in changes or changes.get("texts") else {"batch_size": 16}
    )
    assert message in refused(*given(home, **usual | changes))


@pytest.mark.slow
def test_it_is_a_line_and_no_traceback(home):
    """In a process of its own, as a reader meets it."""
    done = subprocess.run(
        [sys.executable, "-m", "sbert_lab", "adapt", *given(home, keep=2)],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().splitlines() == ["--keep 2.0: from 0 to 1"]


def test_the_options_arrive(home, asked, capsys):
    line = given(
        home, pairs="named.csv", anchor="question", positive="answer", epochs=5,
        batch_size=32, rate=3e-5, negatives=3, margin=0.1, keep=0.5, seed=7,
        corpus="texts.txt",
    )  # fmt: skip
    assert main(["adapt", *line]) == 0
    ((base, pairs, out), options) = asked.pop()
    assert (base, out) == (str(home / "base"), home / "out")
    assert pairs.anchor == own_pairs(120).anchor
    assert options["recipe"] == Recipe(
        epochs=5,
        batch=32,
        rate=3e-5,
        negatives=3,
        relative_margin=0.1,
        keep=0.5,
        seed=7,
    )
    assert options["test"] is None
    assert options["corpus"] == tuple(sentences(50, 3))
    assert main(["adapt", *given(home, test="test.csv")]) == 0
    (_, options) = asked.pop()
    assert options["recipe"] == Recipe()
    assert len(options["test"]) == 40
    assert options["corpus"] is None


def test_the_options_without_pairs_arrive(home, asked, capsys):
    line = given(home, pairs=None, texts="texts.txt", method="tsdae", rate=1e-5)
    assert main(["adapt", *line]) == 0
    ((_, texts, _), options) = asked.pop()
    assert texts == tuple(sentences(50, 3))
    assert (options["method"], options["rate"], options["batch"]) == (
        "tsdae",
        1e-5,
        None,
    )
    assert options["source"] == "texts.txt"
    assert "keep" not in options


def test_a_judge_is_an_encoder_or_a_cross_encoder(home, asked, refused, tmp_path):
    line = {"pairs": None, "texts": "texts.txt", "method": "pseudo-labels"}
    assert main(["adapt", *given(home, judge="base", **line)]) == 0
    assert type(asked.pop()[1]["judge"]).__name__ == "SimilarityJudge"
    CrossEncoder.from_pretrained(home / "base", head_seed=0).save(tmp_path / "cross")
    assert main(["adapt", *given(home, judge=tmp_path / "cross", **line)]) == 0
    assert isinstance(asked.pop()[1]["judge"], CrossEncoder)
    assert "neither a cross-encoder" in refused(*given(home, judge="no model", **line))


def test_the_table_says_before_after_and_where(tmp_path):
    lines = as_table(OUTCOME, tmp_path / "out")
    assert lines[0].split() == "before after difference, 95 % interval items".split()
    row = "your pairs, nDCG@10 0.400 0.600 +0.200 [+0.100, +0.300] 40"
    assert " ".join(lines[1].split()) == row
    text = "\n".join(lines)
    assert "20 s: check 0 s, train 20 s" in text
    assert f"model: {tmp_path / 'out' / 'model'}" in text
    code = "\n".join(lines[-3:])
    compile(code, "shown", "exec")
    assert f"SentenceTransformer({str(tmp_path / 'out' / 'model')!r})" in code
    bare = replace(OUTCOME, domain=(), general=())
    assert as_table(bare, Path("out"))[0] == ""


def test_two_at_once_do_not_fill_one_folder(
    home, asked, refused, tmp_path, monkeypatch
):
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    waits = (
        "import sys, time; from pathlib import Path\n"
        "from sbert_lab.adaptation.command import alone\n"
        "with alone(Path(sys.argv[1])):\n"
        "    print('in', flush=True); time.sleep(600)"
    )
    out = home / "shared"
    spelt = str(home / "full" / ".." / "shared")  # the same folder in other words
    with subprocess.Popen(
        [sys.executable, "-c", waits, spelt], stdout=subprocess.PIPE, text=True
    ) as first:
        try:
            assert first.stdout.readline() == "in\n"
            text = refused(*given(home, out=out))
            assert text.startswith(f"{out} is being filled by another run")
            assert not asked
            main(["adapt", *given(home, out=tmp_path / "other")])
        finally:
            first.kill()  # as a killed run lets go
    main(["adapt", *given(home, out=out)])
    assert len(asked) == 2


def test_a_stop_by_hand_says_how_to_go_on(home, monkeypatch, refused):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "adapt_to_pairs", stop)
    assert refused(*given(home)) == "stopped; the same command goes on from here"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\n\n  \ntwo, three\nü\n"),
        ("a.csv", 'id,text\n1,one\n2,"two, three"\n3,ü\n'),
        ("a.tsv", "id\ttext\n1\tone\n2\ttwo, three\n3\tü\n"),
        ("a.jsonl", '{"text": "one"}\n\n{"text": "two, three", "x": 1}\n{"text": "ü"}'),
    ],
)
def test_texts_are_read(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_texts(tmp_path / name) == ("one", "two, three", "ü")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b" \n", "there are no texts"),
        ("a.txt", b"\xff\xfe", "is not UTF-8"),
        ("a.pdf", b"x", ".pdf suffix"),
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"id\n1\n", "column 'text' is missing; the file has 'id'"),
        ("a.csv", b"text\n", "there are no texts"),
        ("a.csv", b"id,text\n1,\n2,b\n3\n", "row 2, column 'text': the text is empty"),
        ("a.csv", b'text\n"open\n', "row 2: "),
        ("a.jsonl", b'{"text": 1}', "row 1, column 'text': a text, not 1"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"txt": "a"}',
            "row 2, column 'text': a text, not None",
        ),
        ("a.jsonl", b'{"text": "a"', "row 1, column"),
    ],
)
def test_files_that_hold_no_texts_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_texts(tmp_path / name)
    assert message in str(caught.value)


@pytest.mark.slow
def test_from_the_command_line_to_a_model(home, capsys, monkeypatch):
    """All of it, once; asked again, it shows what was found."""
    monkeypatch.delenv("SBERT_LAB_DATA_HOME", raising=False)
    line = given(home, out="done", batch_size=16, epochs=1)
    assert main(["adapt", *line]) == 0
    first = capsys.readouterr().out
    assert "your pairs, nDCG@10" in first
    assert "ladder, Spearman" in first
    outcome = json.loads((home / "done" / "outcome.json").read_text())
    assert outcome["data"]["source"] == "pairs.csv"
    assert main(["adapt", *line]) == 0
    assert capsys.readouterr().out == first
