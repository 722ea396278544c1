"""A tiny model, made-up pairs that can be learned, and an adaptation of a second."""

from pathlib import Path

import numpy as np
from conftest import random_bert, word_tokenizer

from sbert_lab import SentenceEncoder
from sbert_lab.adaptation import adapt as module
from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.models.checkpoint import Layout

HEAD = "ba ko mi ru te su la no pe vi do ga".split()
TAIL = "lan mor tis ket vun pol das rim".split()
WORDS = [f"{a}{b}" for a in HEAD for b in TAIL]
WIDTH = 32

#: Twelve steps of training, the last batch of each epoch a smaller one.
RECIPE = Recipe(2, 16, 2e-3, rank=(0, 40), relative_margin=0.0, base_weight=0.25)


def make_base(folder: Path, seed: int = 0) -> Path:
    """Save a random two-layer BERT of unit vectors that knows the words."""
    tokenizer = word_tokenizer(WORDS, 24)
    model = random_bert(len(tokenizer), WIDTH, seed)
    layout = Layout(dimension=WIDTH, head=("normalize",))
    SentenceEncoder(model, tokenizer, layout).save(folder)
    return folder


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return different sentences of 2 to 7 words."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(rng.choice(WORDS, rng.integers(2, 8)))] = None
    return list(found)


def own_pairs(count: int = 120, seed: int = 0, source: str = "own.csv") -> Pairs:
    """Return pairs with two words in common; every fourth answer is of two anchors."""
    rng = np.random.default_rng([seed, 1])
    anchors = sentences(count, seed)
    positives: list[str] = []
    for number, anchor in enumerate(anchors):
        common = rng.permutation(anchor.split())[:2]
        text = " ".join([*rng.choice(WORDS, 2), *common])
        positives.append(positives[-1] if number % 4 == 1 else text)
    return Pairs(tuple(anchors), tuple(positives), source=Path(source))


def general(count: int = 12) -> dict[str, ScoredPairs]:
    texts = sentences(2 * count, seed=99)
    score = np.random.default_rng(9).uniform(0, 5, count).tolist()
    pairs = ScoredPairs(tuple(texts[:count]), tuple(texts[count:]), tuple(score))
    return {"made up": pairs}


def run(base: Path, out: Path, pairs=None, **options):
    return module.adapt(base, pairs or own_pairs(), out, **{"recipe": RECIPE} | options)


def load(folder: Path) -> SentenceEncoder:
    return SentenceEncoder.from_pretrained(folder, device="cpu")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
