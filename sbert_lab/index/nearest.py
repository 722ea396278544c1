"""The texts of a table that are nearest to a question, each by its best passage."""

from collections.abc import Sequence
from typing import NamedTuple

from sbert_lab.index.chunking import chunk, splitter
from sbert_lab.index.exact import exact_search
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of


class Found(NamedTuple):
    """A text by its row, from 0, the passage of it that is nearest, and its score."""

    row: int
    passage: str
    score: float


def nearest(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    question: str,
    k: int = 5,
    cache: EmbeddingCache | None = None,
) -> list[Found]:
    """Return the k texts that answer a question best, all of them compared.

    Texts that are longer than the encoder reads are cut into passages. Vectors are
    looked up in the `cache`, and kept there.
    """
    made = splitter(encoder)
    parts = [(row, p.text) for row, text in enumerate(texts) for p in chunk(text, made)]
    if not parts:
        raise ValueError(f"{len(texts)} texts without a word: there is nothing to find")
    vectors = encoder.encode_document([part for _, part in parts], cache=cache)
    asked = encoder.encode_query([question])
    scores, rows = exact_search(asked, vectors, len(parts), metric_of(encoder))
    best: dict[int, Found] = {}
    for score, place in zip(scores[0].tolist(), rows[0].tolist(), strict=True):
        row, part = parts[place]
        best.setdefault(row, Found(row, part, score))
        if len(best) == k:
            break
    return list(best.values())
