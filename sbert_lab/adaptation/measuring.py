"""Before and after: the reader's own search, and what general similarity became."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import write_json
from sbert_lab.adaptation.outcome import Comparison, Example
from sbert_lab.datasets.pairs import PairSearch
from sbert_lab.datasets.sts import ScoredPairs, ladder, stsb
from sbert_lab.evaluation.metrics import ndcg_at_k, recall_at_k
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.experiments.trials import Yardstick
from sbert_lab.index.exact import normalized
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.registry import BY_NAME, locate
from sbert_lab.models.sentence_encoder import SentenceEncoder

#: What the reader's own search is called, and by what it is judged; the first counts.
OWN = "your pairs"
METRICS = ("nDCG@10", "recall@1", "recall@10")

_SCORES_AT_ONCE = 16_000_000  # similarities in memory
_SHOWN = 10  # examples on each side


@dataclass(frozen=True)
class Measured:
    """One model, item by item.

    Parameters
    ----------
    ranks
        Place of each answer of each query, from 1, in the order of the search; equal
        scores in the order of the corpus. Empty without a search.
    top
        Corpus row that comes first, for each query.
    cosines
        By the name of a set of scored pairs, one a pair.
    """

    ranks: tuple[tuple[int, ...], ...] = ()
    top: tuple[int, ...] = ()
    cosines: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        content = {"ranks": self.ranks, "top": self.top, "cosines": dict(self.cosines)}
        write_json(path, content)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            tuple(map(tuple, content["ranks"])),
            tuple(content["top"]),
            {name: tuple(values) for name, values in content["cosines"].items()},
        )


@dataclass(frozen=True)
class Measure:
    """What both models are measured with.

    Parameters
    ----------
    search
        The reader's own; None where there is no test.
    general
        Scored pairs of no domain, by name.
    """

    search: PairSearch | None
    general: Mapping[str, ScoredPairs]

    def of(
        self,
        encoder: SentenceEncoder,
        *,
        cache: EmbeddingCache | None = None,
        show_progress: bool | None = None,
    ) -> Measured:
        """Measure a model."""
        found = self._yardstick.measure(encoder)
        cosines = {name: tuple(values.tolist()) for name, values in found.items()}
        if self.search is None:
            return Measured(cosines=cosines)
        options: dict[str, Any] = {"cache": cache, "show_progress": show_progress}
        corpus = encoder.encode_document(self.search.corpus, **options)
        queries = encoder.encode_query(self.search.queries, **options)
        ranks, top = answer_ranks(queries, corpus, self.search.relevant)
        return Measured(ranks, top, cosines)

    def domain(self, before: Measured, after: Measured) -> tuple[Comparison, ...]:
        """Compare two models on the search, by each of `METRICS`."""
        if self.search is None:
            return ()
        group, found = self.search.group, []
        for metric in METRICS:
            b, a = (_per_query(metric, one.ranks) for one in (before, after))
            intervals = (bootstrap_mean(v, groups=group) for v in (b, a, a - b))
            found.append(Comparison(OWN, metric, len(group), *intervals))
        return tuple(found)

    def elsewhere(self, before: Measured, after: Measured) -> tuple[Comparison, ...]:
        """Compare two models on the general pairs, by Spearman's correlation."""
        b, a = (
            [{name: np.array(values) for name, values in one.cosines.items()}]
            for one in (before, after)
        )
        score = self._yardstick.score
        return tuple(
            Comparison(
                name,
                "Spearman",
                len(pairs),
                score(name, b),
                score(name, a),
                score(name, a, b),
            )
            for name, pairs in self.general.items()
        )

    def examples(
        self, before: Measured, after: Measured
    ) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
        """Return the queries that gained most ranks, and those that lost most."""
        if self.search is None:
            return (), ()
        best = np.array([[min(r) for r in one.ranks] for one in (before, after)])
        gained = best[0] - best[1]  # [q]
        better = np.argsort(-gained, kind="stable")[:_SHOWN]
        worse = np.argsort(gained, kind="stable")[:_SHOWN]
        show = self._example
        return (
            tuple(show(i, before, after) for i in better.tolist() if gained[i] > 0),
            tuple(show(i, before, after) for i in worse.tolist() if gained[i] < 0),
        )

    def _example(self, query: int, before: Measured, after: Measured) -> Example:
        assert self.search is not None
        ranks, corpus = after.ranks[query], self.search.corpus
        return Example(
            query=self.search.queries[query],
            answer=corpus[self.search.relevant[query][int(np.argmin(ranks))]],
            rank_before=min(before.ranks[query]),
            rank_after=min(ranks),
            top_before=corpus[before.top[query]],
            top_after=corpus[after.top[query]],
        )

    @cached_property
    def _yardstick(self) -> Yardstick:
        return Yardstick(dict(self.general))


def general_sets() -> dict[str, ScoredPairs]:
    """Return the scored pairs that are here: the project's own, and STS Benchmark."""
    found = {"ladder": ladder()}
    if locate(BY_NAME["stsb"]) is not None:
        found["STSBenchmark"] = stsb("test")
    return found


def answer_ranks(
    queries: NDArray[np.float32],
    corpus: NDArray[np.float32],
    relevant: Sequence[Sequence[int]],
) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Return the places of the answers by cosine, from 1, and what comes first.

    Parameters
    ----------
    queries, corpus
        ``[q, d]`` and ``[n, d]``.
    relevant
        Corpus rows for each query.

    Equal scores stand in the order of the corpus.
    """
    a, b = normalized(queries), normalized(corpus)
    ranks: list[tuple[int, ...]] = []
    top: list[int] = []
    step = max(1, _SCORES_AT_ONCE // len(b))
    for start in range(0, len(a), step):
        scores = a[start : start + step] @ b.T  # [some, n]
        top += scores.argmax(1).tolist()
        for row, answers in zip(scores, relevant[start : start + step], strict=True):
            ranks.append(
                tuple(
                    1 + int((row > row[i]).sum() + (row[:i] == row[i]).sum())
                    for i in answers
                )
            )
    return tuple(ranks), tuple(top)


def _per_query(metric: str, ranks: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Return a metric of each query from the places of its answers."""
    name, k = metric.split("@")
    answers = [range(len(places)) for places in ranks]
    # The first places, with the answers where they stand and -1 for all else.
    found = [
        [at.get(place, -1) for place in range(1, int(k) + 1)]
        for at in ({p: i for i, p in enumerate(places)} for places in ranks)
    ]
    score = {"nDCG": ndcg_at_k, "recall": recall_at_k}[name]
    return score(found, answers, int(k))
