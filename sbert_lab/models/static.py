"""Static word vectors: every word has one vector, wherever it stands.

They are the baseline that a transformer must beat, and a very fast encoder.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from sbert_lab.models.batching import check_texts
from sbert_lab.models.checkpoint import explained
from sbert_lab.models.registry import resolve
from sbert_lab.models.transformer import (
    count_unknown,
    tell_unknown,
    unknown_token,
)

#: Where our folder and WordLlama's keep their vectors: file, tensor in it, tokenizer.
_KINDS = (
    ("static_vectors.safetensors", "vectors", "tokenizer.json"),
    (
        "weights/l2_supercat_256.safetensors",
        "embedding.weight",
        "tokenizers/l2_supercat_tokenizer_config.json",
    ),
)


class StaticEncoder:
    """A table of vectors and the tokenizer that says which rows a text uses.

    `vectors` are ``[V, D]``, one row a token; special tokens are left out.
    """

    def __init__(self, vectors: NDArray[np.float32], tokenizer: Tokenizer) -> None:
        self.vectors = vectors.astype(np.float32)
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self._unknown = unknown_token(json.loads(tokenizer.to_str()))

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Load a folder, ``"bert-mini-static"`` or ``"wordllama-256"``."""
        folder = resolve(name_or_path)
        own, other = _KINDS
        file, tensor, tokenizer = other if (folder / other[0]).is_file() else own
        with explained(folder / file):
            vectors = load_file(folder / file)[tensor]
            return cls(vectors, Tokenizer.from_file(str(folder / tokenizer)))

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return int(self.vectors.shape[1])

    def encode(self, texts: Sequence[str] | str) -> NDArray[np.float32]:
        """Average each text's vectors, ``[n, D]`` or of one string ``[D]``; else 0."""
        listed = check_texts([texts] if isinstance(texts, str) else texts)
        found = self.tokenizer.encode_batch_fast(listed, add_special_tokens=False)
        tell_unknown(count_unknown(found, self._unknown), len(found), "texts")
        out = np.zeros((len(found), self.dimension), np.float32)
        for row, encoding in enumerate(found):
            if encoding.ids:
                out[row] = self.vectors[encoding.ids].mean(0)
        return out[0] if isinstance(texts, str) else out
