"""A search in two stages: models for it, scores of both stages, and what follows.

An encoder finds candidates, a cross-encoder reads each of them with the query. Both
scores are kept, so that every depth and every mixture costs a sort and no pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from experiments.runs import Stored, get_or_train, pair_recipe
from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.adaptation.supervised import mine_negatives, train
from sbert_lab.adaptation.unsupervised import margin_columns, train_margin_mse
from sbert_lab.datasets.domains import Domain
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.evaluation.metrics import Values, ndcg_at_k, recall_at_k
from sbert_lab.index.exact import exact_search
from sbert_lab.losses.pair_scores import ListwiseCrossEntropy
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.registry import cache_home
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of
from sbert_lab.training import TrainingData
from sbert_lab.training.hard_negatives import Mined

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


def train_reranker(encoder: str, domain: Domain, recipe: Recipe) -> Stored:
    """Train a cross-encoder on the pairs of a domain, once for each recipe.

    It starts from the weights of the encoder in this folder, with a new head; its
    negatives are what that encoder finds nearest, relatives excepted.
    """
    start = SentenceEncoder.from_pretrained(encoder)

    def make() -> CrossEncoder:
        mined = _mined(start, domain, recipe)
        columns = {
            role: [column[row] for row in mined.rows]
            for role, column in mined.columns().items()
        }
        data = TrainingData(columns, source="mined pairs")
        model = CrossEncoder.from_pretrained(encoder, head_seed=recipe.seed)
        train(model, data, ListwiseCrossEntropy(), recipe)
        return model

    told = pair_recipe(start, domain, domain.pairs, recipe)
    return get_or_train("reranker", told, make)


def distill(
    encoder: str, teacher: CrossEncoder, domain: Domain, recipe: Recipe
) -> Stored:
    """Train the encoder in a folder on a cross-encoder's margins, once a recipe.

    Nothing guards the negatives: where one answers as well, the teacher's margin says
    so. Source: Hofstätter et al. 2020.
    """
    student = SentenceEncoder.from_pretrained(encoder)
    domain = replace(domain, codes=())

    def make() -> SentenceEncoder:
        triplets = _mined(student, domain, recipe).triplets()
        train_margin_mse(student, margin_columns(teacher, triplets), recipe)
        return student

    told = pair_recipe(student, domain, domain.pairs, recipe)
    return get_or_train("distilled", {**told, "teacher": teacher.fingerprint()}, make)


def _mined(encoder: SentenceEncoder, domain: Domain, recipe: Recipe) -> Mined:
    pairs, guard = domain.some(None, recipe.seed)
    cache = EmbeddingCache()
    found = mine_negatives(encoder, pairs, recipe, domain.candidates, guard, cache)
    if found is None:
        raise ValueError(f"{domain.name}: no wrong answer is safe to learn from")
    return found


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a first stage found for q queries, and what a second one says of it.

    Their mixture is ``(1 − share) · first / spread₁ + share · second / spread₂``: a
    cosine and a cross-encoder's score have no common unit, so each is divided by its
    spread among the candidates of one query; `share` 1 is the second stage alone.
    """

    task: RetrievalTask = field(repr=False)
    rows: Rows = field(repr=False)  #: of the corpus ``[q, k]``, best first
    first: Scores = field(repr=False)  #: of the first stage ``[q, k]``, falling
    second: Scores = field(repr=False)  #: of the second ``[q, j]``, for the first j

    def order(
        self, depth: int = 0, share: float = 1.0, spreads: Sequence[float] = (1, 1)
    ) -> Rows:
        """Return the rows, the first `depth` sorted by a mixture, int64 ``[q, k]``.

        Equal scores keep their order.
        """
        if depth > self.second.shape[1]:
            raise ValueError(f"depth={depth}: {self.second.shape[1]} have been read")
        first, second = (
            scores[:, :depth].astype(np.float64) / spread
            for scores, spread in zip((self.first, self.second), spreads, strict=True)
        )
        mixed = (1 - share) * first + share * second
        place = np.argsort(-mixed, axis=1, kind="stable")
        head = np.take_along_axis(self.rows[:, :depth], place, axis=1)
        return np.concatenate([head, self.rows[:, depth:]], axis=1)

    def ndcg(self, *told: Any, k: int = 10) -> Values:  # noqa: ANN401
        """Return the nDCG@k of each query after `order`, told the same, ``[q]``."""
        return ndcg_of(self.task, self.order(*told), k)

    def recall(self, k: int) -> Values:
        """Return whether each query's answer is among its first k, ``[q]``."""
        return recall_at_k(*_codes(self.task, self.rows), k)

    def spreads(self, depth: int) -> list[float]:
        """Return the root mean square spread of both scores within a query."""
        both = (s[:, :depth].astype(np.float64) for s in (self.first, self.second))
        return [float(np.sqrt(scores.var(axis=1).mean())) for scores in both]

    def best_mixture(self, depth: int) -> tuple[float, list[float]]:
        """Return the share, in tenths, of highest mean nDCG@10, and the spreads.

        To be chosen on other queries than those to be judged.
        """
        spreads = self.spreads(depth)
        shares = [tenths / 10 for tenths in range(11)]
        best = max(shares, key=lambda w: self.ndcg(depth, w, spreads).mean())
        return best, spreads

    def read_by(self, reader: CrossEncoder, depth: int) -> "Candidates":
        """Return the same with a cross-encoder's scores of the first `depth`, kept."""
        rows = self.rows[:, :depth]
        pairs = [
            (query, self.task.corpus_texts[row])
            for query, own in zip(self.task.queries, rows.tolist(), strict=True)
            for row in own
        ]
        memory = joblib.Memory(cache_home() / "measured", verbose=0)
        predict = memory.cache(_scores, ignore=["reader"])
        scores = predict(reader, reader.fingerprint(), pairs)
        return replace(self, second=scores.reshape(rows.shape))


def _scores(reader: CrossEncoder, weights: str, pairs: list[tuple[str, str]]) -> Scores:
    del weights  # with the pairs it is the key of what is kept
    first, second = zip(*pairs, strict=True)
    return reader.predict(first, second, activation=None, show_progress=False)


def candidates(
    encoder: SentenceEncoder, task: RetrievalTask, k: int, cache: EmbeddingCache
) -> Candidates:
    """Return each query's k nearest entries, all entries compared."""
    queries, corpus = (
        encoder.encode(texts, cache=cache, show_progress=False)
        for texts in (task.queries, task.corpus_texts)
    )
    scores, rows = exact_search(queries, corpus, k, metric_of(encoder))
    return Candidates(task, rows, scores, np.empty((len(rows), 0), np.float32))


def lexical_candidates(task: RetrievalTask, k: int) -> Candidates:
    """Return each query's k best entries by BM25; those that share no word score 0."""
    scores, rows = Bm25(task.corpus_texts).search(task.queries, k)
    return Candidates(task, rows, scores, np.empty((len(rows), 0), np.float32))


def ndcg_of(task: RetrievalTask, rows: Rows, k: int = 10) -> Values:
    """Return the nDCG@k of each query of rankings ``[q, n]``; -1 is no row."""
    return ndcg_at_k(*_codes(task, rows), k)


def _codes(task: RetrievalTask, rows: Rows) -> tuple[list[list[str]], list[set[str]]]:
    """Return rankings as codes, and what answers each query."""
    found = [[task.corpus_codes[row] for row in own if row >= 0] for own in rows]
    return found, [{code} for code in task.relevant]
