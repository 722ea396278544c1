"""The style of the committed notebooks: prints what is wrong with them.

python -m tools.notebook_style
"""

import ast
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sbert_lab._utils import project_root

_SHUNNED = r"%pip|!pip|sys\.path|profile\.name|\[@\w"  # raw citations are the last
_DEBRIS = re.compile(r"<progress|\d%\||/(?:home|Users|root|tmp)/\w+")  # bars, paths


def notebook_paths() -> list[Path]:
    """Return the notebooks in order."""
    return sorted((project_root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def lint(path: Path) -> list[str]:
    """Return what is wrong with a notebook, one sentence a problem.

    The style is that of notebooks that begin with an `answer`.
    """
    notebook, size = json.loads(path.read_text(encoding="utf-8")), path.stat().st_size
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    problems = [f"{size // 1_000} KB; at most 1000"] if size > 1_000_000 else []
    if [cell["execution_count"] for cell in cells] != [*range(1, len(cells) + 1)]:
        problems.append("its outputs are not those of one run from top to bottom")
    for number, cell in enumerate(cells, 1):
        for output in cell["outputs"]:
            data = {k: v for k, v in output.get("data", {}).items() if "image" not in k}
            found = _DEBRIS.search(json.dumps([data, output.get("text", "")]))
            if output["output_type"] == "error":
                problems.append(f"code cell {number}: its output is an error")
            elif found:
                problems.append(f"code cell {number} shows {found.group()!r}")
    if any("answer(" in "".join(cell["source"]) for cell in cells):
        problems += _style(notebook["cells"])
    return [f"{path.name}: {problem}" for problem in problems]


def _style(cells: Sequence[Any]) -> list[str]:
    """Return where the cells of a notebook are longer, or less plain, than agreed."""
    problems = [f"{len(cells)} cells; at most 40"] if len(cells) > 40 else []
    claims, heading = 0, ""
    for number, cell in enumerate(cells, 1):
        source = "".join(cell["source"])
        lines = source.splitlines()
        found = [f"has {word!r}" for word in re.findall(_SHUNNED, source)]
        if cell["cell_type"] == "markdown":
            heading = lines[0].lower() if source.startswith(("#", "**")) else heading
            if len(source.split()) >= 100:
                found.append("has 100 words or more")
        else:
            if len(lines) > 20 or any(len(line) > 79 for line in lines):
                found.append("has more than 20 lines, or one of more than 79 columns")
            if "by hand" not in " ".join([heading, *cell["metadata"].get("tags", [])]):
                found += _definitions(source)
            claims += source.count(".hypothesis(")
        problems += [f"cell {number} {problem}" for problem in found]
    return problems + ([f"{claims} claims; at most 3"] if claims > 3 else [])


def _definitions(source: str) -> list[str]:
    """Return which classes, and which functions of more than eight lines, there are."""
    code = ast.parse(re.sub(r"^[%!].*", "", source, flags=re.MULTILINE))
    return [
        f"defines {node.name}, which is a class or has more than eight lines"
        for node in ast.walk(code)
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and (isinstance(node, ast.ClassDef) or len(ast.unparse(node).split("\n")) > 8)
    ]


if __name__ == "__main__":
    wrong = [problem for path in notebook_paths() for problem in lint(path)]
    sys.exit("\n".join(wrong) or None)
