"""A first vector for every token, by counting alone.

Which tokens stand near each other is counted, turned into positive pointwise mutual
information, and that matrix is cut down to a few dimensions. A model whose embeddings
start there need not learn from nothing what counting already tells.

Source: Levy & Goldberg 2014, section 4; for the smoothing, Levy, Goldberg & Dagan
2015, section 3.2.
"""

from collections.abc import Mapping
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from tools.pretraining.vocabulary import SEP, SPECIAL_TOKENS


def weighted_counts(
    streams: Mapping[str, NDArray[np.int16]],
    weights: Mapping[str, float],
    vocab_size: int,
    window: int,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return co-occurrence and unigram counts, each source counted by its weight."""
    counts = np.zeros((vocab_size, vocab_size), dtype=np.float32)
    unigram = np.zeros(vocab_size)
    apart = np.full(window, SEP, dtype=np.int16)
    by_weight = sorted(streams, key=lambda name: weights[name])
    for weight, names in groupby(by_weight, lambda name: weights[name]):
        parts = [part for name in names for part in (streams[name], apart)]
        stream = np.concatenate(parts)
        counts += np.float32(weight) * cooccurrence(stream, vocab_size, window)
        unigram += weight * np.bincount(stream, minlength=vocab_size)
    unigram[: len(SPECIAL_TOKENS)] = 0
    return counts, unigram


def cooccurrence(
    stream: NDArray[np.int16], vocab_size: int, window: int, block: int = 8_000_000
) -> NDArray[np.float32]:
    """Count how often two tokens stand near each other; the matrix is symmetric.

    Parameters
    ----------
    stream
        Token ids; special tokens have no neighbours.
    vocab_size
        V of the result's ``[V, V]``.
    window
        Pairs at most so far apart count; one at distance d by
        ``(window + 1 - d) / window``.
    block
        Tokens counted at once, which bounds the memory.
    """
    counts = np.zeros(vocab_size * vocab_size, dtype=np.float32)
    ids = stream.astype(np.int64)
    first = len(SPECIAL_TOKENS)
    for start in range(0, len(ids), block):
        for distance in range(1, window + 1):
            left = ids[start : start + block]
            right = ids[start + distance : start + block + distance]
            left = left[: len(right)]
            usable = (left >= first) & (right >= first)
            pairs = left[usable] * vocab_size + right[usable]
            weight = np.float32((window + 1 - distance) / window)
            found = np.bincount(pairs, minlength=counts.size)
            counts += weight * found.astype(np.float32)
    square = counts.reshape(vocab_size, vocab_size)
    return square + square.T


def ppmi(counts: NDArray[np.float32], smoothing: float = 0.75) -> sparse.csr_matrix:
    """Return positive pointwise mutual information.

    The contexts' frequencies are raised to `smoothing`, which lowers the value of
    rare contexts.
    """
    rows = counts.sum(axis=1, dtype=np.float64)
    contexts = rows**smoothing
    contexts /= max(contexts.sum(), 1e-12)
    found = sparse.coo_matrix(counts)
    value = np.log(found.data / (rows[found.row] * contexts[found.col]))
    kept = value > 0
    places = found.row[kept], found.col[kept]
    return sparse.csr_matrix(
        (value[kept].astype(np.float32), places), shape=counts.shape
    )


def static_vectors(
    counts: NDArray[np.float32], size: int, seed: int
) -> NDArray[np.float32]:
    """Return ``U sqrt(S)`` of the PPMI matrix' truncated SVD, at an rms of 1."""
    u, s, _ = randomized_svd(
        ppmi(counts), n_components=size, n_iter=4, random_state=seed
    )
    vectors = (u * np.sqrt(s)).astype(np.float32)
    rms = np.float32(max(np.sqrt(np.mean(vectors**2)), 1e-12))
    scaled: NDArray[np.float32] = vectors / rms
    return scaled
