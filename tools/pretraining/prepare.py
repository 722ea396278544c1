"""From a corpus to what training reads.

A prepared folder holds::

    tokenizer.json, tokenizer_config.json, vocab.txt
    train.safetensors, heldout.safetensors    token ids, int16, one array per source
    static_vectors.safetensors                vectors [V, D] and unigram frequencies [V]
    sources.json                              the corpus' table, with tokens counted
"""

import logging
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from tokenizers import Tokenizer

from sbert_lab._utils import write_bytes, write_json
from tools.pretraining.corpus import TABLE, is_held_out, load_documents, load_table
from tools.pretraining.static_vectors import static_vectors, weighted_counts
from tools.pretraining.vocabulary import (
    encode_documents,
    save_tokenizer,
    train_tokenizer,
)

log = logging.getLogger(__name__)


def prepare(
    corpus: Path,
    data: Path,
    vocab_size: int,
    vector_size: int,
    window: int,
    seed: int,
    keep_tokenizer: Path | None = None,
) -> None:
    """Write the prepared folder of a corpus.

    Parameters
    ----------
    corpus, data
        The corpus folder, and the folder to write.
    vocab_size, vector_size
        Entries of the vocabulary; dimensions of the static vectors.
    window
        How far apart two tokens may stand to count as neighbours.
    seed
        Of the truncated SVD.
    keep_tokenizer
        Folder whose tokenizer is used instead of a new one, which is what further
        training of finished weights needs.
    """
    table = load_table(corpus)
    weights = {row["source"]: float(row["weight"]) for row in table}
    train, held = split_documents(corpus, list(weights))
    if keep_tokenizer:
        tokenizer = Tokenizer.from_file(str(keep_tokenizer / "tokenizer.json"))
    else:
        shares = {
            name: round(min(1.0, weights[name]) * len(texts))
            for name, texts in train.items()
        }
        texts = [text for name in train for text in train[name][: shares[name]]]
        tokenizer = train_tokenizer(texts, vocab_size)
    save_tokenizer(tokenizer, data)
    streams = {name: encode_documents(tokenizer, train[name]) for name in train}
    unseen = {name: encode_documents(tokenizer, held[name]) for name in held}
    write_bytes(data / "train.safetensors", save(streams))
    write_bytes(data / "heldout.safetensors", save(unseen))
    size = tokenizer.get_vocab_size()
    tokens = sum(len(stream) for stream in streams.values())
    log.info("vocabulary of %d, %d train tokens", size, tokens)
    counts, unigram = weighted_counts(streams, weights, size, window)
    statics = {
        "vectors": static_vectors(counts, vector_size, seed).astype(np.float16),
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
