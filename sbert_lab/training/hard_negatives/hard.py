"""Find hard negatives for pairs of texts, with all guards in their order."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sbert_lab._utils import Metric, Vectors
from sbert_lab.evaluation.sparse import as_measured, is_sparse, row_products
from sbert_lab.index.exact import checked, normalized
from sbert_lab.index.vector_index import VectorIndex
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.onnx import OnnxEncoder
from sbert_lab.models.sentence_encoder import (
    Encoded,
    Encoder,
    SentenceEncoder,
    encode_documents,
    encode_queries,
    metric_of,
)
from sbert_lab.training.hard_negatives.candidates import (
    Admission,
    Guard,
    Known,
    Window,
    nearest,
    search_all,
    search_index,
)
from sbert_lab.training.hard_negatives.choice import (
    Judge,
    Options,
    Sampling,
    chosen,
    last_rank,
    left_by_scores,
    nothing_left,
    suspected,
)
from sbert_lab.training.hard_negatives.mined import Mined, Texts

log = logging.getLogger(__name__)

_FORMAT = 1  # raise it when the same options mine something else


def mine(
    encoder: Encoder,
    anchors: Sequence[str],
    positives: Sequence[str],
    *,
    corpus: Sequence[str] | None = None,
    per_anchor: int = 1,
    rank: tuple[int, int | None] = (0, None),
    score: tuple[float | None, float | None] = (None, None),
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    known: Known | None = None,
    guard: Guard | None = None,
    judge: Judge | None = None,
    judge_margin: float = 0.0,
    sampling: Sampling = "first",
    seed: int = 0,
    index: VectorIndex | None = None,
    cache: EmbeddingCache | None = None,
    show_progress: bool | None = None,
) -> Mined:
    """Find hard negatives for pairs of texts.

    Each anchor's nearest corpus texts are its candidates, without its positives, the
    anchor itself, and whatever `known` and `guard` forbid. Texts are the same if
    `datasets.pairs.plain` makes them so. Where an anchor has several positives, the
    margins are measured from the one with the lowest score: a negative must stand
    behind all of them.

    The options are those of sentence-transformers' ``mine_hard_negatives``, except
    that here

    - ranks are counted before scores and margins take candidates away, not among those
      that are left: ``rank=(10, 50)`` skips the ten nearest, whatever else is asked;
    - a corpus is not extended by the positives; give ``[*corpus, *positives]``;
    - the cross-encoder takes candidates away, and does not sort them anew;
    - vectors are compared by the encoder's own measure, with an index too.

    Parameters
    ----------
    encoder
        Its ``encode_query`` and ``encode_document`` are used, if it has them.
    anchors, positives
        n texts each, belonging together row by row.
    corpus
        Where negatives come from; the default is the positives of the other anchors.
    per_anchor
        Negatives for each anchor, at most.
    rank
        From which rank, 0 is the nearest, up to and without which. None looks at ten
        candidates for each negative.
    score
        Least and largest similarity of a negative, both allowed; None is no limit.
    absolute_margin
        A negative's score is at most the positive's minus this.
    relative_margin
        A negative's score is at most the positive's minus this share of its absolute
        value: 0.05 keeps those 5 % below. For positive scores that is ``positive *
        (1 - margin)``; where the positive's score is negative, that product would lie
        above it, and what is measured here still lies below.
    known
        More positives: pairs of (anchor, text), or a function that says of an anchor
        and a text whether they belong together.
    guard
        A function of rows of pairs ``[m]`` and rows of the corpus ``[m]`` to bool
        ``[m]``, True where the two must not meet, e.g. `icd10cm.HierarchyGuard`.
    judge
        A function of a list of m (anchor, text) to m scores, such as a cross-encoder's
        ``predict``. A candidate that it scores above the positive minus `judge_margin`
        may be an answer nobody wrote down, and is dropped. Scores that saturate, as
        behind a sigmoid, need a margin above 0. Asked last, for it is slow.
    judge_margin
        In the judge's unit.
    sampling
        ``"first"`` takes the nearest of what is left, ``"random"`` draws among it.
    seed
        Of the draw.
    index
        Of the corpus, with its row numbers as ids; the corpus is then not encoded. By
        default every text is compared. An ``ivfpq`` index knows scores only roughly,
        and is refused where scores decide.
    cache
        Keeps vectors and, in its folder ``mined``, results. A result is known by the
        encoder's ``fingerprint()``, all texts and all options, so that changed weights
        mine anew. `known`, `guard` and `judge`, where they are functions, need a
        ``fingerprint()`` too, or the result is not kept; nor is that of an index.
    show_progress
        Bars on standard error; by default for long work on a terminal.

    Raises
    ------
    ValueError
        No texts, empty ones, columns of different length, an option out of range, or
        no negative left; that names the option to loosen.

    Sources: Karpukhin et al. 2020, section 3.2 (negatives from a search); Qu et al.
    2021, section 3.2 (a cross-encoder against false negatives); Moreira et al. 2024,
    section 3.2 (margins relative to the positive, TopK-PercPos).
    """
    _check_texts(anchors, positives, corpus)
    known = known if known is None or callable(known) else list(known)
    low, high = score
    options = Options(
        per_anchor,
        last_rank(rank, per_anchor),
        (-inf if low is None else low, inf if high is None else high),
        absolute_margin,
        relative_margin,
        judge_margin,
        sampling,
        seed,
    )
    if index is not None and index.kind == "ivfpq" and options.scores_decide:
        raise ValueError(
            "an ivfpq index knows scores only roughly: use kind='hnsw' or 'flat', or "
            "leave out score, absolute_margin and relative_margin"
        )
    candidates = positives if corpus is None else corpus
    texts = tuple(anchors), tuple(positives), tuple(candidates)
    kept = None
    if cache is not None and index is None:
        kept = _path(cache, encoder, texts, options, known, guard, judge)
    if kept is not None and (found := Mined.read(kept, texts)) is not None:
        return found
    admission = Admission(*texts, known, guard)
    window, positive_scores = _candidates(
        encoder, texts, admission, options, index, cache, show_progress
    )
    left, removed = left_by_scores(window, admission, positive_scores, options)
    if judge is not None:
        dropped = suspected(
            judge,
            judge_margin,
            left,
            window,
            admission,
            texts,
            show_progress=show_progress,
        )
        removed["judge"] = int(dropped.sum())
        left &= ~dropped
    if not left.any():
        raise ValueError(nothing_left(removed, window, options))
    rows, scores = chosen(window, left, options)
    counts = (rows >= 0).sum(1)
    mined = Mined(
        *texts,
        negatives=rows[admission.query],
        scores=scores[admission.query],
        positive_scores=positive_scores,
        removed=removed,
        fewer=int((counts < per_anchor).sum()),
        without=int((counts == 0).sum()),
    )
    if mined.fewer:
        log.info(
            "%d of %d anchors got fewer than %d negatives; removed were %s",
            mined.fewer,
            len(rows),
            per_anchor,
            removed,
        )
    if kept is not None:
        mined.write(kept)
    return mined


def _check_texts(
    anchors: Sequence[str], positives: Sequence[str], corpus: Sequence[str] | None
) -> None:
    given = {"anchors": anchors, "positives": positives}
    if corpus is not None:
        given["corpus"] = corpus
    for name, texts in given.items():
        if isinstance(texts, str):
            raise ValueError(f"{name} is one text, not a list")
        if not len(texts):
            raise ValueError(f"{name} is empty; there is nothing to mine")
        for row, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                kind = "empty" if isinstance(text, str) else type(text).__name__
                raise ValueError(f"{name}, row {row}: {kind}, not a text")
    if len(anchors) != len(positives):
        raise ValueError(
            f"{len(anchors)} anchors and {len(positives)} positives; each anchor needs "
            "its positive, row by row"
        )


def _candidates(
    encoder: Encoder,
    texts: Texts,
    admission: Admission,
    options: Options,
    index: VectorIndex | None,
    cache: EmbeddingCache | None,
    show: bool | None,
) -> tuple[Window, Vectors]:
    """Return what may be a negative, and the scores of the positives, ``[n]``."""
    _, positives, corpus = texts
    metric = metric_of(encoder)
    queries = _encoded(encoder, admission.anchors, "query", cache, show)
    place: dict[str, int] = {}  # first row of each different text of the corpus
    first = np.array([place.setdefault(text, row) for row, text in enumerate(corpus)])
    # With an index the corpus is not encoded. Texts of the corpus stand first.
    wanted = list(dict.fromkeys([*(place if index is None else ()), *positives]))
    documents = _encoded(encoder, wanted, "document", cache, show)
    at = {text: row for row, text in enumerate(wanted)}
    right = np.array([at[text] for text in positives])
    positive_scores = _row_scores(queries[admission.query], documents[right], metric)
    if index is None:
        rows = np.array(list(place.values()))
        search, reachable = search_all(queries, documents[: len(rows)], rows, metric)
    else:
        model_hash = encoder.fingerprint() if hasattr(encoder, "fingerprint") else ""
        search, reachable = search_index(queries, index, first, metric, model_hash)
    begin, end = options.rank
    end = max(begin + options.per_anchor, min(end, reachable))
    found = nearest(search, admission, reachable, (begin, end), show_progress=show)
    return found, positive_scores


def _encoded(
    encoder: Encoder,
    texts: Sequence[str],
    side: Literal["query", "document"],
    cache: EmbeddingCache | None,
    show: bool | None,
) -> Encoded:
    if isinstance(encoder, (SentenceEncoder, OnnxEncoder)):
        encode = getattr(encoder, f"encode_{side}", encoder.encode)
        found: Vectors = encode(texts, cache=cache, show_progress=show)
        return found
    return (encode_queries if side == "query" else encode_documents)(encoder, texts)


def _row_scores(first: Encoded, second: Encoded, metric: Metric) -> Vectors:
    """Compare row by row, float32 ``[n]``."""
    if is_sparse(first) and is_sparse(second):
        return row_products(as_measured(first, metric), as_measured(second, metric))
    a = checked(np.asarray(first), "anchors")
    b = checked(np.asarray(second), "positives")
    if metric == "cosine":
        a, b = normalized(a), normalized(b)
    scores: Vectors = np.einsum("nd,nd->n", a, b)
    return scores


def _path(
    cache: EmbeddingCache,
    encoder: Encoder,
    texts: Texts,
    options: Options,
    known: Known | None,
    guard: Guard | None,
    judge: Judge | None,
) -> Path | None:
    """Return where a result is kept; None if something in it has no name."""
    named: dict[str, Any] = {}
    for name, thing in (
        ("encoder", encoder),
        ("known", known),
        ("guard", guard),
        ("judge", judge),
    ):
        if callable(fingerprint := getattr(thing, "fingerprint", None)):
            named[name] = fingerprint()
        elif name == "encoder" or callable(thing):
            log.info("not kept: %s has no fingerprint()", name)
            return None
        else:
            named[name] = thing
    about = {
        "format": _FORMAT,
        "options": asdict(options),
        "metric": metric_of(encoder),
        # Not part of an encoder's fingerprint, but of what it reads.
        "prompts": getattr(encoder, "prompts", None),
        "prompt": getattr(getattr(encoder, "layout", None), "default_prompt", None),
        "texts": texts,
    }
    key = hashlib.sha256(json.dumps(named | about, sort_keys=True).encode())
    return cache.folder / "mined" / f"{key.hexdigest()[:32]}.npz"
