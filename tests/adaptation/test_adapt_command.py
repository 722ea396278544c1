"""What the options do, and how a mistake is told."""

import pytest
from adapt_cases import general, make_base, own_pairs, sentences

from sbert_lab.__main__ import main
from sbert_lab.adaptation import adapt as module
from sbert_lab.adaptation.recipe import RECIPES, Recipe
from sbert_lab.models.cross_encoder import CrossEncoder

pytestmark = pytest.mark.usefixtures("one_thread")

DONE = {"comparisons": []}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of files, and a base."""
    home = tmp_path_factory.mktemp("home")
    make_base(home / "base")
    for name, head, pairs in (
        ("pairs", "anchor,positive", own_pairs(120)),
        ("named", "question,answer", own_pairs(120)),
        ("test", "anchor,positive", own_pairs(40, seed=8)),
    ):
        lines = map(",".join, zip(pairs.anchor, pairs.positive, strict=True))
        (home / f"{name}.csv").write_text("\n".join([head, *lines]))
    (home / "bad.csv").write_text("anchor,positive\na,b\nc,\n")
    (home / "texts.txt").write_text("\n".join([*sentences(50, 3), ""]))
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
        return DONE

    monkeypatch.setattr(module, "adapt", note)
    return calls


def test_the_options_of_pairs_arrive(home, asked, capsys):
    fields = {
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "negatives": 4,
        "relative_margin": 0.05,
        "base_weight": 0.5,
        "seed": 7,
    }
    named = {"pairs": "named.csv", "anchor": "question", "positive": "answer"}
    assert main(line(home, **named, corpus="texts.txt", **fields)) == 0
    ((base, pairs, out), options) = asked[0]
    assert (base, out) == (str(home / "base"), home / "out")
    assert pairs.anchor == own_pairs(120).anchor
    assert options == {
        "method": "pairs",
        "recipe": Recipe(**fields),
        "teacher": None,
        "test": None,
        "corpus": sentences(50, 3),
    }
    shown = capsys.readouterr().out
    assert f"report: {home / 'out' / 'report.md'}" in shown


def test_the_options_of_texts_arrive(home, asked, tmp_path):
    CrossEncoder.from_pretrained(home / "base", head_seed=0).save(tmp_path / "cross")
    told = {"method": "pseudo-labels", "teacher": tmp_path / "cross", "seed": 0}
    assert main(line(home, texts="texts.txt", **told)) == 0
    assert main(line(home, pairs="pairs.csv", test="test.csv")) == 0
    ((_, texts, _), options), (_, other) = asked
    assert texts == sentences(50, 3)
    assert options["recipe"] == RECIPES["pseudo-labels"]
    assert isinstance(options["teacher"], CrossEncoder)
    assert other["test"].anchor == own_pairs(40, seed=8).anchor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "bad.csv"}, "row 3, column 'positive'"),
        ({"pairs": "absent.csv"}, "absent.csv: no such file"),
        ({}, "--pairs FILE, or --texts FILE"),
        ({"texts": "texts.txt"}, "--method go together"),
        ({"pairs": "pairs.csv", "base": "no-such-model"}, "no-such-model"),
        ({"pairs": "pairs.csv", "base_weight": 2}, "base_weight=2"),
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
