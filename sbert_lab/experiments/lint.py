"""The house style of the notebooks, as far as a program can see it.

Errors stop a release; each names the notebook, the cell and the remedy.
"""

import ast
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sbert_lab.experiments.stamp import PACKAGE, code_cells, stamp

#: Headings that every notebook has, in this order.
SECTIONS = (
    "Before you start",
    "Hypothesis",
    "Setup",
    "Intuition",
    "The formula",
    "Experiment",
    "Result",
    "Check the finding",
    "What to conclude",
    "What this does not show",
    "Published and here",
    "Exercises",
    "References",
)

CODE_LINES, CODE_COLUMNS, FUNCTION_LINES = 30, 79, 8
WORDS, CELLS = 120, 60
FIGURE_KB, NOTEBOOK_KB = 150, 1_000

_NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?!\.?\w)|\b\d+(?:\.\d+)? ?%")
_BAR = re.compile(r"<progress|\d%\|")  # of a trainer in a notebook, of tqdm
_PLACE = re.compile(r"(/(home|Users|root|tmp|opt|mnt)/|[A-Z]:\\\\)\w+")
_INSTALLS = re.compile(r"^\s*[!%]|sys\.path|os\.chdir|pip install", re.MULTILINE)


def lint(path: Path) -> list[str]:
    """Return what is wrong with a notebook, one sentence a problem."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    problems = [
        *_structure(notebook),
        *_cells(notebook),
        *_outputs(notebook, path.stat().st_size),
        *_stale(notebook),
    ]
    return [f"{path.name}: {problem}" for problem in problems]


def _structure(notebook: dict[str, Any]) -> Iterator[str]:
    cells = notebook["cells"]
    if len(cells) > CELLS:
        yield f"{len(cells)} cells; at most {CELLS}: split the question"
    first = _source(cells[0]) if cells else ""
    if not re.match(r"# \d\d · .+\?\n", first):
        yield "the first cell must be '# NN · The question?' and a paragraph"
    headings = [
        line[3:].strip()
        for cell in cells
        if cell["cell_type"] == "markdown"
        for line in _source(cell).splitlines()
        if line.startswith("## ")
    ]
    wanted = [heading for heading in headings if heading in SECTIONS]
    if wanted != list(SECTIONS):
        missing = [s for s in SECTIONS if s not in headings]
        yield f"sections missing or out of order: {', '.join(missing) or wanted}"


def _cells(notebook: dict[str, Any]) -> Iterator[str]:
    ours = _package_names()
    for number, cell in enumerate(notebook["cells"], 1):
        source = _source(cell)
        if cell["cell_type"] == "markdown":
            yield from (f"cell {number}: {p}" for p in _markdown(source))
        elif cell["cell_type"] == "code":
            yield from (f"cell {number}: {p}" for p in _code(source, ours))


def _markdown(source: str) -> Iterator[str]:
    prose = re.sub(r"```.*?```|`[^`]*`|<!--.*?-->", "", source, flags=re.DOTALL)
    words = len(re.sub(r"<[^>]+>", "", prose).split())
    if words > WORDS:
        yield f"{words} words; at most {WORDS}: split it"
    for line in prose.splitlines():
        if "[@" not in line and (found := _NUMBER.search(line)):
            yield (
                f"{found.group()!r} is typed into prose: it goes stale. Render it from "
                "the record, or give its source as [@key]"
            )


def _code(source: str, ours: set[str]) -> Iterator[str]:
    lines = [line for line in source.splitlines() if line.strip()]
    if len(lines) > CODE_LINES:
        yield f"{len(lines)} lines of code; at most {CODE_LINES}"
    if any(len(line) > CODE_COLUMNS for line in lines):
        yield f"a line is longer than {CODE_COLUMNS} columns"
    if _INSTALLS.search(source):
        yield "a notebook installs nothing and changes no path"
        return
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield f"class {node.name}: classes belong in the package"
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{node.name} has {length} lines; move it to the package"
            if node.name in ours:
                yield f"{node.name} is also a name of the package; import it"
        if isinstance(node, ast.Compare) and "profile" in ast.unparse(node):
            yield "do not branch on the profile; give it a field instead"


def _outputs(notebook: dict[str, Any], size: int) -> Iterator[str]:
    if size > NOTEBOOK_KB * 1_000:
        yield f"{size // 1_000} KB; at most {NOTEBOOK_KB}"
    if "widgets" in notebook["metadata"]:
        yield "holds widget state; run it with `python -m sbert_lab run --update`"
    for number, cell in enumerate(notebook["cells"], 1):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                yield f"cell {number}: its output is an error"
            image = output.get("data", {}).get("image/png")
            if image:
                if not output["metadata"].get("image/png", {}).get("alt"):
                    yield f"cell {number}: a figure without alt text; use figures.show"
                if len(base64.b64decode(image)) > FIGURE_KB * 1_000:
                    yield f"cell {number}: a figure of more than {FIGURE_KB} KB"
            text = json.dumps({k: v for k, v in output.items() if k != "metadata"})
            if _BAR.search(text):
                yield f"cell {number}: a progress bar was left in the output"
            if (found := _PLACE.search(text)) and not image:
                yield f"cell {number}: the output shows a path, {found.group()!r}"


def _stale(notebook: dict[str, Any]) -> Iterator[str]:
    remedy = "run `python -m sbert_lab run --update`"
    written = notebook["metadata"].get("sbert_lab")
    if not written:
        yield f"its outputs have no stamp; {remedy}"
        return
    if written["profile"] == "smoke":
        yield f"its outputs are a smoke run's, which shows nothing; {remedy}"
    present = stamp(notebook, written["profile"])
    for part in ("code", "package", "constraints"):
        if written[part] != present[part]:
            yield f"its outputs are older than its {part}; {remedy}"


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _package_names() -> set[str]:
    """Return the public functions and classes of the package."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
    return {name for name in names if not name.startswith("_")}


def imports_package(notebook: dict[str, Any]) -> bool:
    """Return whether any code cell imports the package."""
    return any("sbert_lab" in source for source in code_cells(notebook))
