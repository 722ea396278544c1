"""Embeddings on disk, so that the same text is never encoded twice by one model.

One SQLite file a model, named by its fingerprint, into which several processes may
write at once; rows are keyed by the text's hash.
"""

import hashlib
import logging
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sbert_lab.models.batching import check_texts
from sbert_lab.models.registry import cache_home

log = logging.getLogger(__name__)

_AT_ONCE = 10_000  # keys in one query; SQLite takes 32,766 variables
_WAIT = 60.0  # seconds to wait for another process's write


class EmbeddingCache:
    """Vectors by model and text, in `folder` or ``embeddings`` under `cache_home`.

    ``hits`` and ``misses`` count the texts that were found, and that were not. A file
    that cannot be read or written is told of once, and done without.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder else cache_home() / "embeddings"
        self.hits = 0
        self.misses = 0
        self._unread: set[str] = set()  # models whose file failed
        self._unwritten: set[str] = set()

    def path(self, model_hash: str) -> Path:
        """Return the file of one model."""
        return self.folder / f"{model_hash[:32]}.sqlite"

    def get(
        self, model_hash: str, texts: Sequence[str], dimension: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return vectors ``[n, dimension]`` (0 if unknown), and if known, ``[n]``."""
        vectors = np.zeros((len(texts), dimension), np.float32)
        known = np.zeros(len(texts), bool)
        keys = [_key(text) for text in check_texts(texts)]
        if not self.path(model_hash).is_file() or model_hash in self._unread:
            self.misses += len(texts)
            return vectors, known
        with self._spared(model_hash, self._unread), self._open(model_hash) as base:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                # A damaged type is no reason to fail.
                query = (
                    f"SELECT key, CAST(v AS BLOB) FROM vectors WHERE key IN ({marks})"
                )
                rows = dict(base.execute(query, part))
                for at, key in enumerate(part, start):
                    stored = rows.get(key) or b""
                    vector = stored[: 4 * dimension]
                    if stored == _sealed(model_hash, key, vector):
                        vectors[at] = np.frombuffer(vector, "<f4")
                        known[at] = True
        self.hits += int(known.sum())
        self.misses += int((~known).sum())
        return vectors, known

    def put(
        self, model_hash: str, texts: Sequence[str], vectors: NDArray[np.float32]
    ) -> None:
        """Store the vectors ``[n, d]`` of `texts`, in one transaction."""
        keys = [_key(text) for text in check_texts(texts)]
        if model_hash in self._unread | self._unwritten:
            return
        rows = [
            (key, _sealed(model_hash, key, np.ascontiguousarray(v, "<f4").tobytes()))
            for key, v in zip(keys, vectors, strict=True)
        ]
        with self._spared(model_hash, self._unwritten):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._open(model_hash) as base:
                base.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)

    @contextmanager
    def _spared(self, model_hash: str, failed: set[str]) -> Iterator[None]:
        """Warn of a model's file that fails, and note it, so that it is left alone."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            failed.add(model_hash)
            cure = "make room, or set SBERT_LAB_CACHE to another folder"
            if type(error) is sqlite3.DatabaseError:  # and not one of its kinds
                cure = "delete the file"
            message = "%s fails (%s), and texts are encoded without it: %s"
            log.warning(message, self.path(model_hash), error, cure)

    @contextmanager
    def _open(self, model_hash: str) -> Iterator[sqlite3.Connection]:
        path = self.path(model_hash)
        with closing(sqlite3.connect(path, timeout=_WAIT)) as base, base:
            # Large pages: a vector of 384 numbers takes 1.5 kB.
            base.execute("PRAGMA page_size = 32768")
            base.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, v BLOB)"
            )
            yield base


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def _sealed(model_hash: str, key: bytes, vector: bytes) -> bytes:
    """Add a checksum, which a changed bit or another model's file does not pass."""
    checked = zlib.crc32(model_hash.encode() + key + vector)
    return vector + checked.to_bytes(4, "little")
