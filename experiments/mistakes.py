"""The working search of 09, whose arguments are what can go wrong in one.

As they stand `embed` and `rank` are sound, and equal to the package's own.
"""

from collections.abc import Callable, Sequence
from typing import Any

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
