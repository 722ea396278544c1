"""Training on a judge's margins, and the whole way from texts to there (GPL)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbert_lab.adaptation.generators import CropGenerator, Generator
from sbert_lab.adaptation.pseudo_labels import Judge, PseudoLabels, pseudo_labels
from sbert_lab.adaptation.stages import prompts
from sbert_lab.adaptation.unlabelled import Adapted
from sbert_lab.losses.margin_mse import MarginMSELoss
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training.data import TrainingData, check_columns
from sbert_lab.training.trainer import Curve, fit

_UNIT = 1e-3  # how far from 1 the length of a unit vector may be


def margin_scale(
    encoder: SentenceEncoder, columns: Mapping[str, Sequence[Any]]
) -> float:
    """Return what a judge's margins are to be multiplied with for this encoder.

    Unit vectors cannot differ in score by more than 2, and a cross-encoder's margins
    are often 10: no training would reach them, and the attempt would tear the vectors
    apart. For such an encoder the margins get the root mean square of its own on the
    same rows; their order and their proportions stay. For all others it is 1.

    Raises
    ------
    ValueError
        The judge, or the encoder, finds no difference in any row.
    """
    read = _prompted(encoder, columns)
    vectors = [
        encoder.encode(read[role], prompt="").astype(np.float64)
        for role in MarginMSELoss.roles
    ]
    lengths = np.linalg.norm(np.concatenate(vectors), axis=1)
    if np.abs(lengths - 1).max() > _UNIT:
        return 1.0
    query, positive, negative = vectors
    own = (query * (positive - negative)).sum(1)
    wanted = np.asarray(columns["label"], np.float64)
    sizes = [float(np.sqrt(np.mean(gap**2))) for gap in (own, wanted)]
    for who, size in zip(("encoder", "judge"), sizes, strict=True):
        if not size > 0:
            raise ValueError(
                f"the {who} scores every positive like its negative, so that there is "
                "nothing to learn from: take another one, or give scale=…"
            )
    return sizes[0] / sizes[1]


def train_on_margins(
    encoder: SentenceEncoder,
    columns: Mapping[str, Sequence[Any]] | PseudoLabels,
    *,
    scale: float | None = None,
    epochs: float = 1,
    batch_size: int = 32,
    rate: float = 2e-5,
    seed: int = 0,
    bf16: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    show_progress: bool | None = None,
    **arguments: Any,  # noqa: ANN401
) -> Curve:
    """Train an encoder so that its score margins are those of a judge, in place.

    Scores are dot products, whatever the encoder's own measure; where its vectors have
    unit length that is the cosine. An encoder that puts a prompt in front of queries or
    documents is trained with it.

    Parameters
    ----------
    encoder
        To be trained; left in evaluation mode.
    columns
        ``anchor``, ``positive``, ``negative`` and ``label``, the margin.
    scale
        What margins are multiplied with; None asks `margin_scale`. To resume a
        training, give the encoder as it was at the beginning, or the number.
    epochs, batch_size, rate
        How often each row is seen, rows in a step, and the highest learning rate.
    seed, bf16, folder, resume, show_progress, arguments
        As for `simcse`.

    Returns
    -------
    Curve
        Steps and losses.

    Raises
    ------
    DataError, ValueError
        Columns or numbers that cannot be used.

    Source: Hofstätter et al. 2020, equation 5.
    """
    if isinstance(columns, PseudoLabels):
        columns = columns.columns()
    if scale is not None and not scale > 0:
        raise ValueError(f"scale={scale}: above 0, or None for the usual one")
    if any(prompts(encoder)) and not encoder.layout.include_prompt:
        raise ValueError(
            "this encoder does not pool its prompts' tokens, and training would: load "
            "it with include_prompt"
        )
    check_columns(TrainingData(columns, source="pseudo-labels"), MarginMSELoss())
    factor = margin_scale(encoder, columns) if scale is None else scale
    label = [factor * float(margin) for margin in columns["label"]]
    data = TrainingData(
        {**_prompted(encoder, columns), "label": label}, source="pseudo-labels"
    )
    return fit(
        encoder,
        data,
        MarginMSELoss(),
        folder=folder,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=rate,
        seed=seed,
        bf16=bf16,
        resume=resume,
        show_progress=show_progress,
        **arguments,
    )


def gpl(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    *,
    judge: Judge | CrossEncoder | None = None,
    generator: Generator | None = None,
    per_text: int = 3,
    negatives: int = 1,
    rank: tuple[int, int | None] = (0, 50),
    scale: float | None = None,
    epochs: float = 1,
    batch_size: int = 32,
    rate: float = 2e-5,
    seed: int = 0,
    bf16: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    cache: EmbeddingCache | None = None,
    show_progress: bool | None = None,
    **arguments: Any,  # noqa: ANN401
) -> Adapted:
    """Train an encoder on texts alone by `pseudo_labels` and `train_on_margins`.

    Parameters
    ----------
    encoder
        To be trained, in place; left in evaluation mode.
    texts
        Of the domain: what will be searched.
    judge
        Must be given: what is learnt is what it knows.
    generator
        By default `CropGenerator`, which needs no model.
    per_text, negatives, rank, cache
        As for `pseudo_labels`.
    scale
        As for `train_on_margins`.
    epochs, batch_size, rate, seed, bf16, folder, resume, show_progress, arguments
        As for `simcse`. To resume, give the encoder as it was at the beginning: the
        rows are made again, and must be the same.

    Raises
    ------
    DataError, ValueError
        As `pseudo_labels` and `train_on_margins`.

    Source: Wang, Thakur, Reimers and Gurevych 2022 (GPL).
    """
    if judge is None:
        raise ValueError(
            "pseudo-labels need a judge: judge=CrossEncoder.from_pretrained(…), or, "
            "where there is none, similarity_judge of a better encoder"
        )
    if resume and folder is None:
        raise ValueError("resume=True needs the folder that holds the checkpoints")
    maker: Generator = CropGenerator() if generator is None else generator
    labels = pseudo_labels(
        encoder,
        texts,
        maker,
        judge,
        per_text=per_text,
        negatives=negatives,
        rank=rank,
        seed=seed,
        cache=cache,
        show_progress=show_progress,
    )
    factor = margin_scale(encoder, labels.columns()) if scale is None else scale
    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "bf16": bf16,
    }
    found = train_on_margins(
        encoder,
        labels,
        scale=factor,
        rate=rate,
        folder=folder,
        resume=resume,
        show_progress=show_progress,
        **settings,
        **arguments,
    )
    recipe = {
        **settings,
        "learning_rate": rate,
        "per_text": per_text,
        "negatives": negatives,
        "rank": list(rank),
        "scale": factor,
        "generator": _name(maker),
        "judge": _name(judge),
        **arguments,
    }
    return Adapted(
        "pseudo-labels",
        recipe,
        texts=labels.texts,
        duplicates=labels.duplicates,
        rows=len(labels),
        steps=found[-1][0],
        curve=found,
        mined=labels.mined,
        counts=labels.counts,
    )


def _prompted(
    encoder: SentenceEncoder, columns: Mapping[str, Sequence[Any]]
) -> dict[str, list[str]]:
    """Return the texts as the encoder reads them in use."""
    query, document = prompts(encoder)
    front = {"anchor": query, "positive": document, "negative": document}
    return {role: [front[role] + text for text in columns[role]] for role in front}


def _name(thing: object) -> str:
    """Name a generator or a judge for records."""
    named = getattr(thing, "fingerprint", None)
    name = type(thing).__name__
    return f"{name} {named()}" if callable(named) else name
