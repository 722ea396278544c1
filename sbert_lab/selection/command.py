"""``python -m sbert_lab select``: a table, JSON or a picture, and one choice."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from sbert_lab._utils import committed_results, results_folder, write_bytes
from sbert_lab.datasets.pairs import DataError, Pairs, read_pairs
from sbert_lab.models.checkpoint import CheckpointError
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.registry import ChecksumError, cache_home
from sbert_lab.selection.candidates import names_here
from sbert_lab.selection.costs import ProcessDied
from sbert_lab.selection.recommend import (
    Constraints,
    NothingFits,
    Recommendation,
    broken,
    pareto_front,
    recommend,
)
from sbert_lab.selection.rows import Survey, read_survey, write_survey

#: Where the laptop profile's survey is kept, beside its records.
RECORDED = "selection.json"


def select(options: argparse.Namespace) -> tuple[str, int]:
    """Do what the options say; returns what to print, and the exit status.

    The status is 1 where nothing keeps the constraints.

    Raises
    ------
    SystemExit
        With a message that names the option to change.
    """
    try:
        limits = _limits(options)  # before anything is measured
        survey, note = _survey(options)
        limits = replace(limits, task=options.task or survey.tasks()[0])
        if limits.task not in survey.tasks():
            raise ValueError(
                f"--task {limits.task}: one of {', '.join(survey.tasks())}"
            )
    except (
        OSError,
        ValueError,
        CheckpointError,
        ChecksumError,
        ModuleNotFoundError,
        ProcessDied,
    ) as error:
        raise SystemExit(str(error)) from error
    try:
        found, refusal = recommend(survey, limits), ""
    except NothingFits as error:
        found, refusal = None, str(error)
    if options.format == "json":
        text = json.dumps(as_json(survey, limits, found, refusal), indent=2)
    elif options.format == "picture":
        return _picture(options, survey, limits, found, refusal), int(found is None)
    else:
        text = "\n".join([*as_table(survey, limits), "", *_verdict(found, refusal)])
        if note:
            text += f"\n{note}"
    if options.out is not None:
        write_bytes(options.out, f"{text}\n".encode())
        text = f"written: {options.out}"
    return text, int(found is None)


def as_table(survey: Survey, limits: Constraints) -> list[str]:
    """Return the rows as lines of text, best quality first, widths lined up."""
    front = {r.name for r in pareto_front(survey.rows, limits.task, limits.corpus)}
    rows = [row for row in survey.rows if limits.task in row.quality]
    rows.sort(key=lambda row: -row.quality[limits.task].mean)
    cells = [
        (
            "",
            "candidate",
            rows[0].metrics[limits.task],
            "ms a query",
            "MB",
            "dimensions",
            "short texts/s",
            "does not fit because",
        )
    ]
    for row in rows:
        cells.append(
            (
                "*" if row.name in front else "",
                row.name,
                str(row.quality[limits.task]),
                f"{row.ms(limits.corpus):.3g}",
                f"{row.mb(limits.corpus):,.0f}",
                "words" if row.lexical else str(row.dimension),
                f"{rate.median:,.0f}" if (rate := row.cost.get("short_texts")) else "",
                "; ".join(broken(row, limits)),
            )
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    right = {3, 4, 5, 6}
    lines = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    machine = survey.about.get("machine", "an unknown machine")
    without = [row.name for row in survey.rows if row not in rows]
    return [
        f"{limits.task}, {limits.corpus:,} entries; quality on "
        f"{survey.about.get('quality on', 'unknown data')}; times on {machine}",
        *lines,
        "* no other is better in quality, time and memory at once",
        "ms: encoding, 95th percentile, and exact search; MB: model and index",
        *([f"not measured on {limits.task}: {', '.join(without)}"] if without else []),
    ]


def as_json(
    survey: Survey,
    limits: Constraints,
    found: Recommendation | None,
    refusal: str = "",
) -> dict[str, object]:
    """Return constraints, rows and recommendation as what json takes."""
    return {
        "constraints": asdict(limits),
        "about": dict(survey.about),
        "recommendation": found and found.row.name,
        "reasons": list(found.reasons) if found else [refusal],
        "pareto_front": [
            row.name for row in pareto_front(survey.rows, limits.task, limits.corpus)
        ],
        "rows": [
            asdict(row)
            | {
                "breaks": list(broken(row, limits)),
                "ms_a_query": row.ms(limits.corpus),
                "mb": row.mb(limits.corpus),
            }
            for row in survey.rows
        ],
    }


def _verdict(found: Recommendation | None, refusal: str) -> Sequence[str]:
    if found is None:
        return [refusal]
    first, *rest = found.reasons
    return [f"Recommended: {first}", *rest]


def _picture(
    options: argparse.Namespace,
    survey: Survey,
    limits: Constraints,
    found: Recommendation | None,
    refusal: str,
) -> str:
    from sbert_lab.evaluation.figures import png
    from sbert_lab.selection.picture import pareto_picture

    path = options.out or Path("selection.png")
    write_bytes(path, png(pareto_picture(survey, limits)))
    return "\n".join([f"written: {path}", *_verdict(found, refusal)])


def _limits(options: argparse.Namespace) -> Constraints:
    """Return the constraints, the default task in place of one yet unknown."""
    if options.task and (options.pairs or options.measure):
        from sbert_lab.datasets.icd10cm_tasks import KINDS
        from sbert_lab.selection.quality import OWN

        tasks = KINDS if options.measure else (OWN,)
        if options.task not in tasks:
            raise ValueError(f"--task {options.task}: one of {', '.join(tasks)}")
    if options.out is not None:
        if options.out.is_dir():
            raise ValueError(f"--out {options.out} is a folder; give a file's name")
        if options.format == "picture" and options.out.suffix.lower() != ".png":
            raise ValueError(f"--out {options.out}: give a name that ends in .png")
    return Constraints(
        min_quality=options.min_quality,
        max_ms=options.max_ms,
        max_mb=options.max_mb,
        max_dimensions=options.max_dimensions,
        corpus=_whole(options.corpus_size),
    )


def _survey(options: argparse.Namespace) -> tuple[Survey, str]:
    """Return the rows to choose from, recorded or measured now, and a note on them."""
    sources = [
        name
        for name in ("pairs", "measure", "survey")
        if getattr(options, name) not in (None, False)
    ]
    if len(sources) > 1:
        raise ValueError(f"--{sources[0]} or --{sources[1]}, not both")
    if options.pairs is None and (
        options.anchor or options.positive or options.negative
    ):
        raise ValueError(
            "--anchor, --positive and --negative name columns of --pairs FILE"
        )
    if options.pairs is None and not options.measure:
        path = options.survey or committed_results("laptop") / RECORDED
        survey = read_survey(path)
        note = (
            "These rows were recorded, on the machine named above; --measure measures "
            "here, --pairs FILE on your own data."
        )
        return _only(survey, options.models), note
    from sbert_lab.selection.survey import measure_survey

    pairs = named_pairs(options.pairs, options) if options.pairs is not None else None
    survey = measure_survey(
        options.models or names_here(),
        pairs=pairs,
        cache=EmbeddingCache(cache_home() / "embeddings"),
        show_progress=True,
    )
    path = results_folder("selection") / (
        RECORDED if pairs is None else f"{options.pairs.stem}.json"
    )
    write_survey(path, survey)
    return survey, f"The rows are kept: --survey {path} shows them again."


def named_pairs(path: Path, options: argparse.Namespace) -> Pairs:
    """Read pairs whose columns have the names that the options give.

    Parameters
    ----------
    path
        The file.
    options
        With ``anchor``, ``positive`` and ``negative``, each a name or None.

    Raises
    ------
    DataError, FileNotFoundError, ValueError
        As `read_pairs`, with the options that help.
    """
    columns = None
    if options.anchor or options.positive or options.negative:
        columns = {
            "anchor": options.anchor or "anchor",
            "positive": options.positive or "positive",
        }
        if options.negative:
            columns["negative"] = options.negative
    try:
        return read_pairs(path, columns)
    except DataError as error:
        if columns is None and "has no role" in str(error):
            raise ValueError(
                f"{error}\n  here: --anchor COLUMN --positive COLUMN"
            ) from error
        raise


def _only(survey: Survey, models: Sequence[str] | None) -> Survey:
    """Keep the rows that were asked for."""
    if not models:
        return survey
    known = {row.name for row in survey.rows}
    missing = [name for name in models if name not in known]
    if missing:
        raise ValueError(
            f"no recorded row {missing[0]!r}; there are {', '.join(sorted(known))}. "
            "--measure or --pairs FILE measures others"
        )
    kept = set(models)
    return Survey(
        [row for row in survey.rows if row.name in kept],
        {
            task: {pair: gap for pair, gap in gaps.items() if kept.issuperset(pair)}
            for task, gaps in survey.differences.items()
        },
        survey.about,
    )


def _whole(number: float) -> int:
    if not (1 <= number < float("inf") and number == int(number)):
        raise ValueError(f"--corpus-size {number:g}: a whole number, 1 or more")
    return int(number)
