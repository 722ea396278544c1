"""`Passages`: documents go in, and a question gets the passages that answer it.

The retrieval step of what gives a language model something to read (Lewis et al. 2020).
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from sbert_lab._utils import new_folder, sha256_file, whole_number, write_json
from sbert_lab.index.chunking import Chunk, chunk, document_prompt, splitter
from sbert_lab.index.fusion import reciprocal_rank_fusion
from sbert_lab.index.vector_index import VectorIndex
from sbert_lab.models.batching import check_texts
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.sentence_encoder import (
    Encoder,
    encode_documents,
    encode_queries,
    metric_of,
)

_ABOUT, _DOCUMENTS = "passages.json", "documents.json"

#: What reads as the number of a passage, backslashes in front included.
_NUMBER = re.compile(r"\\*[\[［]\s*\d+\s*[\]］]")
_HEAD = re.compile(rf"^([\W_]*?)({_NUMBER.pattern})")


@dataclass(frozen=True)
class Cited(Chunk):
    """A passage that was found, and its score: comparable within one search only."""

    score: float


class Passages:
    """Documents that can be asked, and that can change at any time.

    Each text of at most `max_tokens` (see `chunking.splitter`) is encoded once, in
    however many documents it stands. If `hybrid`, words are looked for too, by BM25,
    fitted by the first search after a change. The `cross_encoder` sorts what was found.

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
    ) -> None:
        self.encoder, self.cross_encoder, self.hybrid = encoder, cross_encoder, hybrid
        self.max_tokens, self.overlap = max_tokens, overlap
        self._splitter = splitter(encoder, max_tokens, overlap)
        empty = np.empty((0, encoder.dimension), np.float32)
        self._index = VectorIndex.build(
            empty, metric=metric_of(encoder), model_hash=_hash(encoder)
        )
        self._documents: dict[str, str] = {}
        self._chunks: dict[str, list[Chunk]] = {}
        self._ids: dict[str, int] = {}  # of each text in the index
        self._found_in: dict[int, list[Chunk]] = {}  # by id: chunks of the same text
        self._bm25: Bm25 | None = None  # of the texts in `_ids`, in their order

    @property
    def documents(self) -> dict[str, str]:
        """The documents, name to text."""
        return dict(self._documents)

    def add(self, name: str, text: str) -> None:
        """Add a document, or replace the one of this name."""
        self.add_all({name: text})

    def add_all(self, documents: Mapping[str, str]) -> None:
        """Add documents, or replace those of the same names; all, or none."""
        for name in documents:
            if not (isinstance(name, str) and name.strip() and name.isprintable()):
                raise ValueError(f"{name!r}: the name of a document is printable text")
            check_texts([documents[name]], f"document {name!r}")
        cut = {
            name: chunk(text, self._splitter, name)
            for name, text in documents.items()
            if name not in self._documents or text != self._documents[name]
        }
        texts = dict.fromkeys(part.text for parts in cut.values() for part in parts)
        if new := [text for text in texts if text not in self._ids]:
            first = 1 + max(self._ids.values(), default=-1)
            ids = range(first, first + len(new))
            vectors = encode_documents(self.encoder, new)
            self._index.add(vectors, list(ids))
            self._ids |= zip(new, ids, strict=True)
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

        Of the documents that hold the same text, the one is cited that was added or
        replaced first. Each retriever finds `candidates`, to be merged and sorted anew.
        """
        if not check_texts([query], "query")[0].strip():
            raise ValueError("the query is empty; ask something")
        k = whole_number(k, "k", 1, whole_number(candidates, "candidates"))
        if not self._ids:
            return []
        asked = encode_queries(self.encoder, [query])
        hits = self._index.search(asked, candidates)
        ids, scores = np.asarray(hits.ids[0]), np.asarray(hits.scores[0], np.float64)
        if self.hybrid:
            both: list[Any] = [[ids], [self._by_words(query, candidates)]]
            (scores,), (ids,) = reciprocal_rank_fusion(both, k=candidates)
        if self.cross_encoder is not None:
            texts = [self._found_in[i][0].text for i in ids.tolist()]
            order, judged = self.cross_encoder.rerank(query, texts)
            ids, scores = ids[order], judged.astype(np.float64)
        best = zip(ids[:k].tolist(), scores[:k].tolist(), strict=True)
        return [Cited(**vars(self._found_in[i][0]), score=score) for i, score in best]

    def save(self, folder: str | Path) -> None:
        """Write documents, passages and vectors into a folder, atomically."""
        if self._index.model_hash != _hash(self.encoder):
            raise ValueError("the encoder has changed: make new Passages with it")
        with new_folder(Path(folder), _ABOUT) as target:
            self._index.save(target / "index")
            ids, cut = self._ids, self._chunks
            listed = [
                [name, text, [(c.start, c.end, ids[c.text]) for c in cut[name]]]
                for name, text in self._documents.items()
            ]
            write_json(target / _DOCUMENTS, listed)
            names = ("hybrid", "max_tokens", "overlap")
            options = {name: getattr(self, name) for name in names}
            write_json(target / _ABOUT, {"format": 3, "options": options})

    @classmethod
    def load(
        cls,
        folder: str | Path,
        encoder: Encoder,
        *,
        cross_encoder: CrossEncoder | None = None,
    ) -> Self:
        """Read what `save` wrote; a ValueError tells of damage, or another encoder."""
        folder = Path(folder).expanduser()
        if not (folder / _ABOUT).is_file():
            raise FileNotFoundError(f"{folder} holds no passages ({_ABOUT}); save them")
        index = VectorIndex.load(folder / "index", model_hash=_hash(encoder))
        try:
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            sums = about["sha256"]  # in format 2 of the documents alone
            wanted = sums[_DOCUMENTS] if about["format"] > 2 else sums
            if sha256_file(folder / _DOCUMENTS) != wanted:
                raise ValueError(f"the sha256 of {_DOCUMENTS} differs")
            listed = json.loads((folder / _DOCUMENTS).read_text(encoding="utf-8"))
            found = cls(encoder, cross_encoder=cross_encoder, **about["options"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(
                f"the passages in {folder} are damaged: {error}"
            ) from error
        found._index = index
        spans = sorted(
            (number, text[start:end])
            for _, text, cut in listed
            for start, end, number in cut
        )
        found._ids = {text: number for number, text in spans}
        for name, text, cut in listed:
            found._put(name, text, [Chunk(name, a, b, text[a:b]) for a, b, _ in cut])
        return found

    def _by_words(self, query: str, k: int) -> list[int]:
        """Return the ids of the best texts that share a word with a query."""
        if self._bm25 is None:
            try:
                self._bm25 = Bm25(list(self._ids))
            except ValueError:  # there is not one word in them
                return []
        (scores,), (rows,) = self._bm25.search([query], k)
        ids = list(self._ids.values())
        return [ids[row] for row in rows[scores > 0]]

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
        self._bm25 = None


def cited(passages: Sequence[Cited]) -> str:
    """Write passages one below the other, numbered and with their sources.

    For the prompt of a language model, which can then cite them as [1], [2] … A number
    in brackets that begins a line of a text, or stands in a name, gets a backslash in
    front, one more if it has some: no text passes for the next passage.
    """
    blocks = []
    for number, p in enumerate(passages, 1):
        name = _NUMBER.sub(r"\\\g<0>", p.document)
        lines = p.text.splitlines(keepends=True)
        text = "".join(_HEAD.sub(r"\1\\\2", line) for line in lines)
        blocks.append(f"[{number}] {name}, characters {p.start}–{p.end}:\n{text}")
    return "\n\n".join(blocks)


def _hash(encoder: Encoder) -> str:
    """Return a name for whatever must stay the same for vectors to be comparable."""
    fingerprint = getattr(encoder, "fingerprint", str)()
    kind = type(encoder).__name__, encoder.dimension, metric_of(encoder)
    parts = json.dumps([fingerprint, *kind, document_prompt(encoder)])
    return hashlib.sha256(parts.encode()).hexdigest()
