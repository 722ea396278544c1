"""Embeddings on disk, so that the same text is never encoded twice by one model.

One SQLite file a model, named by its fingerprint, into which several processes may
write at once; rows are keyed by the text's hash.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sbert_lab.models.registry import cache_home

_AT_ONCE = 10_000  # keys in one query; SQLite takes 32,766 variables
_WAIT = 60.0  # seconds to wait for another process's write


class EmbeddingCache:
    """Vectors by model and text, in `folder` or ``embeddings`` under `cache_home`.

    ``hits`` and ``misses`` count the texts that were found, and that were not.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder else cache_home() / "embeddings"
        self.hits = 0
        self.misses = 0

    def path(self, model_hash: str) -> Path:
        """Return the file of one model."""
        return self.folder / f"{model_hash[:32]}.sqlite"

    def get(
        self, model_hash: str, texts: Sequence[str], dimension: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return vectors ``[n, dimension]`` (0 if unknown), and if known, ``[n]``."""
        vectors = np.zeros((len(texts), dimension), np.float32)
        known = np.zeros(len(texts), bool)
        if not self.path(model_hash).is_file():
            self.misses += len(texts)
            return vectors, known
        keys = [_key(text) for text in texts]
        with self._open(model_hash) as base:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, v FROM vectors WHERE key IN ({marks})"
                rows = dict(base.execute(query, part))
                for at, key in enumerate(part, start):
                    stored = rows.get(key)
                    if stored is not None and len(stored) == 4 * dimension:
                        vectors[at] = np.frombuffer(stored, "<f4")
                        known[at] = True
        self.hits += int(known.sum())
        self.misses += int((~known).sum())
        return vectors, known

    def put(
        self, model_hash: str, texts: Sequence[str], vectors: NDArray[np.float32]
    ) -> None:
        """Store the vectors ``[n, d]`` of `texts`, in one transaction."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [
            (_key(text), np.ascontiguousarray(vector, "<f4").tobytes())
            for text, vector in zip(texts, vectors, strict=True)
        ]
        with self._open(model_hash) as base:
            base.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)

    @contextmanager
    def _open(self, model_hash: str) -> Iterator[sqlite3.Connection]:
        path = self.path(model_hash)
        try:
            with closing(sqlite3.connect(path, timeout=_WAIT)) as base, base:
                # Large pages: a vector of 384 numbers takes 1.5 kB.
                base.execute("PRAGMA page_size = 32768")
                base.execute(
                    "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, v BLOB)"
                )
                yield base
        except sqlite3.DatabaseError as error:
            raise OSError(f"{path} is damaged: delete the file ({error})") from error


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
