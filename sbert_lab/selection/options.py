"""What `python -m sbert_lab select` can be told; imports nothing that takes time."""

import argparse
from pathlib import Path


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
    add_columns(data)
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


def add_columns(group: "argparse._ArgumentGroup") -> None:
    """Give a group the options that name the columns of a file of pairs."""
    group.add_argument("--anchor", help="its column of queries, if not 'anchor'")
    group.add_argument("--positive", help="its column of answers, if not 'positive'")
    group.add_argument("--negative", help="its column of wrong answers, if it has one")
