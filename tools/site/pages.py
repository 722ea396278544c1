"""The site: a page for each notebook, the findings, and an index with a search."""

import json
import struct
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from sbert_lab._utils import new_folder, project_root
from tools.notebook_style import notebook_paths
from tools.site.markup import Link, cells, markdown, polished, sections, target

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """A page of the site; its `body` has no title any more."""

    file: str
    number: str
    title: str
    body: BeautifulSoup

    @property
    def answer(self) -> Markup:
        """What the first code cell answers; the first paragraph if it was not run."""
        cell = self.body.select_one(".cell")
        found = cell and cell.select_one(".output blockquote p")
        return Markup((found or self.body.p or self.body).decode_contents())


def page_name(path: Path) -> str:
    """Return the name of a file's page."""
    return f"{path.stem.lower()}.html"


def page_of(path: Path, link: Link) -> tuple[Page, dict[str, bytes]]:
    """Return the page of a notebook or of a text, and its pictures by their names."""
    if path.suffix == ".ipynb":
        html, pictures = cells(nbformat.read(path, as_version=4), path.stem)
    else:
        html, pictures = markdown(path.read_text(encoding="utf-8")), {}
    body = polished(html, link)
    for image in body("img"):  # a PNG tells its size, so that no text moves
        size = struct.unpack(">II", pictures[image["src"]][16:24])
        image["width"], image["height"] = map(str, size)
    title = body.h1.extract().get_text() if body.h1 else path.stem
    number, _, question = title.rpartition(" · ")
    return Page(page_name(path), number, question, body), pictures


def build(out: Path) -> list[Path]:
    """Write the site into the folder `out`; return its pages. Nothing is executed."""
    root = project_root()
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    sources = [*notebook_paths(), root / "FINDINGS.md"]
    link = partial(
        target,
        pages={p.relative_to(root).as_posix(): page_name(p) for p in sources},
        repository=project.get("urls", {}).get("Repository"),
    )
    files, pages = dict[str, bytes](), list[Page]()
    for path in sources:
        folder = path.parent.relative_to(root).as_posix()
        page, pictures = page_of(path, partial(link, folder=folder))
        pages.append(page)
        files |= pictures
    for name in ("site.css", "site.js", "icon.svg"):
        files[name] = (HERE / name).read_bytes()
    rows = [
        [page.file, name, f"{page.number} {page.title}".strip(), heading, text]
        for page in pages
        for name, heading, text in sections(str(page.body))
    ]
    texts = {"search.js": f"var SECTIONS = {json.dumps(rows, ensure_ascii=False)};\n"}
    frame = Environment(loader=FileSystemLoader(HERE), autoescape=True)
    render = partial(frame.get_template("page.html.j2").render, project=project)
    texts["index.html"] = render(cards=pages[:-1], findings=pages[-1])
    around = [None, *pages, None]
    for before, page, after in zip(around, pages, around[2:], strict=False):
        texts[page.file] = render(page=page, previous=before, next=after)
    with new_folder(out, "files.json") as made:
        (made / "figures").mkdir()
        for name, content in files.items():
            (made / name).write_bytes(content)
        for name, text in texts.items():
            (made / name).write_text(text, encoding="utf-8", newline="\n")
    return [out / name for name in texts if name.endswith(".html")]
