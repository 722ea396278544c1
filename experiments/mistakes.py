"""The working search of 09, and the list of mistakes that are made in one.

As they stand `embed` and `rank` are sound, and equal to the package's own; their
arguments are what can go wrong. The prices are in the record of 09.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from sbert_lab._utils import Vectors
from sbert_lab.index.exact import normalized
from sbert_lab.models.pooling import Pool, mean_pooling
from sbert_lab.models.sentence_encoder import SentenceEncoder

Rows = NDArray[np.int64]


def embed(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    *,
    pool: Pool = mean_pooling,
    masked: bool = True,
    tokenizer: Any = None,  # noqa: ANN401  (transformers'; by default the encoder's)
    prompt: str = "",
    max_tokens: int = 256,
) -> Vectors:
    """Return the pooled token vectors of texts, ``[n, d]``, not normalised."""
    words, rows = tokenizer or encoder.tokenizer, []
    how = {"padding": True, "truncation": True, "max_length": max_tokens}
    for start in range(0, len(texts), 32):
        batch = [prompt + text for text in texts[start : start + 32]]
        inputs = words(batch, return_tensors="pt", **how)
        with torch.inference_mode():
            tokens = encoder.transformer(**inputs).last_hidden_state
        mask = inputs["attention_mask"]
        rows.append(pool(tokens, mask if masked else torch.ones_like(mask)))
    found: Vectors = torch.cat(rows).numpy()
    return found


def rank(
    asked: Vectors,
    documents: Vectors,
    k: int = 10,
    *,
    scale: Callable[[Vectors], Vectors] = normalized,
    index: Callable[[int], Any] = faiss.IndexFlatIP,
) -> Rows:
    """Return the rows of the k nearest documents of each query, ``[q, k]``."""
    made = index(documents.shape[1])
    made.add(scale(documents))
    found: Rows = made.search(scale(asked), k)[1]
    return found


class Mistake(NamedTuple):
    """What is done wrongly, whether anything complains, and what finds it."""

    title: str
    complains: str
    check: str


_NO = "no"

#: By the key in the record: those that make answers worse.
MISTAKES = {
    "other_tokenizer": Mistake(
        "tokenizer of another model", _NO, "tokens of both: len(tokenizer), vocab_size"
    ),
    "not_lowered": Mistake(
        "uncased model, texts not lower-cased",
        "sbert_lab, where most words are unknown",
        "count unknown tokens",
    ),
    "lowered": Mistake("cased model, texts lower-cased", _NO, "look for capitals"),
    "cut_128": Mistake(
        "pages cut at 128 tokens", "sbert_lab warns", "tokens of the longest texts"
    ),
    "cut_256": Mistake(
        "pages cut at 256 tokens", "sbert_lab warns", "tokens of the longest texts"
    ),
    "fixed_characters": Mistake(
        "passages cut after so many characters", _NO, "texts of just one length"
    ),
    "query_prompt_missing": Mistake(
        "queries without their prompt", _NO, "encode_query, or print what is encoded"
    ),
    "prompts_missing": Mistake(
        "no prompts at all", _NO, "encode_query and encode_document"
    ),
    "prompt_doubled": Mistake(
        "queries with the prompt twice", _NO, "no text begins with the prompt"
    ),
    "prompt_of_documents": Mistake(
        "queries with the prompt of documents", _NO, "encode_query"
    ),
    "padding": Mistake(
        "padding averaged in", _NO, "a text alone, and beside a long one"
    ),
    "cls": Mistake(
        "[CLS] of a model trained for the mean",
        "sbert_lab, where a folder names no pooling",
        "vectors equal to sentence-transformers'",
    ),
    "float16_overflow": Mistake(
        "sums normalised in float16", "NumPy, once, if not silenced", "rows of zeros"
    ),
    "dot": Mistake("dot product, not normalised", _NO, "lengths of the vectors"),
    "l2": Mistake("L2 distance, not normalised", _NO, "lengths of the vectors"),
    "two_models": Mistake(
        "queries by another model of the same width",
        "VectorIndex, by its model_hash",
        "encode a stored text again",
    ),
    "stale_half": Mistake(
        "half of the vectors predate an update",
        "VectorIndex, by its model_hash",
        "encode some stored texts again",
    ),
    "stale_all": Mistake(
        "all vectors predate an update",
        "VectorIndex, by its model_hash",
        "encode some stored texts again",
    ),
    "bfloat16_ties": Mistake("scores in bfloat16", _NO, "equal scores of unlike texts"),
    "int8_coarse": Mistake(
        "int8 over -1 to 1, not over what is used", _NO, "recall against exact search"
    ),
    "bits": Mistake(
        "one bit a dimension, nothing scored again", _NO, "recall against exact search"
    ),
    "hnsw_default": Mistake(
        "HNSW with efSearch as it comes", _NO, "recall against exact search"
    ),
    "hnsw_metric": Mistake(
        "HNSW as it comes, L2, not normalised", _NO, "recall against exact search"
    ),
    "deletions": Mistake(
        "HNSW as it comes, old versions dropped late",
        _NO,
        "searches with too few answers",
    ),
    "filtered_late": Mistake(
        "a filter after top_k", _NO, "searches with too few answers"
    ),
    "false_negatives": Mistake(
        "a batch's duplicate answers as negatives",
        "MultipleNegativesRankingLoss leaves them out",
        "answers that several rows share",
    ),
}

#: Those that make a measurement better than the search.
ILLUSIONS = {
    "small_corpus": Mistake(
        "measured among a thousand documents", _NO, "as many documents as in earnest"
    ),
    "test_in_training": Mistake(
        "the test's queries in training", "adapt refuses", "find_leaks"
    ),
}
