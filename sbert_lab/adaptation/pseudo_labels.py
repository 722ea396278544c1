"""Generative pseudo-labelling: queries are made up, and a second model marks them.

From every text of the domain a `Generator` makes queries; the encoder itself finds what
it would confuse with their answer; a judge, at best a cross-encoder, says by how much
the answer is better. A found text that answers as well gets a margin near 0, so that
wrong negatives do little harm.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbert_lab.adaptation.generators import CropGenerator, Generator
from sbert_lab.adaptation.unlabelled import Adapted, different_texts
from sbert_lab.cache import EmbeddingCache
from sbert_lab.cross_encoder import CrossEncoder
from sbert_lab.datasets.pairs import plain
from sbert_lab.encoder import SentenceEncoder
from sbert_lab.exact import normalized
from sbert_lab.interface import (
    Encoder,
    encode_documents,
    encode_queries,
    metric_of,
)
from sbert_lab.losses.margin_mse import MarginMSELoss
from sbert_lab.mining.choice import Judge, judged
from sbert_lab.mining.hard import mine
from sbert_lab.training.data import TrainingData
from sbert_lab.training.settings import Trained, train_usually
from sbert_lab.training.trainer import SentenceTrainer

log = logging.getLogger(__name__)

_UNIT = 1e-3  # how far from 1 the length of a unit vector may be


@dataclass(frozen=True)
class CrossEncoderJudge:
    """A cross-encoder as a judge: its scores before any activation.

    Behind a sigmoid the margins of easy pairs would all be 1.

    Parameters
    ----------
    encoder
        The cross-encoder.
    """

    encoder: CrossEncoder

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Score m pairs, float32 ``[m]``."""
        first, second = zip(*pairs, strict=True)
        return self.encoder.predict(first, second, activation=None, show_progress=False)

    def fingerprint(self) -> str:
        """Name the judge in caches and records."""
        return f"cross-encoder {self.encoder.fingerprint()}"


@dataclass(frozen=True)
class SimilarityJudge:
    """A bi-encoder as a judge: the similarity of two texts, by its own measure.

    Another encoder than the one to be trained, a larger one, teaches what it knows: the
    student learns to rank as it does. The encoder itself teaches nothing about the
    domain. Its margins are those that it has already, so that the loss begins near 0
    and only noise, of dropout and rounding, moves the weights (self-distillation). No
    wrong negative is found out in this way, for whoever confuses two texts judges them.
    Good for a trial of the whole path, and as what a real judge must beat.

    Parameters
    ----------
    encoder
        Its ``encode_query`` and ``encode_document`` are used, if it has them.
    """

    encoder: Encoder

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """Score m pairs, float64 ``[m]``."""
        sides = []
        for encode, column in zip(
            (encode_queries, encode_documents), zip(*pairs, strict=True), strict=True
        ):
            place = {text: row for row, text in enumerate(dict.fromkeys(column))}
            found = np.asarray(encode(self.encoder, list(place)), np.float32)
            if metric_of(self.encoder) == "cosine":
                found = normalized(found)
            sides.append(found[[place[text] for text in column]].astype(np.float64))
        return np.asarray((sides[0] * sides[1]).sum(1))

    def fingerprint(self) -> str:
        """Name the judge in caches and records."""
        own = getattr(self.encoder, "fingerprint", None)
        name = own() if callable(own) else type(self.encoder).__name__
        return f"similarity {name}"


def similarity_judge(encoder: Encoder) -> SimilarityJudge:
    """Return an encoder as a judge; `SimilarityJudge` says what that teaches."""
    return SimilarityJudge(encoder)


@dataclass(frozen=True)
class PseudoLabels:
    """Made-up queries, their texts, hard negatives, and margins; n rows.

    Parameters
    ----------
    anchor, positive, negative
        A query, the text that it was made from, and another one that is near it.
    margin
        The judge's score of the positive minus that of the negative, float64 ``[n]``.
    texts, duplicates
        Different texts, and repeated ones that were left out.
    mined
        How many candidates mining took away, by reason.
    counts
        ``queries`` that were kept; ``same`` that were empty, said the whole text or
        repeated another query of it, and were dropped; ``silent`` texts without any
        query; ``without`` a negative, queries.
    """

    anchor: tuple[str, ...] = field(repr=False)
    positive: tuple[str, ...] = field(repr=False)
    negative: tuple[str, ...] = field(repr=False)
    margin: NDArray[np.float64] = field(repr=False)
    texts: int
    duplicates: int
    mined: Mapping[str, int]
    counts: Mapping[str, int]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.anchor)

    def columns(self) -> dict[str, list[Any]]:
        """Return ``anchor``, ``positive``, ``negative``, ``label``: the margin."""
        return {
            "anchor": list(self.anchor),
            "positive": list(self.positive),
            "negative": list(self.negative),
            "label": self.margin.tolist(),
        }


def pseudo_labels(
    encoder: Encoder,
    texts: Sequence[str],
    generator: Generator,
    judge: Judge | CrossEncoder,
    *,
    per_text: int = 3,
    negatives: int = 1,
    rank: tuple[int, int | None] = (0, 50),
    seed: int = 0,
    cache: EmbeddingCache | None = None,
    show_progress: bool | None = None,
) -> PseudoLabels:
    """Make rows for `train_on_margins` from texts alone (GPL).

    Parameters
    ----------
    encoder
        The one to be trained; it finds the negatives.
    texts
        Of the domain: what will be searched.
    generator
        Makes queries from a text.
    judge
        A cross-encoder, or a function of a list of m (query, text) to m scores.
    per_text
        Queries for each text, at most. The paper took 3, or more where texts were few.
    negatives
        For each query, at most.
    rank
        From which rank of the encoder's results negatives are drawn, 0 is the nearest,
        up to and without which. The paper drew one among the first 50.
    seed
        Of the queries and of the draw.
    cache
        Keeps vectors and what was mined.
    show_progress
        Bars on standard error; by default for long work on a terminal.

    Raises
    ------
    DataError
        Rows that are not texts, or of which the generator can make nothing.
    ValueError
        Fewer than two different texts, no query left, or what `mining.mine` refuses.

    Source: Wang, Thakur, Reimers and Gurevych 2022, section 3 (GPL).
    """
    for name, value in (("per_text", per_text), ("negatives", negatives)):
        if value < 1:
            raise ValueError(f"{name}={value}: one or more")
    if isinstance(judge, SimilarityJudge) and judge.encoder is encoder:
        log.warning(
            "the judge is the encoder itself, which teaches it nothing new; give a "
            "cross-encoder if there is one"
        )
    score = CrossEncoderJudge(judge) if isinstance(judge, CrossEncoder) else judge
    kept = different_texts(texts)
    found = generator.generate(kept, per_text, seed)
    queries = [
        _different_queries(text, made)
        for text, made in zip(kept, _checked(generator, kept, found), strict=True)
    ]
    anchors = [query for made in queries for query in made]
    positives = [text for text, made in zip(kept, queries, strict=True) for _ in made]
    if not anchors:
        raise ValueError(
            f"{type(generator).__name__} made no query that differs from its text, of "
            f"{len(kept)} texts: take another generator, or longer texts"
        )
    mined = mine(
        encoder,
        anchors,
        positives,
        corpus=kept,
        per_anchor=negatives,
        rank=rank,
        sampling="random",
        seed=seed,
        cache=cache,
        show_progress=show_progress,
    )
    rows = mined.triplets()
    right = list(zip(rows["anchor"], rows["positive"], strict=True))
    wrong = list(zip(rows["anchor"], rows["negative"], strict=True))
    # A query's own text is asked for once, however many negatives it has.
    pairs = list(dict.fromkeys(right + wrong))
    scores = dict(zip(pairs, judged(score, pairs, show_progress).tolist(), strict=True))
    margin = np.array(
        [scores[p] - scores[n] for p, n in zip(right, wrong, strict=True)]
    )
    return PseudoLabels(
        tuple(rows["anchor"]),
        tuple(rows["positive"]),
        tuple(rows["negative"]),
        margin,
        texts=len(kept),
        duplicates=len(texts) - len(kept),
        mined=dict(mined.removed),
        counts={
            "queries": len(anchors),
            "same": sum(map(len, found)) - len(anchors),
            "silent": sum(not made for made in queries),
            "without": mined.without,
        },
    )


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
    vectors = [
        encoder.encode(columns[role], prompt="").astype(np.float64)
        for role in ("anchor", "positive", "negative")
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
) -> Trained:
    """Train an encoder so that its score margins are those of a judge, in place.

    Scores are dot products, whatever the encoder's own measure; where its vectors have
    unit length that is the cosine.

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
    Trained
        Steps and loss curve.

    Raises
    ------
    DataError, ValueError
        Columns or numbers that cannot be used.

    Source: Hofstätter et al. 2020, equation 5.
    """
    if isinstance(columns, PseudoLabels):
        columns = columns.columns()
    data = TrainingData(columns, source="pseudo-labels")
    if scale is not None and not scale > 0:
        raise ValueError(f"scale={scale}: above 0, or None for the usual one")
    if data.label is not None and len({*data.roles} & {*MarginMSELoss.roles}) == 3:
        factor = margin_scale(encoder, columns) if scale is None else scale
        columns = {**columns, "label": [factor * float(m) for m in columns["label"]]}
        data = TrainingData(columns, source="pseudo-labels")
    return train_usually(
        lambda args: SentenceTrainer(encoder, args, data, MarginMSELoss()),
        device=encoder.device,
        folder=folder,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=rate,
        seed=seed,
        bf16=bf16,
        resume=resume,
        show_progress=show_progress,
        arguments=arguments,
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
        steps=found.output.global_step,
        curve=found.curve,
        mined=labels.mined,
        counts=labels.counts,
    )


def _checked(
    generator: Generator, texts: Sequence[str], found: Sequence[Sequence[str]]
) -> Sequence[Sequence[str]]:
    """Refuse what a generator must not give."""
    name = type(generator).__name__
    if len(found) != len(texts):
        raise ValueError(
            f"{name} gave {len(found)} lists of queries for {len(texts)} texts; it "
            "must give one for each text"
        )
    for row, made in enumerate(found):
        if isinstance(made, str) or not all(isinstance(query, str) for query in made):
            raise ValueError(f"{name}, text {row}: {made!r} is not a list of texts")
    return found


def _different_queries(text: str, made: Sequence[str]) -> list[str]:
    """Return the queries that say something of their own, in their order."""
    kept: dict[str, str] = {}
    for query in made:
        kept.setdefault(plain(query), query)
    return [query for form, query in kept.items() if form and form != plain(text)]


def _name(thing: object) -> str:
    """Name a generator or a judge for records."""
    named = getattr(thing, "fingerprint", None)
    name = type(thing).__name__
    return f"{name} {named()}" if callable(named) else name
