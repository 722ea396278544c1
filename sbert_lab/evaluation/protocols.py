"""Protocols: how a model's vectors become a score, and how sure it is.

Those of the field's benchmark live in modules of their own and are gathered here.
"""

import numpy as np
from numpy.typing import ArrayLike

from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.classification import classification, training_rows
from sbert_lab.evaluation.clustering import (
    clustered_rows,
    clustering,
    clustering_legacy,
)
from sbert_lab.evaluation.pairs import pair_classification, sts
from sbert_lab.evaluation.ranking import K_VALUES, reranking, retrieval
from sbert_lab.evaluation.result import ProtocolResult
from sbert_lab.evaluation.statistics import Interval, bootstrap_spearman

__all__ = [
    "K_VALUES",
    "ProtocolResult",
    "classification",
    "clustered_rows",
    "clustering",
    "clustering_legacy",
    "pair_classification",
    "reranking",
    "retrieval",
    "similarity_score",
    "sts",
    "training_rows",
]


def similarity_score(
    pairs: ScoredPairs,
    cosines: ArrayLike,
    *,
    baseline: ArrayLike | None = None,
    cells: int = 1,
    kept: ArrayLike | None = None,
    seed: int = 0,
) -> Interval:
    """Return Spearman's correlation of the cosines with the gold scores.

    Parameters
    ----------
    pairs
        The set; where it has groups, the interval draws whole groups.
    cosines
        The model's similarity of each pair, ``[n]``, or ``[runs, n]`` for the seeds of
        a training.
    baseline
        Another model's; the interval is then that of the paired difference.
    cells
        Conditions that the runs belong to, as in `bootstrap_spearman`.
    kept
        True for the pairs to measure on, ``[n]``; None for all.
    seed
        Of the bootstrap.

    Source: Reimers and Gurevych 2019, section 4.1.
    """
    chosen = np.ones(len(pairs), bool) if kept is None else np.asarray(kept, bool)
    group = np.array(pairs.group)
    return bootstrap_spearman(
        np.asarray(cosines)[..., chosen],
        np.array(pairs.score)[chosen],
        baseline=None if baseline is None else np.asarray(baseline)[..., chosen],
        cells=cells,
        groups=group[chosen] if len(group) else None,
        seed=seed,
    )
