"""``python -m sbert_lab adapt``: a better model from a file, and a short table."""

import argparse
from dataclasses import replace
from pathlib import Path

from sbert_lab._utils import limit_memory
from sbert_lab.adaptation.adapt import adapt as fill
from sbert_lab.adaptation.recipe import RANGES, RECIPES
from sbert_lab.adaptation.report import REPORT, summary
from sbert_lab.datasets import pairs


def adapt(options: argparse.Namespace) -> str:
    """Do what the options say, and return what to print."""
    limit_memory()
    if (options.pairs is None) == (options.texts is None):
        raise ValueError("--pairs FILE, or --texts FILE if there are no pairs")
    if (options.texts is None) != (options.method is None):
        raise ValueError("--texts FILE and --method go together")
    method = options.method or "pairs"
    given = {n: v for n in RANGES if (v := getattr(options, n)) is not None}
    try:
        outcome = fill(
            options.base,
            _pairs(options.pairs, options)
            or [*pairs.read_texts(options.texts).values()],
            options.out,
            method=method,
            recipe=replace(RECIPES[method], **given),
            test=_pairs(options.test, options),
            corpus=options.corpus and [*pairs.read_texts(options.corpus).values()],
        )
    except KeyboardInterrupt:
        told = "stopped; the same command goes on from here"
        raise KeyboardInterrupt(told) from None
    model, report = options.out / "model", options.out / REPORT
    return f"{summary(outcome)}\n\nmodel: {model}\nreport: {report}"


def _pairs(path: Path | None, options: argparse.Namespace) -> pairs.Pairs | None:
    """Read pairs whose columns have the names that the options give."""
    if path is None:
        return None
    columns = {r: name for r in pairs.TEXT_ROLES if (name := getattr(options, r))}
    return pairs.read_pairs(path, columns or None)
