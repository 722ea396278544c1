"""Which code a notebook's outputs came from.

The stamp in a notebook's metadata holds hashes of its code cells, of the package
modules that they import, directly or not, and of the pinned versions. Outputs whose
stamp no longer matches are stale. Comments, docstrings and formatting do not count: a
better explanation leaves the numbers true.
"""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sbert_lab._utils import project_root

PACKAGE = Path(__file__).resolve().parents[1]


def stamp(notebook: dict[str, Any], profile: str) -> dict[str, str]:
    """Return the stamp for a notebook's present code, run in `profile`."""
    cells = code_cells(notebook)
    return {
        "profile": profile,
        "code": _sha(_canonical(cell) for cell in cells),
        "package": _sha(
            f"{path.relative_to(PACKAGE).as_posix()} {_canonical(_text(path))}"
            for path in imported_modules(cells)
        ),
        "constraints": _sha([_constraints()]),
    }


def code_cells(notebook: dict[str, Any]) -> list[str]:
    """Return the sources of the code cells, in order."""
    return [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def imported_modules(sources: Iterable[str]) -> list[Path]:
    """Return the files of the package that the sources import, directly or not."""
    found: set[Path] = set()
    waiting = [name for source in sources for name in _imports(source)]
    while waiting:
        path = _file(waiting.pop())
        if path is None or path in found:
            continue
        found.add(path)
        waiting += _imports(_text(path))
    return sorted(found)


def _imports(source: str) -> list[str]:
    """Return every dotted name of the package that a source imports."""
    names: list[str] = []
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a notebook's magic; the linter speaks about it
        return names
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] == PACKAGE.name]


def _file(dotted: str) -> Path | None:
    """Return the file of a dotted name, or None if it names something inside one."""
    path = PACKAGE.joinpath(*dotted.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file() and candidate.is_relative_to(PACKAGE):
            return candidate
    return None


def _canonical(source: str) -> str:
    """Return what of a source decides a result: its syntax tree without docstrings."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _constraints() -> str:
    path = project_root() / "constraints.txt"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _sha(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]
