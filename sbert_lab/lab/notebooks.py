"""Run the notebooks top to bottom, and keep what they say.

Each runs in a fresh kernel of this very Python, in the profile asked for. The executed
notebook and its page go under build/; nothing that was committed is touched unless
`update` asks for it.
"""

import copy
import html
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from sbert_lab.files import write_bytes, write_json
from sbert_lab.lab.experiment import read_record
from sbert_lab.lab.profiles import PROFILES, VARIABLE, Profile
from sbert_lab.lab.stamp import code_cells, stamp
from sbert_lab.paths import (
    RESULTS,
    build_folder,
    committed_results,
)

log = logging.getLogger(__name__)

_PATIENCE = 3  # a notebook is stopped at so many times its budget
_TRAINING_MEMORY = 1.5  # a first run that trains may take so many times the memory


class NotebookFailed(RuntimeError):
    """A notebook stopped with an error, left no record, or went over its budget."""


@dataclass(frozen=True)
class Run:
    """What a run left behind."""

    notebook: Path
    page: Path
    record: dict[str, Any]
    seconds: float


def run(
    path: Path,
    profile_name: str = "laptop",
    *,
    update: bool = False,
    out: Path | None = None,
) -> Run:
    """Execute one notebook.

    Parameters
    ----------
    path
        The notebook.
    profile_name
        ``smoke``, ``laptop`` or ``paper``.
    update
        Also write the outputs back into `path` and the record into data/results.
    out
        Where the executed notebook, its HTML page and its record go; the default is
        build/.

    Raises
    ------
    NotebookFailed
        With the cell and its error, or what was over the budget.
    """
    profile = PROFILES[profile_name]
    out = out or build_folder()
    started = time.perf_counter()
    executed = _execute(path, profile, out)
    seconds = time.perf_counter() - started
    record_path = out / "results" / profile.name / f"{path.stem}.json"
    if not record_path.is_file():
        raise NotebookFailed(f"{path.name} wrote no record; end it with exp.finish()")
    record = read_record(record_path)
    clean(executed)
    executed["metadata"]["sbert_lab"] = stamp(executed, profile.name)
    target = out / "notebooks" / path.name
    write_bytes(target, _written(executed))
    page = target.with_suffix(".html")
    write_bytes(page, _page(executed, path.stem).encode())
    within_budget(path.name, record, profile)
    if update:
        write_bytes(path, _written(executed))
        write_json(committed_results(profile.name) / record_path.name, record)
        for name in record.get("attached", ()):
            content = record_path.with_name(name).read_bytes()
            write_bytes(committed_results(profile.name) / name, content)
    return Run(target, page, record, seconds)


def first_run_s(path: Path, profile: Profile) -> int:
    """Return how many seconds a notebook may take when nothing is cached or kept."""
    code = "\n".join(code_cells(nbformat.read(path, as_version=4)))
    trains = re.search(r"experiment\.start\([^)]*\btrains=True", code)
    return profile.training_run_s if trains else profile.first_run_s


def clean(notebook: Any) -> None:  # noqa: ANN401  (nbformat is untyped)
    """Take out of a notebook what differs from run to run without meaning anything."""
    number = 0
    for cell in notebook["cells"]:
        cell["metadata"] = {
            key: value for key, value in cell["metadata"].items() if key == "tags"
        }
        if cell["cell_type"] != "code":
            continue
        number += 1
        cell["execution_count"] = number
        kept = []
        for output in cell["outputs"]:
            if output.get("name") == "stderr":
                log.info("stderr of cell %d: %s", number, output["text"].strip())
                continue
            if "execution_count" in output:
                output["execution_count"] = number
            kept.append(output)
        cell["outputs"] = kept
    notebook["metadata"] = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }


def _execute(path: Path, profile: Profile, out: Path) -> Any:  # noqa: ANN401
    notebook = nbformat.read(path, as_version=4)
    record = out / "results" / profile.name / f"{path.stem}.json"
    record.unlink(missing_ok=True)
    environment = os.environ | {
        VARIABLE: profile.name,
        RESULTS: str(out / "results"),
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
        "TOKENIZERS_PARALLELISM": "true",
    }
    client = NotebookClient(
        notebook,
        timeout=_PATIENCE * first_run_s(path, profile),
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=40"],  # no start-up advice
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute(env=environment)
    except CellTimeoutError as error:
        raise NotebookFailed(f"{path.name}: a cell did not end: {error}") from error
    except CellExecutionError as error:
        raise NotebookFailed(f"{path.name} stopped with an error:\n{error}") from error
    return notebook


def within_budget(name: str, record: dict[str, Any], profile: Profile) -> None:
    """Raise `NotebookFailed` where a run took more time or memory than it may."""
    spent = record["run"]
    if spent["seconds"] > spent["budget_s"]:
        again = (
            " What it trained and encoded is kept: a second run is short."
            if spent["budget_s"] > profile.budget_s
            else ""
        )
        raise NotebookFailed(
            f"{name} took {spent['seconds']:.0f} s; the {profile.name} profile allows "
            f"{spent['budget_s']} s on two cores. Is the machine busy, or slow?{again}"
        )
    # Dozens of trainings in one process leave holes in the heap, later runs have none.
    trained = spent["budget_s"] == profile.training_run_s > profile.budget_s
    allowed = spent["budget_mb"] * (_TRAINING_MEMORY if trained else 1)
    if spent["peak_mb"] > allowed:
        raise NotebookFailed(
            f"{name} took {spent['peak_mb']:,} MB; the {profile.name} profile allows "
            f"{allowed:,.0f} MB"
        )


def _written(notebook: Any) -> bytes:  # noqa: ANN401
    text: str = nbformat.writes(notebook)
    return (text.rstrip("\n") + "\n").encode()


def _page(notebook: Any, title: str) -> str:  # noqa: ANN401
    """Return the HTML page; nbconvert drops alt texts, so they are put in."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab")
    notebook = copy.deepcopy(notebook)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            image = output.get("data", {}).get("image/png")
            if image:
                alt = output["metadata"].get("image/png", {}).get("alt", "")
                output["data"] = {
                    "text/html": f"<img alt='{html.escape(alt, quote=True)}' "
                    f"src='data:image/png;base64,{image}'>"
                }
    body, _ = exporter.from_notebook_node(
        notebook, resources={"metadata": {"name": title}}
    )
    return str(body)
