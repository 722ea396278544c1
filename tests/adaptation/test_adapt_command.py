"""What the options do, and how a mistake is told."""

import pytest
from adapt_cases import general, make_base, own_pairs, sentences

from sbert_lab.__main__ import main
from sbert_lab.adaptation import adapt as module
from sbert_lab.adaptation import command
from sbert_lab.adaptation.recipe import RECIPES, Recipe
from sbert_lab.datasets.pairs import DataError, read_texts

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of files, and a base."""
    home = tmp_path_factory.mktemp("home")
    make_base(home / "base")
    lines, test = (
        [f"{a},{p}" for a, p in zip(pairs.anchor, pairs.positive, strict=True)]
        for pairs in (own_pairs(120), own_pairs(40, seed=8))
    )
    for name, rows in (
        ("pairs.csv", ["anchor,positive", *lines]),
        ("named.csv", ["question,answer", *lines]),
        ("bad.csv", ["anchor,positive", "a,b", "c,", *lines]),
        ("test.csv", ["anchor,positive", *test]),
        ("texts.txt", [*sentences(50, 3), ""]),
    ):
        (home / name).write_text("\n".join(rows))
    return home


def line(home, **options):
    given = {"base": home / "base", "out": home / "out"} | options
    found = ["adapt"]
    for name, value in given.items():
        path = home / value if (home / str(value)).is_file() else value
        found += [f"--{name.replace('_', '-')}", str(path)]
    return found


@pytest.fixture
def asked(monkeypatch):
    """What `adapt` is called with, in its place."""
    calls = []

    def note(*given, **options):
        calls.append((given, options))
        return {"comparisons": []}

    monkeypatch.setattr(command, "fill", note)
    return calls


def test_the_options_of_pairs_arrive(home, asked, capsys):
    changes = {
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "negatives": 4,
        "relative_margin": 0.05,
        "base_weight": 0.5,
        "seed": 7,
    }
    own = {"pairs": "named.csv", "anchor": "question", "positive": "answer"}
    assert main(line(home, **own, corpus="texts.txt", **changes)) == 0
    ((base, pairs, out), options) = asked[0]
    assert (base, out) == (str(home / "base"), home / "out")
    assert pairs.anchor == own_pairs(120).anchor
    assert options == {
        "method": "pairs",
        "recipe": Recipe(**changes),
        "test": None,
        "corpus": sentences(50, 3),
    }
    assert isinstance(options["recipe"].seed, int)
    shown = capsys.readouterr().out
    assert f"report: {home / 'out' / 'report.md'}" in shown


def test_the_options_of_texts_and_of_a_test_arrive(home, asked):
    assert main(line(home, texts="texts.txt", method="tsdae")) == 0
    assert main(line(home, pairs="pairs.csv", test="test.csv")) == 0
    ((_, texts, _), options), (_, other) = asked
    assert texts == sentences(50, 3)
    assert options["recipe"] == RECIPES["tsdae"]
    assert other["test"].anchor == own_pairs(40, seed=8).anchor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "bad.csv"}, "row 3, column 'positive'"),
        ({"pairs": "named.csv"}, "column 'anchor' is missing"),
        ({"pairs": "absent.csv"}, "absent.csv: no such file"),
        ({}, "--pairs FILE, or --texts FILE"),
        ({"texts": "texts.txt"}, "--method go together"),
        ({"pairs": "pairs.csv", "base": "no-such-model"}, "no-such-model"),
        ({"pairs": "pairs.csv", "base_weight": 2}, "base_weight=2"),
        ({"pairs": "pairs.csv", "test": "pairs.csv"}, "is also in"),
    ],
)
def test_a_mistake_is_told_in_a_line(home, options, message):
    with pytest.raises(SystemExit) as caught:
        main(line(home, **options))
    assert message in str(caught.value.code)
    assert not (home / "out").exists()


def test_from_a_file_to_a_model(home, capsys, monkeypatch):
    """All of it; asked again, it shows what was found."""
    monkeypatch.setattr(module, "general_sets", general)
    told = line(home, pairs="pairs.csv", out=home / "done", batch_size=32, epochs=1)
    assert main(told) == 0
    first = capsys.readouterr().out
    assert "| your pairs, nDCG@10 " in first
    assert main(told) == 0
    assert capsys.readouterr().out == first


def test_texts_are_read_or_refused_with_their_row(tmp_path):
    for name, content in (
        ("a.txt", "one\n\n  \ntwo,\f\u2028three\n"),
        ("a.txt", "\ufeffone\r\rtwo,\f\u2028three\r\n"),
        ("a.csv", 'id,text\n1,one\n2,"two,\f\u2028three"\n'),
        ("a.csv", "text\none\ntwo,\f\u2028three\n"),
        ("a.jsonl", '{"text": "one"}\n{"text": "two,\\f\u2028three", "x": 1}'),
    ):
        (tmp_path / name).write_bytes(content.encode())
        found = list(read_texts(tmp_path / name).values())
        assert found == ["one", "two,\f\u2028three"]
    for name, content, problem in (
        ("a.csv", "id,text\n1,\n", "no row of 1 holds a text"),
        ("a.csv", "", "the file is empty"),
        ("a.csv", "id,Text\n1,a\n", "'text' is missing; .*did you mean 'Text'"),
        ("a.jsonl", '{"text": "\\ud800"}', "row 1, column 'text': half a character"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=problem):
            read_texts(tmp_path / name)


def test_a_stop_says_how_to_go_on(home, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "fill", stop)
    assert main(line(home, pairs="pairs.csv")) == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"
