"""Before and after: the search of the test pairs, and general similarity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbert_lab.adaptation.report import Comparison, Example
from sbert_lab.datasets.pairs import PairSearch
from sbert_lab.datasets.similarity import ScoredPairs, ladder, stsb
from sbert_lab.evaluation.metrics import ndcg_at_k, pairwise_cosine, recall_at_k
from sbert_lab.evaluation.protocols import similarity_score
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.index.exact import exact_search
from sbert_lab.models.registry import BY_NAME, locate
from sbert_lab.models.sentence_encoder import SentenceEncoder

#: What the search of the test pairs is called.
OWN = "your pairs"

_DEPTH = 100  # ranks that are looked at
_SHOWN = 10  # examples on each side


@dataclass(frozen=True)
class Measured:
    """What one model gives, item by item.

    Parameters
    ----------
    found
        Corpus rows in their order for each query, int64 ``[q, 100]``; ``[0, 0]``
        without a search.
    cosines
        By the name of a general set, one a pair.
    """

    found: NDArray[np.int64]
    cosines: Mapping[str, NDArray[np.float64]]

    def ranks(self, search: PairSearch) -> NDArray[np.int64]:
        """Return the best rank of each query's answers, ``[q]``, from 1 to 101."""
        is_answer = np.array(
            [np.isin(row, list(r)) for row, r in zip(self.found, search.relevant)]
        )
        return np.where(is_answer.any(1), is_answer.argmax(1) + 1, _DEPTH + 1)


def general_sets() -> dict[str, ScoredPairs]:
    """Return the scored pairs that are here: the project's own, and STS Benchmark."""
    found = {"ladder": ladder()}
    if locate(BY_NAME["stsb"]) is not None:
        found["STSBenchmark"] = stsb("test")
    return found


def measure(
    encoder: SentenceEncoder,
    search: PairSearch | None,
    general: Mapping[str, ScoredPairs],
    show_progress: bool | None = None,
) -> Measured:
    """Measure a model on a search, if there is one, and on general similarity."""
    cosines = {}
    for name, pairs in general.items():
        vectors = encoder.encode([*pairs.first, *pairs.second], show_progress=False)
        cosines[name] = pairwise_cosine(vectors[: len(pairs)], vectors[len(pairs) :])
    found = np.empty((0, 0), np.int64)
    if search is not None:
        corpus = encoder.encode_document(search.corpus, show_progress=show_progress)
        queries = encoder.encode_query(search.queries, show_progress=show_progress)
        _, found = exact_search(queries, corpus, _DEPTH)
    return Measured(found, cosines)


def compare(
    search: PairSearch | None,
    general: Mapping[str, ScoredPairs],
    before: Measured,
    after: Measured,
) -> tuple[Comparison, ...]:
    """Compare two models item by item: the search first, whose first metric counts."""
    comparisons = []
    if search is not None:
        old, new = (_by_query(one.found, search.relevant) for one in (before, after))
        for metric in old:
            b, a = old[metric], new[metric]
            intervals = [bootstrap_mean(v, groups=search.group) for v in (b, a, a - b)]
            comparisons.append(Comparison(OWN, metric, len(b), *intervals))
    for name, pairs in general.items():
        b, a = before.cosines[name], after.cosines[name]
        intervals = [similarity_score(pairs, values) for values in (b, a)]
        intervals.append(similarity_score(pairs, a, baseline=b))
        comparisons.append(Comparison(name, "Spearman", len(pairs), *intervals))
    return tuple(comparisons)


def examples(
    search: PairSearch | None, before: Measured, after: Measured
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return the queries that gained most ranks, and those that lost most."""
    if search is None:
        return (), ()
    old, new = before.ranks(search), after.ranks(search)

    def most(gained: NDArray[np.int64]) -> tuple[Example, ...]:
        rows = np.argsort(-gained, kind="stable")[:_SHOWN]
        return tuple(
            Example(
                search.queries[i],
                search.corpus[search.relevant[i][0]],
                int(old[i]),
                int(new[i]),
            )
            for i in rows
            if gained[i] > 0
        )

    return most(old - new), most(new - old)


def _by_query(
    found: NDArray[np.int64], relevant: Sequence[Sequence[int]]
) -> dict[str, NDArray[np.float64]]:
    rows = found.tolist()
    return {
        "nDCG@10": ndcg_at_k(rows, relevant, 10),
        "recall@1": recall_at_k(rows, relevant, 1),
        "recall@10": recall_at_k(rows, relevant, 10),
    }
