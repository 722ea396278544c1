"""Static word vectors: every word has one vector, wherever it stands.

A sentence is the plain average of its word pieces; nothing reads the context. It is
the baseline that a transformer must beat, and a very fast encoder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from sbert_lab._utils import new_folder
from sbert_lab.models.checkpoint import CheckpointError
from sbert_lab.models.registry import resolve

#: Where the known kinds of folder keep their vectors and their tokenizer: the file,
#: the tensor in it, the tokenizer.
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

    Parameters
    ----------
    vectors
        ``[V, D]``, one row a token.
    tokenizer
        Turns a text into rows. Special tokens are left out.
    """

    def __init__(self, vectors: NDArray[np.float32], tokenizer: Tokenizer) -> None:
        if vectors.ndim != 2 or len(vectors) < tokenizer.get_vocab_size():
            raise CheckpointError(
                f"vectors of shape {vectors.shape} for a tokenizer of "
                f"{tokenizer.get_vocab_size()} tokens: one row a token is needed"
            )
        self.vectors = vectors.astype(np.float32)
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Load a folder, ``"bert-mini-static"`` or ``"wordllama-256"``.

        Raises
        ------
        FileNotFoundError, ChecksumError, CheckpointError
            Each with what to do.
        """
        folder = resolve(name_or_path)
        for file, tensor, tokenizer in _KINDS:
            if (folder / file).is_file() and (folder / tokenizer).is_file():
                try:
                    vectors = load_file(folder / file)[tensor]
                    words = Tokenizer.from_file(str(folder / tokenizer))
                except Exception as error:  # whatever a damaged file raises
                    raise CheckpointError(
                        f"{folder} cannot be read: {error}; copy the files again"
                    ) from error
                return cls(vectors, words)
        raise CheckpointError(
            f"{folder} holds no static vectors: {_KINDS[0][0]} and {_KINDS[0][2]} are "
            "looked for"
        )

    def save(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained` reads, atomically.

        A folder of static vectors that stands there is replaced as a whole.
        """
        vectors, tensor, tokenizer = _KINDS[0]
        with new_folder(Path(folder), marker=vectors) as target:
            table = np.ascontiguousarray(self.vectors)
            save_file({tensor: table}, target / vectors)
            self.tokenizer.save(str(target / tokenizer))

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return int(self.vectors.shape[1])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Average the vectors of each text's tokens, float32 ``[n, D]``.

        A text without tokens gives zeros.
        """
        found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        out = np.zeros((len(found), self.dimension), np.float32)
        for row, encoding in enumerate(found):
            if encoding.ids:
                out[row] = self.vectors[encoding.ids].mean(0)
        return out
