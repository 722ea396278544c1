"""Make FINDINGS.md from the committed records: answers, claims, time and memory.

python -m tools.findings
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sbert_lab._utils import committed_results, project_root, write_bytes

BEGIN = "<!-- findings: made by `python -m tools.findings`; do not edit -->"
END = "<!-- end of findings -->"


def title_and_answer(notebook: dict[str, Any]) -> tuple[str, list[str]]:
    """Return a notebook's question, and the answer that its first output shows."""
    heading = "".join(notebook["cells"][0]["source"]).splitlines()[0]
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            if shown := output.get("data", {}).get("text/markdown"):
                return heading.lstrip("# "), "".join(shown).splitlines()
    return heading.lstrip("# "), []


def section(record: dict[str, Any], notebook: dict[str, Any]) -> list[str]:
    """Return one notebook's part: question, answer, and claims with their verdicts."""
    title, answer = title_and_answer(notebook)
    lines = [f"## [{title}](notebooks/{record['notebook']}.ipynb)", "", *answer, ""]
    lines += ["| claim | measured | verdict |", "|---|---|---|"]
    for claim in record["claims"].values():
        measured = f"{claim['mean']:.4g}"
        if "low" in claim:
            measured += f" [{claim['low']:.4g}, {claim['high']:.4g}]"
        statement, metric = (
            claim[part].replace("|", "\\|") for part in ("statement", "metric")
        )
        machine = " (on one machine)" if claim["machine"] else ""
        row = f"{statement} | {measured} {metric} | {claim['verdict']}{machine}"
        lines.append(f"| {row} |")
    return [*lines, ""]


def findings(files: Sequence[Path]) -> str:
    """Return Markdown of the records in `files`: their parts; then time and memory."""
    records = [json.loads(file.read_bytes()) for file in files]
    folder, lines = project_root() / "notebooks", list[str]()
    for record in records:
        notebook = (folder / record["notebook"]).with_suffix(".ipynb")
        lines += section(record, json.loads(notebook.read_bytes()))
    lines += ["## Time and memory", ""]
    lines += ["Of the runs whose outputs are committed, on different processors: with"]
    lines += ["AVX2 alone a run takes up to twice as long.", ""]
    lines += ["| notebook | time on two cores | peak memory |", "|---|---|---|"]
    for record in records:
        spent = record["run"]
        time, memory = f"{spent['seconds']:.0f} s", f"{spent['peak_mb']:,} MB"
        lines.append(f"| {record['notebook']} | {time} | {memory} |")
    return "\n".join(lines)


def update_findings(path: Path) -> bool:
    """Make the generated part of FINDINGS.md anew; True if that changed it."""
    text = path.read_text(encoding="utf-8")
    files = sorted(committed_results("laptop").glob("[0-9][0-9]_*.json"))
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    new = f"{before}{BEGIN}\n\n{findings(files)}\n{END}{after}"
    if new != text:
        write_bytes(path, new.encode())
    return new != text


if __name__ == "__main__":
    update_findings(project_root() / "FINDINGS.md")
