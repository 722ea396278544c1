"""How good a candidate is: on the tasks of ICD-10-CM, or on the reader's own pairs."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbert_lab.datasets.icd10cm_tasks import KINDS
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.evaluation.tasks import (
    TaskResult,
    in_order,
    judge_ranking,
    measure,
    measure_bm25,
    ranking,
)
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.onnx import OnnxEncoder
from sbert_lab.models.sentence_encoder import (
    Encoded,
    Encoder,
    SentenceEncoder,
    encode_documents,
    encode_queries,
    metric_of,
)

#: The one task of a reader's own pairs.
OWN = "your pairs"


@dataclass(frozen=True)
class Cached:
    """An encoder whose vectors are kept in a cache, if it is of the kind that can."""

    encoder: Encoder
    cache: EmbeddingCache | None = None

    def queries(self, texts: Sequence[str]) -> Encoded:
        """Encode what is searched with."""
        if isinstance(self.encoder, SentenceEncoder):
            return self.encoder.encode_query(texts, **self._options)
        if isinstance(self.encoder, OnnxEncoder):
            return self.encoder.encode(texts, **self._options)
        return encode_queries(self.encoder, texts)

    def documents(self, texts: Sequence[str]) -> Encoded:
        """Encode what is searched in."""
        if isinstance(self.encoder, SentenceEncoder):
            return self.encoder.encode_document(texts, **self._options)
        if isinstance(self.encoder, OnnxEncoder):
            return self.encoder.encode(texts, **self._options)
        return encode_documents(self.encoder, texts)

    @property
    def _options(self) -> dict[str, Any]:
        return {"cache": self.cache, "show_progress": False}


def on_icd10cm(
    encoder: Encoder,
    size: int | None = None,
    *,
    kinds: Sequence[str] = KINDS,
    cache: EmbeddingCache | None = None,
) -> dict[str, TaskResult]:
    """Measure a candidate on the tasks of ICD-10-CM, by kind: see `tasks.measure`.

    BM25 takes part in Retrieval and Reranking alone.
    """
    from sklearn.exceptions import ConvergenceWarning

    kept = Cached(encoder, cache)
    if not isinstance(kept.queries(["a word"]), np.ndarray):
        found = measure_bm25(size)
        return {kind: found[kind] for kind in kinds if kind in found}
    with warnings.catch_warnings():
        # The protocol stops its classifier after 100 steps, as mteb does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return measure(
            kept.queries,
            size,
            kinds=kinds,
            encode_document=kept.documents,
            metric=metric_of(encoder),
        )


def on_pairs(
    encoder: Encoder, pairs: Pairs, *, cache: EmbeddingCache | None = None
) -> dict[str, TaskResult]:
    """Measure a candidate on the reader's pairs: each anchor must find its positives.

    All different positives and negatives of the file are the corpus. An anchor that
    stands in several rows has several right answers. The score is nDCG@10. Each row is
    taken as a right answer, so labels that tell rows apart are refused.

    Returns
    -------
    dict
        One task, `OWN`.

    Raises
    ------
    ValueError
        There are fewer than two different anchors, or positives; or labels differ.
    """
    if pairs.label is not None and len(set(pairs.label)) > 1:
        raise ValueError(
            f"{pairs.source}: its labels go from {min(pairs.label):g} to "
            f"{max(pairs.label):g}, but each positive is taken as a right answer: keep "
            "the rows where it is one, without the column of labels"
        )
    anchors = list(dict.fromkeys(pairs.anchor))
    corpus = corpus_of(pairs)
    if len(anchors) < 2 or len(set(pairs.positive)) < 2:
        raise ValueError(
            f"{pairs.source}: {len(anchors)} different anchors and "
            f"{len(set(pairs.positive))} positives; two of each at least, or there is "
            "nothing to search in. A few hundred tell models apart"
        )
    row = {text: f"text-{i}" for i, text in enumerate(corpus)}
    right: dict[str, dict[str, int]] = {f"anchor-{i}": {} for i in range(len(anchors))}
    place = {text: f"anchor-{i}" for i, text in enumerate(anchors)}
    for anchor, positive in zip(pairs.anchor, pairs.positive, strict=True):
        right[place[anchor]][row[positive]] = 1
    kept = Cached(encoder, cache)
    ids = list(row.values())
    asked = kept.queries(anchors)
    if not isinstance(asked, np.ndarray):
        hits = zip(*Bm25(corpus).search(anchors, len(corpus)), strict=True)
        found = [in_order(s.tolist(), [ids[i] for i in rows]) for s, rows in hits]
        return {OWN: judge_ranking(found, list(right), right, "ndcg_at_10")}
    documents, metric = kept.documents(corpus), metric_of(encoder)
    return {OWN: ranking(list(right), asked, ids, documents, right, metric=metric)}


def corpus_of(pairs: Pairs) -> list[str]:
    """Return the different texts that anchors are searched in, in the file's order."""
    return list(dict.fromkeys([*pairs.positive, *(pairs.negative or ())]))
