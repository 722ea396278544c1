"""The site: pages are whole, need no network, and work in a browser."""

import json
import os
import re
import shutil
from collections import defaultdict
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup

from tools.notebook_style import notebook_paths
from tools.site.markup import markdown, mathml, polished, target
from tools.site.pages import build

BROWSERS = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
CHROMIUM = next(filter(None, BROWSERS), None)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the site's pages, parsed, by their paths."""
    built = build(tmp_path_factory.mktemp("built") / "site")
    return {p: BeautifulSoup(p.read_text("utf-8"), "html.parser") for p in built}


def test_every_notebook_has_a_page_and_a_card_with_its_answer(site):
    names = {path.name: soup for path, soup in site.items()}
    cards = names["index.html"]("article")
    for card, path in zip(cards, notebook_paths(), strict=True):
        notebook = nbformat.read(path, as_version=4)
        title = notebook.cells[0].source.split("\n")[0].removeprefix("# ")
        assert card.h2.get_text() == title.replace(" · ", " ")
        assert names[card.h2.a["href"]].select(".contents a")
        code = next(cell for cell in notebook.cells if cell.cell_type == "code")
        for output in code.outputs[:1]:
            words = re.findall(r"[\w.]+", output.data["text/markdown"].split("\n")[0])
            assert re.findall(r"[\w.]+", card.p.get_text()) == words
            assert card.img
    assert all(path.stat().st_size < 1_500_000 for path in site)


def test_pages_are_whole_without_a_network(site):
    for path, soup in site.items():
        assert all(len(image["alt"]) >= 40 for image in soup("img")), path
        ids = [tag["id"] for tag in soup(id=True)]
        assert len(ids) == len(set(ids)), path
        for tag in soup(["a", "img", "script", "link", "iframe"]):
            link = tag.get("href") or tag.get("src")
            if tag.name == "a" and re.match("https?://", link):
                continue
            name, _, fragment = unquote(link).partition("#")
            to = path.parent / (name or path.name)
            assert to.is_file(), f"{path}: {link}"
            assert not fragment or site[to].find(id=fragment), f"{path}: {link}"
        text = " ".join(
            soup.find_all(string=lambda s: not s.find_parent(["pre", "code"]))
        )
        assert not re.search(r"\$\$|\\[a-z]{2,}|\$[^$\n]*[\\_^=]|\[@\w", text), path
    css = path.with_name("site.css").read_text(encoding="utf-8")
    assert "url(" not in css


FORMULAS = {
    r"\sum_{i=1}^n \frac{\hat x_i}{\sqrt n}": "munderover mfrac mover msqrt",
    r"\begin{pmatrix}1 & 2\\3 & 4\end{pmatrix}": "mtable mtr mtd",
    r"\lVert x \rVert^2 \text{ if } x > 0": "msup mtext",
    r"\mathrm{nDCG} = \log_2 (p + 1)": "msub",
}


def test_formulas_become_mathml():
    for latex, tags in FORMULAS.items():
        made = BeautifulSoup(markdown(f"So $$ {latex} $$ holds"), "html.parser")
        assert made.math["display"] == "block"
        assert all(made.find(tag) for tag in tags.split())
    assert "nDCG=" in made.get_text()
    with pytest.raises(ValueError, match="unknown"):
        mathml(r"\unknown{x}")


def test_links_and_tables():
    lead = {"folder": "notebooks", "pages": {"notebooks/02_b.ipynb": "02_b.html"}}
    found = target("02_b.ipynb#By-hand:-1", **lead, repository=None)
    assert found == "02_b.html#by-hand-1"
    assert target("../data/a.csv", **lead, repository=None) is None
    found = target("../data/a.csv", **lead, repository="https://host/lab/")
    assert found == "https://host/lab/blob/main/data/a.csv"
    table = (
        "| a | b | c |\n|-|-|-|\n| [1](y) | +0.1 [-0.2, 0.3] | 3 of 5 |\n| 2 | — | 1 |"
    )
    soup = polished(markdown(table), lambda href: href)
    assert [cell.get_text()[0] for cell in soup(class_="number")] == ["b", "+", "—"]
    assert not polished(markdown(table), lambda href: None)("a")


@pytest.fixture(scope="module")
def browser():
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
    if not CHROMIUM:
        pytest.skip("no Chromium is installed")
    arguments = ["--no-sandbox"] if getattr(os, "getuid", int)() == 0 else []
    with driver.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=arguments)


def own_words(script):
    """Return for each page a word that no other has; the findings have none."""
    texts, rows = defaultdict(str), script.read_text("utf-8")
    for row in json.loads(rows.removeprefix("var SECTIONS = ").rstrip(";\n")):
        texts[row[0]] += " " + " ".join(row[2:]).lower()
    for name, text in texts.items():
        others = " ".join(other for place, other in texts.items() if place != name)
        words = re.findall("[a-z]{6,}", text)
        if name != "findings.html":
            yield name, next(word for word in words if word not in others)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(site, browser, width, scheme):
    size = {"width": width, "height": 844}
    problems, page = [], browser.new_page(viewport=size, color_scheme=scheme)
    page.on("console", lambda m: m.type in ("error", "warning") and problems.append(m))
    page.on("pageerror", lambda error: problems.append(error))
    page.on("request", lambda r: "file:" in r.url or problems.append(r.url))
    page.on("requestfailed", lambda r: "ABORTED" in r.failure or problems.append(r.url))
    for path in site:
        page.goto(path.as_uri())
        page.evaluate(
            "document.querySelectorAll('details').forEach(d => d.open = true)"
        )
        fits = "(e => e.scrollWidth <= e.clientWidth)(document.scrollingElement)"
        assert page.evaluate(fits), path
    light = "getComputedStyle(document.body).backgroundColor == 'rgb(255, 255, 255)'"
    assert page.evaluate(light) == (scheme == "light")
    page.click("header button")
    assert page.evaluate(light) != (scheme == "light")
    page.goto(path.with_name("index.html").as_uri())
    assert page.evaluate(light) != (scheme == "light"), "the choice is remembered"
    for name, word in own_words(path.with_name("search.js")):
        page.fill("search input", word)
        page.click(f"search li a[href^='{name}']")
        assert f"/{name}" in page.url
    assert not problems
    page.close()
