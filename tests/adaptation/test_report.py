"""The page is valid, safe, readable, alone in its file, and says what was measured."""

import base64
import re
import time
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import tiny_encoder

from sbert_lab.adaptation import report as module
from sbert_lab.adaptation.outcome import Comparison, Example, Outcome
from sbert_lab.adaptation.pictures import scores_picture
from sbert_lab.adaptation.report import report, require
from sbert_lab.adaptation.texts import clipped, duration, file_name, without_folders
from sbert_lab.evaluation.statistics import Interval

VOID = set("area base br col embed hr img input link meta source track wbr".split())
SVG = "data:image/svg+xml;base64,"
ATTACK = (
    """<script>alert("1")</script><img src=x onerror='a()'> & "b" 'c' {{ 7*191 }}"""
)


def compared(name, difference, metric="nDCG@10", items=1234):
    low, mean, high = difference
    return Comparison(
        name,
        metric,
        items,
        Interval(0.475, 0.458, 0.492, items),
        Interval(0.475 + mean, 0.44 + mean, 0.51 + mean, items),
        Interval(mean, low, high, items),
    )


FULL = Outcome(
    base="all-MiniLM-L6-v2",
    base_fingerprint="3f2a9c",
    fingerprint="b77e11",
    method="pairs",
    recipe={"epochs": 2, "rate": 2e-5, "rank": [5, 30], "cached": True, "guard": None},
    data={"source": "terms.csv", "rows": 12345, "groups": 8123},
    mined={"known": 4210, "judge": 17, "of_another_kind": 3},
    domain=(compared("your pairs", (0.07, 0.085, 0.1)),),
    general=(
        compared("ladder", (-0.004, 0.002, 0.008), "Spearman", 800),
        compared("STSBenchmark", (-0.012, -0.008, -0.004), "Spearman", 1379),
    ),
    curve=tuple((10 * i, 2.0 / i) for i in range(1, 60)),
    better=(Example("old heart attack", "Old infarction", 8037, 1, "Failure", "Old"),),
    worse=(Example("fear", "Anxiety", 1, 6, "Anxiety", "Phobia"),),
    seconds={"baseline": 41.2, "train": 412.5},
    about={"torch": "2.6.0", "data sha256": "ab" * 32},
)
#: Without pictures, which take most of the time.
PLAIN = replace(FULL, domain=(), general=(), curve=())
BARE = Outcome("b", "1", "2", "tsdae", {}, {})


class Page(HTMLParser):
    """What a page holds, as a browser without scripts would read it."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.words, self.problems = [], [], [], []
        self.pre, self.cells = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            self.problems.append(f"an attribute of {tag} stands twice")
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "pre":
            self.pre.append("")
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> in {self.open}")
        else:
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)
        if "pre" in self.open:
            self.pre[-1] += data
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@cache
def page(outcome_name):
    return Page(text(outcome_name))


@cache
def text(outcome_name):
    return report({"full": FULL, "bare": BARE}[outcome_name])


@pytest.mark.parametrize("name", ["full", "bare"])
class TestEveryPage:
    def test_is_html5_with_balanced_tags(self, name):
        found = page(name)
        assert text(name).startswith("<!DOCTYPE html>\n<html lang=")
        assert not found.problems
        assert not found.open
        assert found.all("html") == [{"lang": "en"}]
        assert len(found.all("title")) == len(found.all("main")) == 1

    def test_headings_are_in_order(self, name):
        levels = [int(t[1]) for t, _ in page(name).tags if re.fullmatch("h[1-6]", t)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in pairwise(levels))

    def test_names_and_their_targets_are_unique(self, name):
        ids = [a["id"] for _, a in page(name).tags if "id" in a]
        assert len(set(ids)) == len(ids)
        labels = [a.get("aria-labelledby") for a in page(name).all("section")]
        assert set(labels) - {None} == set(ids)
        assert len(set(labels)) == len(labels)

    def test_asks_nothing_of_a_network_and_needs_no_script(self, name):
        found = page(name)
        assert not {"script", "link", "iframe", "object", "base"} & {
            tag for tag, _ in found.tags
        }
        for _, attrs in found.tags:
            assert not [key for key in attrs if key.startswith("on")]
            for key in ("src", "srcset", "href", "data", "action"):
                assert attrs.get(key, SVG).startswith(SVG)
        assert not re.search(r"@import|url\(|https?:", text(name))

    def test_tables_have_captions_and_scopes(self, name):
        found = page(name)
        assert len(found.all("caption")) == len(found.all("table"))
        assert {a.get("scope") for a in found.all("th")} <= {"col", "row", "rowgroup"}

    def test_is_the_same_every_time(self, name):
        assert report({"full": FULL, "bare": BARE}[name]) == text(name)


def test_pictures_are_svg_for_light_and_dark_pages_and_told_in_words():
    images, sources = page("full").all("img"), page("full").all("source")
    assert len(images) == len(sources) == 3
    assert len({image["alt"] for image in images}) == 3
    for image, source in zip(images, sources, strict=True):
        assert "dark" in source["media"]
        assert image["src"] != source["srcset"]
        for uri in (image["src"], source["srcset"]):
            drawn = ElementTree.fromstring(base64.b64decode(uri.partition(",")[2]))
            assert drawn.tag.endswith("svg")
            assert not [e for e in drawn.iter() if e.tag.endswith(("script", "image"))]
    scores, gaps, curve = (image["alt"] for image in images)
    assert "your pairs, nDCG@10: 0.475 before, 0.560 after" in scores
    assert "STSBenchmark, Spearman: −0.008, from −0.012 to −0.004" in gaps
    assert "2 at step 10, 0.0339 at step 590" in curve


def test_a_picture_takes_names_for_no_formula_and_intervals_beside_their_mean():
    beside = Interval(0.5, 0.51, 0.6, 3)
    one = replace(FULL.domain[0], name="$a^2$ & b", before=beside, after=beside)
    drawn = base64.b64decode(scores_picture([one]).light.partition(",")[2])
    written = ["".join(e.itertext()) for e in ElementTree.fromstring(drawn).iter()]
    assert any("$a^2$ & b" in words for words in written)


def test_the_first_thing_said_is_the_verdict():
    said = page("full").text
    assert "▲ Better on your pairs nDCG@10 on your pairs rose by 0.085" in said
    assert "use the adapted model for texts like these, and the base" in said
    assert said.index("rose by 0.085") < said.index("Scores with 95 % intervals")


def test_the_table_has_every_score_with_its_interval_and_items():
    cells = [" ".join(cell.split()) for cell in page("full").cells]
    at = cells.index("STSBenchmark Spearman")
    assert cells[at + 1 : at + 5] == [
        "1,379",
        "0.475 0.458 to 0.492",
        "0.467 0.432 to 0.502",
        "▼ −0.008 −0.012 to −0.004, fell",
    ]
    at = cells.index("ladder Spearman")
    assert cells[at + 4] == "◆ +0.002 −0.004 to +0.008, open"


def test_everything_known_is_told():
    said = page("full").text
    for part in (
        "8,037 before, 1 after",
        "Old infarction",
        "a known positive of the query 4,210",
        "of another kind 3",
        "file terms.csv",
        "rows 12,345",
        "learning rate 2e-05",
        "cached yes",
        "ranks mined (from, to) 5, 30",
        "7 min 34 s in all",
        "train 6 min 52 s",
        "torch 2.6.0",
        "ab" * 32,
        "b77e11",
    ):
        assert part in said, part


@pytest.mark.parametrize(
    ("gone", "title"),
    [
        ({"mined": {}}, "Hard negatives that were left out"),
        ({"general": ()}, "General similarity"),
        ({"curve": ()}, "How the training went"),
        ({"better": (), "worse": ()}, "Queries to read"),
        ({"better": ()}, "Got better"),
        ({"worse": ()}, "Got worse"),
        ({"seconds": {}}, "Time by stage"),
        ({"recipe": {}}, "The recipe"),
        ({"data": {}, "recipe": {}, "about": {}}, "How it was made"),
        ({"domain": (), "general": ()}, "What changed"),
    ],
)
def test_what_is_empty_leaves_its_section_out(gone, title):
    whole = FULL if {"general", "curve", "domain"} & set(gone) else PLAIN
    shorter = Page(report(replace(whole, **gone)))
    assert title in page("full").text
    assert title not in shorter.text
    assert not shorter.problems


def test_all_texts_are_escaped_and_come_out_as_they_went_in():
    example = Example(ATTACK, ATTACK, 2, 1, ATTACK, ATTACK)
    attacked = report(
        replace(
            FULL,
            base=ATTACK,
            fingerprint=ATTACK,
            base_fingerprint=ATTACK,
            recipe={ATTACK: 1},
            data={ATTACK: 2},
            mined={ATTACK: 3},
            domain=(replace(FULL.domain[0], name=ATTACK, metric=ATTACK),),
            better=(example,),
            worse=(example,),
            seconds={ATTACK: 1.0},
            about={ATTACK: "1"},
        )
    )
    found = Page(attacked)
    assert not found.problems
    assert {tag for tag, _ in found.tags} == {tag for tag, _ in page("full").tags}
    assert len(found.all("img")) == 3
    assert found.text.count(ATTACK) >= 16
    assert "1337" not in re.sub(r"base64,\S+", "", attacked)


@pytest.mark.parametrize(
    "strange",
    [
        "مرض السكري من النوع الثاني",
        "\u202eabc",
        "糖尿病 🩺",
        "costs $5 or $6^{",
        "\x00\x07\x1b[31m",
        "half of a pair: \ud83d",
        "line\nbreak",
        "",
        "x" * 20_000,
    ],
)
def test_any_text_makes_a_page(strange, recwarn):
    example = Example(strange, strange, 2, 1, strange, strange)
    domain = (replace(FULL.domain[0], name=strange, metric=strange),)
    made = report(replace(FULL, domain=domain, better=(example,), about={"a": strange}))
    made.encode()  # no half of a surrogate pair
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", made)
    assert not Page(made).problems
    for uri in re.findall(r"base64,([^\"]+)", made):
        ElementTree.fromstring(base64.b64decode(uri))
    assert len(made) < 400_000
    assert not recwarn.list
    if strange.isprintable() and len(strange) < 300:
        assert strange in Page(made).text
    # Each text finds its own direction, and turns no other around.
    assert all(p.get("dir") == "auto" for p in Page(made).all("dd")[1:4])


FOLDERS = "secretfolder"


@pytest.mark.parametrize(
    "path",
    [
        f"/home/{FOLDERS}/x/terms.csv",
        f"~/{FOLDERS}/terms.csv",
        f"C:\\Users\\{FOLDERS}\\terms.csv",
        f"\\\\server\\{FOLDERS}\\terms.csv",
        f"file:///srv/{FOLDERS}/terms.csv",
        f"/mnt/two words/{FOLDERS}/terms.csv",
    ],
)
def test_no_folder_is_told(path):
    told = report(
        replace(
            PLAIN,
            base=path,
            data={"source": path, "corpus": path, "more": [path], "deep": {"a": path}},
            recipe={"teacher": path, "where": Path(path)},
            about={"cache": path, "command": f"--pairs={path.replace(' ', '')} -x"},
        )
    )
    assert FOLDERS not in told
    assert "terms.csv, adapted</title>" in told
    assert "--pairs=terms.csv -x" in told


def test_of_relative_sources_the_name_is_told_and_repositories_stay_whole():
    said = Page(
        report(replace(PLAIN, base="owner/name-v2", data={"source": ["a/b.csv", "c"]}))
    ).text
    assert "owner/name-v2" in said
    assert "file b.csv, c" in said


def test_a_long_value_is_looked_through_quickly():
    start = time.perf_counter()
    for value in ("x" * 100_000, "/x" * 50_000, "a " * 50_000, "://" * 30_000):
        without_folders(f" {value}")
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "same",
    ["n/a", "and/or", "1 / 2", "nDCG@10", "https://example.org/a/b", "a\\b", "2:1", ""],
)
def test_what_is_no_path_stays(same):
    assert without_folders(same) == same


def test_names_of_files():
    assert file_name("/a/b/") == "b"
    assert file_name("b.csv") == "b.csv"
    assert file_name("/") == "a folder"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (412.5, "6 min 52 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


def test_a_long_text_is_clipped_and_its_length_told():
    assert clipped("a" * 300) == "a" * 300
    assert clipped("a" * 5_000) == "a" * 300 + " … (5,000 characters in all)"


def test_the_curves_table_holds_first_and_last_point_and_few_others():
    points = module._thinned(FULL.curve)
    assert points[0] == FULL.curve[0]
    assert points[-1] == FULL.curve[-1]
    assert len(points) == 12
    assert module._thinned(FULL.curve[:5]) == list(FULL.curve[:5])


def luminance(colour):
    """Relative luminance; WCAG 2.2, https://www.w3.org/TR/WCAG22/."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def themes():
    style = files("sbert_lab.adaptation").joinpath("report.html.jinja").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, re.S)
    return [dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in blocks]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(theme):
    found = themes()[theme]
    for name in ("ink", "soft", "rose", "inconclusive", "fell"):
        assert contrast(found[name], found["page"]) >= 4.5, name
    for name in ("ink", "soft"):
        assert contrast(found[name], found["card"]) >= 4.5, name
    assert contrast(found["bar"], found["page"]) >= 3


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_lines_of_pictures_stand_out_from_the_page(theme):
    ground = themes()[theme]["page"]
    for picture in page("full").all("img" if theme == 0 else "source"):
        uri = picture["src" if theme == 0 else "srcset"]
        drawn = base64.b64decode(uri.partition(",")[2]).decode()
        styles = re.findall(
            r'<g id="(?:LineCollection|line2d)_\w+">(.*?)</g>', drawn, re.S
        )
        used = set(re.findall(r"(?:stroke|fill): (#\w{6})", "".join(styles)))
        used -= {"#b0b0b0"}  # the grid, which may step back
        assert used
        assert all(contrast(colour, ground) >= 3 for colour in used), used


@pytest.mark.parametrize("library", [0, 1], ids=["sentence-transformers", "sbert_lab"])
def test_the_model_loads_as_the_page_says(library, tmp_path, monkeypatch):
    if library == 0:
        pytest.importorskip("sentence_transformers")
    lines = page("full").pre[library]
    assert len(lines.splitlines()) == 3
    model = tiny_encoder()
    model.save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(lines, names)
    expected = model.encode(["a text of yours"])
    assert names["vectors"].shape == expected.shape
    assert abs(names["vectors"] - expected).max() < 1e-5


def test_a_missing_library_is_named_before_anything_takes_time(monkeypatch):
    monkeypatch.setattr(
        module, "find_spec", lambda name: None if name == "jinja2" else object()
    )
    with pytest.raises(ModuleNotFoundError, match="pip install jinja2$"):
        require()
