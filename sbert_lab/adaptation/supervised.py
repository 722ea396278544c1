"""Train an encoder on pairs, with hard negatives of its own search."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sbert_lab import losses
from sbert_lab._utils import quiet_transformers
from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.datasets.pairs import Pairs, plain
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training import TrainingData, fit, mine
from sbert_lab.training.hard_negatives import Mined, NoNegativesError
from sbert_lab.training.trainer import AnyEncoder, Curve, has_fast_bfloat16

log = logging.getLogger(__name__)

#: Tokens of a batch, by device; a larger one goes through the model in parts.
PLAIN_TOKENS = {"cpu": 8_192, "cuda": 1 << 17, "mps": 1 << 15}


def train_on_pairs(
    encoder: SentenceEncoder,
    pairs: Pairs,
    recipe: Recipe,
    mined: Mined | None = None,
    folder: Path | None = None,
) -> Curve:
    """Train an encoder on pairs, in place; return step and loss.

    `mined` are hard negatives of `mine_negatives`, beside those that the pairs have.
    Checkpoints go to `folder`, from which a stopped training goes on; None writes none.
    """
    wrong: list[list[str]] = [[own] for own in pairs.negative or ()]
    wrong = wrong or [[] for _ in pairs.anchor]
    if mined is not None:
        for own, found in zip(wrong, mined.columns()["negative"], strict=True):
            own += [text for text in found if text not in own]
    query, document = encoder.prompt_for("query"), encoder.prompt_for("document")
    columns: dict[str, Sequence[Any]] = {
        "anchor": [query + text for text in pairs.anchor],
        "positive": [document + text for text in pairs.positive],
    }
    if any(wrong):
        columns["negative"] = [[document + text for text in own] for own in wrong]
    data = TrainingData(columns, source=str(pairs.source))
    data.row_names = pairs.rows
    data.tokenize(encoder)
    answers: dict[str, set[str]] = {}
    for anchor, positive in zip(pairs.anchor, columns["positive"], strict=True):
        answers.setdefault(plain(anchor), set()).add(positive)
    # Of an anchor with several answers, in whatever spelling, none is a wrong one.
    known = [(query + a, p) for a in pairs.anchor for p in sorted(answers[plain(a)])]
    options: dict[str, Any] = {"temperature": recipe.temperature, "known": known}
    loss: losses.Objective = losses.MultipleNegativesRankingLoss(**options)
    tokens = recipe.batch_size * float(data.lengths().mean())
    if tokens > PLAIN_TOKENS.get(encoder.device.type, PLAIN_TOKENS["cpu"]):
        loss = losses.CachedMultipleNegativesRankingLoss(**options)
    return train(encoder, data, loss, recipe, folder)


def mine_negatives(
    encoder: SentenceEncoder,
    pairs: Pairs,
    recipe: Recipe,
    candidates: Sequence[str] | None = None,
    cache: EmbeddingCache | None = None,
) -> Mined | None:
    """Mine hard negatives as a recipe says, from `candidates` or else the positives.

    Returns None where none is safe, since the base knows nothing of the field: the
    other answers of a batch are then all to learn from.
    """
    if not recipe.negatives:
        return None
    try:
        return mine(
            encoder,
            pairs.anchor,
            pairs.positive,
            corpus=candidates,
            per_anchor=recipe.negatives,
            rank=recipe.rank,
            relative_margin=recipe.relative_margin,
            seed=recipe.seed,
            cache=cache,
        )
    except NoNegativesError as error:
        log.warning("no hard negatives: %s", error)
        return None


def train(
    encoder: AnyEncoder,
    data: TrainingData,
    objective: losses.Objective,
    recipe: Recipe,
    folder: Path | None = None,
) -> Curve:
    """Train by a recipe's numbers, going on from the last checkpoint in `folder`."""
    with quiet_transformers():
        return fit(
            encoder,
            data,
            objective,
            folder=folder,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            warmup_steps=recipe.warmup,
            seed=recipe.seed,
            bf16=has_fast_bfloat16(),
            save_strategy="no" if folder is None else "steps",
            save_steps=0.05,
        )
