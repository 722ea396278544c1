"""Tasks: how vectors become a score, how sure it is, and models in pairs.

Each protocol equals mteb's main score on the same vectors, to the last digit (mteb
rounds those of search to five decimals), and keeps what it was made of, item by item.
Source: Muennighoff et al. 2023, section 3.2, and the library mteb 2.26.
"""

import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import ArrayLike

from sbert_lab._utils import METRICS, Metric, Vectors
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.icd10cm_tasks import KINDS, TASKS, RerankingTask
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.metrics import average_precision_at_k, ndcg_at_k
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

#: Texts in, vectors ``[n, d]`` out: `SentenceEncoder.encode`, or any other encoder's.
Encode = Callable[[Sequence[str]], Vectors]

#: For each query the grade of documents; 0 and below is not relevant.
Qrels = Mapping[str, Mapping[str, int]]

_JUDGED = 1_000  # documents of a ranking
_CORPUS_AT_ONCE = 50_000  # as in mteb: the shape of a product decides its last bits
_SCORES: dict[str, Score] = {
    "cosine_spearman": "spearman",
    "cosine_ap": "average_precision",
}


@dataclass(frozen=True)
class TaskResult:
    """One model on one task.

    Parameters
    ----------
    main_score
        mteb's main score, unrounded.
    metric, score
        What the interval is of: the main score, but for pair classification. There
        mteb takes the best of five ways to compare, and here it is the cosine's.
    items
        What the score is made of, ``[n]``, or one row for each draw, ``[draws, n]``.
    gold
        What similarities should follow, ``[n]``; None where the score is a mean.
    group
        A label an item; items of one group are drawn together.
    """

    main_score: float
    metric: str
    score: float
    items: Floats
    gold: Floats | None = None
    group: tuple[str, ...] | None = None


def sts(first: Vectors, second: Vectors, gold: ArrayLike) -> TaskResult:
    """Score semantic textual similarity: Spearman's correlation of cosine and gold.

    Vectors are ``[n, d]``, gold scores ``[n]``; items are the cosines. All pairs are
    ranked together, even where a set has parts: published tables that average over the
    parts hold other numbers. Source: Reimers and Gurevych 2019, section 4.
    """
    from scipy.stats import spearmanr

    left, right = _pairs(first, second)
    wanted = np.asarray(gold, np.float64)
    cosines = _cosines(left, right)
    score = float(spearmanr(wanted, cosines).statistic)
    return TaskResult(score, "cosine_spearman", score, cosines, wanted)


def pair_classification(
    first: Vectors, second: Vectors, labels: ArrayLike, *, metric: Metric = "cosine"
) -> TaskResult:
    """Score how well nearness tells pairs of like meaning: average precision.

    Vectors are ``[n, d]``, labels 1 (like) or 0 (unlike), ``[n]``; items are the
    cosines. The main score is the best over five ways to compare, chosen on the pairs
    that it is measured on: a little too high by design. The fifth way is the model's
    own measure, in float32, which may tie pairs that the cosine tells apart.
    """
    from sklearn.metrics import average_precision_score
    from sklearn.metrics.pairwise import (
        paired_euclidean_distances,
        paired_manhattan_distances,
    )

    left, right = _pairs(first, second)
    kind = np.asarray(labels).astype(np.int64)
    if set(np.unique(labels)) != {0, 1}:
        raise ValueError("average precision needs pairs marked 1 (like) and 0 (unlike)")
    a, b = torch.from_numpy(left), torch.from_numpy(right)
    own = (_unit(a) * _unit(b) if metric == "cosine" else a * b).sum(-1)
    cosines = _cosines(left, right)
    ways = (
        cosines,
        own.numpy(),
        -paired_manhattan_distances(left, right),
        -paired_euclidean_distances(left, right),
        # One by one: a product of all rows at once rounds its last bit otherwise.
        np.array([np.dot(x, y) for x, y in zip(left, right, strict=True)]),
    )
    scores = [float(average_precision_score(kind, values)) for values in ways]
    gold = kind.astype(np.float64)
    return TaskResult(max(scores), "cosine_ap", scores[0], cosines, gold)


def classification(
    train_vectors: Vectors,
    train_labels: Sequence[Hashable],
    test_vectors: Vectors,
    test_labels: Sequence[Hashable],
    *,
    samples_per_label: int = 8,
    draws: int = 10,
    seed: int = 42,
) -> TaskResult:
    """Score what a linear classifier reads from few vectors of each label: accuracy.

    Training rows, ``[n, d]``, must be in the order of the data set, which decides the
    draws. Items are 1 where a test row was labelled right, ``[draws, m]``.
    """
    from sklearn.linear_model import LogisticRegression

    x, y = checked(train_vectors, "training vectors"), np.asarray(train_labels)
    x_test, y_test = checked(test_vectors, "test vectors"), np.asarray(test_labels)
    if len(x) != len(y) or len(x_test) != len(y_test) or len(np.unique(y)) < 2:
        raise ValueError("give a label for each vector, and two kinds of them")
    order = list(range(len(y)))
    accuracies, correct = [], []
    for _ in range(draws):
        # As mteb does: the order that the last draw left, shuffled by the same seed.
        np.random.RandomState(seed).shuffle(order)
        taken: Counter[Hashable] = Counter()
        rows = []
        for row in order:
            if taken[train_labels[row]] < samples_per_label:
                taken[train_labels[row]] += 1
                rows.append(row)
        model = LogisticRegression(max_iter=100, random_state=seed)
        right = model.fit(x[rows], y[rows]).predict(x_test) == y_test
        accuracies.append(float(np.average(right)))
        correct.append(right)
    score = float(np.mean(accuracies))
    return TaskResult(score, "accuracy", score, np.array(correct, np.float64))


def clustering(
    vectors: Vectors,
    labels: Sequence[Hashable],
    *,
    draws: int = 10,
    documents_per_draw: int = 16_384,
    seed: int = 42,
) -> TaskResult:
    """Score whether k-means clusters of samples follow the labels: v-measure.

    Items are the draws, ``[draws]``: rows drawn with replacement. Draws share rows, so
    an interval from them speaks of the sampling, not of other documents.
    Source: Enevoldsen et al. 2025 (tasks named ``.v2``).
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import v_measure_score

    points, gold = checked(vectors, "vectors"), np.asarray(labels)
    if len(points) != len(gold):
        raise ValueError(f"{len(points)} vectors for {len(gold)} labels")
    rng = random.Random(seed)
    model = MiniBatchKMeans(
        n_clusters=len(np.unique(gold)),
        batch_size=512,
        init="k-means++",
        n_init=1,
        random_state=seed,
    )
    values = []
    for _ in range(draws):
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
    its retrieval. Vectors are ``[q, d]`` and ``[n, d]``; every query is in `qrels`. Of
    equal scores, in float32, the larger id comes first, as in trec_eval. Items are the
    queries. Source: Thakur et al. 2021 (BEIR), section 3.
    """
    for rows, ids in ((query_vectors, query_ids), (corpus_vectors, corpus_ids)):
        if not len(rows) == len(ids) == len(set(ids)):
            raise ValueError(f"{len(rows)} vectors for {len(set(ids))} different ids")
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r}: one of {', '.join(METRICS)}")
    queries = torch.from_numpy(checked(query_vectors, "query vectors"))
    corpus = torch.from_numpy(checked(corpus_vectors, "corpus vectors"))
    if metric == "cosine":
        queries, corpus = _unit(queries), _unit(corpus)
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
        # One more than needed, as in mteb: of equal scores at the edge, which come
        # along is torch's choice.
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
    score_at = ndcg_at_k if metric == "ndcg_at_10" else average_precision_at_k
    items = score_at(found, relevant, int(metric.rsplit("_", 1)[-1]))
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

    Parameters
    ----------
    encode
        The model. Texts of several tasks come several times; let it keep its vectors.
    size
        For a quick look: so many queries, anchors or terms a task, or descriptions a
        chapter (16 or more). None is the benchmark.
    encode_document
        For models that tell queries from documents: encodes all but queries.
    metric
        The model's own measure, ``"cosine"`` or ``"dot"``.
    """
    unknown = set(kinds) - set(KINDS)
    if unknown or not kinds:
        raise ValueError(f"kinds={kinds!r}: one or more of {', '.join(KINDS)}")
    document = encode_document or encode

    def searched(task: RetrievalTask, few: RerankingTask | None = None) -> TaskResult:
        names, qrels = judgements(task)
        return ranking(
            names,
            encode(task.queries),
            task.corpus_codes,
            document(task.corpus_texts),
            qrels,
            candidates=dict(zip(names, few.candidates, strict=True)) if few else None,
            metric=metric,
        )

    found = {}
    for task in TASKS:
        kind, group = task.kind, None
        if kind not in kinds:
            continue
        content = task.make(size)
        if kind == "Retrieval":
            one = searched(content)
            group = _categories(content)
        elif kind == "Reranking":
            one = searched(content.task, content)
            group = _categories(content.task)
        elif kind == "Classification":
            train, test = content["train"], content["test"]
            one = classification(
                document(train.texts), train.labels, document(test.texts), test.labels
            )
            group = test.group
        elif kind == "Clustering":
            one = clustering(
                document(content.texts),
                content.labels,
                documents_per_draw=task.options["max_documents_per_cluster"],
            )
        else:
            left, right = document(content.first), document(content.second)
            one = (
                sts(left, right, content.score)
                if kind == "STS"
                else pair_classification(left, right, content.score, metric=metric)
            )
            group = content.group
        found[kind] = replace(one, group=group)
    return found


def measure_bm25(size: int | None = None) -> dict[str, TaskResult]:
    """Measure BM25 on the two kinds that are searches, as `measure` does a model."""
    found = {}
    for made in TASKS:
        if made.kind not in ("Retrieval", "Reranking"):
            continue
        content = made.make(size)
        task = content if made.kind == "Retrieval" else content.task
        codes, bm25 = task.corpus_codes, Bm25(task.corpus_texts)
        if made.kind == "Retrieval":
            hits = zip(*bm25.search(task.queries, _JUDGED), strict=True)
            rankings = [in_order(s.tolist(), [codes[i] for i in p]) for s, p in hits]
        else:
            every = zip(bm25.scores(task.queries), content.candidates, strict=True)
            scored = ((dict(zip(codes, s.tolist(), strict=True)), c) for s, c in every)
            rankings = [in_order([known[i] for i in ids], ids) for known, ids in scored]
        names, qrels = judgements(task)
        one = judge_ranking(rankings, names, qrels, made.main_score)
        found[made.kind] = replace(one, group=_categories(task))
    return found


def similarity_score(
    pairs: ScoredPairs,
    cosines: ArrayLike,
    *,
    baseline: ArrayLike | None = None,
    cells: int = 1,
    kept: ArrayLike | None = None,
    seed: int = 0,
) -> Interval:
    """Return Spearman's correlation of the cosines with the gold scores of a set.

    The interval draws whole groups of the set. Parameters are those of
    `bootstrap_score`; ``kept`` is true for the pairs to measure on.
    """
    chosen = np.ones(len(pairs), bool) if kept is None else np.asarray(kept, bool)
    return bootstrap_score(
        np.asarray(cosines)[..., chosen],
        np.array(pairs.score)[chosen],
        baseline=None if baseline is None else np.asarray(baseline)[..., chosen],
        cells=cells,
        groups=np.array(pairs.group)[chosen] if pairs.group else None,
        seed=seed,
    )


def interval(ours: TaskResult, baseline: TaskResult | None = None) -> Interval:
    """Return a score with its 95 % interval, or the paired difference of two models.

    Items are drawn in their groups. Of the clustering, draws of documents take the
    place of items; they overlap, so its interval speaks of the draw alone.
    """
    others = None if baseline is None else _same_items(ours, baseline)
    group, gold = ours.group, ours.gold
    if gold is None:
        gaps = ours.items if others is None else ours.items - others
        return bootstrap_mean(gaps, groups=group)
    score = _SCORES[ours.metric]
    return bootstrap_score(ours.items, gold, score=score, baseline=others, groups=group)


def p_value(ours: TaskResult, theirs: TaskResult, draws: int = 2_000) -> float:
    """Return the two-sided p-value of a difference, by permutation of the items."""
    others, group, gold = _same_items(ours, theirs), ours.group, ours.gold
    if gold is None:
        return permutation_mean(ours.items - others, groups=group, draws=draws)
    score = _SCORES[ours.metric]
    return permutation_score(
        ours.items, others, gold, score=score, groups=group, draws=draws
    )


def compare(
    models: Mapping[str, Mapping[str, TaskResult]],
) -> list[tuple[str, str, str, Interval, float]]:
    """Return every pair of models on every task: difference and p-value.

    Rows are ``(task, better, other, difference, p)``; correct the p-values for their
    number with `statistics.holm`.
    """
    rows = []
    for task in next(iter(models.values())):
        scores = {name: found[task].score for name, found in models.items()}
        for names in combinations(models, 2):
            better, other = sorted(names, key=lambda name: -scores[name])
            a, b = models[better][task], models[other][task]
            rows.append((task, better, other, interval(a, b), p_value(a, b)))
    return rows


def _same_items(ours: TaskResult, theirs: TaskResult) -> Floats:
    """Return the other model's items, if they are of the same task and size."""
    kinds = [(one.metric, one.items.shape, one.group) for one in (ours, theirs)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            "only results of one task of one size can be compared in pairs"
        )
    return theirs.items


def judgements(task: RetrievalTask) -> tuple[list[str], dict[str, dict[str, int]]]:
    """Return a name for each query, and the grade of the code that answers it."""
    names = [f"term-{row}" for row in range(len(task.queries))]
    return names, {n: {code: 1} for n, code in zip(names, task.relevant, strict=True)}


def _categories(task: RetrievalTask) -> tuple[str, ...]:
    return tuple(code[:3] for code in task.relevant)


def _cosines(left: Vectors, right: Vectors) -> Floats:
    """Compare row by row, in the vectors' own precision: that decides what is tied."""
    from sklearn.metrics.pairwise import paired_cosine_distances

    return np.asarray(1 - paired_cosine_distances(left, right), np.float64)


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def _pairs(first: Vectors, second: Vectors) -> tuple[Vectors, Vectors]:
    left, right = checked(first, "first vectors"), checked(second, "second vectors")
    if left.shape != right.shape:
        raise ValueError(f"{list(left.shape)} and {list(right.shape)} are not pairs")
    return left, right
