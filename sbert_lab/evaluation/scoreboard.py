"""The ICD-10-CM benchmark item by item: scores with intervals, models in pairs.

mteb gives one number a task. Here the same six tasks go through our protocols, which
give the same number (`result.main_score`) and keep what it was made of: so a score has
an interval, and a difference of two models a p-value, both from the same items.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sbert_lab._utils import Metric
from sbert_lab.datasets import icd10cm_tasks as data
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.evaluation.classification import classification
from sbert_lab.evaluation.clustering import clustering
from sbert_lab.evaluation.pairs import pair_classification, sts
from sbert_lab.evaluation.precision import (
    bootstrap_average_precision,
    permutation_average_precision,
)
from sbert_lab.evaluation.ranking import reranking, retrieval
from sbert_lab.evaluation.result import ProtocolResult
from sbert_lab.evaluation.significance import permutation_mean, permutation_spearman
from sbert_lab.evaluation.statistics import (
    Floats,
    Interval,
    bootstrap_mean,
    bootstrap_spearman,
)
from sbert_lab.models.sentence_encoder import Encoded

#: Texts in, vectors ``[n, d]`` out: `SentenceEncoder.encode`, or any other encoder's.
Encode = Callable[[Sequence[str]], Encoded]

#: The kinds of task, as mteb calls them, in the order of the benchmark.
KINDS = (
    "Retrieval",
    "STS",
    "Classification",
    "Clustering",
    "PairClassification",
    "Reranking",
)

_CLUSTERED = 2_048  # descriptions in a draw of the clustering task


@dataclass(frozen=True)
class Measured:
    """One model on one task.

    Parameters
    ----------
    result
        What the protocol gave; `main_score` is what mteb reports.
    metric
        The score that the interval is of. That is the main one, but for pairs: there
        mteb takes the best of five ways to compare, and here it is the cosine's.
    items
        What it is made of: one number an item, ``[n]``, or for each draw of a protocol
        one row of them, ``[draws, n]``.
    gold
        What similarities should follow, or which pairs are alike, ``[n]``; None where
        the score is the items' mean.
    group
        A label an item; items of one group resemble each other, and are drawn together.
    """

    result: ProtocolResult
    metric: str
    items: Floats
    gold: Floats | None = None
    group: tuple[str, ...] | None = None

    @property
    def score(self) -> float:
        """The score that the interval is of."""
        return self.result.scores[self.metric]


def measure(
    encode: Encode,
    size: int | None = None,
    *,
    kinds: Sequence[str] = KINDS,
    encode_document: Encode | None = None,
    metric: Metric = "cosine",
) -> dict[str, Measured]:
    """Measure a model on the six tasks, or on some of them.

    Parameters
    ----------
    encode
        The model. Texts of several tasks come several times; let it keep its vectors.
    size
        As in `icd10cm_tasks.benchmark`: None is the benchmark.
    kinds
        What to measure, of `KINDS`.
    encode_document
        For models that tell queries from documents: encodes what is searched in, and
        both sides of tasks whose texts are of one kind; `encode` is then for queries
        alone. None: `encode` is for all.
    metric
        The model's own measure, ``"cosine"`` or ``"dot"``, for Retrieval, Reranking and
        one of the five ways of PairClassification.

    Returns
    -------
    dict
        By kind of task, those asked for, in the order of `KINDS`.

    Raises
    ------
    ValueError
        No kind, or one that does not exist.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ValueError(f"kinds={kinds!r}: one or more of {', '.join(KINDS)}")
    model = _Model(encode, encode_document or encode, metric)
    return {kind: _TASKS[kind](model, size) for kind in KINDS if kind in kinds}


@dataclass(frozen=True)
class _Model:
    """How a model encodes queries and everything else, and its own measure."""

    query: Encode
    document: Encode
    metric: Metric


def _retrieval(model: _Model, size: int | None) -> Measured:
    search = data.term_retrieval(size)
    found = retrieval(
        *_ids_and_vectors(model, search),
        {name: {code: 1} for name, code in zip(*_answers(search), strict=True)},
        metric=model.metric,
    )
    return _mean_of(found, search)


def _sts(model: _Model, size: int | None) -> Measured:
    graded, encode = data.graded_hierarchy(size), model.document
    found = sts(encode(graded.first), encode(graded.second), graded.score)
    gold = np.array(graded.score)
    return Measured(found, found.main, found.items["cosine"], gold, graded.group)


def _classification(model: _Model, size: int | None) -> Measured:
    sides = data.chapter_classes(size)
    vectors = {split: model.document(side.texts) for split, side in sides.items()}
    found = classification(
        vectors["train"],
        sides["train"].labels,
        vectors["test"],
        sides["test"].labels,
    )
    correct = found.items["correct"]
    return Measured(found, found.main, correct, group=sides["test"].group)


def _clustering(model: _Model, size: int | None) -> Measured:
    clustered = data.chapter_clusters(size)
    found = clustering(
        model.document(clustered.texts),
        clustered.labels,
        documents_per_draw=_CLUSTERED,
    )
    return Measured(found, found.main, found.items[found.main][0])


def _pair_classification(model: _Model, size: int | None) -> Measured:
    pairs, encode = data.synonym_pairs(size), model.document
    found = pair_classification(
        encode(pairs.first), encode(pairs.second), pairs.score, metric=model.metric
    )
    gold = np.array(pairs.score)
    return Measured(found, "cosine_ap", found.items["cosine"], gold, pairs.group)


def _reranking(model: _Model, size: int | None) -> Measured:
    few = data.candidate_reranking(size)
    names, answers = _answers(few.task)
    found = reranking(
        *_ids_and_vectors(model, few.task),
        {name: {code: 1} for name, code in zip(names, answers, strict=True)},
        dict(zip(names, few.candidates, strict=True)),
        metric=model.metric,
    )
    return _mean_of(found, few.task)


_TASKS: dict[str, Callable[[_Model, int | None], Measured]] = dict(
    zip(
        KINDS,
        (
            _retrieval,
            _sts,
            _classification,
            _clustering,
            _pair_classification,
            _reranking,
        ),
        strict=True,
    )
)


def _answers(task: RetrievalTask) -> tuple[list[str], tuple[str, ...]]:
    """Return a name for each query, and the code that answers it."""
    return [f"term-{row}" for row in range(len(task.queries))], task.relevant


def _ids_and_vectors(
    model: _Model, task: RetrievalTask
) -> tuple[Sequence[str], Encoded, Sequence[str], Encoded]:
    names, _ = _answers(task)
    queries, corpus = model.query(task.queries), model.document(task.corpus_texts)
    return names, queries, task.corpus_codes, corpus


def _mean_of(found: ProtocolResult, task: RetrievalTask) -> Measured:
    """Return a score that is a mean over queries, by the category of their answers."""
    category = tuple(code[:3] for code in task.relevant)
    return Measured(found, found.main, found.items[found.main], group=category)


def interval(ours: Measured, baseline: Measured | None = None) -> Interval:
    """Return a score with its 95 % interval, or the paired difference of two models.

    Items are drawn in their groups. Of the clustering, draws of documents take the
    place of items; they overlap, so its interval speaks of the draw alone.
    """
    items, others = ours.items, None
    if baseline is not None:
        _same_items(ours, baseline)
        others = baseline.items
    if ours.gold is None:
        values = items if others is None else items - others
        return bootstrap_mean(values, groups=ours.group)
    if ours.metric == "cosine_ap":
        return bootstrap_average_precision(
            items, ours.gold, baseline=others, groups=ours.group
        )
    return bootstrap_spearman(items, ours.gold, baseline=others, groups=ours.group)


def p_value(ours: Measured, theirs: Measured, draws: int = 2_000) -> float:
    """Return how often chance alone gives two equal models so large a difference.

    Two-sided, by permutation (`significance`), on the items of `interval`.
    """
    _same_items(ours, theirs)
    if ours.metric == "cosine_ap":
        assert ours.gold is not None
        return permutation_average_precision(
            ours.items, theirs.items, ours.gold, groups=ours.group, draws=draws
        )
    if ours.gold is not None:
        return permutation_spearman(
            ours.items, theirs.items, ours.gold, groups=ours.group, draws=draws
        )
    return permutation_mean(ours.items - theirs.items, groups=ours.group, draws=draws)


def _same_items(ours: Measured, theirs: Measured) -> None:
    alike = (
        ours.metric == theirs.metric
        and ours.items.shape == theirs.items.shape
        and ours.group == theirs.group
    )
    if not alike:
        raise ValueError(
            f"{ours.metric} of {ours.items.shape} items against {theirs.metric} of "
            f"{theirs.items.shape}: only one task of one size can be compared in pairs"
        )


def compare(
    models: Mapping[str, Mapping[str, Measured]],
) -> list[tuple[str, str, str, Interval, float]]:
    """Return every pair of models on every task: difference and p-value.

    Rows are ``(task, better, other, difference, p)``, the better one first; correct the
    p-values for their number with `significance.holm`.
    """
    names = list(models)
    rows = []
    for task in next(iter(models.values())):
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                a, b = models[first][task], models[second][task]
                better, other = first, second
                if a.score < b.score:
                    better, other, a, b = second, first, b, a
                rows.append((task, better, other, interval(a, b), p_value(a, b)))
    return rows
