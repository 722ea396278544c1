"""What `python -m sbert_lab adapt` can be told; imports nothing that takes time."""

import argparse
from pathlib import Path

from sbert_lab.selection.options import add_columns


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
    add_columns(data)
    data.add_argument(
        "--test", type=Path, help="pairs to test on; by default a fifth is kept aside"
    )
    data.add_argument(
        "--corpus",
        type=Path,
        help="what is searched: .txt, one text a line, or a column 'text' of CSV, TSV "
        "or JSONL; by default all answers",
    )
    alone = parser.add_argument_group("without pairs")
    alone.add_argument("--texts", type=Path, help="texts, as for --corpus")
    alone.add_argument(
        "--method", choices=("simcse", "tsdae", "pseudo-labels"), help="for --texts"
    )
    alone.add_argument(
        "--judge",
        help="of pseudo-labels: a cross-encoder, or a better encoder than the base",
    )
    recipe = parser.add_argument_group("the recipe; the defaults usually do")
    recipe.add_argument("--epochs", type=int, help="how often each pair is seen")
    recipe.add_argument("--batch-size", type=int, help="pairs in a batch")
    recipe.add_argument("--rate", type=float, help="highest learning rate")
    recipe.add_argument(
        "--negatives", type=int, help="hard negatives for each anchor; 0 mines none"
    )
    recipe.add_argument(
        "--margin",
        type=float,
        help="share by which hard negatives stay below the right answer, such as 0.05, "
        "where many right answers were never written down; by default any near one may "
        "be mined",
    )
    recipe.add_argument(
        "--keep",
        type=float,
        help="share of the base in the average at the end: more forgets less",
    )
    recipe.add_argument("--seed", type=int, default=0)
