"""The candidates, each an `Encoder` or BM25: from word counts to twelve layers.

Any folder or hub repository of the reader's is one too.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sbert_lab.models.lexical import Bm25
from sbert_lab.models.onnx import load_onnx
from sbert_lab.models.registry import BY_NAME, cache_home, locate, resolve
from sbert_lab.models.sentence_encoder import Encoder, SentenceEncoder
from sbert_lab.models.static import StaticEncoder, distil

log = logging.getLogger(__name__)

Corpus = Sequence[str]

#: What a candidate is once loaded.
Model = Encoder | Bm25


@dataclass(frozen=True)
class Candidate:
    """One way to search text: ``load`` loads it, or fits it to a corpus."""

    name: str
    about: str
    load: Callable[[Corpus], Model]
    needs: tuple[str, ...] = ()  #: the registry's entries that it is made of


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
    return Candidate(name_or_path, "a model of yours", lambda _: _own(name_or_path))


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


def _distilled(_: Corpus) -> Encoder:
    """Return static vectors, distilled from MiniLM on first use and kept."""
    name = "all-MiniLM-L6-v2"
    edition = next(iter(BY_NAME[name].sha256.values()))[:12]
    folder = cache_home() / "distilled" / f"{name}-{edition}"
    if not folder.is_dir():
        log.info("%s is distilled once, into %s", name, folder)
        distil(SentenceEncoder.from_pretrained(name)).save(folder)
    return StaticEncoder.from_pretrained(folder)


def _entry(name: str, load: Callable[[str], Encoder]) -> Candidate:
    return Candidate(name, BY_NAME[name].about, lambda _: load(name), (name,))


def _graph(name: str, about: str) -> Candidate:
    """Return a candidate that is an ONNX graph with the words of MiniLM."""
    graph = f"{name}-onnx"
    needs = graph, "all-MiniLM-L6-v2"
    return Candidate(name, about, lambda _: load_onnx(graph), needs)


#: By name, from the cheapest to the most expensive.
CANDIDATES = {
    one.name: one
    for one in (
        Candidate(
            "bm25", "Okapi BM25: words in common, weighted by how rare they are", Bm25
        ),
        _entry("wordllama-256", StaticEncoder.from_pretrained),
        Candidate(
            "all-MiniLM-L6-v2-static",
            "static word-piece vectors distilled from all-MiniLM-L6-v2, 256 dimensions",
            _distilled,
            ("all-MiniLM-L6-v2",),
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
