"""A smoke test for a search, which tells of what mistakes it smells.

Most mistakes raise no error: they move a vector, or an answer. So a sample is worked
out again, as the encoder says, and compared with what is there. Notebook 09 tells what
each one costs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sbert_lab._utils import Vectors, whole_number
from sbert_lab.datasets.leaks import find_leaks
from sbert_lab.datasets.pairs import plain
from sbert_lab.evaluation.metrics import Relevant, pairwise_cosine, positive
from sbert_lab.index.exact import exact_search, normalized
from sbert_lab.index.vector_index import Hits, VectorIndex
from sbert_lab.models.pooling import POOLING
from sbert_lab.models.sentence_encoder import (
    Encoder,
    SentenceEncoder,
    encode_documents,
    encode_queries,
    metric_of,
)

#: The mistakes that can be smelt, and what to do about each.
CURES = {
    "overflow": "pool and normalise in float32; leave out texts without a word",
    "not normalised": "normalise documents and queries, or compare by cosine",
    "another pooling": "pool as the model's own folder says",
    "missing prompt": "encode with the prompts that the model has learnt",
    "doubled prompt": "give the encoder, which adds its prompt, the bare texts",
    "prompt of the other side": "use encode_query for queries, encode_document",
    "stale vectors": "encode all documents again with the encoder that is asked",
    "another model": "encode documents and queries with the same model and settings",
    "padding averaged in": "give transformer and pooling the attention mask",
    "tokenizer of another model": "load model and tokenizer from one folder",
    "not lower-cased": "use the tokenizer of the model's own folder, which lower-cases",
    "lower-cased": "leave texts as they are written: this model reads capitals",
    "unknown words": "take a model that knows the language and its signs",
    "truncation": "cut documents into passages: sbert_lab.index.chunking",
    "cut at fixed characters": "cut where sentences end: sbert_lab.index.chunking",
    "unknown ids": "take deleted documents out of the index, put missing ones in",
    "too few answers": "filter in the search, not after it; build anew if deleted much",
    "ties": "score in float32, or score the best again in it",
    "missed neighbours": "raise ef_search, nprobe or candidates; check the metric",
    "small corpus": "measure in as many documents as are searched in earnest",
    "test in training": "split by what belongs together: datasets.pairs.split_pairs",
    "false negatives": "keep equal answers out of a batch, as our losses do",
}

_SAME = 0.98  # cosine from which on two vectors are the same, but for rounding
_NAMED = 0.9995  # cosine from which on a known mistake explains a vector
_FEW = 0.05  # share of texts, or of answers, that may be odd
_RECALL = 0.85  # of the true neighbours; compressed indexes in use find more
_SMALL = 1_000  # documents


@dataclass(frozen=True)
class Smell:
    """One of `CURES`, and the measurement that speaks for it."""

    mistake: str
    evidence: str

    def __str__(self) -> str:
        """Show both, and what to do."""
        return f"{self.mistake}: {self.evidence}. {CURES[self.mistake]}"


@dataclass(frozen=True)
class _Seen:
    """What a search was seen to do. Documents are a sample, then all that was found."""

    encoder: Encoder
    queries: list[str]
    sent: Vectors  #: vectors of the queries, as the search has them, ``[q, d]``
    asked: Vectors  #: as the encoder makes them
    documents: dict[Any, str]  #: some, by id
    stored: Vectors | None  #: their vectors, as the index has them, ``[n, d]``
    made: Vectors  #: as the encoder makes them
    size: int  #: of the whole corpus
    metric: str  #: of the index
    found: list[list[Any]]  #: ids of each query
    scores: list[list[float]]
    k: int
    strange: list[Any]  #: ids that were found, or are relevant, and are no documents
    training: list[Sequence[str]]


def check_pipeline(
    encoder: Encoder,
    index: Any,  # noqa: ANN401  (FAISS has no types)
    queries: Sequence[str],
    relevant: Sequence[Relevant],
    *,
    documents: Mapping[Any, str],
    query_vectors: Vectors | None = None,
    training: Iterable[Sequence[str]] = (),
    k: int = 10,
    sample: int = 300,
    seed: int = 0,
) -> list[Smell]:
    """Return what a search smells of, the likeliest first; [] if nothing was noticed.

    `index` is a `VectorIndex`, or anything with FAISS's ``search(vectors, k)``, whose
    rows are the `documents`, texts by id, in their order; what it gives back by
    ``reconstruct_n`` is looked at too. `relevant` are the ids that answer each query.
    `query_vectors`, ``[q, d]``, are what your search sends, by default what the encoder
    makes. `training` are the rows that a model learnt from, such as (anchor, positive).
    A `sample` of documents is encoded, and what as many queries find. A ValueError
    tells of arguments that do not belong together.
    """
    sample, k = whole_number(sample, "sample", 10), whole_number(k, "k")
    if not len(queries) == len(relevant) > 1 or len(documents) < 2:
        raise ValueError(
            f"{len(queries)} queries, {len(relevant)} answers, {len(documents)} "
            "documents: give two queries or more, an answer to each, and the documents"
        )
    rng, ids = np.random.default_rng(seed), list(documents)
    some = np.sort(rng.permutation(len(queries))[:sample]).tolist()
    texts = [queries[row] for row in some]
    sent = asked = encode_queries(encoder, texts)
    if query_vectors is not None:
        if len(query_vectors) != len(queries):
            raise ValueError(f"{len(query_vectors)} vectors, {len(queries)} queries")
        sent = np.ascontiguousarray(query_vectors[some], np.float32)
    found, scores = _answers(index, sent, k, ids)
    came = [key for own in found for key in own]
    wanted = [key for row in some for key in positive(relevant[row])]
    sampled = [ids[row] for row in np.sort(rng.permutation(len(ids))[:sample])]
    kept = {key: documents[key] for key in (*sampled, *came) if key in documents}
    opened, metric, every = _opened(index, ids)
    seen = _Seen(
        encoder=encoder,
        queries=texts,
        sent=sent,
        asked=asked,
        documents=kept,
        stored=_stored(opened, every, kept),
        made=encode_documents(encoder, list(kept.values())),
        size=len(documents),
        metric=metric,
        found=found,
        scores=scores,
        k=min(k, len(documents)),
        strange=[key for key in (*came, *wanted) if key not in documents],
        training=[*training],
    )
    return [Smell(*one) for check in _CHECKS for one in check(seen)]


def _answers(
    index: Any,  # noqa: ANN401
    vectors: Vectors,
    k: int,
    ids: list[Any],
) -> tuple[list[list[Any]], list[list[float]]]:
    """Search; return ids and scores, without those that stand for nothing found."""
    got = index.search(vectors, k)
    if isinstance(got, Hits):
        rows, scores, gaps = got.ids.tolist(), got.scores, np.isneginf(got.scores)
    else:
        named = dict(enumerate(ids))
        scores, gaps = np.asarray(got[0]), np.asarray(got[1]) < 0
        rows = [[named.get(r, f"row {r}") for r in own] for own in got[1].tolist()]
    full = [int(width) for width in (~gaps).sum(1)]  # gaps stand last
    found = [own[:width] for own, width in zip(rows, full, strict=True)]
    told = zip(scores.tolist(), full, strict=True)
    return found, [own[:width] for own, width in told]


def _opened(index: Any, ids: list[Any]) -> tuple[Any, str, list[Any]]:  # noqa: ANN401
    """Return FAISS's index, its metric if it says, and the id of each row."""
    if isinstance(index, VectorIndex):
        return index._index, index.metric, index.ids.tolist()
    kind = getattr(index, "metric_type", -1)
    return index, {0: "dot", 1: "l2"}.get(kind, "unknown"), ids


def _stored(index: Any, ids: list[Any], some: Iterable[Any]) -> Vectors | None:  # noqa: ANN401
    """Return the vectors of some ids that an index gives back, if it does."""
    row = {key: row for row, key in enumerate(ids)}
    try:
        vectors = index.reconstruct_n(0, index.ntotal)
        found: Vectors = vectors[[row[key] for key in some]]
    except (AttributeError, RuntimeError, KeyError, IndexError):
        return None  # not of this kind of index, or not in it
    return found


# Checks: each yields what it smells, one of CURES, with its evidence

_Found = Iterator[tuple[str, str]]


def _numbers(seen: _Seen) -> _Found:
    for side, rows in (("document", seen.stored), ("query", seen.sent)):
        if rows is not None:
            bad = int((~np.isfinite(rows).all(1) | ~rows.any(1)).sum())
            if bad:
                told = f"{bad:,} of {len(rows):,} {side} vectors are 0, or no numbers"
                yield "overflow", told


def _lengths(seen: _Seen) -> _Found:
    if seen.stored is None or seen.metric not in ("dot", "l2"):
        return
    lengths = np.linalg.norm(seen.stored[seen.stored.any(1)], axis=1)
    if metric_of(seen.encoder) == "cosine" and lengths.std() > 0.01 * lengths.mean():
        short, long = np.percentile(lengths, [5, 95])
        told = (
            f"vectors are {short:.3g} to {long:.3g} long, and {seen.metric} counts that"
        )
        yield "not normalised", told


def _vectors(seen: _Seen) -> _Found:
    sides: list[tuple[str, list[str], Vectors | None, Vectors]] = [
        ("query", seen.queries, seen.sent, seen.asked),
        ("document", list(seen.documents.values()), seen.stored, seen.made),
    ]
    for side, texts, given, made in sides:
        if given is None or not np.isfinite(given).all():
            continue
        far = np.ones(len(made), bool)
        if given.shape == made.shape:
            far = pairwise_cosine(given, made) < _SAME
        if (share := float(far.mean())) > _FEW:
            rows = np.flatnonzero(far)[:32].tolist()
            odd, unknown = [texts[row] for row in rows], "another model"
            if side == "document" and share < 0.9:
                unknown = "stale vectors"
            mistake, how = _explained(seen.encoder, side, odd, given[rows])
            told = f"{share:.0%} of {side} vectors are not what the encoder makes"
            yield mistake or unknown, f"{told}{how}"


def _explained(
    encoder: Encoder, side: str, texts: list[str], given: Vectors
) -> tuple[str, str]:
    """Return the known mistake that makes just these vectors of texts, if one does."""
    if not isinstance(encoder, SentenceEncoder):
        return "", ""
    prompt, layout = encoder.prompt_for(side), encoder.layout
    other = encoder.prompt_for("document" if side == "query" else "query")
    ways: list[tuple[str, str, str]] = [
        ("missing prompt", "", layout.pooling[0]),
        ("doubled prompt", 2 * prompt, layout.pooling[0]),
        ("prompt of the other side", other, layout.pooling[0]),
        *[("another pooling", prompt, mode) for mode in POOLING],
    ]
    for mistake, before, mode in ways:
        told = replace(layout, pooling=(mode,))
        changed = SentenceEncoder(encoder.transformer, encoder.tokenizer, told).eval()
        made = changed.encode(texts, prompt=before, show_progress=False)
        same = made.shape == given.shape
        if same and np.median(pairwise_cosine(made, given)) > _NAMED:
            return mistake, f", but what {mode} pooling makes behind {before!r}"
    return "", ""


def _padding(seen: _Seen) -> _Found:
    texts = list(seen.documents.values())
    short, long = min(texts, key=len), " ".join(texts)[:1_000]
    alone, beside = (seen.encoder.encode(own)[:1] for own in ([short], [short, long]))
    if (near := float(pairwise_cosine(alone, beside)[0])) < _SAME:
        told = f"a text alone and beside a long one have a cosine of {near:.2f}"
        yield "padding averaged in", told


def _tokens(seen: _Seen) -> _Found:
    encoder, texts = seen.encoder, [*seen.documents.values(), *seen.queries]
    if not isinstance(encoder, SentenceEncoder):
        return
    rows, here = encoder.transformer.config.vocab_size, len(encoder.tokenizer)
    if not 0.9 * rows <= here <= rows:
        told = f"it knows {here:,} tokens, the model {rows:,}"
        yield "tokenizer of another model", told
    words, unknown = encoder.tokenizer.backend_tokenizer, encoder.tokenizer.unk_token_id

    def odd(texts: list[str]) -> float:
        return float(np.mean([unknown in words.encode(text).ids for text in texts]))

    if (share := odd(texts)) > _FEW:
        lower = odd([text.lower() for text in texts]) < share / 2
        told = f"{share:.0%} of texts hold a word that the tokenizer does not know"
        yield "not lower-cased" if lower else "unknown words", told
    encoder.token_ids(texts)
    if (cut := encoder.last_truncated) > _FEW * len(texts):
        told = f"{cut:,} of {len(texts):,} texts are longer than the tokens read"
        yield "truncation", f"{told}, {encoder.max_seq_length}"


def _texts(seen: _Seen) -> _Found:
    documents = list(seen.documents.values())
    for side, texts in (("query", seen.queries), ("document", documents)):
        prompt = getattr(seen.encoder, "prompt_for", lambda _: "")(side).strip()
        begun = np.mean([text.startswith(prompt) for text in texts])
        if prompt and begun > 0.5:
            told = f"{begun:.0%} of {side} texts begin with {prompt!r} themselves"
            yield "doubled prompt", told
    usual, count = Counter(map(len, documents)).most_common(1)[0]
    if usual > 40 and count > 0.2 * len(documents):
        told = f"{count / len(documents):.0%} of documents have just {usual} characters"
        yield "cut at fixed characters", told
    every, words = " ".join([*documents, *seen.queries]), ["Berlin", "Paris", "WHO"]
    both = words, [word.lower() for word in words]
    cased = pairwise_cosine(*(seen.encoder.encode(own) for own in both))
    if every == every.lower() != every.upper() and cased.min() < _SAME:
        yield "lower-cased", "no text has a capital, which the model would notice"


def _answered(seen: _Seen) -> _Found:
    if seen.strange:
        told = f"{len(seen.strange):,} found or relevant ids are no documents"
        yield "unknown ids", f"{told}, such as {seen.strange[0]!r}"
    short = np.mean([len(own) < seen.k for own in seen.found])
    if short > _FEW:
        yield "too few answers", f"{short:.0%} of searches bring less than {seen.k}"
    tied = float(np.mean([_tied(seen, row) for row in range(len(seen.found))]))
    if tied > _FEW:
        yield "ties", f"{tied:.0%} of answers have the score of another text"
    if seen.sent.shape[1] == seen.made.shape[1] and (recall := _recall(seen)) < _RECALL:
        yield "missed neighbours", f"{recall:.0%} of the nearest {seen.k} are found"


def _tied(seen: _Seen, row: int) -> float:
    """Return the share of a query's answers that have the score of another text."""
    texts = [plain(seen.documents.get(key, "")) for key in seen.found[row]]
    times = Counter(score for score, _ in {*zip(seen.scores[row], texts, strict=True)})
    return sum(n for n in times.values() if n > 1) / max(1, len(texts))


def _recall(seen: _Seen) -> float:
    """Return which share of the nearest among the documents at hand is found, by mean.

    Nearest by the encoder's vectors and metric, for the queries as they are sent. An
    answer counts if it is as near as the k-th of them, whatever its id.
    """
    queries, vectors = seen.sent, seen.made
    if metric_of(seen.encoder) == "cosine":
        queries, vectors = normalized(queries), normalized(vectors)
    k = min(seen.k, len(vectors))
    kth = exact_search(queries, vectors, k, "dot")[0][:, -1]
    place = {key: row for row, key in enumerate(seen.documents)}
    shares = []
    for query, own, least in zip(queries, seen.found, kth, strict=True):
        rows = [place[key] for key in dict.fromkeys(own) if key in place]
        near = float((vectors[rows] @ query >= least - 1e-4).sum())
        shares.append(min(near / k, 1.0))
    return float(np.mean(shares))


def _data(seen: _Seen) -> _Found:
    rows, queries = seen.training, seen.queries
    if seen.size < _SMALL:
        yield (
            "small corpus",
            f"{seen.size:,} documents; with more, scores fall",
        )
    leaked = len(find_leaks(rows, [(query,) for query in queries])) / len(queries)
    if leaked > _FEW:
        yield "test in training", f"{leaked:.0%} of the queries stand in training"
    answers = Counter(plain(row[1]) for row in rows if len(row) > 1)
    shared = sum(count for count in answers.values() if count > 1)
    if shared > _FEW * len(rows):
        told = f"{shared / len(rows):.0%} of training rows share their answer"
        yield "false negatives", told


_CHECKS: tuple[Callable[[_Seen], _Found], ...] = (
    _numbers,
    _lengths,
    _padding,
    _vectors,
    _tokens,
    _texts,
    _answered,
    _data,
)
