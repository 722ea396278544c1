"""The vocabulary: WordPieces learnt from the corpus, and text as a stream of them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
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

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
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
