"""Static word vectors: every word has one vector, wherever it stands.

They are the baseline that a transformer must beat, and a very fast encoder.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from sbert_lab._utils import new_folder
from sbert_lab.models.batching import check_texts
from sbert_lab.models.checkpoint import check_files, explained
from sbert_lab.models.registry import resolve
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.models.transformer import (
    count_unknown,
    fast_tokenizer,
    tell_unknown,
    unknown_token,
)

#: Where our folders and WordLlama's keep their vectors: file, tensor in it, tokenizer.
_KINDS = (
    ("static_vectors.safetensors", "vectors", "tokenizer.json"),
    (
        "weights/l2_supercat_256.safetensors",
        "embedding.weight",
        "tokenizers/l2_supercat_tokenizer_config.json",
    ),
)

#: The checksums of our folders.
_LISTING = "static_vectors.json"

#: ``a`` of the smooth inverse frequency ``a / (a + p)`` by which a token of share ``p``
#: is multiplied; the best on development data.
_SMOOTHING = 1e-3


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
        check_files(folder, _LISTING)
        with explained(folder / file):
            vectors = load_file(folder / file)[tensor]
            return cls(vectors, Tokenizer.from_file(str(folder / tokenizer)))

    def save(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained` reads, atomically."""
        vectors, tensor, tokenizer = _KINDS[0]
        with new_folder(Path(folder), _LISTING) as target:
            table = np.ascontiguousarray(self.vectors)
            save_file({tensor: table}, target / vectors)
            self.tokenizer.save(str(target / tokenizer))

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


def distil(encoder: SentenceEncoder, *, dimension: int = 256) -> StaticEncoder:
    """Distil a sentence encoder into static word-piece vectors.

    Each token of the vocabulary is encoded as a sentence of its own, and the vectors'
    principal components are kept, evened out by half. Common tokens count less: their
    share follows Zipf's law, for word pieces are listed by frequency, after single
    characters, which share the first rank. Special and unused tokens get zeros.

    Source: model2vec (Minish Lab 2024); Arora et al. 2017, section 3, for the weights.
    """
    from sklearn.decomposition import PCA

    backend = fast_tokenizer(encoder.tokenizer, 512)
    special = set(encoder.tokenizer.all_special_ids)
    vocabulary = backend.get_vocab(with_added_tokens=True)
    tokens = {
        number: token
        for token, number in vocabulary.items()
        if number not in special and not re.fullmatch(r"\[unused\d+\]", token)
    }
    ids = np.array(sorted(tokens))
    framed = backend.encode("a")
    own = np.flatnonzero(np.array(framed.special_tokens_mask) == 0)
    before, after = framed.ids[: own[0]], framed.ids[own[-1] + 1 :]
    vectors = encoder.encode_token_ids([[*before, i, *after] for i in ids.tolist()])
    # Exact, and the same on every call: no random start.
    pca = PCA(dimension, svd_solver="covariance_eigh")
    table = np.zeros((1 + max(vocabulary.values()), dimension), np.float32)
    reduced = pca.fit_transform(vectors[:, : encoder.dimension].astype(np.float64))
    # By half: 0 would leave the components as they are, 1 make all equally wide.
    deviation = np.sqrt(pca.explained_variance_)
    deviation[deviation <= 1e-6 * deviation[0]] = np.inf  # it is rounding
    reduced *= deviation**-0.5
    listed = np.array([len(tokens[i].removeprefix("##")) > 1 for i in ids.tolist()])
    rank = np.where(listed, np.maximum(listed.cumsum(), 1), 1)
    share = 1 / rank / (1 / np.arange(1, rank.max() + 1)).sum()
    table[ids] = reduced * (_SMOOTHING / (_SMOOTHING + share))[:, None]
    return StaticEncoder(table, backend)
