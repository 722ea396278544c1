"""The candidates, each an `Encoder` or BM25: from word counts to twelve layers.

Any folder or hub repository of the reader's is one too.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from sbert_lab.models.lexical import Bm25, LsaEncoder
from sbert_lab.models.onnx import load_onnx
from sbert_lab.models.registry import BY_NAME, cache_home, locate, resolve
from sbert_lab.models.sentence_encoder import Encoder, SentenceEncoder
from sbert_lab.models.static import StaticEncoder, distil

log = logging.getLogger(__name__)

_WEIGHTS = {".safetensors", ".onnx", ".json", ".txt", ".model"}

Corpus = Sequence[str]

#: What a candidate is once loaded.
Model = Encoder | Bm25


@dataclass(frozen=True)
class Candidate:
    """One way to search text: ``load`` loads it, or fits it to a corpus.

    ``needs`` are the registry's entries that it is made of; ``files`` returns what it
    is loaded from, nothing if it is fitted.
    """

    name: str
    about: str
    load: Callable[[Corpus], Model]
    needs: tuple[str, ...] = ()
    files: Callable[[], Sequence[Path]] = tuple

    def disk_mb(self) -> float | None:
        """Return the size of its files in MB of a million bytes, or None."""
        files = self.files()
        return sum(file.stat().st_size for file in files) / 1e6 if files else None


def load(name_or_path: str, corpus: Corpus) -> Model:
    """Load a candidate, or fit it to `corpus`; another process can be told to do it."""
    return candidate(name_or_path).load(corpus)


def candidate(name_or_path: str) -> Candidate:
    """Return a candidate by name, or one for a folder or a hub repository."""
    if name_or_path in CANDIDATES:
        return CANDIDATES[name_or_path]
    known = name_or_path in BY_NAME or name_or_path.count("/") == 1
    if not known and not Path(name_or_path).expanduser().is_dir():
        raise FileNotFoundError(
            f"no candidate {name_or_path!r}: give a folder, a hub repository "
            f"owner/name, or one of {', '.join(CANDIDATES)}"
        )
    return Candidate(
        name_or_path,
        "a model of yours",
        lambda _: _own(name_or_path),
        files=lambda: _weights(resolve(name_or_path)),
    )


def names_here() -> tuple[str, ...]:
    """Return the candidates that this machine can load, smallest first."""
    has_runtime = find_spec("onnxruntime") is not None
    return tuple(
        name
        for name, one in CANDIDATES.items()
        if all(locate(BY_NAME[needed]) is not None for needed in one.needs)
        and (has_runtime or not any(needed.endswith("-onnx") for needed in one.needs))
    )


def _own(name_or_path: str) -> Encoder:
    folder = resolve(name_or_path)
    if (folder / "static_vectors.safetensors").is_file():
        return StaticEncoder.from_pretrained(folder)
    return SentenceEncoder.from_pretrained(folder)


def _lsa(corpus: Corpus) -> Encoder:
    return LsaEncoder(corpus, min(256, max(2, len(corpus) // 4)))


def _distilled() -> Path:
    """Return the folder of static vectors, distilled from MiniLM on first use."""
    name = "all-MiniLM-L6-v2"
    edition = next(iter(BY_NAME[name].sha256.values()))[:12]
    folder = cache_home() / "distilled" / f"{name}-{edition}"
    if not folder.is_dir():
        log.info("%s is distilled once, into %s", name, folder)
        distil(SentenceEncoder.from_pretrained(name)).save(folder)
    return folder


def _entry_files(name: str) -> Sequence[Path]:
    folder = resolve(name, allow_hub=False)
    return [folder / file for file in BY_NAME[name].sha256]


def _weights(folder: Path) -> Sequence[Path]:
    return [file for file in folder.rglob("*") if file.suffix in _WEIGHTS]


def _entry(name: str, load: Callable[[str], Encoder]) -> Candidate:
    files = partial(_entry_files, name)
    return Candidate(name, BY_NAME[name].about, lambda _: load(name), (name,), files)


def _graph(name: str, about: str) -> Candidate:
    """Return a candidate that is an ONNX graph with the words of MiniLM."""
    graph, words = f"{name}-onnx", "all-MiniLM-L6-v2"

    def files() -> Sequence[Path]:
        return [*_entry_files(graph), resolve(words) / "tokenizer.json"]

    return Candidate(name, about, lambda _: load_onnx(graph), (graph, words), files)


#: By name, from the cheapest to the most expensive.
CANDIDATES = {
    one.name: one
    for one in (
        Candidate(
            "bm25", "Okapi BM25: words in common, weighted by how rare they are", Bm25
        ),
        Candidate(
            "tfidf-lsa",
            "TF-IDF, reduced by a singular value decomposition of the corpus",
            _lsa,
        ),
        _entry("wordllama-256", StaticEncoder.from_pretrained),
        Candidate(
            "all-MiniLM-L6-v2-static",
            "static word-piece vectors distilled from all-MiniLM-L6-v2, 256 dimensions",
            lambda _: StaticEncoder.from_pretrained(_distilled()),
            ("all-MiniLM-L6-v2",),
            lambda: _weights(_distilled()),
        ),
        _entry("bert-mini", SentenceEncoder.from_pretrained),
        _graph(
            "paraphrase-MiniLM-L3-v2",
            "sentence encoder, 3 layers, 17 M parameters, 384 dimensions",
        ),
        _graph(
            "all-MiniLM-L6-v2-int8",
            "all-MiniLM-L6-v2 with 8-bit weights, by ONNX Runtime",
        ),
        _entry("all-MiniLM-L6-v2", SentenceEncoder.from_pretrained),
        _entry("all-mpnet-base-v2", SentenceEncoder.from_pretrained),
    )
}
