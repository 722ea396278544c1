"""``python -m sbert_lab adapt``: a better model from a file, and a short table.

What takes time to import is imported when it is needed.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sbert_lab.adaptation.recipe import RECIPES

if TYPE_CHECKING:
    from sbert_lab.datasets.pairs import Pairs

#: Fields of a `Recipe` that can be set, and their type.
_FIELDS = {
    "epochs": int,
    "batch_size": int,
    "learning_rate": float,
    "negatives": int,
    "relative_margin": float,
    "base_weight": float,
    "seed": int,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `adapt`."""
    parser.add_argument(
        "--base", required=True, help="the model to begin with: name, folder, or hub"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="a new folder for model and report; the same command goes on if stopped",
    )
    data = parser.add_argument_group("what belongs together")
    data.add_argument("--pairs", type=Path, help="your own CSV, TSV, JSONL or Parquet")
    data.add_argument("--anchor", help="its column of queries, if not 'anchor'")
    data.add_argument("--positive", help="its column of answers, if not 'positive'")
    data.add_argument("--negative", help="its column of wrong answers, if it has one")
    data.add_argument(
        "--test", type=Path, help="pairs to test on; by default a fifth is kept aside"
    )
    data.add_argument(
        "--corpus", type=Path, help="what is searched, a text a line; or all answers"
    )
    alone = parser.add_argument_group("without pairs")
    alone.add_argument("--texts", type=Path, help="one text a line")
    alone.add_argument("--method", choices=("simcse", "tsdae", "pseudo-labels"))
    alone.add_argument("--teacher", help="of pseudo-labels: a cross-encoder")
    recipe = parser.add_argument_group("the recipe; the defaults usually do")
    for name, kind in _FIELDS.items():
        text = f"for pairs {getattr(RECIPES['pairs'], name)}"
        recipe.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)


def adapt(options: argparse.Namespace) -> str:
    """Do what the options say, and return what to print."""
    from sbert_lab._utils import limit_memory
    from sbert_lab.adaptation.adapt import adapt as fill
    from sbert_lab.adaptation.report import REPORT, summary
    from sbert_lab.models.cross_encoder import CrossEncoder
    from sbert_lab.models.registry import ChecksumError

    limit_memory()
    try:
        if (options.pairs is None) == (options.texts is None):
            raise ValueError("--pairs FILE, or --texts FILE if there are no pairs")
        if (options.texts is None) != (options.method is None):
            raise ValueError("--texts FILE and --method go together")
        method = options.method or "pairs"
        given = {name: getattr(options, name) for name in _FIELDS}
        given = {name: value for name, value in given.items() if value is not None}
        pairs, test = (_pairs(file, options) for file in (options.pairs, options.test))
        texts, corpus = map(_lines, (options.texts, options.corpus))
        outcome = fill(
            options.base,
            texts if pairs is None else pairs,
            options.out,
            method=method,
            recipe=replace(RECIPES[method], **given),
            teacher=options.teacher and CrossEncoder.from_pretrained(options.teacher),
            test=test,
            corpus=corpus or None,
        )
    except (OSError, ValueError, FloatingPointError, ChecksumError) as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on from here") from None
    model, report = options.out / "model", options.out / REPORT
    return f"{summary(outcome)}\n\nmodel: {model}\nreport: {report}"


def _lines(path: Path | None) -> list[str]:
    """Read texts, one a line."""
    from sbert_lab.datasets.pairs import read_utf8

    lines = read_utf8(path).splitlines() if path else []
    return [line for line in lines if line.strip()]


def _pairs(path: Path | None, options: argparse.Namespace) -> "Pairs | None":
    """Read pairs whose columns have the names that the options give."""
    from sbert_lab.datasets.pairs import read_pairs

    if path is None:
        return None
    roles = ("anchor", "positive", "negative")
    columns = {role: name for role in roles if (name := getattr(options, role))}
    if columns:
        columns = {"anchor": "anchor", "positive": "positive"} | columns
    return read_pairs(path, columns or None)
