"""``python -m sbert_lab select``: a table of candidates and one choice."""

import argparse
import logging
from dataclasses import replace
from math import inf
from pathlib import Path

from sbert_lab._utils import RESULTS, committed_results, results_folder
from sbert_lab.selection.recommend import (
    Constraints,
    NothingFits,
    Option,
    Survey,
    about,
    measured_on,
    pareto_front,
    read_survey,
    recommend,
    write_survey,
)

#: The survey of the full study of notebook 06, beside its record.
RECORDED = "selection.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `select`."""
    limits = parser.add_argument_group("constraints")
    limits.add_argument("--task", help="whose score counts; the default is Retrieval")
    limits.add_argument("--min-quality", type=positive, help="a fraction, such as 0.45")
    limits.add_argument("--max-ms", type=positive, help="milliseconds a query")
    limits.add_argument("--max-mb", type=positive, help="of the process with its index")
    limits.add_argument(
        "--corpus-size", type=positive, default=1e5, help="entries; 1e6 is a million"
    )
    data = parser.add_argument_group("what is measured")
    source = data.add_mutually_exclusive_group()
    source.add_argument("--pairs", type=Path, help="your CSV, TSV, JSONL or Parquet")
    source.add_argument(
        "--measure", action="store_true", help="measure on ICD-10-CM on this machine"
    )
    source.add_argument("--survey", type=Path, help="rows recorded before, as JSON")
    data.add_argument("--anchor", default="anchor", help="column of queries in --pairs")
    data.add_argument("--positive", default="positive", help="its column of answers")
    data.add_argument(
        "--models", nargs="+", help="names, folders or hub repositories to measure"
    )


def positive(text: str) -> float:
    """Read a number of the command line: no NaN, which no comparison notices."""
    if not 0 < (value := float(text)) < inf:
        raise ValueError
    return value


def select(options: argparse.Namespace) -> tuple[str, int]:
    """Do what the options say; returns what to print, and the exit status.

    The status is 1 where nothing keeps the constraints.
    """
    note = "These rows were recorded; --measure or --pairs FILE measures here."
    if options.measure or options.pairs:
        survey, note = _measured(options)
    else:
        path = options.survey or committed_results("full") / RECORDED
        survey = read_survey(path)
        if options.models:
            chosen = map(survey.row, dict.fromkeys(options.models))
            survey = replace(survey, rows=list(chosen))
    limits = Constraints(
        task=options.task or next(iter(survey.differences), ""),
        min_quality=options.min_quality,
        max_ms=options.max_ms,
        max_mb=options.max_mb,
        corpus=int(options.corpus_size),
    )
    try:
        found, reasons = recommend(survey, limits)
        load = f"sbert_lab.selection.candidates.candidate({found.row.name!r})"
        told = f"In Python {load}.load(texts) is the model"
        if not found.row.lexical:
            kind = f"VectorIndex.build(vectors, kind={found.index.kind!r})"
            told += f"; its vectors go into {kind}"
        verdict = "Recommended: " + "\n".join([*reasons, told])
        status = 0
    except NothingFits as error:
        verdict, status = str(error), 1
    return "\n".join([*_as_table(survey, limits), "", verdict, note]), status


def _measured(options: argparse.Namespace) -> tuple[Survey, str]:
    """Measure the candidates now; returns the rows, which are kept, and a note."""
    from sbert_lab.datasets.icd10cm_tasks import KINDS
    from sbert_lab.datasets.pairs import read_pairs
    from sbert_lab.models.embedding_cache import EmbeddingCache
    from sbert_lab.models.registry import cache_home
    from sbert_lab.selection.candidates import names_here
    from sbert_lab.selection.measure import OWN, measure_all

    known = (OWN,) if options.pairs else KINDS
    if options.task and options.task not in known:
        raise ValueError(f"--task {options.task!r}: one of {', '.join(known)}")
    pairs, kept = None, RECORDED
    if options.pairs is not None:
        columns = {"anchor": options.anchor, "positive": options.positive}
        usual = all(role == name for role, name in columns.items())
        pairs = read_pairs(options.pairs, None if usual else columns)
        kept = f"{options.pairs.stem}.json"
    names = {name: name for name in options.models or names_here()}
    told = "%d models are measured, some half a minute each: %s"
    logging.getLogger(__name__).info(told, len(names), ", ".join(names))
    cache = EmbeddingCache(cache_home() / "embeddings")
    survey, _ = measure_all(names, pairs=pairs, cache=cache)
    path = results_folder("selection") / kept
    try:
        write_survey(path, survey)
    except OSError as error:  # what took minutes is shown all the same
        return survey, f"The rows are not kept ({error}); {RESULTS} names a folder."
    return survey, f"The rows are kept: --survey {path} shows them again."


def _as_table(survey: Survey, limits: Constraints) -> list[str]:
    """Return each model with its best index as lines of text, best quality first."""
    task, corpus = limits.task, limits.corpus
    front = pareto_front(survey.options(task), corpus)
    shown = [_best(survey, row.name, limits) for row in measured_on(survey, task)]
    wide = max(len(one.name) for one in shown)
    metric, took = shown[0].row.metrics[task], f"{'ms a query':>24}"
    heading = f"  {'candidate (vectors, index)':{wide}}  {metric:20}{took}       MB"
    lines = [f"{heading}  $ a million queries  does not fit because"]
    for one in shown:
        star, dollars = "*" if one in front else " ", one.dollars(corpus, limits.price)
        lines.append(
            f"{star} {one.name:{wide}}  {one.quality!s:20}  {about(one.ms(corpus)):>24}"
            f"  {one.mb(corpus):7,.0f}  {dollars[1]:19.2g}"
            f"  {'; '.join(limits.broken_by(one))}".rstrip()
        )
    return [
        f"{task}, {corpus:,} entries; quality on {survey.about['quality on']}; "
        f"times on {survey.about['machine']}",
        *lines,
        "* no other is better in quality, time and memory at once",
        "ms: encoding, 50th percentile, and search; MB: the process with its index",
    ]


def _best(survey: Survey, name: str, limits: Constraints) -> Option:
    """Return a model with the index that fits best, or that comes nearest."""
    alone = replace(survey, rows=[survey.row(name)])
    try:
        return recommend(alone, limits)[0]
    except NothingFits as error:
        return error.nearest
