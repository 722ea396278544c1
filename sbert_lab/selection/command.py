"""``python -m sbert_lab select``: a table, JSON or a picture, and one choice."""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sbert_lab.selection.recommend import Constraints, Survey

#: Where the laptop profile's survey is kept, beside its records.
RECORDED = "selection.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `select`."""
    limits = parser.add_argument_group("constraints")
    limits.add_argument("--task", help="whose score counts; the default is Retrieval")
    limits.add_argument("--min-quality", type=float, help="a fraction, such as 0.45")
    limits.add_argument("--max-ms", type=float, help="milliseconds a query")
    limits.add_argument("--max-mb", type=float, help="memory of model and index")
    limits.add_argument("--max-dimensions", type=int)
    limits.add_argument(
        "--corpus-size", type=float, default=100_000, help="entries; 1e6 is a million"
    )
    data = parser.add_argument_group("what is measured")
    data.add_argument("--pairs", type=Path, help="your own CSV, TSV, JSONL or Parquet")
    data.add_argument("--anchor", help="its column of queries, if not 'anchor'")
    data.add_argument("--positive", help="its column of answers, if not 'positive'")
    data.add_argument("--negative", help="its column of wrong answers, if it has one")
    data.add_argument(
        "--models",
        nargs="+",
        help="names, folders or hub repositories; the default is all that are here",
    )
    data.add_argument(
        "--measure",
        action="store_true",
        help="measure on ICD-10-CM on this machine, instead of the recorded rows",
    )
    data.add_argument("--survey", type=Path, help="rows recorded before, as JSON")
    shown = parser.add_argument_group("what is shown")
    shown.add_argument(
        "--format", choices=("table", "json", "picture"), default="table"
    )
    shown.add_argument("--out", type=Path, help="write there instead of the screen")


def select(options: argparse.Namespace) -> tuple[str, int]:
    """Do what the options say; returns what to print, and the exit status.

    The status is 1 where nothing keeps the constraints. A SystemExit names the option
    to change.
    """
    from sbert_lab._utils import write_bytes
    from sbert_lab.models.checkpoint import CheckpointError
    from sbert_lab.models.registry import ChecksumError
    from sbert_lab.selection.measure import ProcessDied
    from sbert_lab.selection.recommend import (
        Constraints,
        NothingFits,
        pareto_picture,
        recommend,
    )

    try:
        out = options.out
        if out is None and options.format == "picture":
            out = Path("selection.png")
        if out is not None and out.is_dir():
            raise ValueError(f"--out {out} is a folder; give a file's name")
        if options.corpus_size % 1:
            raise ValueError(f"--corpus-size {options.corpus_size:g}: a whole number")
        limits = Constraints(  # looked at before anything is measured
            min_quality=options.min_quality,
            max_ms=options.max_ms,
            max_mb=options.max_mb,
            max_dimensions=options.max_dimensions,
            corpus=int(options.corpus_size),
        )
        survey, note = _survey(options)
        limits = replace(limits, task=options.task or survey.tasks()[0])
        reasons, chosen = [], None
        try:
            found = recommend(survey, limits)
            chosen, reasons = found.row.name, list(found.reasons)
        except NothingFits as error:
            reasons = [str(error)]
    except (
        OSError,
        ValueError,
        CheckpointError,
        ChecksumError,
        ModuleNotFoundError,
        ProcessDied,
    ) as error:
        raise SystemExit(str(error)) from error
    verdict = "\n".join(reasons)
    if chosen is not None:
        verdict = f"Recommended: {verdict}"
    if options.format == "picture":
        from sbert_lab.evaluation.figures import png

        write_bytes(out, png(pareto_picture(survey, limits)))
        return f"written: {out}\n{verdict}", int(chosen is None)
    if options.format == "json":
        text = json.dumps(_as_json(survey, limits, chosen, reasons), indent=2)
    else:
        text = "\n".join([*_as_table(survey, limits), "", verdict, note]).rstrip()
    if out is not None:
        write_bytes(out, f"{text}\n".encode())
        text = f"written: {out}"
    return text, int(chosen is None)


def _survey(options: argparse.Namespace) -> tuple["Survey", str]:
    """Return the rows to choose from, recorded or measured now, and a note on them."""
    from sbert_lab._utils import committed_results, results_folder
    from sbert_lab.datasets.pairs import read_pairs
    from sbert_lab.models.embedding_cache import EmbeddingCache
    from sbert_lab.models.registry import cache_home
    from sbert_lab.selection.candidates import names_here
    from sbert_lab.selection.measure import KINDS, OWN, measure_survey
    from sbert_lab.selection.recommend import read_survey, write_survey

    sources = [
        name for name in ("pairs", "measure", "survey") if getattr(options, name)
    ]
    if len(sources) > 1:
        raise ValueError(f"--{sources[0]} or --{sources[1]}, not both")
    given = {
        role: getattr(options, role) for role in ("anchor", "positive", "negative")
    }
    named = {role: column for role, column in given.items() if column}
    if named and options.pairs is None:
        raise ValueError(f"--{min(named)} names a column of --pairs FILE")
    if options.pairs is None and not options.measure:
        path = options.survey or committed_results("laptop") / RECORDED
        survey = read_survey(path)
        note = (
            "These rows were recorded, on the machine named above; --measure measures "
            "here, --pairs FILE on your own data."
        )
        return survey.only(options.models) if options.models else survey, note
    tasks = KINDS if options.measure else (OWN,)
    if options.task and options.task not in tasks:
        raise ValueError(f"--task {options.task}: one of {', '.join(tasks)}")
    pairs = None
    if options.pairs is not None:
        columns = {"anchor": "anchor", "positive": "positive"} | named
        pairs = read_pairs(options.pairs, columns if named else None)
    survey = measure_survey(
        options.models or names_here(),
        pairs=pairs,
        cache=EmbeddingCache(cache_home() / "embeddings"),
        show_progress=True,
    )
    kept = RECORDED if pairs is None else f"{options.pairs.stem}.json"
    path = results_folder("selection") / kept
    write_survey(path, survey)
    return survey, f"The rows are kept: --survey {path} shows them again."


def _as_table(survey: "Survey", limits: "Constraints") -> list[str]:
    """Return the rows as lines of text, best quality first, widths lined up."""
    from sbert_lab.selection.recommend import pareto_front

    task, corpus = limits.task, limits.corpus
    front = pareto_front(survey.rows, task, corpus)
    rows = [row for row in survey.rows if task in row.quality]
    rows.sort(key=lambda row: -row.quality[task].mean)
    heading = ("", "candidate", rows[0].metrics[task], "ms a query", "MB", "dimensions")
    cells = [(*heading, "short texts/s", "does not fit because")]
    for row in rows:
        rate = row.cost.get("short_texts")
        cells.append(
            (
                "*" if row in front else "",
                row.name,
                str(row.quality[task]),
                f"{row.ms(corpus):.3g}",
                f"{row.mb(corpus):,.0f}",
                "words" if row.lexical else str(row.dimension),
                f"{rate.median:,.0f}" if rate else "",
                "; ".join(limits.broken_by(row)),
            )
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [
        [
            cell.rjust(width) if 3 <= i <= 6 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in cells
    ]
    without = [row.name for row in survey.rows if row not in rows]
    return [
        f"{task}, {corpus:,} entries; quality on "
        f"{survey.about.get('quality on', 'unknown data')}; times on "
        f"{survey.about.get('machine', 'an unknown machine')}",
        *("  ".join(line).rstrip() for line in aligned),
        "* no other is better in quality, time and memory at once",
        "ms: encoding, 95th percentile, and exact search; MB: model and index",
        *([f"not measured on {task}: {', '.join(without)}"] if without else []),
    ]


def _as_json(
    survey: "Survey", limits: "Constraints", chosen: str | None, reasons: list[str]
) -> dict[str, object]:
    """Return constraints, rows and recommendation as what json takes."""
    from sbert_lab.selection.recommend import pareto_front

    front = pareto_front(survey.rows, limits.task, limits.corpus)
    return {
        "constraints": asdict(limits),
        "about": dict(survey.about),
        "recommendation": chosen,
        "reasons": reasons,
        "pareto_front": [row.name for row in front],
        "rows": [
            asdict(row)
            | {
                "breaks": list(limits.broken_by(row)),
                "ms_a_query": row.ms(limits.corpus),
                "mb": row.mb(limits.corpus),
            }
            for row in survey.rows
        ],
    }
