"""Protocols of search: retrieval from a whole corpus, reranking of given candidates.

Each equals MTEB's main score on the same vectors, which MTEB rounds to five decimals.
Source: Thakur et al. 2021 (BEIR), section 3; Muennighoff et al. 2023, section 3.2; and
the library mteb 2.26.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from sbert_lab._utils import METRICS, Metric
from sbert_lab.evaluation.metrics import (
    average_precision_at_k,
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)
from sbert_lab.evaluation.result import ProtocolResult
from sbert_lab.evaluation.sparse import Rows, checked_sparse, is_sparse, similarity
from sbert_lab.index.exact import checked

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Places after which rankings are cut and judged.
K_VALUES = (1, 3, 5, 10, 20, 100, 1_000)

_CORPUS_AT_ONCE = 50_000  # as in MTEB: the shape of a product decides its last bits

Qrels = Mapping[str, Mapping[str, int]]

_Checked: TypeAlias = "torch.Tensor | csr_array"


def retrieval(
    query_ids: Sequence[str],
    query_vectors: Rows,
    corpus_ids: Sequence[str],
    corpus_vectors: Rows,
    qrels: Qrels,
    *,
    ignore_identical_ids: bool = False,
    metric: Metric = "cosine",
) -> ProtocolResult:
    """Search the whole corpus for each query; ``ndcg_at_10`` counts.

    The best 1,000 documents are kept and judged. Of equal scores, in float32, the
    larger id comes first, as in trec_eval.

    Parameters
    ----------
    query_ids, query_vectors
        Different ids, and ``[q, d]``; of `scipy.sparse`, if the documents' are.
    corpus_ids, corpus_vectors
        Different ids, and ``[n, d]``.
    qrels
        For each query the grade of documents; 0 and below is not relevant. Queries
        without an entry, or with an empty one, are left out; those with grades of 0
        only stay, and score 0.
    ignore_identical_ids
        True drops a document that has the query's id: where queries come from the
        corpus (ArguAna, FiQA2018, FEVER, MSMARCO, Quora).
    metric
        ``"cosine"`` or ``"dot"``.

    Returns
    -------
    ProtocolResult
        Scores: means over the queries of ``ndcg_at_k``, ``map_at_k``, ``recall_at_k``
        and ``mrr_at_k`` for each k of `K_VALUES`. Items: the same by query. Ids: the
        queries.
    """
    kept = _judged(query_ids, qrels)
    queries = _vectors(query_vectors, query_ids, "query")
    corpus = _vectors(corpus_vectors, corpus_ids, "corpus")
    _check_alike(queries, corpus, metric)
    queries = queries[[i for i, _ in kept]]
    most = max(K_VALUES)
    best: list[list[tuple[float, str]]] = [[] for _ in kept]
    for start in range(0, corpus.shape[0], _CORPUS_AT_ONCE):
        block = corpus[start : start + _CORPUS_AT_ONCE]
        similar = _similarity(queries, block, metric)
        # One more than needed, as MTEB does: of equal scores at the edge, which come
        # along is torch's choice.
        top = similar.topk(min(most + 1, block.shape[0]), dim=1)
        for hits, scores, rows in zip(
            best, top.values.tolist(), top.indices.tolist(), strict=True
        ):
            hits += (
                (s, corpus_ids[start + i]) for s, i in zip(scores, rows, strict=True)
            )
            hits.sort(reverse=True)
            del hits[most:]
    found = [
        [key for _, key in hits if not (ignore_identical_ids and key == query)]
        for hits, (_, query) in zip(best, kept, strict=True)
    ]
    return _judge("ndcg_at_10", found, [query for _, query in kept], qrels)


def reranking(
    query_ids: Sequence[str],
    query_vectors: Rows,
    corpus_ids: Sequence[str],
    corpus_vectors: Rows,
    qrels: Qrels,
    candidates: Mapping[str, Sequence[str]],
    *,
    metric: Metric = "cosine",
) -> ProtocolResult:
    """Order given candidates for each query; ``map_at_1000`` counts.

    Parameters
    ----------
    query_ids, query_vectors, corpus_ids, corpus_vectors, qrels, metric
        As in `retrieval`.
    candidates
        For each query the ids to order. A query without any scores 0. What is relevant
        and no candidate counts as not found.

    Returns
    -------
    ProtocolResult
        As that of `retrieval`, with another main score.
    """
    kept = _judged(query_ids, qrels)
    queries = _vectors(query_vectors, query_ids, "query")
    corpus = _vectors(corpus_vectors, corpus_ids, "corpus")
    _check_alike(queries, corpus, metric)
    row_of = {key: i for i, key in enumerate(corpus_ids)}
    unknown = sorted({i for ids in candidates.values() for i in ids} - row_of.keys())
    if unknown:
        raise ValueError(f"candidates that the corpus lacks: {unknown[:3]}")
    found: list[list[str]] = []
    for i, query in kept:
        ids = candidates.get(query, ())
        if not ids:
            found.append([])
            continue
        # Query by query, as MTEB does: the shape of a product decides its last bits.
        similar = _similarity(
            queries[i : i + 1], corpus[[row_of[k] for k in ids]], metric
        )
        top = similar[0].topk(min(max(K_VALUES), len(ids)))
        scores = {
            ids[j]: score
            for score, j in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        }
        found.append(sorted(scores, key=lambda key: (scores[key], key), reverse=True))
    return _judge("map_at_1000", found, [query for _, query in kept], qrels)


def _similarity(queries: _Checked, documents: _Checked, metric: Metric) -> torch.Tensor:
    if is_sparse(queries):
        return torch.from_numpy(similarity(queries, documents, metric))
    if metric == "cosine":
        queries = torch.nn.functional.normalize(queries, dim=1)
        documents = torch.nn.functional.normalize(documents, dim=1)
    return queries @ documents.T


def _judge(
    main: str, found: list[list[str]], queries: list[str], qrels: Qrels
) -> ProtocolResult:
    relevant = [qrels[query] for query in queries]
    items = {}
    for k in K_VALUES:
        items[f"ndcg_at_{k}"] = ndcg_at_k(found, relevant, k)
        items[f"map_at_{k}"] = average_precision_at_k(found, relevant, k)
        items[f"recall_at_{k}"] = recall_at_k(found, relevant, k)
        items[f"mrr_at_{k}"] = reciprocal_rank_at_k(found, relevant, k)
    # Python's sum, not numpy's mean: the last bit may decide a rounding.
    scores = {
        name: sum(values.tolist()) / len(values) for name, values in items.items()
    }
    return ProtocolResult(main, scores, items, tuple(queries))


def _judged(query_ids: Sequence[str], qrels: Qrels) -> list[tuple[int, str]]:
    """Return place and id of the queries that were judged."""
    kept = [(i, query) for i, query in enumerate(query_ids) if qrels.get(query)]
    if not kept:
        raise ValueError(
            f"none of {len(query_ids)} queries has an entry in the qrels: are the ids "
            "of the same kind (strings)?"
        )
    return kept


def _vectors(vectors: Rows, ids: Iterable[str], name: str) -> _Checked:
    rows: _Checked
    if is_sparse(vectors):
        rows = checked_sparse(vectors, f"{name} vectors")
    else:
        rows = torch.from_numpy(checked(np.asarray(vectors), f"{name} vectors"))
    count, keys = rows.shape[0], list(ids)
    if count != len(keys) or len(set(keys)) != len(keys):
        raise ValueError(
            f"{count} {name} vectors for {len(keys)} ids, {len(set(keys))} of them "
            "different: give each row an id of its own"
        )
    return rows


def _check_alike(queries: _Checked, corpus: _Checked, metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r}: one of {', '.join(METRICS)}")
    if is_sparse(queries) != is_sparse(corpus):
        raise ValueError(
            "one side's vectors are sparse, the other's are not: were they encoded by "
            "the same model?"
        )
    if queries.shape[1] != corpus.shape[1]:
        raise ValueError(
            f"queries have {queries.shape[1]} dimensions, documents {corpus.shape[1]}: "
            "were they encoded by the same model?"
        )
