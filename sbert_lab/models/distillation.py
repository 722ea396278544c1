"""A sentence encoder boiled down to static word vectors, without any training.

Each token of the vocabulary is encoded as a sentence of its own, once. What is left
of the model is that table: a text becomes the average of its tokens' rows, which needs
no transformer and takes microseconds. Context is lost: "bank" has one vector.

Source: the idea is model2vec's (Minish Lab 2024). The weights of tokens are Arora et
al. 2017, section 3; removing the mean, Mu & Viswanath 2018. Our own choice is to even
out the components by half, see `whitening`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sbert_lab._utils import progress
from sbert_lab.models.batching import TOKEN_BUDGET, evaluating
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.models.static import StaticEncoder
from sbert_lab.models.transformer import fast_tokenizer

Floats = NDArray[np.float64]

_UNUSED = re.compile(r"\[unused\d+\]")


@dataclass(frozen=True)
class TokenVectors:
    """What a sentence encoder says to each token alone.

    Parameters
    ----------
    vectors
        float32 ``[K, d]``.
    ids
        Which tokens they belong to, ``[K]``, ascending; special and unused tokens are
        not among them.
    tokenizer
        Whose tokens they are.
    """

    vectors: NDArray[np.float32]
    ids: NDArray[np.int64]
    tokenizer: Tokenizer


def distil(
    encoder: SentenceEncoder,
    *,
    dimension: int | None = 256,
    texts: Sequence[str] | None = None,
    smoothing: float | None = 1e-3,
    whitening: float = 0.5,
    show_progress: bool | None = None,
) -> StaticEncoder:
    """Distil a sentence encoder into static word-piece vectors.

    `token_vectors`, then `static_encoder`; to compare settings, do the first once.

    Parameters
    ----------
    encoder
        With a word-piece vocabulary.
    dimension, texts, smoothing, whitening
        See `static_encoder`.
    show_progress
        A bar on standard error; by default for long work on a terminal.
    """
    tokens = token_vectors(encoder, show_progress=show_progress)
    return static_encoder(
        tokens,
        dimension=dimension,
        texts=texts,
        smoothing=smoothing,
        whitening=whitening,
    )


def token_vectors(
    encoder: SentenceEncoder, *, show_progress: bool | None = None
) -> TokenVectors:
    """Encode each token of the vocabulary as a sentence, without a prompt.

    The token goes in by its number, between the special tokens that frame a text: a
    piece such as ``##ing`` could not be written as text.
    """
    backend = fast_tokenizer(encoder.tokenizer, 512, encoder.layout.do_lower_case)
    backend.no_truncation()
    special = set(encoder.tokenizer.all_special_ids)
    vocabulary = backend.get_vocab(with_added_tokens=True)
    ids = np.array(
        sorted(
            number
            for token, number in vocabulary.items()
            if number not in special and not _UNUSED.fullmatch(token)
        ),
        np.int64,
    )
    framed = backend.encode("a")
    own = np.flatnonzero(np.array(framed.special_tokens_mask) == 0)
    before, after = framed.ids[: own[0]], framed.ids[own[-1] + 1 :]
    length = len(before) + 1 + len(after)
    device = encoder.device
    rows = max(1, TOKEN_BUDGET.get(device.type, TOKEN_BUDGET["cpu"]) // length)
    parts = []
    with (
        evaluating(encoder),
        progress(len(ids), "distil", show=show_progress) as move,
    ):
        for start in range(0, len(ids), rows):
            batch = [[*before, i, *after] for i in ids[start : start + rows].tolist()]
            sequences = torch.tensor(batch, device=device)
            found = encoder(sequences, torch.ones_like(sequences))
            parts.append(found[:, : encoder.dimension].float().cpu().numpy())
            move(len(batch))
    return TokenVectors(np.concatenate(parts), ids, backend)


def static_encoder(
    tokens: TokenVectors,
    *,
    dimension: int | None = 256,
    texts: Sequence[str] | None = None,
    smoothing: float | None = 1e-3,
    whitening: float = 0.5,
) -> StaticEncoder:
    """Reduce token vectors to fewer dimensions, and weigh them by frequency.

    The mean is taken off, and principal components are kept. Tokens that were left
    out get zeros.

    Parameters
    ----------
    tokens
        From `token_vectors`.
    dimension
        Components to keep; None keeps all.
    texts
        Where to count how often a token comes. Without them its share follows Zipf's
        law, ``1 / rank``, the rank being its place in the vocabulary: word pieces are
        listed by frequency. They are so after the alphabet, which comes first, in the
        order of code points; single characters therefore share the first rank.
    smoothing
        ``a`` of the smooth inverse frequency ``a / (a + p)``, by which a token of share
        ``p`` is multiplied: common words count less. None leaves all alike.
    whitening
        Each component is divided by its standard deviation to this power: 0 leaves the
        principal components as they are, 1 makes all of them equally wide.

    Raises
    ------
    ValueError
        A setting out of its range, or texts without a known token.

    The defaults were the best of a handful on development data (dev pairs of the STS
    Benchmark, training terms of ICD-10-CM) with all-MiniLM-L6-v2.
    """
    most = min(tokens.vectors.shape[1], len(tokens.vectors) - 1)
    kept = most if dimension is None else dimension
    if not 1 <= kept <= most:
        raise ValueError(
            f"dimension={dimension}: {len(tokens.vectors)} tokens of "
            f"{tokens.vectors.shape[1]} dimensions have 1 to {most} components"
        )
    if not 0 <= whitening <= 1:
        raise ValueError(f"whitening={whitening}: from 0, none, to 1, in full")
    if smoothing is not None and smoothing <= 0:
        raise ValueError(
            f"smoothing={smoothing}: more than 0, or None to leave tokens unweighted"
        )
    if smoothing is None and texts is not None:
        raise ValueError("texts are counted for the weights; give smoothing=… too")
    reduced = _components(tokens.vectors, kept, whitening)
    if smoothing is not None:
        share = _zipf_shares(tokens) if texts is None else _counted(tokens, texts)
        reduced *= (smoothing / (smoothing + share))[:, None]
    size = max(int(tokens.ids[-1]) + 1, tokens.tokenizer.get_vocab_size())
    table = np.zeros((size, kept), np.float32)
    table[tokens.ids] = reduced
    # A copy: the table's tokenizer is its own.
    return StaticEncoder(table, Tokenizer.from_str(tokens.tokenizer.to_str()))


def _components(
    vectors: NDArray[np.float32], dimension: int, whitening: float
) -> Floats:
    """Return the principal components ``[K, dimension]``, evened out."""
    from sklearn.decomposition import PCA

    # Exact, and the same on every call: no random start.
    pca = PCA(dimension, svd_solver="covariance_eigh")
    found: Floats = pca.fit_transform(vectors.astype(np.float64))
    deviation = np.sqrt(pca.explained_variance_)
    real = deviation > 1e-6 * deviation[0]  # what remains of the others is rounding
    scale = np.where(real, deviation, np.inf) ** -whitening
    even: Floats = found * scale
    return even


def _zipf_shares(tokens: TokenVectors) -> Floats:
    """Return each token's share by Zipf's law, ``[K]``; see `static_encoder`."""
    words = [tokens.tokenizer.id_to_token(int(i)) or "" for i in tokens.ids]
    listed = np.array([len(word.removeprefix("##")) > 1 for word in words])
    rank = np.maximum(listed.cumsum(), 1)
    ranks = np.arange(1, max(int(rank[-1]), 1) + 1)
    share: Floats = 1 / np.where(listed, rank, 1) / (1 / ranks).sum()
    return share


def _counted(tokens: TokenVectors, texts: Sequence[str]) -> Floats:
    """Return each token's share of all tokens of `texts`, ``[K]``."""
    encodings = tokens.tokenizer.encode_batch_fast(
        list(texts), add_special_tokens=False
    )
    size = int(tokens.ids[-1]) + 1
    counts = np.zeros(size, np.int64)
    for encoding in encodings:
        counts += np.bincount(encoding.ids, minlength=size)[:size]
    found = counts[tokens.ids]
    if not found.sum():
        raise ValueError(f"{len(texts)} texts hold no token that is counted; give more")
    share: Floats = found / found.sum()
    return share
