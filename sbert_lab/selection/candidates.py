"""The candidates, each an `Encoder` or BM25: from word counts to twelve layers.

Any folder or hub repository of the reader's is one too.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sbert_lab.models.lexical import Bm25
from sbert_lab.models.onnx import export_onnx, load_onnx
from sbert_lab.models.registry import BY_NAME, cache_home, locate, resolve
from sbert_lab.models.sentence_encoder import Encoder, SentenceEncoder
from sbert_lab.models.static import StaticEncoder

log = logging.getLogger(__name__)

Corpus = Sequence[str]

MINILM = "all-MiniLM-L6-v2"

#: Of retrieval encoders on the hub whose folders do not tell them: from their cards.
PROMPTS = {
    "BAAI/bge-small-en-v1.5": {
        "query": "Represent this sentence for searching relevant passages: "
    },
    "intfloat/e5-small-v2": {"query": "query: ", "document": "passage: "},
    "Snowflake/snowflake-arctic-embed-xs": {
        "query": "Represent this sentence for searching relevant passages: "
    },
}

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
        and (has_runtime or "ONNX" not in one.about)
    )


def footprint(name_or_path: str, corpus: Corpus, texts: Corpus) -> dict[str, float]:
    """Load a candidate, use it, and measure the whole of this, a fresh, process.

    Returns ``process_mb``, what is resident, and ``load_s`` until the first text.
    """
    import psutil

    start = time.perf_counter()
    model: Any = candidate(name_or_path).load(corpus)
    use = partial(model.search, k=10) if isinstance(model, Bm25) else model.encode
    use(texts[:1])
    seconds = time.perf_counter() - start
    use(texts)
    return {"process_mb": psutil.Process().memory_info().rss / 1e6, "load_s": seconds}


def _own(name_or_path: str) -> Encoder:
    folder = resolve(name_or_path)
    encoder = SentenceEncoder.from_pretrained(folder)
    if not any(encoder.prompts.values()) and name_or_path in PROMPTS:
        layout = replace(encoder.layout, prompts=PROMPTS[name_or_path])
        return SentenceEncoder(encoder.transformer, encoder.tokenizer, layout).eval()
    return encoder


def _exported(_: Corpus) -> Encoder:
    """Return MiniLM as a float32 graph, exported on first use and kept."""
    edition = next(iter(BY_NAME[MINILM].sha256.values()))[:12]
    file = cache_home() / "exported" / f"{MINILM}-{edition}" / "model.onnx"
    if not file.is_file():
        log.info("%s is exported once, into %s", MINILM, file.parent)
        export_onnx(SentenceEncoder.from_pretrained(MINILM, device="cpu"), file)
    return load_onnx(file.parent)


def _entry(name: str, load: Callable[[str], Encoder]) -> Candidate:
    return Candidate(name, BY_NAME[name].about, lambda _: load(name), (name,))


def _graph(name: str, about: str) -> Candidate:
    """Return a candidate that is an ONNX graph with the words of MiniLM."""
    graph = f"{name}-onnx"
    needs = graph, MINILM
    return Candidate(name, about, lambda _: load_onnx(graph), needs)


#: By name, from the cheapest to the most expensive.
CANDIDATES = {
    one.name: one
    for one in (
        Candidate(
            "bm25", "Okapi BM25: words in common, weighted by how rare they are", Bm25
        ),
        _entry("wordllama-256", StaticEncoder.from_pretrained),
        _entry("bert-mini", SentenceEncoder.from_pretrained),
        _graph(
            "paraphrase-MiniLM-L3-v2",
            "sentence encoder, 3 layers, 17 M parameters, 384 dimensions",
        ),
        _graph(
            "all-MiniLM-L6-v2-int8",
            "all-MiniLM-L6-v2 with 8-bit weights, by ONNX Runtime",
        ),
        Candidate(
            "all-MiniLM-L6-v2-onnx",
            "all-MiniLM-L6-v2 in float32, by ONNX Runtime",
            _exported,
            (MINILM,),
        ),
        _entry(MINILM, SentenceEncoder.from_pretrained),
        _entry("all-mpnet-base-v2", SentenceEncoder.from_pretrained),
    )
}

if __name__ == "__main__":  # a fresh process, see `footprint`
    sys.stdout.write(json.dumps(footprint(*json.load(sys.stdin))))
