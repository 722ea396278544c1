"""sbert_lab: text becomes vectors, vectors become answers.

The folders in the order that text takes: `models`, `index`, `losses`, `datasets`,
`evaluation`, `training`, `selection`, `adaptation`. Each imports only
those before it. The names below load on first use, so importing it costs little.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from sbert_lab.index.exact import exact_search
    from sbert_lab.index.vector_index import VectorIndex
    from sbert_lab.models.embedding_cache import EmbeddingCache
    from sbert_lab.models.sentence_encoder import SentenceEncoder

_HOME = {
    "EmbeddingCache": "sbert_lab.models.embedding_cache",
    "SentenceEncoder": "sbert_lab.models.sentence_encoder",
    "VectorIndex": "sbert_lab.index.vector_index",
    "exact_search": "sbert_lab.index.exact",
}

__all__ = ["EmbeddingCache", "SentenceEncoder", "VectorIndex", "exact_search"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (PEP 562)
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sbert_lab' has no attribute {name!r}")
