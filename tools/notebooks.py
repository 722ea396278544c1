"""Run the notebooks top to bottom, and compare them with what is committed.

Each runs in a fresh kernel of this very Python. The executed notebook, its page and its
record go under build/; only ``--update`` touches what is committed.

python -m tools.notebooks 04 --profile smoke
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

from experiments.profiles import PROFILES, VARIABLE, current
from sbert_lab._utils import (
    RESULTS,
    committed_results,
    project_root,
    write_bytes,
)
from tools.notebook_style import notebook_paths

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
    for cell in (c for c in notebook["cells"] if c["cell_type"] == "code"):
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


def differences(committed: Record, fresh: Record) -> list[str]:
    """Compare two records of one notebook; one sentence for each disagreement."""
    found = []
    for name, old in committed["results"].items():
        new = fresh["results"].get(name)
        if new is None:
            found.append(f"{name}: no longer measured")
        elif not _agrees(old, new):
            found.append(f"{name}: {_shown(old)} is now {_shown(new)}")
    for name, old in committed["claims"].items():
        new = fresh["claims"].get(name, {"verdict": "no longer made"})
        if not old["machine"] and new["verdict"] != old["verdict"]:
            found.append(f"claim {name}: {old['verdict']} is now {new['verdict']}")
    return found


def _agrees(old: Record, new: Record) -> bool:
    if old["compare"] == "interval":
        return bool(old["low"] <= new["high"] and new["low"] <= old["high"])
    tolerance = old.get("tolerance", 0.0)
    near = abs(old["mean"] - new["mean"]) <= tolerance
    return bool(near or old["compare"] == "ignore")


def _shown(row: Record) -> str:
    interval = f" [{row['low']:.4g}, {row['high']:.4g}]" if "low" in row else ""
    return f"{row['mean']:.6g}{interval} {row['unit']}"


def expected(path: Path, profile: str) -> str:
    """Return how long a notebook took when its committed record was made."""
    file = committed_results(profile) / f"{path.stem}.json"
    if not file.is_file():
        return ""
    spent = json.loads(file.read_bytes())["run"]
    return f"took {spent['seconds']:.0f} s when its record was made"


def report(record: Record) -> list[str]:
    """Return time and memory against their budgets, and the verdicts, as two lines."""
    spent = record["run"]
    over = " OVER BUDGET" if spent["seconds"] > spent["budget_s"] else ""
    return [
        f"{spent['seconds']:.0f} s of {spent['budget_s']} s{over}, "
        f"{spent['peak_mb']:,} MB of {spent['budget_mb']:,} MB",
        ", ".join(f"{c['id']} {c['verdict']}" for c in record["claims"].values()),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or verify notebooks. Returns 1 if one fails or differs."""
    parser = argparse.ArgumentParser(description="Run notebooks top to bottom.")
    add = parser.add_argument
    add("only", nargs="*", help="numbers, e.g. 04; by default all")
    add("--profile", choices=PROFILES, help="by default SBERT_LAB_PROFILE, else laptop")
    add("--update", action="store_true", help="write outputs and records back")
    add("--verify", action="store_true", help="compare with the committed records")
    options = parser.parse_args(arguments)
    try:
        profile, paths = options.profile or current().name, chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    print(f"{len(paths)} notebooks, {profile} profile …", flush=True)
    wrong = 0
    for path in paths:
        print(f"{path.stem} … {expected(path, profile)}", flush=True)
        try:
            record, page = run(path, profile, update=options.update)
        except NotebookFailed as error:
            lines = problems = [f"FAILED: {error}"]
        else:
            problems = disagreements(record) if options.verify else []
            lines = [*report(record), str(page)]
            if options.verify:
                lines = problems or ["agrees with its record"]
        wrong += bool(problems)
        print(*(f"  {line}" for line in lines), sep="\n", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
