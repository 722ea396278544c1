"""Run the notebooks top to bottom, check them, and put their findings in a page.

Each runs in a fresh kernel of this very Python. The executed notebook, its page and its
record go under build/; only `update` touches what is committed.
"""

import ast
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

from sbert_lab._utils import (
    RESULTS,
    committed_results,
    notebook_paths,
    project_root,
    write_bytes,
)
from sbert_lab.experiments.profiles import VARIABLE
from sbert_lab.experiments.record import differences

BEGIN = (
    "<!-- findings: made by `python -m sbert_lab notebooks --findings`; do not edit -->"
)
END = "<!-- end of findings -->"

_SHUNNED = r"%pip|!pip|sys\.path|profile\.name|\[@\w"  # raw citations are the last
_DEBRIS = re.compile(r"<progress|\d%\||/(?:home|Users|root|tmp)/\w+")  # bars, paths

Record = dict[str, Any]


class NotebookFailed(RuntimeError):
    """A notebook stopped with an error, or left no record."""


def chosen(numbers: Sequence[str] = ()) -> list[Path]:
    """Return the notebooks with these numbers (``"4"``, ``"04"``); all for none."""
    found, wanted = notebook_paths(), {number.zfill(2) for number in numbers}
    unknown = wanted - {path.name[:2] for path in found}
    if unknown:
        names = ", ".join(path.stem for path in found)
        raise ValueError(f"no notebook {', '.join(sorted(unknown))}; there are {names}")
    return [path for path in found if not wanted or path.name[:2] in wanted]


def run(
    path: Path,
    profile: str = "laptop",
    *,
    update: bool = False,
    out: Path | None = None,
) -> tuple[Record, Path]:
    """Execute one notebook; return its record and its page, which go under `out`.

    By default that is build/. With `update` also write the outputs back into `path`,
    and the record into data/results. Raises `NotebookFailed` with the cell's error.
    """
    out = out or project_root() / "build"
    written = out / "results" / profile / f"{path.stem}.json"
    written.unlink(missing_ok=True)
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=50"],  # advice, ^C
        resources={"metadata": {"path": str(path.parent)}},
    )
    environment = os.environ | {
        VARIABLE: profile,
        RESULTS: str(out / "results"),
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
    }
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise NotebookFailed(f"{path.name} stopped with an error:\n{error}") from error
    except Exception:
        if hasattr(client, "_async_cleanup_kernel_future"):  # its own answer to ^C
            raise KeyboardInterrupt from None
        raise
    if not written.is_file():
        raise NotebookFailed(f"{path.name} wrote no record; end it with exp.finish()")
    for cell in _code_cells(notebook):
        cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook["metadata"] = {"kernelspec": kernel, "language_info": {"name": "python"}}
    executed = (nbformat.writes(notebook).rstrip("\n") + "\n").encode()
    exporter = HTMLExporter(template_name="classic")  # it keeps alt texts
    page = out / "notebooks" / f"{path.stem}.html"
    write_bytes(page, exporter.from_notebook_node(notebook)[0].encode())
    write_bytes(page.with_suffix(".ipynb"), executed)
    record: Record = json.loads(written.read_bytes())
    if update:
        write_bytes(path, executed)
        for name in (written.name, *record["attached"]):
            content = written.with_name(name).read_bytes()
            write_bytes(committed_results(profile) / name, content)
    return record, page


def disagreements(record: Record) -> list[str]:
    """Return how a record differs from the committed one, one sentence each."""
    committed = committed_results(record["profile"]) / f"{record['notebook']}.json"
    if not committed.is_file():
        return ["there is no committed record; --update makes one"]
    return differences(json.loads(committed.read_bytes()), record)


def report(record: Record) -> list[str]:
    """Return time and memory against their budgets, and the verdicts, as two lines."""
    spent = record["run"]
    over = " OVER BUDGET" if spent["seconds"] > spent["budget_s"] else ""
    return [
        f"{spent['seconds']:.0f} s of {spent['budget_s']} s{over}, "
        f"{spent['peak_mb']:,} MB of {spent['budget_mb']:,} MB",
        ", ".join(f"{c['id']} {c['verdict']}" for c in record["claims"].values()),
    ]


def lint(path: Path) -> list[str]:
    """Return what is wrong with a notebook, one sentence a problem.

    The style is that of notebooks that begin with an `answer`.
    """
    notebook, size = json.loads(path.read_text(encoding="utf-8")), path.stat().st_size
    cells = _code_cells(notebook)
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


def _code_cells(notebook: Any) -> list[Any]:  # noqa: ANN401
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def findings(records: Sequence[Record]) -> str:
    """Return Markdown tables: claims with their verdicts; time and memory."""
    lines = ["| notebook | claim | measured | verdict |", "|---|---|---|---|"]
    for record in records:
        name = record["notebook"]
        for claim in record["claims"].values():
            measured = f"{claim['mean']:.4g}"
            if "low" in claim:
                measured += f" [{claim['low']:.4g}, {claim['high']:.4g}]"
            statement, metric = (
                claim[part].replace("|", "\\|") for part in ("statement", "metric")
            )
            machine = " (on one machine)" if claim["machine"] else ""
            lines.append(
                f"| [{name[:2]}](notebooks/{name}.ipynb) | {statement} | "
                f"{measured} {metric} | {claim['verdict']}{machine} |"
            )
    lines += ["", "| notebook | time on two cores | peak memory |", "|---|---|---|"]
    for record in records:
        spent = record["run"]
        kind = "first run" if spent["first_run"] else "vectors and models kept"
        time, memory = f"{spent['seconds']:.0f} s ({kind})", f"{spent['peak_mb']:,} MB"
        lines.append(f"| {record['notebook']} | {time} | {memory} |")
    return "\n".join(lines)


def update_findings(path: Path | None = None) -> bool:
    """Make the tables of FINDINGS.md anew; True if that changed it."""
    path = path or project_root() / "FINDINGS.md"
    text = path.read_text(encoding="utf-8")
    files = sorted(committed_results("laptop").glob("[0-9][0-9]_*.json"))
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    made = findings([json.loads(file.read_bytes()) for file in files])
    new = f"{before}{BEGIN}\n{made}\n{END}{after}"
    if new != text:
        write_bytes(path, new.encode())
    return new != text
