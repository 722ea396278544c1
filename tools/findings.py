"""Make the tables of FINDINGS.md from the committed records of the notebooks.

python -m tools.findings
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sbert_lab._utils import committed_results, project_root, write_bytes

BEGIN = "<!-- findings: made by `python -m tools.findings`; do not edit -->"
END = "<!-- end of findings -->"


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
        time, memory = f"{spent['seconds']:.0f} s ({kind})", f"{spent['peak_mb']:,} MB"
        lines.append(f"| {record['notebook']} | {time} | {memory} |")
    return "\n".join(lines)


def update_findings(path: Path) -> bool:
    """Make the tables of FINDINGS.md anew; True if that changed it."""
    text = path.read_text(encoding="utf-8")
    files = sorted(committed_results("laptop").glob("[0-9][0-9]_*.json"))
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    made = findings([json.loads(file.read_bytes()) for file in files])
    new = f"{before}{BEGIN}\n{made}\n{END}{after}"
    if new != text:
        write_bytes(path, new.encode())
    return new != text


if __name__ == "__main__":
    update_findings(project_root() / "FINDINGS.md")
