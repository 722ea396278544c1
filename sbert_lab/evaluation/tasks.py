"""Tasks: how vectors become a score, how sure it is, and models in pairs.

Each protocol equals mteb's main score on the same vectors, and keeps what it was made
of, item by item. Source: Muennighoff et al. 2023, section 3.2, and mteb 2.26.
"""

import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn.functional import normalize

from sbert_lab._utils import Metric, Vectors
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.icd10cm_tasks import KINDS, TASKS, RerankingTask
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.evaluators import Encode
from sbert_lab.evaluation.metrics import average_precision_at_k, ndcg_at_k, spearman
from sbert_lab.evaluation.statistics import (
    Floats,
    Interval,
    Score,
    bootstrap_mean,
    bootstrap_score,
    permutation_mean,
    permutation_score,
)
from sbert_lab.index.exact import checked
from sbert_lab.models.lexical import Bm25

#: For each query the grade of documents; 0 and below is not relevant.
Qrels = Mapping[str, Mapping[str, int]]

_SEED, _DRAWS = 42, 10  # mteb's
_JUDGED = 1_000  # documents of a ranking
_CORPUS_AT_ONCE = 50_000  # as in mteb: the shape of a product decides its last bits
_SCORES: dict[str, Score] = {
    "cosine_spearman": "spearman",
    "cosine_ap": "average_precision",
}


@dataclass(frozen=True)
class TaskResult:
    """One model on one task: mteb's main score, and what its interval is made of."""

    main_score: float
    metric: str
    score: float  #: the main score; of pair classification that of the cosine alone
    items: Floats  #: ``[n]`` or ``[draws, n]``
    gold: Floats | None = None  #: what items should follow; None: they are averaged
    group: tuple[str, ...] | None = None  #: items of one are drawn together


def sts(first: Vectors, second: Vectors, gold: ArrayLike) -> TaskResult:
    """Score semantic textual similarity: Spearman's correlation of cosine and gold.

    All pairs are ranked together. Source: Reimers and Gurevych 2019, section 4.
    """
    wanted, cosines = np.asarray(gold, np.float64), _cosines(first, second)
    score = spearman(wanted, cosines)
    return TaskResult(score, "cosine_spearman", score, cosines, wanted)


def pair_classification(
    first: Vectors, second: Vectors, labels: ArrayLike, *, metric: Metric = "cosine"
) -> TaskResult:
    """Score how well nearness tells pairs of like meaning, label 1, from others, 0.

    Average precision, the best over five ways to compare, chosen on the pairs that it
    is measured on: a little too high by design.
    """
    from sklearn.metrics import average_precision_score
    from sklearn.metrics.pairwise import (
        paired_euclidean_distances,
        paired_manhattan_distances,
    )

    gold = np.asarray(labels, np.float64)
    a, b = torch.from_numpy(first), torch.from_numpy(second)
    own = (normalize(a) * normalize(b) if metric == "cosine" else a * b).sum(-1)
    cosines = _cosines(first, second)
    ways = (
        cosines,
        own.numpy(),
        -paired_manhattan_distances(first, second),
        -paired_euclidean_distances(first, second),
        # One by one: a product of all rows at once rounds its last bit otherwise.
        np.array([np.dot(x, y) for x, y in zip(first, second, strict=True)]),
    )
    scores = [float(average_precision_score(gold, values)) for values in ways]
    return TaskResult(max(scores), "cosine_ap", scores[0], cosines, gold)


def classification(
    train_vectors: Vectors,
    train_labels: Sequence[Hashable],
    test_vectors: Vectors,
    test_labels: Sequence[Hashable],
) -> TaskResult:
    """Score what a linear classifier reads from 8 vectors of each label: accuracy.

    The order of the training rows decides the draws. Items are ``[10, test rows]``.
    """
    from sklearn.linear_model import LogisticRegression

    x, y = checked(train_vectors, "training vectors"), np.asarray(train_labels)
    x_test, y_test = checked(test_vectors, "test vectors"), np.asarray(test_labels)
    order = list(range(len(x)))
    correct = []
    for _ in range(_DRAWS):
        # As mteb does: the order that the last draw left, shuffled by the same seed.
        np.random.RandomState(_SEED).shuffle(order)
        taken: Counter[Hashable] = Counter()
        rows = []
        for row in order:
            if taken[train_labels[row]] < 8:
                taken[train_labels[row]] += 1
                rows.append(row)
        model = LogisticRegression(max_iter=100, random_state=_SEED)
        correct.append(model.fit(x[rows], y[rows]).predict(x_test) == y_test)
    score = float(np.mean([np.average(right) for right in correct]))
    return TaskResult(score, "accuracy", score, np.array(correct, np.float64))


def clustering(
    vectors: Vectors, labels: Sequence[Hashable], *, documents_per_draw: int
) -> TaskResult:
    """Score whether k-means clusters of samples follow the labels: v-measure.

    Items are ten draws, with replacement: an interval from them speaks of the sampling,
    not of other documents. Source: Enevoldsen et al. 2025 (tasks named ``.v2``).
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import v_measure_score

    points, gold = checked(vectors, "vectors"), np.asarray(labels)
    rng = random.Random(_SEED)
    model = MiniBatchKMeans(
        n_clusters=len(np.unique(gold)),
        batch_size=512,
        init="k-means++",
        n_init=1,
        random_state=_SEED,
    )
    values = []
    for _ in range(_DRAWS):
        rows = rng.choices(range(len(points)), k=documents_per_draw)
        values.append(v_measure_score(gold[rows], model.fit_predict(points[rows])))
    score = float(np.mean(values))
    return TaskResult(score, "v_measure", score, np.array(values))


def ranking(
    query_ids: Sequence[str],
    query_vectors: Vectors,
    corpus_ids: Sequence[str],
    corpus_vectors: Vectors,
    qrels: Qrels,
    *,
    candidates: Mapping[str, Sequence[str]] | None = None,
    metric: Metric = "cosine",
) -> TaskResult:
    """Search the whole corpus for each query (nDCG@10), or order candidates (MAP).

    With ``candidates``, for each query the ids to order, it is mteb's reranking, else
    its retrieval. Of equal scores the larger id comes first, as in trec_eval. Items are
    the queries. Source: Thakur et al. 2021 (BEIR), section 3.
    """
    queries = torch.from_numpy(checked(query_vectors, "query vectors"))
    corpus = torch.from_numpy(checked(corpus_vectors, "corpus vectors"))
    if metric == "cosine":
        queries, corpus = normalize(queries), normalize(corpus)
    found: list[list[str]] = []
    if candidates is not None:
        row_of = {key: i for i, key in enumerate(corpus_ids)}
        for i, query in enumerate(query_ids):
            ids = candidates[query]
            # Query by query, as in mteb: the shape of a product decides its last bits.
            scores = queries[i : i + 1] @ corpus[[row_of[key] for key in ids]].T
            found.append(in_order(scores[0].tolist(), ids))
        return judge_ranking(found, query_ids, qrels, "map_at_1000")
    best: list[list[tuple[float, str]]] = [[] for _ in query_ids]
    for start in range(0, len(corpus), _CORPUS_AT_ONCE):
        block = corpus[start : start + _CORPUS_AT_ONCE]
        # One more than needed, as in mteb: which of equal ones come is torch's choice.
        top = (queries @ block.T).topk(min(_JUDGED + 1, len(block)), dim=1)
        for i, hits in enumerate(best):
            ids = [corpus_ids[start + j] for j in top.indices[i].tolist()]
            hits += zip(top.values[i].tolist(), ids, strict=True)
            hits.sort(reverse=True)
            del hits[_JUDGED:]
    found = [[key for _, key in hits] for hits in best]
    return judge_ranking(found, query_ids, qrels, "ndcg_at_10")


def in_order(scores: Sequence[float], ids: Sequence[str]) -> list[str]:
    """Return the best 1,000 ids by score; of equal ones the larger id comes first."""
    ranked = sorted(zip(scores, ids, strict=True), reverse=True)
    return [key for _, key in ranked[:_JUDGED]]


def judge_ranking(
    found: Sequence[Sequence[str]], query_ids: Sequence[str], qrels: Qrels, metric: str
) -> TaskResult:
    """Score rankings of ids, best first, by ``"ndcg_at_10"`` or ``"map_at_1000"``."""
    relevant = [qrels[query] for query in query_ids]
    if metric == "ndcg_at_10":
        items = ndcg_at_k(found, relevant, 10)
    else:
        items = average_precision_at_k(found, relevant)
    # Python's sum, not numpy's mean: the last bit may decide a rounding.
    score = sum(items.tolist()) / len(items)
    return TaskResult(score, metric, score, items)


def measure(
    encode: Encode,
    size: int | None = None,
    *,
    kinds: Sequence[str] = KINDS,
    encode_document: Encode | None = None,
    metric: Metric = "cosine",
) -> dict[str, TaskResult]:
    """Measure a model on the six tasks of ICD-10-CM, or on some of them, by kind.

    Texts of several tasks come several times: let `encode` keep its vectors. With
    ``encode_document`` it gets queries alone. ``size``, 16 or more, is for a quick
    look; None is the benchmark.
    """
    document = encode_document or encode
    found = {}
    for task in TASKS:
        if task.kind not in kinds:
            continue
        content, group = _content(task.kind, size), None
        if task.kind in ("Retrieval", "Reranking"):
            search, names, qrels, candidates = as_search(content)
            one = ranking(
                names,
                encode(search.queries),
                search.corpus_codes,
                document(search.corpus_texts),
                qrels,
                candidates=candidates,
                metric=metric,
            )
            group = tuple(code[:3] for code in search.relevant)
        elif task.kind == "Classification":
            train, test = content["train"], content["test"]
            one = classification(
                document(train.texts), train.labels, document(test.texts), test.labels
            )
            group = test.group
        elif task.kind == "Clustering":
            one = clustering(
                document(content.texts),
                content.labels,
                documents_per_draw=task.options["max_documents_per_cluster"],
            )
        else:
            left, right = document(content.first), document(content.second)
            if task.kind == "STS":
                one = sts(left, right, content.score)
            else:
                one = pair_classification(left, right, content.score, metric=metric)
            group = content.group
        found[task.kind] = replace(one, group=group)
    return found


def measure_bm25(size: int | None = None) -> dict[str, TaskResult]:
    """Measure BM25 on the two kinds that are searches, as `measure` does a model."""
    found = {}
    for task in TASKS:
        if task.kind not in ("Retrieval", "Reranking"):
            continue
        search, names, qrels, candidates = as_search(_content(task.kind, size))
        codes = search.corpus_codes
        k = _JUDGED if candidates is None else len(codes)
        hits = Bm25(search.corpus_texts).search(search.queries, k)
        rankings = []
        for name, scores, rows in zip(names, *hits, strict=True):
            known = {codes[i]: s for i, s in zip(rows, scores.tolist(), strict=True)}
            chosen = list(known) if candidates is None else candidates[name]
            rankings.append(in_order([known[code] for code in chosen], chosen))
        one = judge_ranking(rankings, names, qrels, task.main_score)
        group = tuple(code[:3] for code in search.relevant)
        found[task.kind] = replace(one, group=group)
    return found


def similarity_score(
    pairs: ScoredPairs,
    cosines: ArrayLike,
    *,
    baseline: ArrayLike | None = None,
    cells: int = 1,
) -> Interval:
    """Return `bootstrap_score` of a set's pairs, in its groups."""
    groups = pairs.group or None
    return bootstrap_score(
        cosines, pairs.score, baseline=baseline, cells=cells, groups=groups
    )


def interval(ours: TaskResult, baseline: TaskResult | None = None) -> Interval:
    """Return a score with its 95 % interval, or the paired difference of two models."""
    others = None if baseline is None else _same_items(ours, baseline)
    group, gold = ours.group, ours.gold
    if gold is None:
        gaps = ours.items if others is None else ours.items - others
        return bootstrap_mean(gaps, groups=group)
    score = _SCORES[ours.metric]
    return bootstrap_score(ours.items, gold, score=score, baseline=others, groups=group)


def p_value(ours: TaskResult, theirs: TaskResult) -> float:
    """Return the two-sided p-value of a difference, by permutation of the items."""
    others, group, gold = _same_items(ours, theirs), ours.group, ours.gold
    if gold is None:
        return permutation_mean(ours.items - others, groups=group)
    score = _SCORES[ours.metric]
    return permutation_score(ours.items, others, gold, score=score, groups=group)


def compare(
    models: Mapping[str, Mapping[str, TaskResult]],
) -> list[tuple[str, str, str, Interval, float]]:
    """Return ``(task, better, other, difference, p)`` for all pairs of models.

    Correct the p-values for their number with `statistics.holm`.
    """
    rows = []
    for task in next(iter(models.values())):
        for names in combinations(models, 2):
            better, other = sorted(names, key=lambda name: -models[name][task].score)
            a, b = models[better][task], models[other][task]
            rows.append((task, better, other, interval(a, b), p_value(a, b)))
    return rows


@cache
def _content(kind: str, size: int | None) -> Any:  # noqa: ANN401  (by kind)
    """Return the data of a task, made once for all models of a table."""
    return next(task.make(size) for task in TASKS if task.kind == kind)


def as_search(
    content: RetrievalTask | RerankingTask,
) -> tuple[RetrievalTask, list[str], Qrels, dict[str, tuple[str, ...]] | None]:
    """Return terms and codes, the terms' names, their answers, and their candidates."""
    task = content if isinstance(content, RetrievalTask) else content.task
    names = [f"term-{row}" for row in range(len(task.queries))]
    qrels = {n: {code: 1} for n, code in zip(names, task.relevant, strict=True)}
    if isinstance(content, RetrievalTask):
        return task, names, qrels, None
    return task, names, qrels, dict(zip(names, content.candidates, strict=True))


def _same_items(ours: TaskResult, theirs: TaskResult) -> Floats:
    """Return the other model's items, if they are of the same task and size."""
    kinds = [(one.metric, one.items.shape, one.group) for one in (ours, theirs)]
    if kinds[0] != kinds[1]:
        raise ValueError("results of different tasks cannot be compared in pairs")
    return theirs.items


def _cosines(left: Vectors, right: Vectors) -> Floats:
    """Compare row by row, in the vectors' own precision: that decides what is tied."""
    from sklearn.metrics.pairwise import paired_cosine_distances

    return np.asarray(1 - paired_cosine_distances(left, right), np.float64)
