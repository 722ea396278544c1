"""Markdown and cells as HTML that needs no network: formulas become MathML."""

import re
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from pathlib import Path
from posixpath import join, normpath
from typing import Any
from urllib.parse import unquote

from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

#: Says where a link leads; None where that is nowhere.
Link = Callable[[str], str | None]

#: A number, with a unit or an interval, or a dash in its place.
NUMBER = re.compile(
    r"[-+−±<>≤≥]?\d[\d.,]*(?: ?(?:%|×|s|ms|h|MB|GB))?(?: \[[-+−\d., \xa0]+\])?|[-—–]?"
)
#: What TeX does and the converter does not: bars keep no distance, names of operators
#: are upright, letters of ``\mathrm`` are one word, and a function has a space behind.
_AS_TEX = (
    (r'<mo stretchy="false">&#x0007C;', '<mo lspace="0" rspace="0">|'),
    (r"(?<!<munder>)<mo>([a-z]{2,})</mo>", r"<mi>\1</mi>"),
    (r'</mi><mi mathvariant="normal">', ""),
    (
        r"(?<!<msu[bp]>)(<mi>[a-z]{2,}</mi>)(?=<m(?:i|n|frac|sub|sup|sqrt)>)",
        r'\1<mspace width="0.17em"/>',
    ),
)


def mathml(latex: str, display: str = "inline") -> str:
    """Return a formula as MathML; raises `ValueError` for a command not known."""
    made = convert(latex.strip(), display=display)
    if unknown := re.search(r"\\[a-zA-Z]+", made):
        raise ValueError(f"{unknown.group()} is not rendered, in the formula {latex!r}")
    for pattern, replacement in _AS_TEX:
        made = re.sub(pattern, replacement, made)
    return made


class _Renderer(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return f'<span class="formula">{mathml(body, "block")}</span>'


def markdown(source: str) -> str:
    """Return Markdown as HTML."""
    renderer = _Renderer(escape=False, exclude_anchor_links=True)
    return MarkdownWithMath(renderer=renderer).render(source)


def cells(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:  # noqa: ANN401
    """Return a notebook's cells and outputs as HTML, and its pictures by file name.

    The code above the first section, which makes the answer and its picture, is folded.
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search("^## ", cell.source, re.M):
            break
        cell.metadata["folded"] = True
    exporter = HTMLExporter(
        template_name="basic",
        template_file=str(Path(__file__).with_name("cells.html.j2")),
        filters={"markdown2html": markdown},
        preprocessors=["nbconvert.preprocessors.ExtractOutputPreprocessor"],
    )
    place = {"unique_key": name, "output_files_dir": "figures"}
    html, resources = exporter.from_notebook_node(notebook, place)
    return html, resources["outputs"]


def slug(heading: str) -> str:
    """Return a heading's name in a link."""
    return re.sub(r"\W+", "-", heading.lower()).strip("-")


def polished(html: str, link: Link) -> BeautifulSoup:
    """Return HTML, its links led where `link` says or undone, its tables in frames.

    An interval stays in one line. References lose their keys, by which nothing cites.
    """
    html = re.sub(r"(\[[-+−\d.]+,) ([-+−\d.]+\])", r"\1&nbsp;\2", html)
    html = re.sub(r"<li>\[\w+\] ", "<li>", html)
    soup = BeautifulSoup(html, "html.parser")
    for heading in soup(["h2", "h3"]):
        name = slug(heading.get_text())
        heading["id"] = f"{name}-more" if soup.find(id=name) else name
    for anchor in soup("a", href=True):
        anchor["href"] = link(anchor["href"]) or ""
        if not anchor["href"]:
            anchor.unwrap()
    for table in soup("table"):
        _align(table)
        table.wrap(soup.new_tag("div", attrs={"class": ["scroll"]}))
    return soup


def _align(table: Tag) -> None:
    """Align columns of numbers to the right."""
    rows = [row("td") for row in table("tr")]
    for column, head in enumerate(table("th")):
        found = [row[column] for row in rows if column < len(row)]
        texts = [cell.get_text().strip() for cell in found]
        numbers = any(texts) and all(map(NUMBER.fullmatch, texts))
        for cell in [head, *found]:
            del cell["style"]
            if numbers and not any(cell.a for cell in found):
                cell["class"] = ["number"]


def target(
    href: str, folder: str, pages: Mapping[str, str], repository: str | None
) -> str | None:
    """Return where a link leads in the site; None where a reader cannot follow it.

    It stands in a file of `folder`. `pages` are files of the site by files of the
    repository, whose other files are found where `repository` is.
    """
    if re.match("[a-z]+:", href):
        return href
    path, _, fragment = href.partition("#")
    end = f"#{slug(unquote(fragment))}" if fragment else ""
    path = normpath(join(folder, path)) if path else ""
    if not path or path in pages:
        return pages.get(path, "") + end
    return repository and f"{repository.rstrip('/')}/blob/main/{path}"


def sections(html: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, heading and text of each section, but formulas and folded code."""
    folded = r'<math.*?</math>|<details class="code">.*?</details>'
    html = re.sub(folded, " ", html, flags=re.S)
    html = re.sub(r"</?(?:a|b|code|em|i|span|strong|su[bp])\b[^>]*>", "", html)
    parts = re.split(r'<h[23] id="(.*?)">(.*?)</h[23]>', html)
    texts = [" ".join(unescape(re.sub("<.*?>", " ", part)).split()) for part in parts]
    yield from zip(["", *texts[1::3]], ["", *texts[2::3]], texts[::3], strict=True)
