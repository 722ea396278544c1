"""From a corpus to what training reads: vocabulary, tokens, and static vectors.

A prepared folder holds::

    tokenizer.json, tokenizer_config.json, vocab.txt
    train.safetensors, heldout.safetensors    token ids, int16, one array per source
    static_vectors.safetensors                vectors [V, D] and unigram frequencies [V]
    sources.json                              the corpus' table, with tokens counted

The static vectors are a first vector for every token, by counting alone: which tokens
stand near each other is counted, turned into positive pointwise mutual information,
and that matrix is cut down to a few dimensions (Levy & Goldberg 2014, section 4; for
the smoothing, Levy, Goldberg & Dagan 2015, section 3.2). A model whose embeddings
start there need not learn from nothing what counting already tells.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from sbert_lab._utils import progress, write_bytes, write_json
from tools.pretraining.corpus import TABLE, is_held_out, load_documents, load_table

log = logging.getLogger(__name__)

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, _, CLS, SEP, _ = range(5)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")


def make_tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    """Return an uncased BERT WordPiece tokenizer with this vocabulary."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    if vocabulary:
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
        )
    return tokenizer


def train_tokenizer(
    texts: Sequence[str], vocab_size: int, characters: int = 160
) -> Tokenizer:
    """Train a WordPiece tokenizer; equal texts in any order make an equal vocabulary.

    The trainer numbers continuing characters (``##a``) in an order that changes from
    process to process, and breaks ties by these numbers. They are given to it in a
    fixed order, as if they were special tokens.

    Parameters
    ----------
    texts
        What to count in.
    vocab_size
        Entries in all, special tokens included.
    characters
        Size of the alphabet, the most frequent first; others become ``[UNK]``.
    """
    empty = make_tokenizer({})
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(empty.normalizer.normalize_str(text))
    for space in [c for c in counts if c.isspace()]:
        del counts[space]
    alphabet = sorted(sorted(counts), key=lambda c: -counts[c])[:characters]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        special_tokens=[*SPECIAL_TOKENS, *(f"##{c}" for c in alphabet)],
        show_progress=False,
    )
    empty.train_from_iterator(iter(texts), trainer)
    return make_tokenizer(empty.get_vocab())


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int = 128) -> None:
    """Write tokenizer.json, tokenizer_config.json and vocab.txt."""
    numbers = tokenizer.get_vocab()
    vocabulary = sorted(numbers, key=lambda word: numbers[word])
    config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": max_length,
        **{f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS},
    }
    write_bytes(folder / "tokenizer.json", tokenizer.to_str(pretty=True).encode())
    write_json(folder / "tokenizer_config.json", config)
    write_bytes(folder / "vocab.txt", ("\n".join(vocabulary) + "\n").encode())


def encode_documents(
    tokenizer: Tokenizer, texts: Sequence[str], block: int = 2000
) -> NDArray[np.int16]:
    """Return one stream of token ids with [SEP] after every document."""
    pieces: list[NDArray[np.int16]] = []
    end = np.array([SEP], dtype=np.int16)
    with progress(len(texts), "tokens", minimum=5 * block) as advance:
        for start in range(0, len(texts), block):
            part = list(texts[start : start + block])
            for found in tokenizer.encode_batch_fast(part, add_special_tokens=False):
                pieces += [np.array(found.ids, dtype=np.int16), end]
            advance(len(part))
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int16)


def prepare(
    corpus: Path,
    data: Path,
    vocab_size: int = 8192,
    vector_size: int = 256,
    tokenizer: Path | None = None,
) -> None:
    """Write the prepared folder of a corpus.

    Parameters
    ----------
    corpus, data
        The corpus folder, and the folder to write.
    vocab_size, vector_size
        Entries of the vocabulary; dimensions of the static vectors.
    tokenizer
        Folder whose tokenizer is used instead of a new one, which is what further
        training of finished weights needs.
    """
    table = load_table(corpus)
    weights = {row["source"]: float(row["weight"]) for row in table}
    train, held = split_documents(corpus, list(weights))
    if tokenizer:
        pieces = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    else:
        texts = []
        for name, own in train.items():
            texts += own[: round(min(1.0, weights[name]) * len(own))]
        pieces = train_tokenizer(texts, vocab_size)
    save_tokenizer(pieces, data)
    streams = {name: encode_documents(pieces, train[name]) for name in train}
    unseen = {name: encode_documents(pieces, held[name]) for name in held}
    write_bytes(data / "train.safetensors", save(streams))
    write_bytes(data / "heldout.safetensors", save(unseen))
    size = pieces.get_vocab_size()
    tokens = sum(len(stream) for stream in streams.values())
    log.info("vocabulary of %d, %d train tokens", size, tokens)
    counts, unigram = weighted_counts(streams, weights, size)
    statics = {
        "vectors": static_vectors(counts, vector_size).astype(np.float16),
        "frequency": (unigram / max(unigram.sum(), 1.0)).astype(np.float32),
    }
    write_bytes(data / "static_vectors.safetensors", save(statics))
    rows = [row | {"tokens": len(streams[row["source"]])} for row in table]
    write_json(data / TABLE, rows)


def split_documents(
    corpus: Path, sources: list[str]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the texts to train on and those held out, by source."""
    train: dict[str, list[str]] = {name: [] for name in sources}
    held: dict[str, list[str]] = {name: [] for name in sources}
    for name in sources:
        for document in load_documents(corpus / f"{name}.jsonl"):
            side = held if is_held_out(name, document.name) else train
            side[name].append("\n".join(document.paragraphs))
        n, m = len(train[name]), len(held[name])
        log.info("%s: %d train, %d held-out documents", name, n, m)
    return train, held


def weighted_counts(
    streams: Mapping[str, NDArray[np.int16]],
    weights: Mapping[str, float],
    vocab_size: int,
    window: int = 5,
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
    counts: NDArray[np.float32], size: int, seed: int = 0
) -> NDArray[np.float32]:
    """Return ``U sqrt(S)`` of the PPMI matrix' truncated SVD, at an rms of 1."""
    u, s, _ = randomized_svd(
        ppmi(counts), n_components=size, n_iter=4, random_state=seed
    )
    vectors = (u * np.sqrt(s)).astype(np.float32)
    rms = np.float32(max(np.sqrt(np.mean(vectors**2)), 1e-12))
    scaled: NDArray[np.float32] = vectors / rms
    return scaled
