"""Generative pseudo-labelling: queries are made up, and a second model marks them.

From every text of the domain a `Generator` makes queries; the encoder itself finds what
it would confuse with their answer; a judge, at best a cross-encoder, says by how much
the answer is better. A found text that answers as well gets a margin near 0, so that
wrong negatives do little harm.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbert_lab._utils import progress
from sbert_lab.adaptation.generators import Generator
from sbert_lab.adaptation.unlabelled import different_texts
from sbert_lab.datasets.pairs import plain
from sbert_lab.index.exact import normalized
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import (
    Encoder,
    encode_documents,
    encode_queries,
    metric_of,
)
from sbert_lab.training.hard_negatives import mine

log = logging.getLogger(__name__)

#: Scores m pairs of (anchor, text), larger is more alike, ``[m]``.
Judge = Callable[[list[tuple[str, str]]], ArrayLike]

_PAIRS_AT_ONCE = 1_024  # for the judge


def judge_scores(
    judge: Judge, pairs: list[tuple[str, str]], show: bool | None
) -> NDArray[np.float64]:
    """Return the judge's scores of m pairs, float64 ``[m]``, asked for in parts."""
    scores = np.empty(len(pairs))
    with progress(len(pairs), "judge", show=show) as move:
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = pairs[start : start + _PAIRS_AT_ONCE]
            found = np.asarray(judge(part), np.float64)
            if found.shape != (len(part),) or not np.isfinite(found).all():
                raise ValueError(
                    f"the judge gave scores of shape {list(found.shape)} for "
                    f"{len(part)} pairs; it must give one finite number a pair"
                )
            scores[start : start + len(part)] = found
            move(len(part))
    return scores


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
    """Make rows for `margins.train_on_margins` from texts alone (GPL).

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
    scores = dict(
        zip(pairs, judge_scores(score, pairs, show_progress).tolist(), strict=True)
    )
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
            "without": int((mined.negatives < 0).all(1).sum()),
        },
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
