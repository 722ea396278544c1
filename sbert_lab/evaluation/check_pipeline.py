"""A smoke test for a search, which tells of what mistakes it smells.

Most mistakes move a vector, or an answer, and raise no error. So a sample is worked
out again, as the encoder says, and compared. Notebook 09 tells what each one costs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

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
from sbert_lab.models.transformer import fast_tokenizer

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
    "no right answer": "do queries, relevant, documents and index name the same texts?",
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
_SURE = 5  # sampled documents that were missed, from which on their number is trusted

#: FAISS's indexes that give vectors back as they were, or all but.
_WHOLE = {"IndexFlat", "IndexFlatIP", "IndexFlatL2", "IndexHNSWFlat", "IndexHNSWSQ"}
_WHOLE |= {"IndexScalarQuantizer", "IndexRefineFlat"}


@dataclass(frozen=True)
class Smell:
    """One of `CURES`, and the measurement that speaks for it."""

    mistake: str
    evidence: str

    def __str__(self) -> str:
        """Show both, and what to do."""
        return f"{self.mistake}: {self.evidence}. To do: {CURES[self.mistake]}."


@dataclass(frozen=True)
class _Seen:
    """What a search was seen to do, for a sample of its documents and of its queries.

    Of documents there is the `sample`, drawn, and behind it `made` has vectors of all
    that was found, too: `place` tells the row of each. Shares are of the sample alone,
    for what is wrong with a document is seldom found.
    """

    encoder: Encoder
    queries: list[str]
    sent: Vectors  #: vectors of the queries, as the search has them, ``[q, d]``
    asked: Vectors  #: as the encoder makes them
    sample: dict[Any, str]
    stored: dict[Any, Vectors]  #: vectors that the index has of them, where it tells
    made: Vectors  #: as the encoder makes them, ``[n, d]``
    place: dict[Any, int]
    size: int  #: of the corpus
    indexed: int  #: of the index
    metric: str  #: of the index
    found: list[list[Any]]  #: ids of each query
    scores: list[list[float]]
    k: int
    relevant: list[set[Any]]
    strange: list[Any]  #: ids that were found, or are relevant, and are no documents
    training: list[list[str]]

    @property
    def rows(self) -> Vectors:
        """The stored vectors."""
        return np.array([*self.stored.values()]).reshape(-1, self.sent.shape[1])


def check_pipeline(
    encoder: Encoder,
    index: Any,  # noqa: ANN401  (FAISS has no types)
    queries: Sequence[str],
    relevant: Sequence[Relevant],
    *,
    documents: Mapping[Any, str] | Sequence[str],
    query_vectors: ArrayLike | None = None,
    training: Iterable[Sequence[str] | Mapping[str, Any]] = (),
    k: int = 10,
    sample: int = 300,
    seed: int = 0,
) -> list[Smell]:
    """Return what a search smells of, the likeliest first; [] if nothing was noticed.

    `index` is a `VectorIndex`, one of FAISS's, whose ids are those of `documents` or
    else their places, or anything with FAISS's ``search(vectors, k)``. `documents` are
    texts by id, `relevant` the ids that answer each query. `query_vectors`, ``[q, d]``,
    are what your search sends, by default what the encoder makes. `training` are the
    rows that a model learnt from, such as (anchor, positive).

    A `sample` of documents is encoded, and what as many queries find: a mistake in one
    of twenty may stay unseen. A ValueError tells of arguments that do not fit.
    """
    sample, k = whole_number(sample, "sample", 10), whole_number(k, "k")
    every = _documents(documents)
    if not len(queries) == len(relevant) > 1 or len(every) < 2:
        raise ValueError(
            f"{len(queries)} queries, {len(relevant)} answers, {len(every)} documents: "
            "give two queries or more, an answer to each, and the documents"
        )
    try:
        wanted = [set(positive(own)) for own in relevant]
    except TypeError as error:
        raise ValueError(f"relevant: {error}; give ids for each query") from error
    learnt = [_texts_of(row) for row in training]
    rng, ids = np.random.default_rng(seed), list(every)
    some = np.sort(rng.permutation(len(queries))[:sample]).tolist()
    texts = [list(queries)[row] for row in some]
    sent = asked = np.asarray(encode_queries(encoder, texts), np.float32)
    if query_vectors is not None:
        rows = np.asarray(query_vectors, np.float32)
        if len(rows) != len(queries):
            raise ValueError(f"{len(rows)} vectors, {len(queries)} queries")
        sent = np.ascontiguousarray(rows[some])
    opened, names, metric = _opened(index, ids)
    width: Any = getattr(opened, "d", sent.shape[1])
    if width != sent.shape[1]:
        told = f"the index has {width} dimensions, the queries {sent.shape[1]}"
        return [Smell("another model", told)]
    drawn = [ids[row] for row in np.sort(rng.permutation(len(ids))[:sample])]
    if bad := _numbers(sent, "query"):
        return bad
    found, scores = _answers(index, sent, k, dict(enumerate(names)), every)
    came = [key for own in found for key in own]
    kept = [key for key in dict.fromkeys([*drawn, *came]) if key in every]
    made = np.asarray(encode_documents(encoder, [every[key] for key in kept]))
    named = [*came, *(key for row in some for key in wanted[row])]
    seen = _Seen(
        encoder=encoder,
        queries=texts,
        sent=sent,
        asked=asked,
        sample={key: every[key] for key in drawn},
        stored=_stored(opened, names, drawn),
        made=made.astype(np.float32),
        place={key: row for row, key in enumerate(kept)},
        size=len(every),
        indexed=len(index) if isinstance(index, VectorIndex) else len(names),
        metric=metric,
        found=found,
        scores=scores,
        k=min(k, len(every)),
        relevant=[wanted[row] for row in some],
        strange=[key for key in named if key not in every],
        training=learnt,
    )
    bad = _numbers(seen.made, "document") + _numbers(seen.rows, "document")
    return bad[:1] + [Smell(*one) for check in _CHECKS for one in check(seen)]


def _documents(documents: Mapping[Any, str] | Sequence[str]) -> dict[Any, str]:
    """Return texts by id, or say which is none."""
    every = dict(getattr(documents, "items", lambda: enumerate(documents))())
    for key, text in every.items():
        if not isinstance(text, str):
            raise ValueError(f"document {key!r} is {text!r}, no text")
    return every


def _texts_of(row: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return the texts of a training row."""
    if isinstance(row, str):
        raise ValueError("training: give rows of texts, such as (anchor, positive)")
    values = row.values() if isinstance(row, Mapping) else row
    return [text for text in values if isinstance(text, str)]


def _opened(index: Any, ids: list[Any]) -> tuple[Any, list[Any], str]:  # noqa: ANN401
    """Return FAISS's index, the id of each of its rows, and its metric if it says."""
    if isinstance(index, VectorIndex):
        return index._index, index.ids.tolist(), index.metric
    metric = {0: "dot", 1: "l2"}.get(getattr(index, "metric_type", -1), "unknown")
    if hasattr(index, "id_map"):
        faiss = import_module("faiss")
        names = faiss.vector_to_array(index.id_map).tolist()
        own = [ids[n] if n not in set(ids) and 0 <= n < len(ids) else n for n in names]
        return faiss.downcast_index(index.index), own, metric
    return index, ids[: getattr(index, "ntotal", len(ids))], metric


def _answers(
    index: Any,  # noqa: ANN401
    vectors: Vectors,
    k: int,
    names: dict[int, Any],
    documents: Mapping[Any, str],
) -> tuple[list[list[Any]], list[list[float]]]:
    """Search; return ids and scores, without those that stand for nothing found."""
    got = index.search(vectors, k)
    told = (got.scores, got.ids) if isinstance(got, Hits) else (got[0], got[1])
    scores, rows = np.asarray(told[0], np.float64), np.asarray(told[1])
    by_id = isinstance(got, Hits) or hasattr(index, "id_map") or rows.dtype.kind != "i"
    found: list[list[Any]] = []
    kept: list[list[float]] = []
    for own, near in zip(rows.tolist(), scores.tolist(), strict=True):
        pairs = [(r, s) for r, s in zip(own, near, strict=True) if r not in (-1, "")]
        if by_id:
            keys = [r if r in documents else names.get(r, r) for r, _ in pairs]
        else:
            keys = [names.get(r, f"row {r}") for r, _ in pairs]
        found.append(keys)
        kept.append([s for _, s in pairs])
    return found, kept


def _stored(index: Any, names: list[Any], some: list[Any]) -> dict[Any, Vectors]:  # noqa: ANN401
    """Return the vectors of some ids that an index gives back as they were."""
    row = {key: row for row, key in enumerate(names)}
    if type(index).__name__ not in _WHOLE:
        return {}
    return {key: index.reconstruct(row[key]) for key in some if key in row}


def _numbers(rows: Vectors, side: str) -> list[Smell]:
    bad = int((~np.isfinite(rows).all(1) | ~rows.any(1)).sum())
    told = f"{bad:,} of {len(rows):,} {side} vectors are 0, or no numbers"
    return [Smell("overflow", told)] if bad else []


# Checks: each yields what it smells, one of CURES, with its evidence

_Found = Iterator[tuple[str, str]]


def _lengths(seen: _Seen) -> _Found:
    lengths = np.linalg.norm(seen.rows, axis=1)
    lengths = lengths[lengths > 0]
    by_length = seen.metric in ("dot", "l2") and metric_of(seen.encoder) == "cosine"
    if by_length and len(lengths) and lengths.std() > 0.01 * lengths.mean():
        short, long = np.percentile(lengths, [5, 95])
        told = f"lengths of {short:.3g} to {long:.3g} count in {seen.metric}"
        yield "not normalised", told


def _padding(seen: _Seen) -> _Found:
    alive = [t for key, t in seen.sample.items() if seen.made[seen.place[key]].any()]
    if not alive:
        return
    short, long = min(alive, key=len), " ".join(alive)[:1_000]
    both = (seen.encoder.encode(own) for own in ([short], [short, long]))
    near = float(pairwise_cosine(*(np.asarray(rows)[:1] for rows in both))[0])
    if near < _SAME:
        told = f"a text alone and beside a long one have a cosine of {near:.2f}"
        yield "padding averaged in", told


def _vectors(seen: _Seen) -> _Found:
    of = [seen.place[key] for key in seen.stored]
    sides: list[tuple[str, list[str], Vectors, Vectors]] = [
        ("query", seen.queries, seen.sent, seen.asked),
        ("document", [seen.sample[k] for k in seen.stored], seen.rows, seen.made[of]),
    ]
    for side, texts, given, made in sides:
        if given.shape != made.shape:
            told = f"{side}s have {given.shape[1]} dimensions, the encoder's vectors "
            yield "another model", f"{told}{made.shape[1]}"
            continue
        whole = np.isfinite(given).all(1) & given.any(1) & made.any(1)
        rows = np.flatnonzero(whole)
        if not len(rows):
            continue
        far = rows[pairwise_cosine(given[rows], made[rows]) < _SAME]
        share = len(far) / len(rows)
        if share > _FEW:
            unknown = "stale vectors" if side == "document" and share < 0.9 else ""
            few = far[:32].tolist()
            odd = [texts[row] for row in few]
            mistake, how = _explained(seen.encoder, side, odd, given[few])
            told = f"{share:.0%} of {side} vectors are not what the encoder makes"
            yield mistake or unknown or "another model", f"{told}{how}"


def _prompt(encoder: Encoder, side: str) -> str:
    """Return what an encoder, ours or sentence-transformers', puts before a text."""
    if isinstance(encoder, SentenceEncoder):
        return encoder.prompt_for(side)
    return str((getattr(encoder, "prompts", None) or {}).get(side) or "")


def _explained(
    encoder: Encoder, side: str, texts: list[str], given: Vectors
) -> tuple[str, str]:
    """Return the known mistake that makes just these vectors of texts, if one does."""
    prompt = _prompt(encoder, side)
    other = _prompt(encoder, "document" if side == "query" else "query")
    ways = [("missing prompt", ""), ("doubled prompt", 2 * prompt)]
    ways += [("prompt of the other side", other)]
    for mistake, before in ways:
        made = np.asarray(encoder.encode([before + text for text in texts]))
        if np.median(pairwise_cosine(made, given)) > _NAMED:
            return mistake, f", but what it makes behind {before!r}"
    for mode in POOLING if isinstance(encoder, SentenceEncoder) else ():
        assert isinstance(encoder, SentenceEncoder)
        told = replace(encoder.layout, pooling=(mode,))
        changed = SentenceEncoder(encoder.transformer, encoder.tokenizer, told).eval()
        made = changed.encode(texts, prompt=prompt, show_progress=False)
        same = made.shape == given.shape
        if same and np.median(pairwise_cosine(made, given)) > _NAMED:
            return "another pooling", f", but what {mode} pooling makes"
    return "", ""


def _tokens(seen: _Seen) -> _Found:
    encoder: Any = seen.encoder
    words: Any = getattr(getattr(encoder, "tokenizer", 0), "backend_tokenizer", None)
    if words is None:
        return
    config = getattr(getattr(encoder, "transformer", None), "config", None)
    rows, here = getattr(config, "vocab_size", None), len(encoder.tokenizer)
    if rows and not 0.98 * rows <= here <= rows + 16:
        told = f"it knows {here:,} tokens, the model {rows:,}"
        yield "tokenizer of another model", told
    unknown, most = encoder.tokenizer.unk_token_id, encoder.max_seq_length
    texts = list(seen.sample.values())

    def odd(texts: list[str], least: float) -> float:
        found = [words.encode(text, add_special_tokens=False).ids for text in texts]
        shares = [np.mean([i == unknown for i in ids] or [False]) for ids in found]
        return float(np.mean([share > least for share in shares]))

    share, mostly = odd(texts, 0.0), odd(texts, 0.5)
    if share > _FEW and odd([text.lower() for text in texts], 0.0) < share / 2:
        told = f"{share:.0%} of texts hold a word that the tokenizer does not know"
        yield "not lower-cased", told
    elif mostly > _FEW:
        yield "unknown words", f"{mostly:.0%} of texts are mostly unknown words"
    words = fast_tokenizer(encoder.tokenizer, most)
    cut = float(np.mean([bool(words.encode(text).overflowing) for text in texts]))
    if cut > _FEW:
        told = f"{cut:.0%} of documents are longer than the tokens that are read"
        yield "truncation", f"{told}, {most}"


def _texts(seen: _Seen) -> _Found:
    texts = list(seen.sample.values())
    for side, own in (("query", seen.queries), ("document", texts)):
        prompt = _prompt(seen.encoder, side).strip()
        begun = np.mean([text.startswith(prompt) for text in own])
        if prompt and begun > 0.5:
            told = f"{begun:.0%} of {side} texts begin with {prompt!r} themselves"
            yield "doubled prompt", told
    usual, count = Counter(map(len, texts)).most_common(1)[0]
    equal = [text for text in texts if len(text) == usual]
    within = sum(t[0].islower() or t[0].isspace() for t in equal if " " in t.strip())
    if usual > 40 and count > 0.2 * len(texts) and within > 0.4 * count:
        told = f"{count / len(texts):.0%} of documents have just {usual} characters"
        yield "cut at fixed characters", f"{told}, and begin within a sentence"
    letters = [letter for letter in "".join(texts) if letter.isalpha()]
    cased = sum(letter.lower() != letter.upper() for letter in letters)
    if cased > len(letters) / 2 and not any(letter.isupper() for letter in letters):
        words = ["Berlin", "Paris", "WHO"]
        both = (seen.encoder.encode(w) for w in (words, [w.lower() for w in words]))
        if pairwise_cosine(*map(np.asarray, both)).min() < _SAME:
            yield "lower-cased", "no document has a capital, which the model notices"


def _answered(seen: _Seen) -> _Found:
    if seen.indexed < seen.size:
        told = (
            f"{seen.size - seen.indexed:,} of {seen.size:,} documents are not indexed"
        )
        yield "unknown ids", told
    if seen.strange:
        told = f"{len(seen.strange):,} found or relevant ids are no documents"
        yield "unknown ids", f"{told}, such as {seen.strange[0]!r}"
    short = np.mean([len(own) < seen.k for own in seen.found])
    if short > _FEW:
        yield "too few answers", f"{short:.0%} of searches bring less than {seen.k}"
    both = zip(seen.found, seen.relevant, strict=True)
    hits = [not wanted.isdisjoint(own) for own, wanted in both if wanted]
    if not hits or np.mean(hits) < _FEW:
        yield "no right answer", f"{sum(hits)} of {len(hits)} searches find one"
    tied = float(np.mean([_tied(seen, row) for row in range(len(seen.found))]))
    if tied > _FEW:
        yield "ties", f"{tied:.0%} of answers have the score of another one"
    if seen.sent.shape[1] == seen.made.shape[1] and (recall := _recall(seen)) < _RECALL:
        yield (
            "missed neighbours",
            f"about {recall:.0%} of the nearest {seen.k} are found",
        )


def _tied(seen: _Seen, row: int) -> float:
    """Return the share of a query's answers that tie with another vector's."""
    own = [seen.place.get(key, -1) for key in seen.found[row]]
    made = [seen.made[at].round(4).tobytes() for at in own]
    times = Counter(score for score, _ in {*zip(seen.scores[row], made, strict=True)})
    return sum(n for n in times.values() if n > 1) / max(1, len(own))


def _recall(seen: _Seen) -> float:
    """Return about which share of the nearest is found, the less of two estimates.

    One takes the nearest among the documents at hand. The other counts who of the
    sample is nearer than each answer and was not found, of whom the corpus has as many
    more as it is larger. Near is meant by the encoder's own vectors and metric.
    """
    queries, vectors, k = seen.sent, seen.made, min(seen.k, len(seen.made))
    if metric_of(seen.encoder) == "cosine":
        queries, vectors = normalized(queries), normalized(vectors)
    kth = exact_search(queries, vectors, k, "dot")[0][:, -1]
    drawn, shares = len(seen.sample), []
    nearer = np.zeros(k)  # of the sample than each place of the answers
    for query, own, least in zip(queries, seen.found, kth, strict=True):
        rows = [seen.place[key] for key in dict.fromkeys(own) if key in seen.place]
        near = np.sort(vectors[rows] @ query)[::-1][:k]
        shares.append(float((near >= least - 1e-4).sum()) / k)
        others = np.delete(vectors[:drawn], [row for row in rows if row < drawn], 0)
        nearer[: len(near)] += (others @ query > near[:, None] + 1e-4).sum(1)
    ranks = np.arange(1, k + 1) + nearer / len(shares) * seen.size / drawn
    right = float((ranks < k + 0.5).mean()) if nearer.max() >= _SURE else 1.0
    return min(float(np.mean(shares)), right)


def _data(seen: _Seen) -> _Found:
    rows, queries = seen.training, seen.queries
    if seen.size < _SMALL:
        yield "small corpus", f"{seen.size:,} documents; with more, scores fall"
    leaked = len(find_leaks(rows, [(query,) for query in queries])) / len(queries)
    if leaked > _FEW:
        yield "test in training", f"{leaked:.0%} of the queries stand in training"
    answers = Counter(plain(row[1]) for row in rows if len(row) > 1)
    shared = sum(count for count in answers.values() if count > 1)
    if shared > _FEW * len(rows):
        told = f"{shared / len(rows):.0%} of training rows share their answer"
        yield "false negatives", told


_CHECKS: tuple[Callable[[_Seen], _Found], ...] = (
    _lengths,
    _padding,
    _vectors,
    _tokens,
    _texts,
    _answered,
    _data,
)
