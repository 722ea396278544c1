"""Train on texts alone: by SimCSE, TSDAE, or pseudo-labels of a teacher (GPL).

The first two make an encoder at home in the words of a field; which texts belong
together they cannot teach. For pseudo-labels, queries are cut out of the texts, and a
cross-encoder, the teacher, says by how much each text answers them.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbert_lab import losses
from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.adaptation.supervised import mine_negatives, train
from sbert_lab.datasets.pairs import LEAST, DataError, Pairs, plain
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training import TrainingData
from sbert_lab.training.trainer import Curve

log = logging.getLogger(__name__)

QUERIES_PER_TEXT = 3  # of pseudo-labels, as in Wang et al. 2022
CROP = (0.1, 0.5)  # least and largest share of a text's words in a query
DELETED = 0.1  # probability that a word of a query is left out


def train_on_texts(
    method: str,
    encoder: SentenceEncoder,
    texts: Sequence[str],
    recipe: Recipe,
    teacher: CrossEncoder | None = None,
    folder: Path | None = None,
) -> Curve:
    """Train an encoder on texts alone, in place; return step and loss.

    ``"simcse"`` is `SimCSELoss` and ``"tsdae"`` `DenoisingAutoEncoderLoss`, for which
    not every architecture has a decoder (BERT has, MPNet has not). ``"pseudo-labels"``
    is `pseudo_labels` of a teacher and then `train_margin_mse`. `folder` is as for
    `train_on_pairs`.

    Sources: Gao, Yao and Chen 2021, section 3 (SimCSE); Wang, Reimers and Gurevych 2021
    (TSDAE); Wang, Thakur, Reimers and Gurevych 2022 (GPL).
    """
    kept = different_texts(texts)
    if method == "pseudo-labels" and teacher is not None:
        columns = pseudo_labels(encoder, kept, recipe, teacher)
        return train_margin_mse(encoder, columns, recipe, folder)
    if method == "simcse":
        loss: losses.Objective = losses.SimCSELoss(recipe.temperature)
    elif method == "tsdae":
        loss = losses.DenoisingAutoEncoderLoss(encoder, seed=recipe.seed)
    else:
        raise ValueError(f"{method!r}: simcse, tsdae, or pseudo-labels of a teacher")
    data = TrainingData({"text": kept}, source="texts")
    return train(encoder, data, loss, recipe, folder)


def pseudo_labels(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    recipe: Recipe,
    teacher: CrossEncoder,
) -> dict[str, list[Any]]:
    """Make rows for `train_margin_mse` from texts alone.

    Of every text `crops` are made, the encoder itself finds what it would confuse with
    their text, and the teacher says by how much the right text is better.

    Source: Wang, Thakur, Reimers and Gurevych 2022, section 3 (GPL).
    """
    made = []
    for text in texts:
        queries = {plain(q): q for q in crops(text, QUERIES_PER_TEXT, recipe.seed)}
        made += [(query, text) for query in queries.values()]
    if short := len(texts) - len({text for _, text in made}):
        log.warning("%d of %d texts have one word: no query is cut", short, len(texts))
    if not made:
        raise DataError(f"none of {len(texts)} texts has two words to cut a query of")
    anchor, positive = zip(*made, strict=True)
    mined = mine_negatives(encoder, Pairs(anchor, positive), recipe, texts)
    if mined is None:
        raise DataError(f"{len(texts)} texts are too alike to tell a wrong answer")
    return margin_columns(teacher, mined.triplets())


def crops(text: str, count: int, seed: int) -> list[str]:
    """Return `count` queries: runs of a text's words, with some words left out.

    A text of one word has none. Where the text stands in a list plays no part.

    Sources: Lee, Chang and Toutanova 2019, section 4 (inverse cloze task); Izacard et
    al. 2022, section 3.1 (independent cropping and deletion; 10 % to 50 %, 10 %).
    """
    words = np.array(text.split(), object)
    most = len(words) - 1
    if most < 1:
        return []
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    own = np.frombuffer(digest[:16], np.uint32).tolist()
    rng = np.random.default_rng([seed, *own])
    low, high = (min(max(round(share * len(words)), 1), most) for share in CROP)
    queries = []
    for _ in range(count):
        length = int(rng.integers(low, high + 1))
        start = int(rng.integers(0, len(words) - length + 1))
        luck = rng.random(length)
        stays = luck >= DELETED
        stays[luck.argmax()] = True  # one word at least
        queries.append(" ".join(words[start : start + length][stays]))
    return queries


def margin_columns(
    teacher: CrossEncoder, triplets: Mapping[str, Sequence[str]]
) -> dict[str, list[Any]]:
    """Return triplets with ``label``: the teacher's score of positive minus negative.

    `triplets` are columns ``anchor``, ``positive`` and ``negative``. Scores are those
    before any activation: behind a sigmoid the margins of easy pairs would all be 1.
    """
    right = list(zip(triplets["anchor"], triplets["positive"], strict=True))
    wrong = list(zip(triplets["anchor"], triplets["negative"], strict=True))
    different = list(dict.fromkeys(right + wrong))
    scores = teacher.predict(*zip(*different, strict=True), activation=None)
    score = dict(zip(different, scores.astype(np.float64).tolist(), strict=True))
    label = [score[p] - score[n] for p, n in zip(right, wrong, strict=True)]
    return {**{role: list(texts) for role, texts in triplets.items()}, "label": label}


def train_margin_mse(
    encoder: SentenceEncoder,
    columns: Mapping[str, Sequence[Any]],
    recipe: Recipe,
    folder: Path | None = None,
) -> Curve:
    """Train an encoder so that its score margins are those of a teacher, in place.

    Scores are dot products. Texts are read with the encoder's prompts. `columns` are
    those of `margin_columns`, `folder` is as for `train_on_pairs`.

    Source: Hofstätter et al. 2020, equation 5.
    """
    query, document = encoder.prompt_for("query"), encoder.prompt_for("document")
    fronts = {"anchor": query, "positive": document, "negative": document}
    texts = {
        role: [front + text for text in columns[role]] for role, front in fronts.items()
    }
    scale = margin_scale(encoder, texts, columns["label"])
    label = [scale * float(margin) for margin in columns["label"]]
    data = TrainingData({**texts, "label": label}, source="margins")
    return train(encoder, data, losses.MarginMSELoss(), recipe, folder)


def margin_scale(
    encoder: SentenceEncoder,
    texts: Mapping[str, Sequence[str]],
    margins: Sequence[float],
) -> float:
    """Return what a teacher's margins are to be multiplied with for this encoder.

    Unit vectors cannot differ in score by more than 2, and a cross-encoder's margins
    are often 10. For an encoder of unit vectors they get the root mean square of its
    own on the same rows; for others this is 1.
    """
    query, positive, negative = (
        encoder.encode(column, prompt="").astype(np.float64)
        for column in texts.values()
    )
    lengths = np.linalg.norm([query, positive, negative], axis=-1)
    if not np.allclose(lengths, 1, atol=1e-3):
        return 1.0
    own = (query * (positive - negative)).sum(1)
    size, wanted = (float(np.sqrt(np.mean(np.square(m)))) for m in (own, margins))
    if not size or not wanted:
        raise ValueError("encoder or teacher scores each positive like its negative")
    return size / wanted


def different_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """Return different texts (`plain`), the first of each."""
    kept: dict[str, str] = {}
    for text in texts:
        kept.setdefault(plain(text), text)
    if "" in kept or len(kept) < LEAST:
        raise DataError(f"{len(kept)} different texts; bring {LEAST}, none empty")
    return tuple(kept.values())
