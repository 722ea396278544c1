"""``python -m sbert_lab select``: a table, a picture if wanted, and one choice."""

import argparse
from dataclasses import replace
from pathlib import Path

from sbert_lab._utils import committed_results, results_folder, write_bytes
from sbert_lab.selection.recommend import (
    Constraints,
    NothingFits,
    Survey,
    measured_on,
    pareto_front,
    pareto_picture,
    read_survey,
    recommend,
    write_survey,
)

#: Where the laptop profile's survey is kept, beside its records.
RECORDED = "selection.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `select`."""
    add = parser.add_argument
    add("--task", help="whose score counts; the default is Retrieval")
    add("--min-quality", type=float, help="a fraction, such as 0.45")
    add("--max-ms", type=float, help="milliseconds a query")
    add("--max-mb", type=float, help="memory of model and index")
    add("--max-dimensions", type=int)
    add("--corpus-size", type=float, default=1e5, help="entries; 1e6 is a million")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--pairs", type=Path, help="your CSV, TSV, JSONL or Parquet")
    source.add_argument(
        "--measure", action="store_true", help="measure on ICD-10-CM on this machine"
    )
    source.add_argument("--survey", type=Path, help="rows recorded before, as JSON")
    add("--anchor", help="column of queries in --pairs, if not 'anchor'")
    add("--positive", help="its column of answers, if not 'positive'")
    add("--models", nargs="+", help="names, folders or hub repositories to measure")
    add("--picture", type=Path, help="draw the candidates, as PNG")


def select(options: argparse.Namespace) -> tuple[str, int]:
    """Do what the options say; returns what to print, and the exit status.

    The status is 1 where nothing keeps the constraints.
    """
    from sbert_lab.evaluation.figures import png
    from sbert_lab.models.registry import ChecksumError

    try:
        limits = Constraints(  # looked at before anything is measured
            min_quality=options.min_quality,
            max_ms=options.max_ms,
            max_mb=options.max_mb,
            max_dimensions=options.max_dimensions,
            corpus=int(options.corpus_size),
        )
        if options.measure or options.pairs:
            survey, note = _measured(options)
        else:
            path = options.survey or committed_results("laptop") / RECORDED
            survey = read_survey(path)
            note = "These rows were recorded; --measure or --pairs FILE measures here."
            if options.models:
                survey = replace(survey, rows=list(map(survey.row, options.models)))
        limits = replace(
            limits, task=options.task or next(iter(survey.rows[0].quality))
        )
        try:
            verdict = "Recommended: " + "\n".join(recommend(survey, limits)[1])
            status = 0
        except NothingFits as error:
            verdict, status = str(error), 1
        if options.picture:
            write_bytes(options.picture, png(pareto_picture(survey, limits)))
    except (OSError, ValueError, ChecksumError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from error
    return "\n".join([*_as_table(survey, limits), "", verdict, note]), status


def _measured(options: argparse.Namespace) -> tuple[Survey, str]:
    """Measure the candidates now; returns the rows, which are kept, and a note."""
    from sbert_lab.datasets.pairs import read_pairs
    from sbert_lab.models.embedding_cache import EmbeddingCache
    from sbert_lab.models.registry import cache_home
    from sbert_lab.selection.candidates import names_here
    from sbert_lab.selection.measure import measure_survey

    pairs, kept = None, RECORDED
    if options.pairs:
        roles = ("anchor", "positive")
        named = {role: getattr(options, role) or role for role in roles}
        all_by_default = not (options.anchor or options.positive)
        pairs = read_pairs(options.pairs, None if all_by_default else named)
        kept = f"{options.pairs.stem}.json"
    names = {name: name for name in options.models or names_here()}
    cache = EmbeddingCache(cache_home() / "embeddings")
    survey, _ = measure_survey(names, pairs=pairs, cache=cache)
    path = results_folder("selection") / kept
    write_survey(path, survey)
    return survey, f"The rows are kept: --survey {path} shows them again."


def _as_table(survey: Survey, limits: Constraints) -> list[str]:
    """Return the rows as lines of text, best quality first, widths lined up."""
    task, corpus = limits.task, limits.corpus
    front = pareto_front(survey, task, corpus)
    rows = measured_on(survey, task)
    wide = max(len(row.name) for row in rows)
    heading = f"  {'candidate':{wide}}  {rows[0].metrics[task]:20}"
    lines = [heading + "    ms a query       MB  dimensions  does not fit because"]
    for row in rows:
        star, quality = "*" if row in front else " ", str(row.quality[task])
        lines.append(
            f"{star} {row.name:{wide}}  {quality:20}  {row.ms(corpus):12.3g}"
            f"  {row.mb(corpus):7,.0f}  {row.dimension or 'words':>10}"
            f"  {'; '.join(limits.broken_by(row))}".rstrip()
        )
    return [
        f"{task}, {corpus:,} entries; quality on {survey.about['quality on']}; "
        f"times on {survey.about['machine']}",
        *lines,
        "* no other is better in quality, time and memory at once",
        "ms: encoding, 95th percentile, and exact search; MB: model and index",
    ]
