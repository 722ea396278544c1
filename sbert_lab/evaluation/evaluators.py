"""Evaluators: what is measured while a model is trained, under a name of its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from sbert_lab._utils import Metric, Vectors, whole_number
from sbert_lab.evaluation import metrics
from sbert_lab.index.exact import exact_search
from sbert_lab.models.batching import check_texts
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of

#: Texts in, vectors ``[n, d]`` out: `SentenceEncoder.encode`, or any other encoder's.
Encode = Callable[[Sequence[str]], Vectors]


def search_quality(
    encode_query: Encode,
    encode_document: Encode,
    queries: Sequence[str],
    corpus: Sequence[str],
    relevant: Sequence[metrics.Relevant],
    metric: Metric,
    k: int = 10,
) -> tuple[metrics.Values, metrics.Values]:
    """Return nDCG@k and recall@k of each query, ``[q]`` each, by exact search.

    ``relevant`` holds for each query the rows of the corpus that answer it. `metric` is
    that of the encoder: `metric_of`.
    """
    asked, texts = encode_query(queries), encode_document(corpus)
    found = exact_search(asked, texts, k, metric)[1].tolist()
    ndcg = metrics.ndcg_at_k(found, relevant, k)
    return ndcg, metrics.recall_at_k(found, relevant, k)


class Evaluator(Protocol):
    """What `SentenceTrainer` asks of an evaluation."""

    name: str  #: unique in a training: metrics appear as ``eval_{name}_{metric}``

    def __call__(self, encoder: SentenceEncoder) -> dict[str, float]:
        """Return the metrics, by name."""
        ...

    def held_out(self) -> Iterable[Sequence[str]]:
        """Return what is judged, pairs of texts or single ones, for the leak check."""
        ...


class RetrievalEvaluator:
    """Find the right documents for queries: ``ndcg_at_k`` and ``recall_at_k``.

    ``corpus`` maps ids to documents, ``relevant`` holds for each query the ids that
    answer it, or their grades, and the best k documents are looked at. They are
    compared as the model says, by cosine or dot product.
    """

    def __init__(
        self,
        name: str,
        queries: Sequence[str],
        corpus: Mapping[str, str],
        relevant: Sequence[metrics.Relevant],
        k: int = 10,
    ) -> None:
        if not isinstance(corpus, Mapping):
            raise TypeError("corpus is a text by id; of a list, dict(enumerate(texts))")
        if not len(queries) == len(relevant) > 0:
            raise ValueError(f"{len(queries)} queries and {len(relevant)} answers")
        answers = [metrics.positive(wanted) for wanted in relevant]
        unknown = sorted({key for one in answers for key in one} - corpus.keys())
        if unknown:
            raise ValueError(f"relevant ids that the corpus lacks: {unknown[:3]}")
        self.name, self.k = name, whole_number(k, "k")
        self.queries = check_texts(queries, "queries")
        self.corpus = list(corpus.values())
        row_of = {key: row for row, key in enumerate(corpus)}
        self.relevant = [{row_of[key]: g for key, g in one.items()} for one in answers]

    def __call__(self, encoder: SentenceEncoder) -> dict[str, float]:
        """Return the means over the queries."""
        sides = encoder.encode_query, encoder.encode_document
        texts, metric = (self.queries, self.corpus), metric_of(encoder)
        ndcg, recall = search_quality(*sides, *texts, self.relevant, metric, self.k)
        return {
            f"ndcg_at_{self.k}": float(ndcg.mean()),
            f"recall_at_{self.k}": float(recall.mean()),
        }

    def held_out(self) -> Iterable[Sequence[str]]:
        """Return the queries; documents may be trained on."""
        return [(query,) for query in self.queries]
