"""`Passages`: documents go in, and a question gets the passages that answer it.

The retrieval step of what gives a language model something to read (Lewis et al. 2020).
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import Vectors, new_folder, sha256_file, whole_number, write_json
from sbert_lab.index.chunking import Chunk, chunk, document_prompt, splitter
from sbert_lab.index.fusion import Fused, convex_combination
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

_ABOUT, _DOCUMENTS, _FORMAT = "passages.json", "documents.json", 4

#: What reads as the number of a passage, backslashes in front included.
_NUMBER = re.compile(r"\\*[\[［]\s*\d+\s*[\]］]")
_HEAD = re.compile(rf"^([\W_]*?)({_NUMBER.pattern})")

#: Weights that `Passages.tune` tries.
TRIED = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_JUDGED = 10  # places of a ranking by which they are chosen


@dataclass(frozen=True)
class Weights:
    """How much words and a cross-encoder count, each 0 (not at all) to 1 (alone).

    The defaults helped, or did no harm, in the searches of notebook 08. `words` is
    BM25's share beside the vectors, `cross_encoder` that of the second stage beside
    what the first one found.
    """

    words: float = 0.1
    cross_encoder: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        for name, share in vars(self).items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share}: a weight is from 0 to 1")


@dataclass(frozen=True)
class Cited(Chunk):
    """A passage that was found, and its score: comparable within one search only."""

    score: float


class Passages:
    """Documents that can be asked, and that can change at any time.

    Each text of at most `max_tokens` (see `chunking.splitter`) is encoded once, in
    however many documents it stands. If `hybrid`, words are looked for too, by BM25,
    fitted by the first search after a change; a `cross_encoder` reads what was found.
    How much either counts say the `weights`, which `tune` chooses on labelled queries.

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
        weights: Weights = Weights(),
        max_tokens: int | None = None,
        overlap: int = 0,
    ) -> None:
        self.encoder, self.cross_encoder, self.hybrid = encoder, cross_encoder, hybrid
        self.weights = weights
        self.max_tokens, self.overlap = max_tokens, overlap
        self._splitter = splitter(encoder, max_tokens, overlap)
        empty = np.empty((0, encoder.dimension), np.float32)
        self._index = VectorIndex.build(
            empty, metric=metric_of(encoder), model_hash=_hash(encoder)
        )
        self._documents: dict[str, str] = {}
        self._metadata: dict[str, dict[str, Any]] = {}
        self._chunks: dict[str, list[Chunk]] = {}
        self._ids: dict[str, int] = {}  # of each text in the index
        self._found_in: dict[int, list[Chunk]] = {}  # by id: chunks of the same text
        self._bm25: Bm25 | None = None  # of the texts in `_ids`, in their order

    @property
    def documents(self) -> dict[str, str]:
        """The documents, name to text."""
        return dict(self._documents)

    def add(self, name: str, text: str, **metadata: str | float | bool) -> None:
        """Add a document, or replace the one of this name.

        `metadata`, such as ``language="en"``, are what `search` can filter by.
        """
        self.add_all({name: text}, {name: metadata})

    def add_all(
        self,
        documents: Mapping[str, str],
        metadata: Mapping[str, Mapping[str, str | float | bool]] | None = None,
    ) -> None:
        """Add documents, or replace those of the same names; all, or none.

        `metadata` are by name, then by field; a document needs none.
        """
        for name in documents:
            if not (isinstance(name, str) and name.strip() and name.isprintable()):
                raise ValueError(f"{name!r}: the name of a document is printable text")
            check_texts([documents[name]], f"document {name!r}")
        told = {name: dict((metadata or {}).get(name, {})) for name in documents}
        try:  # what JSON would not give back is refused now
            saved = json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise ValueError(f"metadata are text, numbers or bools: {error}") from error
        if json.loads(saved) != told or (metadata or {}).keys() - told.keys():
            raise ValueError("metadata are, by added document, keyed by text")
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
        self._metadata |= told
        self._drop(old)

    def remove(self, name: str) -> None:
        """Forget a document; a KeyError if there is none of this name."""
        if name not in self._documents:
            raise KeyError(f"no document is named {name!r}; nothing was removed")
        del self._documents[name], self._metadata[name]
        self._drop(self._chunks.pop(name))

    def search(
        self,
        query: str,
        k: int = 5,
        *,
        candidates: int = 100,
        neighbours: int = 0,
        where: Mapping[str, str | float | bool] | None = None,
    ) -> list[Cited]:
        """Find the `k` passages that answer a question best, best first.

        Vectors and words find `candidates` each; the best so many of both are read by
        the cross-encoder. `where` keeps to documents with these metadata, before
        anything is searched: fewer than `k` come back only where there are no more.
        Each passage is cited with so many `neighbours` before and behind it: short ones
        are found more surely, long ones answer more. None is cited twice.
        Of the documents that hold the same text, the one is cited that was added or
        replaced first.
        """
        if not check_texts([query], "query")[0].strip():
            raise ValueError("the query is empty; ask something")
        k = whole_number(k, "k", 1, whole_number(candidates, "candidates"))
        neighbours = whole_number(neighbours, "neighbours", 0)
        names = self._named(where or {})
        found = self._retrieved(query, candidates, names)
        scores, ids = self._fused(found, self.weights.words, candidates)
        if self.cross_encoder is not None and self.weights.cross_encoder and ids.size:
            judged = self._judged(query, ids)
            scores, ids = _mixed((scores, ids), judged, self.weights.cross_encoder)
        parts = [self._standing(i, names)[0] for i in ids[0].tolist()]
        return self._widened(parts, scores[0].tolist(), neighbours)[:k]

    def tune(
        self,
        queries: Sequence[str],
        relevant: Sequence[Collection[str]],
        *,
        by: Literal["document", "text"] = "document",
        candidates: int = 100,
    ) -> dict[str, dict[float, float]]:
        """Choose the `weights` on labelled queries, best by MRR@10; the least of equal.

        `relevant` are, for each query, the names of documents that answer it; where
        documents are long, with ``by="text"``, texts of which a passage must hold one.
        Returns the MRR@10 of each weight that was tried, the weight of words first:
        judge the result on other queries.
        """
        odd = not queries or any(isinstance(own, str) or "" in own for own in relevant)
        if by not in ("document", "text") or odd or len(queries) != len(relevant):
            raise ValueError(
                f"{len(queries)} queries, {len(relevant)} answers, by={by!r}: one "
                "list of names or texts for each query, by 'document' or 'text'"
            )
        named = {name for own in relevant for name in own if by == "document"}
        if unknown := named - self._documents.keys():
            raise ValueError(f"no document is named {min(unknown)!r}; is it by='text'?")
        found = [self._retrieved(query, candidates, None) for query in queries]

        def quality(rankings: Sequence[Fused]) -> float:
            pairs = zip(rankings, relevant, strict=True)
            return float(np.mean([self._gain(ids, own, by) for (_, ids), own in pairs]))

        tried: dict[str, dict[float, float]] = {}
        if self.hybrid:
            tried["words"] = {
                share: quality([self._fused(own, share, candidates) for own in found])
                for share in TRIED
            }
            self.weights = replace(self.weights, words=_best(tried["words"]))
        if self.cross_encoder is not None:
            first = [self._fused(own, self.weights.words, candidates) for own in found]
            asked = zip(queries, first, strict=True)
            read = [(own, self._judged(query, own[1])) for query, own in asked]
            tried["cross_encoder"] = {
                share: quality([_mixed(*one, share) for one in read]) for share in TRIED
            }
            best = _best(tried["cross_encoder"])
            self.weights = replace(self.weights, cross_encoder=best)
        return tried

    def save(self, folder: str | Path) -> None:
        """Write documents, passages and vectors into a folder, atomically."""
        if self._index.model_hash != _hash(self.encoder):
            raise ValueError("the encoder has changed: make new Passages with it")
        with new_folder(Path(folder), _ABOUT) as target:
            self._index.save(target / "index")
            ids, cut = self._ids, self._chunks
            listed = [
                {
                    "name": name,
                    "text": text,
                    "metadata": self._metadata[name],
                    "chunks": [(c.start, c.end, ids[c.text]) for c in cut[name]],
                }
                for name, text in self._documents.items()
            ]
            write_json(target / _DOCUMENTS, listed)
            names = ("hybrid", "max_tokens", "overlap")
            options = {name: getattr(self, name) for name in names}
            told = {"options": options, "weights": vars(self.weights)}
            write_json(target / _ABOUT, {"format": _FORMAT, **told})

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
            if about["format"] != _FORMAT:
                raise ValueError(f"format {about['format']}, not {_FORMAT}: add anew")
            if sha256_file(folder / _DOCUMENTS) != about["sha256"][_DOCUMENTS]:
                raise ValueError(f"the sha256 of {_DOCUMENTS} differs")
            listed = json.loads((folder / _DOCUMENTS).read_text(encoding="utf-8"))
            given = about["options"] | {"weights": Weights(**about["weights"])}
            found = cls(encoder, cross_encoder=cross_encoder, **given)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(
                f"the passages in {folder} are damaged or of another version: {error}"
            ) from error
        found._index = index
        spans = sorted(
            (number, one["text"][start:end])
            for one in listed
            for start, end, number in one["chunks"]
        )
        found._ids = {text: number for number, text in spans}
        for one in listed:
            name, text = one["name"], one["text"]
            parts = [Chunk(name, a, b, text[a:b]) for a, b, _ in one["chunks"]]
            found._put(name, text, parts)
            found._metadata[name] = one["metadata"]
        return found

    def _named(self, where: Mapping[str, Any]) -> frozenset[str] | None:
        """Return the documents that have these metadata; None is all."""
        fields = {field for told in self._metadata.values() for field in told}
        if unknown := where.keys() - fields:
            raise ValueError(
                f"no document has {', '.join(sorted(unknown))}; to filter by there is: "
                f"{', '.join(sorted(fields)) or 'nothing, give metadata to add'}"
            )
        told = self._metadata.items()
        same = [name for name, own in told if where.items() <= own.items()]
        return frozenset(same) if where else None

    def _retrieved(
        self, query: str, candidates: int, names: frozenset[str] | None
    ) -> list[Fused]:
        """Return scores and ids ``[1, k]`` by vectors and, if `hybrid`, by words."""
        among = None
        if names is not None:
            among = [i for i in self._ids.values() if self._standing(i, names)]
        asked = encode_queries(self.encoder, [query])
        hits = self._index.search(asked, candidates, among=among)
        found: list[Any] = [(hits.scores, hits.ids)]
        if self.hybrid:
            found.append(self._by_words(query, candidates, among))
        return found

    def _fused(self, found: list[Fused], words: float, k: int) -> Fused:
        """Merge what vectors and words found; the vectors' alone if no word was."""
        if len(found) == 1 or not found[1][1].size:
            return found[0]
        weights, floors = (1 - words, words), (None, 0.0)
        return convex_combination(found, weights, floors=floors, k=k)

    def _judged(self, query: str, ids: NDArray[np.int64]) -> Vectors:
        """Return the cross-encoder's scores of passages, ``[1, k]``."""
        assert self.cross_encoder is not None
        texts = [self._found_in[number][0].text for number in ids[0].tolist()]
        asked = [query] * len(texts)
        return self.cross_encoder.predict(asked, texts, activation=None)[None]

    def _standing(self, number: int, names: frozenset[str] | None) -> list[Chunk]:
        """Return where a text stands, within some documents or all, the first first."""
        chunks = self._found_in[number]
        return [c for c in chunks if names is None or c.document in names]

    def _widened(
        self, chunks: list[Chunk], scores: list[float], neighbours: int
    ) -> list[Cited]:
        """Cite chunks with their neighbours, but none that is cited already."""
        found, seen = [], set()
        for part, score in zip(chunks, scores, strict=True):
            name, own = part.document, self._chunks[part.document]
            at = own.index(part)
            first, last = max(at - neighbours, 0), min(at + neighbours, len(own) - 1)
            if (name, at) not in seen:
                start, end = own[first].start, own[last].end
                text = self._documents[name][start:end]
                found.append(Cited(name, start, end, text, score))
                seen |= {(name, place) for place in range(first, last + 1)}
        return found

    def _gain(self, ids: NDArray[np.int64], wanted: Collection[str], by: str) -> float:
        """Return 1 / the place of the first text that answers, 0 if none does."""
        for place, number in enumerate(ids[0, :_JUDGED].tolist(), 1):
            chunks = self._found_in[number]
            text = " ".join(chunks[0].text.split())
            held = (" ".join(each.split()) in text for each in wanted)
            named = (part.document in wanted for part in chunks)
            if any(named if by == "document" else held):
                return 1 / place
        return 0.0

    def _by_words(self, query: str, k: int, among: list[int] | None) -> Any:  # noqa: ANN401
        """Return scores and ids ``[1, k]`` of texts that share a word with a query."""
        if self._bm25 is None:
            try:
                self._bm25 = Bm25(list(self._ids))
            except ValueError:  # there is not one word in them
                return np.empty((1, 0)), np.empty((1, 0), np.int64)
        ids = np.fromiter(self._ids.values(), np.int64)
        scores = self._bm25.scores([query])[0]
        if among is not None:
            scores[~np.isin(ids, among)] = 0
        best = np.argsort(-scores, kind="stable")[:k]
        best = best[scores[best] > 0]
        return scores[None, best], ids[None, best]

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


def _mixed(first: Fused, judged: Vectors, share: float) -> Fused:
    """Sort what a first stage found anew, by the share of the second one's scores."""
    return convex_combination([first, (judged, first[1])], (1 - share, share))


def _best(tried: Mapping[float, float]) -> float:
    """Return the weight of the highest quality, the least of several."""
    return max(tried, key=lambda weight: round(tried[weight], 9))


def _hash(encoder: Encoder) -> str:
    """Return a name for whatever must stay the same for vectors to be comparable."""
    fingerprint = getattr(encoder, "fingerprint", str)()
    kind = type(encoder).__name__, encoder.dimension, metric_of(encoder)
    parts = json.dumps([fingerprint, *kind, document_prompt(encoder)])
    return hashlib.sha256(parts.encode()).hexdigest()
