"""The settings of an adaptation, and the options that give them."""

import argparse
import hashlib
import json
from dataclasses import dataclass, fields
from math import inf
from pathlib import Path

#: Settings that the command line gives, too; the least and largest value of each.
RANGES = {
    "epochs": (1, inf),
    "batch_size": (2, inf),
    "learning_rate": (1e-12, 1),
    "negatives": (0, inf),
    "relative_margin": (0, 1),
    "base_weight": (0, 1),
    "seed": (0, inf),
}


@dataclass(frozen=True)
class Recipe:
    """How to adapt a model; the defaults suit a few hundred pairs and more."""

    epochs: int = 2  #: how often every pair, or text, is seen
    batch_size: int = 64  #: each one's wrong answers are those of the others in it
    learning_rate: float = 2e-4  #: the highest one; it falls to 0 from there
    temperature: float = 0.05  #: τ of multiple negatives ranking
    negatives: int = 2  #: hard negatives to mine for each anchor; 0 mines none
    rank: tuple[int, int] = (0, 10)  #: they are drawn from these ranks of a search
    #: How far below the right answer's similarity they stay, as a share of it.
    relative_margin: float | None = None
    #: Share of the base's weights in the average at the end: more forgets less.
    base_weight: float = 0.4
    warmup: float = 0.1  #: share of the steps in which the learning rate rises
    test_share: float = 0.2  #: of the pairs, kept aside where no test is given
    seed: int = 0  #: of the split, the negatives, the batches and dropout

    def __post_init__(self) -> None:
        """Refuse a number that is out of range."""
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name}={value}: from {least:g} to {most:g}")
        begin, end = self.rank
        if not 0 <= begin < end or end - begin < self.negatives:
            raise ValueError(
                f"rank={self.rank}: no room for {self.negatives} negatives"
            )


#: The defaults by method, the last two for texts without pairs.
RECIPES = {
    "pairs": Recipe(),
    "simcse": Recipe(1, 64, 3e-5, base_weight=0),
    "tsdae": Recipe(1, 8, 3e-5, base_weight=0),
}


def sha256_of(value: object) -> str:
    """Return the hash of a value that JSON can take."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``python -m sbert_lab adapt``."""
    add = parser.add_argument
    add("--base", required=True, help="the model to begin with")
    add(
        "--out", type=Path, required=True, help="a new folder, or that of a stopped run"
    )
    add = parser.add_argument_group("what belongs together").add_argument
    add("--pairs", type=Path, help="your own CSV, TSV, JSONL or Parquet")
    add("--anchor", help="its column of queries, if not 'anchor'")
    add("--positive", help="its column of answers, if not 'positive'")
    add("--negative", help="its column of wrong answers, if it has one")
    add("--test", type=Path, help="pairs to test on; else a fifth, 20 or more")
    texts = ".txt, one text a line, or a column 'text' of a table"
    add("--corpus", type=Path, help=f"what is searched, if more than answers: {texts}")
    add = parser.add_argument_group("without pairs").add_argument
    add("--texts", type=Path, help=texts)
    add("--method", choices=[method for method in RECIPES if method != "pairs"])
    recipe = parser.add_argument_group("the recipe; the defaults usually do")
    for field in fields(Recipe):
        if field.name in RANGES:
            option = f"--{field.name.replace('_', '-')}"
            kind = int if field.type is int else float
            recipe.add_argument(option, type=kind, help=f"for pairs {field.default}")
