"""A smoke test for a search, which tells of what mistakes it smells.

Most of them raise no error: they move a vector, or an answer. So a sample is worked out
again, as the encoder says, and compared with what is there. Notebook 09 tells what each
mistake costs.
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

_SAME = 0.98  # cosine from which on two vectors are the same, but for rounding
_NAMED = 0.9995  # cosine from which on a known mistake explains a vector
_FEW = 0.05  # share of texts, or of answers, that may be odd
_RECALL = 0.85  # of the true neighbours; compressed indexes in use find more
_SMALL = 1_000  # documents


@dataclass(frozen=True)
class Smell:
    """What is probably wrong, the measurement that says so, and what to do."""

    mistake: str
    evidence: str
    cure: str

    def __str__(self) -> str:
        """Show in one line."""
        return f"{self.mistake}: {self.evidence}. To mend it: {self.cure}."


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
    asked = encode_queries(encoder, texts)
    sent = asked
    if query_vectors is not None:
        if len(query_vectors) != len(queries):
            raise ValueError(f"{len(query_vectors)} vectors, {len(queries)} queries")
        sent = np.ascontiguousarray(query_vectors[some], np.float32)
    found, scores = _answers(index, sent, k, ids)
    came = [key for own in found for key in own]
    wanted = [key for row in some for key in positive(relevant[row])]
    sampled = [ids[row] for row in np.sort(rng.permutation(len(ids))[:sample])]
    kept = {key: documents[key] for key in (*sampled, *came) if key in documents}
    seen = _Seen(
        encoder=encoder,
        queries=texts,
        sent=sent,
        asked=asked,
        documents=kept,
        stored=_stored(index, ids, kept),
        made=encode_documents(encoder, list(kept.values())),
        size=len(documents),
        metric=_metric(index),
        found=found,
        scores=scores,
        k=min(k, len(documents)),
        strange=[key for key in (*came, *wanted) if key not in documents],
        training=[*training],
    )
    return [smell for check in _CHECKS for smell in check(seen)]


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
    both = zip(rows, scores.tolist(), (~gaps).tolist(), strict=True)
    pairs = [
        [(key, score) for key, score, is_one in zip(*row, strict=True) if is_one]
        for row in both
    ]
    return [[key for key, _ in row] for row in pairs], [
        [s for _, s in r] for r in pairs
    ]


def _metric(index: Any) -> str:  # noqa: ANN401
    """Return cosine, dot or l2; unknown where an index does not say."""
    if isinstance(index, VectorIndex):
        return index.metric
    kind = getattr(index, "metric_type", -1)  # FAISS's
    return {0: "dot", 1: "l2"}.get(kind, "unknown")


def _stored(index: Any, ids: list[Any], some: Iterable[Any]) -> Vectors | None:  # noqa: ANN401
    """Return the vectors of some ids that an index gives back, if it does."""
    own, every = index, ids
    if isinstance(index, VectorIndex):
        own, every = index._index, index.ids.tolist()
        if index.kind.startswith("binary"):
            return None
    row = {key: row for row, key in enumerate(every)}
    try:
        vectors = own.reconstruct_n(0, own.ntotal)
        found: Vectors = vectors[[row[key] for key in some]]
    except (AttributeError, RuntimeError, KeyError, IndexError):
        return None  # not of this kind of index, or not in it
    return found


# Checks: each yields the smells that it finds


def _no_numbers(seen: _Seen) -> Iterator[Smell]:
    for side, rows in (("document", seen.stored), ("query", seen.sent)):
        if rows is None:
            continue
        bad = int((~np.isfinite(rows).all(1) | ~rows.any(1)).sum())
        if bad:
            yield Smell(
                "overflow",
                f"{bad:,} of {len(rows):,} {side} vectors are zero, or no numbers",
                "pool and normalise in float32, and leave out texts without a word",
            )


def _length_counts(seen: _Seen) -> Iterator[Smell]:
    if seen.stored is None or seen.metric not in ("dot", "l2"):
        return
    lengths = np.linalg.norm(seen.stored[seen.stored.any(1)], axis=1)
    if metric_of(seen.encoder) == "cosine" and lengths.std() > 0.01 * lengths.mean():
        short, long = np.percentile(lengths, [5, 95])
        yield Smell(
            f"{seen.metric} of vectors that are not normalised",
            f"their lengths go from {short:.3g} to {long:.3g}",
            "normalise documents and queries, or compare by cosine",
        )


def _other_vectors(seen: _Seen) -> Iterator[Smell]:
    sides: list[tuple[str, list[str], Vectors | None, Vectors]] = [
        ("query", seen.queries, seen.sent, seen.asked),
        ("document", list(seen.documents.values()), seen.stored, seen.made),
    ]
    for side, texts, given, made in sides:
        if given is None or not np.isfinite(given).all():
            continue
        if given.shape != made.shape:
            far, share = np.ones(len(made), bool), 1.0
        else:
            far = pairwise_cosine(given, made) < _SAME
            share = float(far.mean())
        if share > _FEW:
            rows = np.flatnonzero(far)[:32].tolist()
            known = _explained(
                seen.encoder, side, [texts[i] for i in rows], given[rows]
            )
            unknown = "stale vectors" if share < 0.9 else "vectors of another model"
            yield Smell(
                known or unknown,
                f"{share:.0%} of the {side} vectors are not what the encoder makes",
                f"encode them again with it, as {side}",
            )


def _explained(
    encoder: Encoder, side: str, texts: list[str], given: Vectors
) -> str | None:
    """Return the known mistake that makes just these vectors of texts, if one does."""
    if not isinstance(encoder, SentenceEncoder):
        return None
    prompt = encoder.prompt_for(side)
    other = encoder.prompt_for("document" if side == "query" else "query")
    layout, ways = encoder.layout, dict[str, tuple[Any, str]]()
    ways["a missing prompt"], ways["a doubled prompt"] = (
        (layout, ""),
        (layout, 2 * prompt),
    )
    ways["the prompt of the other side"] = layout, other
    for mode in POOLING:
        ways[f"{mode} pooling"] = replace(layout, pooling=(mode,)), prompt
    for most in (64, 128, 256):
        if most < encoder.max_seq_length:
            ways[f"cut at {most} tokens"] = replace(layout, max_seq_length=most), prompt
    for name, (changed, before) in ways.items():
        told = SentenceEncoder(encoder.transformer, encoder.tokenizer, changed).eval()
        made = told.encode(texts, prompt=before, show_progress=False)
        same = made.shape == given.shape
        if same and np.median(pairwise_cosine(made, given)) > _NAMED:
            return name
    return None


def _padding(seen: _Seen) -> Iterator[Smell]:
    texts = list(seen.documents.values())
    short, long = min(texts, key=len), " ".join(texts)[:1_000]
    alone, beside = (seen.encoder.encode(own)[:1] for own in ([short], [short, long]))
    near = float(pairwise_cosine(alone, beside)[0])
    if near < _SAME:
        yield Smell(
            "padding averaged in",
            f"a short text alone and beside a long one have a cosine of {near:.2f}",
            "give the attention mask to the transformer and to the pooling",
        )


def _tokens(seen: _Seen) -> Iterator[Smell]:
    encoder, texts = seen.encoder, [*seen.documents.values(), *seen.queries]
    if not isinstance(encoder, SentenceEncoder):
        return
    words = encoder.tokenizer.backend_tokenizer
    rows, here = encoder.transformer.config.vocab_size, len(encoder.tokenizer)
    if not 0.9 * rows <= here <= rows:
        yield Smell(
            "the tokenizer of another model",
            f"it knows {here:,} tokens, the model {rows:,}",
            "load both from one folder",
        )

    def share(texts: list[str]) -> float:
        unknown = encoder.tokenizer.unk_token_id
        return float(np.mean([unknown in words.encode(text).ids for text in texts]))

    if (odd := share(texts)) > _FEW:
        lower = share([text.lower() for text in texts]) < odd / 2
        yield Smell(
            "an uncased model without lower-casing" if lower else "unknown words",
            f"{odd:.0%} of texts hold a word that the tokenizer does not know",
            "use the tokenizer of the model's own folder, with its settings",
        )
    encoder.token_ids(texts)
    if encoder.last_truncated > _FEW * len(texts):
        yield Smell(
            "silent truncation",
            f"{encoder.last_truncated:,} of {len(texts):,} texts are longer than "
            f"{encoder.max_seq_length} tokens, and the rest of them is not read",
            "cut them into passages: sbert_lab.index.chunking",
        )


def _texts(seen: _Seen) -> Iterator[Smell]:
    documents = list(seen.documents.values())
    for side, texts in (("query", seen.queries), ("document", documents)):
        prompt = getattr(seen.encoder, "prompt_for", lambda _: "")(side).strip()
        begun = np.mean([text.startswith(prompt) for text in texts])
        if prompt and begun > 0.5:
            yield Smell(
                "a doubled prompt",
                f"{begun:.0%} of {side} texts begin with {prompt!r}, as the encoder "
                "itself begins",
                "give it the bare texts",
            )
    usual, count = Counter(map(len, documents)).most_common(1)[0]
    if usual > 40 and count > 0.2 * len(documents):
        yield Smell(
            "documents cut at fixed characters",
            f"{count / len(documents):.0%} of them have just {usual} characters",
            "cut where sentences end: sbert_lab.index.chunking",
        )
    every = " ".join([*documents, *seen.queries])
    words = ["Berlin", "Paris", "WHO", "US"]
    cased = pairwise_cosine(
        *(seen.encoder.encode(w) for w in (words, [*map(str.lower, words)]))
    )
    if every == every.lower() != every.upper() and cased.min() < _SAME:
        yield Smell(
            "lower-casing for a cased model",
            "no text has a capital, which the model would tell from small letters",
            "leave texts as they are written",
        )


def _index(seen: _Seen) -> Iterator[Smell]:
    if seen.strange:
        yield Smell(
            "ids that are no documents",
            f"{len(seen.strange):,} found or relevant ids, such as {seen.strange[0]!r}",
            "take deleted documents out of the index, and put missing ones in",
        )
    short = np.mean([len(own) < seen.k for own in seen.found])
    if short > _FEW:
        yield Smell(
            "fewer answers than asked for",
            f"{short:.0%} of searches bring fewer than {seen.k}",
            "filter in the search, not after `top_k`; build anew after deletions",
        )
    tied = float(np.mean([_tied(seen, row) for row in range(len(seen.found))]))
    if tied > _FEW:
        yield Smell(
            "ties",
            f"{tied:.0%} of answers have the score of another text",
            "score in float32, or score the best again in it",
        )
    if seen.sent.shape[1] == seen.made.shape[1] and (recall := _recall(seen)) < _RECALL:
        yield Smell(
            "the index misses neighbours",
            f"it finds about {recall:.2f} of the nearest {seen.k}",
            "mend what is said above; raise ef_search, nprobe or candidates",
        )


def _tied(seen: _Seen, row: int) -> float:
    """Return the share of a query's answers that have the score of another text."""
    texts: dict[float, set[str]] = {}
    for key, score in zip(seen.found[row], seen.scores[row], strict=True):
        texts.setdefault(score, set()).add(plain(seen.documents.get(key, "")))
    tied = sum(len(own) for own in texts.values() if len(own) > 1)
    return tied / max(1, len(seen.found[row]))


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
        shares.append(
            min(1.0, float((vectors[rows] @ query >= least - 1e-4).sum()) / k)
        )
    return float(np.mean(shares))


def _corpus(seen: _Seen) -> Iterator[Smell]:
    if seen.size < _SMALL:
        yield Smell(
            "a small corpus",
            f"{seen.size:,} documents, and scores fall as their number rises",
            "measure in as many as are searched in earnest",
        )


def _training(seen: _Seen) -> Iterator[Smell]:
    rows, queries = seen.training, seen.queries
    leaked = len(find_leaks(rows, [(query,) for query in queries]))
    if leaked > _FEW * len(queries):
        yield Smell(
            "test queries in training",
            f"{leaked / len(queries):.0%} of the queries stand in training",
            "split by what belongs together: sbert_lab.datasets.pairs.split_pairs",
        )
    answers = Counter(plain(row[1]) for row in rows if len(row) > 1)
    shared = sum(count for count in answers.values() if count > 1)
    if shared > _FEW * len(rows):
        yield Smell(
            "false negatives in the batch",
            f"{shared / len(rows):.0%} of training rows have another row's answer, "
            "and in one batch each counts as wrong for the other",
            "take MultipleNegativesRankingLoss of this package, which leaves such out",
        )


_CHECKS: tuple[Callable[[_Seen], Iterator[Smell]], ...] = (
    _no_numbers,
    _length_counts,
    _other_vectors,
    _padding,
    _tokens,
    _texts,
    _index,
    _corpus,
    _training,
)
