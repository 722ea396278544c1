"""Train on texts alone, by SimCSE or TSDAE.

Both make an encoder at home in the words of a field; which texts belong together they
cannot teach.
"""

from collections.abc import Sequence
from pathlib import Path

from sbert_lab import losses
from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.adaptation.supervised import train
from sbert_lab.datasets.pairs import LEAST, DataError, plain
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training import TrainingData
from sbert_lab.training.trainer import Curve


def train_on_texts(
    method: str,
    encoder: SentenceEncoder,
    texts: Sequence[str],
    recipe: Recipe,
    folder: Path | None = None,
) -> Curve:
    """Train an encoder on texts alone, in place; return step and loss.

    ``"simcse"`` is `SimCSELoss` and ``"tsdae"`` `DenoisingAutoEncoderLoss`, for which
    not every architecture has a decoder (BERT has, MPNet has not). `folder` is as for
    `train_on_pairs`.

    Sources: Gao, Yao and Chen 2021, section 3 (SimCSE); Wang, Reimers and Gurevych 2021
    (TSDAE).
    """
    kept = different_texts(texts)
    if method == "simcse":
        loss: losses.Objective = losses.SimCSELoss(recipe.temperature)
    elif method == "tsdae":
        loss = losses.DenoisingAutoEncoderLoss(encoder, seed=recipe.seed)
    else:
        raise ValueError(f"{method!r}: simcse or tsdae")
    data = TrainingData({"text": kept}, source="texts")
    return train(encoder, data, loss, recipe, folder)


def different_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """Return different texts (`plain`), the first of each."""
    kept: dict[str, str] = {}
    for text in texts:
        kept.setdefault(plain(text), text)
    if "" in kept or len(kept) < LEAST:
        raise DataError(f"{len(kept)} different texts; bring {LEAST}, none empty")
    return tuple(kept.values())
