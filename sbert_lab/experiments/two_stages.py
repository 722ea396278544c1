"""Two stages of a search, query by query: what each finds, and what it takes.

An encoder finds candidates, a cross-encoder reads each of them with the query. What the
two say is kept, so that every depth and every mixture of the two costs a sort and no
pass.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import Vectors, write_bytes
from sbert_lab.adaptation.recipe import sha256_of as sha256
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.evaluation.metrics import Values, ndcg_at_k, recall_at_k
from sbert_lab.evaluation.sparse import similarity
from sbert_lab.experiments.timing import Timing, side_by_side
from sbert_lab.index.exact import exact_search, normalized
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25Encoder
from sbert_lab.models.registry import cache_home
from sbert_lab.models.sentence_encoder import SentenceEncoder

Rows = NDArray[np.int64]

#: Shares of the second stage to choose among.
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Mixture:
    """How the scores of two stages become one.

    A cosine and a cross-encoder's score have no common unit, so each is measured in its
    own spread: ``(1 − share) · first / spread₁ + share · second / spread₂``.

    Parameters
    ----------
    share
        Of the second stage, 0 to 1: 1 is the second one alone.
    spreads
        Of either stage's scores among the candidates of one query.
    """

    share: float = 1.0
    spreads: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:  # noqa: D105
        if not 0 <= self.share <= 1:
            raise ValueError(f"share={self.share}: from 0 to 1")
        if not min(self.spreads) > 0:
            raise ValueError(
                f"spreads={self.spreads}: above 0; a stage that scores all candidates "
                "alike has nothing to say"
            )

    def of(
        self, first: NDArray[np.float32], second: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return the mixed scores, ``[q, k], [q, k] -> [q, k]``."""
        one, other = self.spreads
        mixed: NDArray[np.float64] = (1 - self.share) * (
            first.astype(np.float64) / one
        ) + self.share * (second.astype(np.float64) / other)
        return mixed


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a first stage found, and what a second one says of it.

    Parameters
    ----------
    task
        q queries, and the corpus.
    rows
        Of the corpus, int64 ``[q, k]``, best first; no row twice for a query.
    first
        Scores of the first stage, float32 ``[q, k]``, falling.
    second
        Those of the second, float32 ``[q, j]`` for the first j candidates; with j = 0
        nobody asked it yet.
    """

    task: RetrievalTask = field(repr=False)
    rows: Rows = field(repr=False)
    first: NDArray[np.float32] = field(repr=False)
    second: NDArray[np.float32] = field(repr=False)

    def order(self, depth: int = 0, mixture: Mixture | None = None) -> Rows:
        """Return the rows with the first `depth` sorted anew, int64 ``[q, k]``.

        Candidates behind them stay where they are; equal scores keep their order.

        Parameters
        ----------
        depth
            How many candidates the second stage reads; 0 leaves the first one's order.
        mixture
            Of the two scores; by default the second one alone.
        """
        if not 0 <= depth <= self.second.shape[1]:
            raise ValueError(
                f"depth={depth}: the second stage has read {self.second.shape[1]} "
                "candidates a query; judge more of them"
            )
        mixed = (mixture or Mixture()).of(self.first[:, :depth], self.second[:, :depth])
        place = np.argsort(-mixed, axis=1, kind="stable")
        head = np.take_along_axis(self.rows[:, :depth], place, axis=1)
        return np.concatenate([head, self.rows[:, depth:]], axis=1)

    def ndcg(
        self, depth: int = 0, mixture: Mixture | None = None, k: int = 10
    ) -> Values:
        """Return the nDCG@k of each query after `order`, ``[q]``."""
        return ndcg_of(self.task, self.order(depth, mixture), k)

    def recall(self, k: int) -> Values:
        """Return whether each query's answer is among its first k, ``[q]``.

        With one right answer a query, no order of these k has a higher mean nDCG.
        """
        return recall_at_k(*_named(self.task, self.rows), k)

    def spreads(self, depth: int) -> tuple[float, float]:
        """Return the root mean square spread of both scores within a query."""
        both = self.first[:, :depth], self.second[:, :depth]
        one, other = (
            float(np.sqrt(scores.astype(np.float64).var(axis=1).mean()))
            for scores in both
        )
        return one, other

    def best_mixture(self, depth: int, shares: Sequence[float] = SHARES) -> Mixture:
        """Return the mixture with the highest mean nDCG@10; of equal ones the first.

        To be chosen on queries that nothing is claimed of.
        """
        made = [Mixture(share, self.spreads(depth)) for share in shares]
        return max(made, key=lambda one: float(self.ndcg(depth, one).mean()))

    def judged(
        self, judge: CrossEncoder, depth: int, *, show_progress: bool | None = None
    ) -> "Candidates":
        """Return the same with a cross-encoder's scores of the first `depth`.

        Before any activation. They are kept on disk, by weights and texts.
        """
        texts, rows = self.task.corpus_texts, self.rows[:, :depth]
        pairs = [
            (query, texts[row])
            for query, own in zip(self.task.queries, rows.tolist(), strict=True)
            for row in own
        ]
        scores = kept_scores(judge, pairs, show_progress=show_progress)
        return replace(self, second=scores.reshape(rows.shape))


def candidates(
    encoder: SentenceEncoder,
    task: RetrievalTask,
    k: int,
    *,
    cache: EmbeddingCache | None = None,
) -> Candidates:
    """Return each query's k nearest entries by cosine, all entries compared."""
    queries, corpus = (
        encoder.encode(texts, cache=cache, show_progress=False)
        for texts in (task.queries, task.corpus_texts)
    )
    scores, rows = exact_search(queries, corpus, k, "cosine")
    return Candidates(task, rows, scores, np.empty((len(rows), 0), np.float32))


def lexical_candidates(task: RetrievalTask, k: int) -> Candidates:
    """Return each query's k best entries by BM25, fitted to the task's corpus.

    Entries that share no word with the query score 0 and stand behind all others, in
    the corpus's order.
    """
    bm25 = Bm25Encoder.fit(task.corpus_texts)
    scores = similarity(
        bm25.encode_query(task.queries), bm25.encode_document(task.corpus_texts), "dot"
    )
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    first = np.take_along_axis(scores, rows, axis=1).astype(np.float32)
    return Candidates(task, rows, first, np.empty((len(rows), 0), np.float32))


def ndcg_of(task: RetrievalTask, rows: Rows, k: int = 10) -> Values:
    """Return the nDCG@k of each query of rankings ``[q, n]``; -1 is no row."""
    return ndcg_at_k(*_named(task, rows), k)


def _named(task: RetrievalTask, rows: Rows) -> tuple[list[list[str]], list[set[str]]]:
    """Return rankings as codes, and what answers each query."""
    codes = task.corpus_codes
    found = [[codes[row] for row in own if row >= 0] for own in rows.tolist()]
    return found, [{code} for code in task.relevant]


def kept_scores(
    judge: CrossEncoder,
    pairs: Sequence[tuple[str, str]],
    *,
    show_progress: bool | None = None,
) -> NDArray[np.float32]:
    """Return a cross-encoder's scores before any activation, ``[n]``; kept on disk."""
    key = sha256([judge.fingerprint(), [list(pair) for pair in pairs]])[:16]
    path = cache_home() / "measured" / f"scores-{key}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            kept: NDArray[np.float32] = file["scores"]
            return kept
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    scores = judge.predict(first, second, activation=None, show_progress=show_progress)
    content = io.BytesIO()
    np.savez(content, scores=scores)
    write_bytes(path, content.getvalue())
    return scores


def query_times(
    encoder: SentenceEncoder,
    judge: CrossEncoder,
    task: RetrievalTask,
    corpus: Vectors,
    depths: Sequence[int],
    repeats: int,
) -> dict[int, Timing]:
    """Time single queries from text to ranking, the depths taking turns.

    Parameters
    ----------
    encoder, judge, task
        The two stages, and what is asked.
    corpus
        Vectors of the corpus, float32 ``[n, d]``, ready.
    depths
        How many candidates are read; 0 is the first stage alone.
    repeats
        Rounds; each takes the next query.
    """
    ready = normalized(corpus)

    def way(depth: int) -> Callable[[], object]:
        asked = cycle(task.queries)

        def answer() -> object:
            query = next(asked)
            vector = encoder.encode([query], show_progress=False)
            k = max(depth, 10)
            _, rows = exact_search(vector, ready, k, normalized_corpus=True)
            texts = [task.corpus_texts[row] for row in rows[0, :depth].tolist()]
            return judge.rerank(query, texts, show_progress=False) if texts else rows

        return answer

    named = {str(depth): way(depth) for depth in depths}
    return {int(name): t for name, t in side_by_side(named, repeats).items()}
