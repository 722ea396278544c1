"""The texts of a table that are nearest to a question, each by its best passage."""

from collections.abc import Sequence

from sbert_lab._utils import whole_number
from sbert_lab.index.chunking import chunk, splitter
from sbert_lab.index.exact import exact_search
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of


def nearest(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    question: str,
    k: int = 5,
    cache: EmbeddingCache | None = None,
) -> list[tuple[int, str, float]]:
    """Return the k texts that answer a question best, all of them compared.

    Each is its row, from 0, its nearest passage, and that one's score: texts longer
    than the encoder reads are cut. Vectors are looked up in the `cache`, and kept.
    """
    whole_number(k, "k")
    if not any(map(str.isalnum, question)):
        raise ValueError(f"the question {question!r} holds no word")
    made = splitter(encoder)
    parts = [(row, p.text) for row, text in enumerate(texts) for p in chunk(text, made)]
    if not parts:
        raise ValueError(f"{len(texts)} texts without a word: nothing to find")
    vectors = encoder.encode_document([part for _, part in parts], cache=cache)
    asked, metric = encoder.encode_query([question]), metric_of(encoder)
    scores, rows = exact_search(asked, vectors, len(parts), metric)
    best: dict[int, tuple[int, str, float]] = {}
    for score, place in zip(scores[0].tolist(), rows[0].tolist(), strict=True):
        row, part = parts[place]
        best.setdefault(row, (row, part, score))
        if len(best) == k:
            break
    return list(best.values())
