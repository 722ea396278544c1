"""Run the notebooks top to bottom, check them, and put their findings in a page.

Each runs in a fresh kernel of this very Python. The executed notebook, its page and its
record go under build/; only `update` touches what is committed.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from sbert_lab.experiments.record import differences, read_record

log = logging.getLogger(__name__)

BEGIN = (
    "<!-- findings: made by `python -m sbert_lab notebooks --findings`; do not edit -->"
)
END = "<!-- end of findings -->"

_MOST_KB = 1_000
_DEBRIS = re.compile(r"<progress|\d%\||/(?:home|Users|root|tmp)/\w+")  # bars, paths


class NotebookFailed(RuntimeError):
    """A notebook stopped with an error, or left no record."""


@dataclass(frozen=True)
class Run:
    """What a run left behind."""

    notebook: Path
    page: Path
    record: dict[str, Any]

    @property
    def report(self) -> list[str]:
        """Lines for a terminal: time and memory against their budgets, the verdicts."""
        spent = self.record["run"]
        over = " OVER BUDGET" if spent["seconds"] > spent["budget_s"] else ""
        claims = self.record["claims"].values()
        return [
            f"{spent['seconds']:.0f} s of {spent['budget_s']} s{over}, "
            f"{spent['peak_mb']:,} MB of {spent['budget_mb']:,} MB",
            ", ".join(f"{claim['id']} {claim['verdict']}" for claim in claims),
            str(self.page),
        ]


def chosen(numbers: Sequence[str] = ()) -> list[Path]:
    """Return the notebooks with these numbers (``"4"``, ``"04"``); all for none."""
    found, wanted = notebook_paths(), {number.zfill(2) for number in numbers}
    unknown = wanted - {path.name[:2] for path in found}
    if unknown:
        names = ", ".join(path.stem for path in found) or "none"
        raise ValueError(f"no notebook {', '.join(sorted(unknown))}; there are {names}")
    return [path for path in found if not wanted or path.name[:2] in wanted]


def run_all(
    numbers: Sequence[str] = (), profile: str = "laptop", *, update: bool = False
) -> Iterator[tuple[Path, Run | NotebookFailed]]:
    """Run notebooks one after the other; one that fails does not stop the rest."""
    for path in chosen(numbers):
        try:
            yield path, run(path, profile, update=update)
        except NotebookFailed as error:
            yield path, error


def verify(
    numbers: Sequence[str] = (), profile: str = "laptop"
) -> Iterator[tuple[Path, list[str]]]:
    """Run notebooks again; yield each with how it differs from its committed record."""
    for path, done in run_all(numbers, profile):
        committed = committed_results(profile) / f"{path.stem}.json"
        if isinstance(done, NotebookFailed):
            yield path, [f"FAILED: {done}"]
        elif committed.is_file():
            yield path, differences(read_record(committed), done.record)
        else:
            yield path, ["there is no committed record; --update makes one"]


def run(
    path: Path,
    profile: str = "laptop",
    *,
    update: bool = False,
    out: Path | None = None,
) -> Run:
    """Execute one notebook; its page and record go to `out`, by default build/.

    With `update` also write the outputs back into `path`, and the record into
    data/results. Raises `NotebookFailed` with the cell and its error.
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
        extra_arguments=["--IPKernelApp.log_level=40"],  # no start-up advice
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
    if not written.is_file():
        raise NotebookFailed(f"{path.name} wrote no record; end it with exp.finish()")
    _clean(notebook)
    executed = out / "notebooks" / path.name
    page = executed.with_suffix(".html")
    write_bytes(executed, (nbformat.writes(notebook).rstrip("\n") + "\n").encode())
    exporter = HTMLExporter(template_name="classic")  # it keeps alt texts
    write_bytes(page, exporter.from_notebook_node(notebook)[0].encode())
    record = read_record(written)
    if update:
        write_bytes(path, executed.read_bytes())
        for name in (written.name, *record["attached"]):
            content = written.with_name(name).read_bytes()
            write_bytes(committed_results(profile) / name, content)
    return Run(executed, page, record)


def _clean(notebook: Any) -> None:  # noqa: ANN401  (nbformat is untyped)
    """Take out what differs from run to run without meaning anything."""
    for number, cell in enumerate(_code_cells(notebook), 1):
        cell["metadata"] = {}
        cell["execution_count"] = number
        errors = [o["text"] for o in cell["outputs"] if o.get("name") == "stderr"]
        for text in errors:
            log.info("stderr of cell %d: %s", number, text.strip())
        cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = number
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook["metadata"] = {"kernelspec": kernel, "language_info": {"name": "python"}}


def lint(path: Path) -> list[str]:
    """Return what is wrong with a notebook's outputs, one sentence a problem."""
    notebook, size = json.loads(path.read_text(encoding="utf-8")), path.stat().st_size
    cells = _code_cells(notebook)
    problems = []
    if size > _MOST_KB * 1_000:
        problems.append(f"{size // 1_000} KB; at most {_MOST_KB}")
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
    return [f"{path.name}: {problem}" for problem in problems]


def _code_cells(notebook: Any) -> list[Any]:  # noqa: ANN401
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def findings(records: Sequence[dict[str, Any]]) -> str:
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
        lines.append(
            f"| {record['notebook']} | {spent['seconds']:.0f} s ({kind}) | "
            f"{spent['peak_mb']:,} MB |"
        )
    return "\n".join(lines)


def update_findings(path: Path | None = None) -> bool:
    """Make the tables of FINDINGS.md anew; True if that changed it."""
    path = path or project_root() / "FINDINGS.md"
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{path.name} must hold the lines {BEGIN!r} and {END!r}")
    files = sorted(committed_results("laptop").glob("[0-9][0-9]_*.json"))
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    made = findings([read_record(file) for file in files])
    new = f"{before}{BEGIN}\n{made}\n{END}{after}"
    if new != text:
        write_bytes(path, new.encode())
    return new != text
