"""``python -m sbert_lab adapt``: a better model from a file, and a short table.

What takes time to import is imported when it is needed.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sbert_lab.adaptation.recipe import RECIPES

if TYPE_CHECKING:
    from sbert_lab.adaptation.unsupervised import Teacher
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
        "--corpus",
        type=Path,
        help="what is searched: .txt, one text a line, or a column 'text' of a table; "
        "by default all answers",
    )
    alone = parser.add_argument_group("without pairs")
    alone.add_argument("--texts", type=Path, help="texts, as for --corpus")
    alone.add_argument("--method", choices=("simcse", "tsdae", "pseudo-labels"))
    alone.add_argument(
        "--teacher",
        help="of pseudo-labels: a cross-encoder, or a better encoder than the base",
    )
    recipe = parser.add_argument_group("the recipe; the defaults usually do")
    for name, kind in _FIELDS.items():
        text = f"for pairs {getattr(RECIPES['pairs'], name)}"
        recipe.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)


def adapt(options: argparse.Namespace) -> str:
    """Do what the options say, and return what to print."""
    from sbert_lab._utils import limit_memory
    from sbert_lab.adaptation.adapt import adapt as fill
    from sbert_lab.adaptation.report import REPORT, summary
    from sbert_lab.models.registry import ChecksumError

    limit_memory()
    try:
        if (options.pairs is None) == (options.texts is None):
            raise ValueError("--pairs FILE, or --texts FILE if there are no pairs")
        if (options.texts is None) != (options.method is None):
            raise ValueError("--texts FILE and --method go together")
        method = options.method or "pairs"
        given = {
            name: value
            for name in _FIELDS
            if (value := getattr(options, name)) is not None
        }
        outcome = fill(
            options.base,
            _pairs(options.pairs, options)
            if options.pairs
            else read_texts(options.texts),
            options.out,
            method=method,
            recipe=replace(RECIPES[method], **given),
            teacher=_teacher(options.teacher),
            test=_pairs(options.test, options) if options.test else None,
            corpus=read_texts(options.corpus) if options.corpus else None,
        )
    except (OSError, ValueError, FloatingPointError, ChecksumError) as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on from here") from None
    model, report = options.out / "model", options.out / REPORT
    return f"{summary(outcome)}\n\nmodel: {model}\nreport: {report}"


def read_texts(path: Path) -> list[str]:
    """Read texts: one a line of ``.txt``, or the column ``text`` of a table."""
    from sbert_lab.datasets.pairs import DataError, read_table, read_utf8

    if path.suffix.lower() == ".txt":
        return [line for line in read_utf8(path).splitlines() if line.strip()]
    rows = [(row, record.get("text")) for row, record in read_table(path)[1]]
    problems = [
        f"{path}, row {row}: no column 'text', or an empty one"
        for row, text in rows
        if not isinstance(text, str) or not text.strip()
    ]
    if problems:
        raise DataError(problems)
    return [str(text) for _, text in rows]


def _pairs(path: Path, options: argparse.Namespace) -> "Pairs":
    """Read pairs whose columns have the names that the options give."""
    from sbert_lab.datasets.pairs import read_pairs

    roles = ("anchor", "positive", "negative")
    columns = {role: name for role in roles if (name := getattr(options, role))}
    if columns:
        columns = {"anchor": "anchor", "positive": "positive"} | columns
    return read_pairs(path, columns or None)


def _teacher(name: str | None) -> "Teacher | None":
    """Load a cross-encoder, or a sentence encoder: that has a pooling."""
    from sbert_lab.models.cross_encoder import CrossEncoder
    from sbert_lab.models.registry import resolve
    from sbert_lab.models.sentence_encoder import SentenceEncoder

    if name is None:
        return None
    folder = resolve(name)
    modules = folder / "modules.json"
    if modules.is_file() and "Pooling" in modules.read_text(encoding="utf-8"):
        return SentenceEncoder.from_pretrained(folder)
    return CrossEncoder.from_pretrained(folder)
