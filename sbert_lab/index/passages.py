"""`Passages`: documents go in, and a question gets the passages that answer it.

The retrieval step of an application that gives a language model something to read
(Lewis et al. 2020), or of an agent's memory, made of the pieces: `chunks`, an encoder,
`search`, and if wanted BM25 beside it (`fusion`) and a cross-encoder behind it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import Vectors, new_folder, sha256_file, write_json
from sbert_lab.index.chunking import (
    Chunk,
    Counter,
    chunk,
    document_prompt,
    token_limit,
    tokenizer_of,
)
from sbert_lab.index.fusion import reciprocal_rank_fusion
from sbert_lab.index.stores import Kind
from sbert_lab.index.vector_index import VectorIndex
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.lexical import Bm25Encoder
from sbert_lab.models.sentence_encoder import (
    Encoder,
    encode_documents,
    encode_queries,
    metric_of,
)

_ABOUT, _DOCUMENTS = "passages.json", "documents.json"
_OPTIONS = ("hybrid", "max_tokens", "overlap")  # that are saved


@dataclass(frozen=True)
class Cited(Chunk):
    """A passage that was found: a `Chunk`, and how good it is.

    Parameters
    ----------
    score
        Larger is better, comparable within one search only: the cross-encoder's if
        there is one, else that of the fusion if the search is hybrid, else cosine or
        dot product.
    """

    score: float


class Passages:
    """Documents that can be asked, and that can change at any time.

    A text is encoded once: not again when other documents come, when its document is
    replaced by one that still holds it, or when it stands in two.

    Parameters
    ----------
    encoder
        Makes vectors, dense ones. It must not change afterwards; `save` would notice.
    cross_encoder
        Sorts what was found anew.
    hybrid
        Look for words too, by BM25. It is fitted again by the first search after a
        change, in a time that grows with all the texts.
    max_tokens, overlap
        Of a passage, see `chunk`; by default all that the encoder reads, and none.
    kind
        Of the index: ``"flat"``, ``"exact"`` or ``"hnsw"``, see `VectorIndex`.
    tokenizer
        To count tokens with; needed for an encoder that does not carry its own.

    Raises
    ------
    TypeError, ValueError
        No tokenizer; passages longer than the encoder reads; an index of another kind.

    Examples
    --------
    >>> from sbert_lab import SentenceEncoder
    >>> encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", device="cpu")
    >>> memory = Passages(encoder)
    >>> memory.add("notes", "The deploy key lies in the blue drawer.")
    >>> memory.add("menu", "Soup on Monday, rice on Tuesday.")
    >>> print(cited(memory.search("Where is the key?", k=1)))
    [1] notes, characters 0–39:
    The deploy key lies in the blue drawer.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        cross_encoder: CrossEncoder | None = None,
        hybrid: bool = False,
        max_tokens: int | None = None,
        overlap: int = 0,
        kind: Kind = "flat",
        tokenizer: "Counter | None" = None,
    ) -> None:
        self.encoder, self.cross_encoder, self.hybrid = encoder, cross_encoder, hybrid
        self._words = tokenizer_of(tokenizer or encoder)
        self.max_tokens = token_limit(encoder, max_tokens, self._words)
        self.overlap = overlap
        self._cut("", "")  # tells what is wrong with the numbers
        empty = np.empty((0, encoder.dimension), np.float32)
        self._index = VectorIndex.build(
            empty, kind=kind, metric=metric_of(encoder), model_hash=_hash(encoder)
        )
        self._documents: dict[str, str] = {}
        self._chunks: dict[str, list[Chunk]] = {}
        self._ids: dict[str, int] = {}  # of each text in the index
        self._found_in: dict[int, list[Chunk]] = {}  # by id: chunks of the same text
        self._next = 0
        self._lexical: tuple[NDArray[np.int64], Bm25Encoder, Any] | None = None

    def __len__(self) -> int:
        """Count the documents."""
        return len(self._documents)

    @property
    def documents(self) -> dict[str, str]:
        """The documents, name to text."""
        return dict(self._documents)

    def add(self, name: str, text: str) -> None:
        """Add a document, or replace the one of this name; see `add_all`."""
        self.add_all({name: text})

    def add_all(self, documents: Mapping[str, str]) -> None:
        """Add documents, or replace those of the same names; all, or none.

        Faster than one by one. A document without text is kept and never found.

        Raises
        ------
        TypeError, ValueError
            A name that is not printable text, or a text that `chunk` refuses.
        """
        for name in documents:
            if not (isinstance(name, str) and name.strip() and name.isprintable()):
                raise ValueError(f"{name!r}: the name of a document is printable text")
        cut = {
            name: self._cut(name, text)
            for name, text in documents.items()
            if name not in self._documents or text != self._documents[name]
        }
        texts = dict.fromkeys(part.text for parts in cut.values() for part in parts)
        if new := [text for text in texts if text not in self._ids]:
            ids = range(self._next, self._next + len(new))
            vectors = cast(Vectors, encode_documents(self.encoder, new))
            self._index.add(vectors, list(ids))
            self._ids |= zip(new, ids, strict=True)
            self._next = ids.stop
        old = [part for name in cut for part in self._chunks.get(name, ())]
        for name, parts in cut.items():
            self._put(name, documents[name], parts)
        self._drop(old)

    def remove(self, name: str) -> None:
        """Forget a document; a KeyError if there is none of this name."""
        if name not in self._documents:
            raise KeyError(f"no document is named {name!r}; nothing was removed")
        del self._documents[name]
        self._drop(self._chunks.pop(name))

    def search(self, query: str, k: int = 5, *, candidates: int = 100) -> list[Cited]:
        """Find the `k` passages that answer a question best, best first.

        No two have the same text: of the documents that hold it, the one is cited that
        was added or replaced first. Each retriever finds `candidates`, at least `k`,
        to be merged and sorted anew. Without documents the list is empty.

        Raises
        ------
        TypeError, ValueError
            The query is no string, or empty; k below 1, or above `candidates`.
        """
        if not isinstance(query, str):
            raise TypeError(f"the query is a {type(query).__name__}, not a string")
        if not query.strip():
            raise ValueError("the query is empty; ask something")
        if not 1 <= k <= candidates:
            raise ValueError(f"k={k}: from 1 to candidates={candidates}")
        if not self._ids:
            return []
        asked = cast(Vectors, encode_queries(self.encoder, [query]))
        hits = self._index.search(asked, candidates)
        ids, scores = hits.ids[0], np.asarray(hits.scores[0], np.float64)
        if self.hybrid:
            both = [[ids], [self._by_words(query, candidates)]]
            (scores,), (ids,) = reciprocal_rank_fusion(both, k=candidates)
        scores, ids = scores[ids >= 0], ids[ids >= 0]
        if self.cross_encoder is not None:
            texts = [self._found_in[i][0].text for i in ids.tolist()]
            order, judged = self.cross_encoder.rerank(query, texts)
            ids, scores = ids[order], judged.astype(np.float64)
        best = zip(ids[:k].tolist(), scores[:k].tolist(), strict=True)
        return [Cited(**vars(self._found_in[i][0]), score=score) for i, score in best]

    def save(self, folder: str | Path) -> None:
        """Write documents, passages and vectors into a folder, atomically."""
        if self._index.model_hash != _hash(self.encoder):
            raise ValueError(
                "the encoder has changed since, and vectors of the two do not go "
                "together: add the documents to new Passages"
            )
        with new_folder(Path(folder), marker=_ABOUT) as target:
            self._index.save(target / "index")
            ids, cut = self._ids, self._chunks
            listed = [
                [name, text, [(c.start, c.end, ids[c.text]) for c in cut[name]]]
                for name, text in self._documents.items()
            ]
            write_json(target / _DOCUMENTS, listed)
            about = {name: getattr(self, name) for name in _OPTIONS}
            about |= {"next": self._next, "sha256": sha256_file(target / _DOCUMENTS)}
            write_json(target / _ABOUT, {"format": 1} | about)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        encoder: Encoder,
        *,
        cross_encoder: CrossEncoder | None = None,
        tokenizer: "Counter | None" = None,
    ) -> Self:
        """Read what `save` wrote; nothing is encoded.

        The encoder must be the one that the passages were encoded with. One without
        ``fingerprint()`` is known by its class, dimension, metric and prompt alone.

        Raises
        ------
        FileNotFoundError
            No passages there.
        ValueError
            Damaged ones, or another encoder's.
        """
        folder = Path(folder)
        if not (folder / _ABOUT).is_file():
            raise FileNotFoundError(f"{folder} holds no passages ({_ABOUT}); save them")
        index = VectorIndex.load(folder / "index", model_hash=_hash(encoder))
        try:
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            if sha256_file(folder / _DOCUMENTS) != about["sha256"]:
                raise ValueError(f"the sha256 of {_DOCUMENTS} differs")
            listed = json.loads((folder / _DOCUMENTS).read_text(encoding="utf-8"))
            options = {name: about[name] for name in _OPTIONS}
            following = int(about["next"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(
                f"the passages in {folder} are damaged ({error}); copy the whole "
                "folder again, or add the documents to new Passages"
            ) from error
        options |= {"cross_encoder": cross_encoder, "tokenizer": tokenizer}
        found = cls(encoder, **options)
        found._index, found._next = index, following
        for name, text, spans in listed:
            found._ids |= {text[a:b]: number for a, b, number in spans}
            found._put(name, text, [Chunk(name, a, b, text[a:b]) for a, b, _ in spans])
        found._ids = dict(sorted(found._ids.items(), key=lambda pair: pair[1]))
        return found

    def _cut(self, name: str, text: str) -> list[Chunk]:
        limits = self.max_tokens, self.overlap
        return chunk(text, self._words, limits[0], overlap=limits[1], document=name)

    def _by_words(self, query: str, k: int) -> NDArray[np.int64]:
        """Return the ids of the best texts that share a word with a query."""
        if self._lexical is None:
            texts, ids = list(self._ids), np.array(list(self._ids.values()))
            try:
                bm25 = Bm25Encoder.fit(texts)
            except ValueError:  # there is not one word in them
                return ids[:0]
            self._lexical = ids, bm25, bm25.encode_document(texts).T
        ids, bm25, words = self._lexical
        scores = (bm25.encode_query([query]) @ words).toarray()[0]
        best = np.argsort(-scores, kind="stable")[:k]
        found: NDArray[np.int64] = ids[best[scores[best] > 0]]
        return found

    def _put(self, name: str, text: str, parts: list[Chunk]) -> None:
        """Note a document whose passages are in the index, as the last one added."""
        self._documents.pop(name, None)
        self._documents[name], self._chunks[name] = text, parts
        for part in parts:
            self._found_in.setdefault(self._ids[part.text], []).append(part)

    def _drop(self, parts: list[Chunk]) -> None:
        """Forget chunks, and the texts that then stand nowhere any more."""
        for part in parts:
            number = self._ids[part.text]
            self._found_in[number].remove(part)
            if not self._found_in[number]:
                self._index.remove(number)
                del self._found_in[number], self._ids[part.text]
        self._lexical = None


def cited(passages: Sequence[Cited]) -> str:
    """Write passages one below the other, numbered and with their sources.

    For the prompt of a language model, which can then cite them as [1], [2] …
    """
    return "\n\n".join(
        f"[{number}] {p.document}, characters {p.start}–{p.end}:\n{p.text}"
        for number, p in enumerate(passages, 1)
    )


def _hash(encoder: Encoder) -> str:
    """Return a name for whatever must stay the same for vectors to be comparable."""
    fingerprint = getattr(encoder, "fingerprint", str)()
    kind = type(encoder).__name__, encoder.dimension, metric_of(encoder)
    parts = json.dumps([fingerprint, *kind, document_prompt(encoder)])
    return hashlib.sha256(parts.encode()).hexdigest()
