"""Static word vectors: every word has one vector, wherever it stands.

A sentence is the plain average of its word pieces; nothing reads the context. It is
the baseline that a transformer must beat, and a very fast encoder. `distil` boils a
sentence encoder down to such a table, without any training.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from sbert_lab._utils import new_folder, progress
from sbert_lab.models.checkpoint import CheckpointError
from sbert_lab.models.registry import resolve
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.models.transformer import fast_tokenizer

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

_UNUSED = re.compile(r"\[unused\d+\]")

#: ``a`` of the smooth inverse frequency ``a / (a + p)`` by which a token of share ``p``
#: is multiplied. This and the next were the best on development data.
_SMOOTHING = 1e-3
#: Each component is divided by its standard deviation to this power: 0 would leave the
#: principal components as they are, 1 would make all of them equally wide.
_WHITENING = 0.5


class StaticEncoder:
    """A table of vectors and the tokenizer that says which rows a text uses.

    `vectors` are ``[V, D]``, one row a token; special tokens are left out.
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
        """Load a folder, ``"bert-mini-static"`` or ``"wordllama-256"``."""
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
        """Write a folder that `from_pretrained` reads, atomically."""
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


def distil(encoder: SentenceEncoder, *, dimension: int = 256) -> StaticEncoder:
    """Distil a sentence encoder into static word-piece vectors.

    Each token of the vocabulary is encoded as a sentence of its own, once, between the
    special tokens that frame a text. The mean is taken off, and principal components
    are kept, evened out by half. Common tokens count less: a token's share follows
    Zipf's law, ``1 / rank``. Word pieces are listed by frequency, after single
    characters, which share the first rank. Special and unused tokens get zeros.

    Source: the idea is model2vec's (Minish Lab 2024). The weights of tokens are Arora
    et al. 2017, section 3; removing the mean, Mu & Viswanath 2018.
    """
    from sklearn.decomposition import PCA

    backend = fast_tokenizer(encoder.tokenizer, 512, encoder.layout.do_lower_case)
    backend.no_truncation()
    special = set(encoder.tokenizer.all_special_ids)
    vocabulary = backend.get_vocab(with_added_tokens=True)
    tokens = {
        number: token
        for token, number in vocabulary.items()
        if number not in special and not _UNUSED.fullmatch(token)
    }
    ids = np.array(sorted(tokens))
    framed = backend.encode("a")
    own = np.flatnonzero(np.array(framed.special_tokens_mask) == 0)
    before, after = framed.ids[: own[0]], framed.ids[own[-1] + 1 :]
    with progress(len(ids), "distil") as move:
        vectors = encoder.encode_token_ids(
            [[*before, i, *after] for i in ids.tolist()],
            advance=lambda rows: move(len(rows)),
        )[:, : encoder.dimension]
    # Exact, and the same on every call: no random start.
    pca = PCA(dimension, svd_solver="covariance_eigh")
    reduced = pca.fit_transform(vectors.astype(np.float64))
    deviation = np.sqrt(pca.explained_variance_)
    real = deviation > 1e-6 * deviation[0]  # what remains of the others is rounding
    reduced *= np.where(real, deviation, np.inf) ** -_WHITENING
    share = _zipf_shares([tokens[i] for i in ids.tolist()])
    reduced *= (_SMOOTHING / (_SMOOTHING + share))[:, None]
    size = max(int(ids[-1]) + 1, backend.get_vocab_size())
    table = np.zeros((size, dimension), np.float32)
    table[ids] = reduced
    # A copy: the table's tokenizer is its own.
    return StaticEncoder(table, Tokenizer.from_str(backend.to_str()))


def _zipf_shares(tokens: Sequence[str]) -> NDArray[np.float64]:
    """Return each token's share of a text by Zipf's law, ``[K]``; see `distil`."""
    listed = np.array([len(token.removeprefix("##")) > 1 for token in tokens])
    rank = np.maximum(listed.cumsum(), 1)
    ranks = np.arange(1, int(rank[-1]) + 1)
    share: NDArray[np.float64] = 1 / np.where(listed, rank, 1) / (1 / ranks).sum()
    return share
