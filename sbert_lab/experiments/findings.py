"""The findings table of the README, made from the records of the notebooks."""

from pathlib import Path
from typing import Any

from sbert_lab._utils import committed_results, project_root, write_bytes
from sbert_lab.experiments.experiment import read_record

BEGIN = "<!-- findings: made by `python -m sbert_lab readme`; do not edit -->"
END = "<!-- end of findings -->"


def findings(records: list[dict[str, Any]]) -> str:
    """Return a Markdown table: each claim, what was measured, and its verdict."""
    lines = ["| notebook | claim | measured | verdict |", "|---|---|---|---|"]
    for record in records:
        name = record["notebook"]
        for claim in record["claims"].values():
            measured = f"{claim['mean']:.4g}"
            if "low" in claim:
                measured += f" [{claim['low']:.4g}, {claim['high']:.4g}]"
            statement, metric = map(_cell, (claim["statement"], claim["metric"]))
            lines.append(
                f"| [{name[:2]}](notebooks/{name}.ipynb) | {statement} | "
                f"{measured} {metric} | {claim['verdict']}"
                f"{' (on one machine)' if claim['machine'] else ''} |"
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


def _cell(text: str) -> str:
    """Return a text whose bars do not end its cell, as |u - v| would."""
    return text.replace("|", "\\|")


def committed() -> list[dict[str, Any]]:
    """Return the committed laptop records, in order."""
    return [
        read_record(p)
        for p in sorted(committed_results("laptop").glob("[0-9][0-9]_*.json"))
    ]


def renewed(text: str) -> str:
    """Return a README's text with its findings made anew."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"README.md must hold the lines {BEGIN!r} and {END!r}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN}\n{findings(committed())}\n{END}{after}"


def update_readme(path: Path | None = None) -> bool:
    """Rewrite the findings in README.md; True if that changed it."""
    path = path or project_root() / "README.md"
    text = path.read_text(encoding="utf-8")
    new = renewed(text)
    if new == text:
        return False
    write_bytes(path, new.encode())
    return True
