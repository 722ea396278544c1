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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from sbert_lab._utils import RESULTS, committed_results, project_root, write_bytes
from sbert_lab.experiments.experiment import read_record
from sbert_lab.experiments.profiles import PROFILES, VARIABLE, Profile
from sbert_lab.experiments.stamp import code_cells, stamp

log = logging.getLogger(__name__)

_PATIENCE = 3  # a notebook is stopped at so many times its budget
_TRAINING_MEMORY = 1.5  # a first run that trains may take so many times the memory
_SLOW = 2  # and, where the second keeps its budget, at most so many times its own time


class NotebookFailed(RuntimeError):
    """A notebook stopped with an error, left no record, or went over its budget."""


@dataclass(frozen=True)
class Run:
    """What a run left behind; `slow_s` is the time of a first run that was repeated."""

    notebook: Path
    page: Path
    record: dict[str, Any]
    seconds: float
    slow_s: float | None = None


def run(
    path: Path,
    profile_name: str = "laptop",
    *,
    update: bool = False,
    out: Path | None = None,
) -> Run:
    """Execute one notebook.

    Where it trains for many minutes and a slow machine takes up to twice the time of a
    first run, it is executed again with what it kept, and that run is what counts.

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
    out = out or project_root() / "build"
    done = _run_once(path, profile, out)
    if _trains(path) and (slow := _slow_training(done.record)):
        within_budget(path.name, {"run": slow | {"seconds": 0}}, profile)  # its memory
        log.warning(
            "%s took %.0f s, and a first run has %d s on two cores; it is run again "
            "with what it trained, and that run counts",
            path.name,
            slow["seconds"],
            slow["budget_s"],
        )
        done = replace(_run_once(path, profile, out), slow_s=slow["seconds"])
    within_budget(path.name, done.record, profile)
    if update:
        write_bytes(path, done.notebook.read_bytes())
        for name in (f"{path.stem}.json", *done.record.get("attached", ())):
            content = _record(path, profile, out).with_name(name).read_bytes()
            write_bytes(committed_results(profile.name) / name, content)
    return done


def _run_once(path: Path, profile: Profile, out: Path) -> Run:
    started = time.perf_counter()
    executed = _execute(path, profile, out)
    seconds = time.perf_counter() - started
    written = _record(path, profile, out)
    if not written.is_file():
        raise NotebookFailed(f"{path.name} wrote no record; end it with exp.finish()")
    record = read_record(written)
    clean(executed)
    executed["metadata"]["sbert_lab"] = stamp(executed, profile.name)
    target = out / "notebooks" / path.name
    write_bytes(target, _written(executed))
    page = target.with_suffix(".html")
    write_bytes(page, _page(executed, path.stem).encode())
    return Run(target, page, record, seconds)


def _record(path: Path, profile: Profile, out: Path) -> Path:
    return out / "results" / profile.name / f"{path.stem}.json"


def _slow_training(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a run took that trained too long, but not hopelessly so."""
    spent: dict[str, Any] = record["run"]
    over = spent["seconds"] / spent["budget_s"]
    return spent if spent["models_trained"] and 1 < over <= _SLOW else None


def first_run_s(path: Path, profile: Profile) -> int:
    """Return how many seconds a notebook may take when nothing is cached or kept."""
    return profile.training_run_s if _trains(path) else profile.first_run_s


def _trains(path: Path) -> bool:
    code = "\n".join(code_cells(nbformat.read(path, as_version=4)))
    return bool(re.search(r"experiment\.start\([^)]*\btrains=True", code))


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
    record = _record(path, profile, out)
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
