"""Clustering: whether k-means clusters of the vectors follow the labels.

Each protocol equals MTEB's main score to the last digit on the same vectors.
Source: Muennighoff et al. 2023, section 3.2 (the first version), Enevoldsen et al.
2025 (the second, on samples), and the library mteb 2.26.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sbert_lab.evaluation.result import ProtocolResult
from sbert_lab.evaluation.sparse import Rows, checked_sparse, is_sparse


def clustered_rows(
    count: int, max_documents: int, *, seed: int = 42
) -> tuple[int, ...]:
    """Return which of `count` rows `clustering` looks at; only they need encoding."""
    return tuple(_sample(random.Random(seed), count, max_documents))


def clustering(
    vectors: Rows,
    labels: Sequence[Any],
    *,
    max_documents: int | None = None,
    draws: int = 10,
    documents_per_draw: int = 16_384,
    batch_size: int = 512,
    max_depth: int | None = None,
    seed: int = 42,
) -> ProtocolResult:
    """Cluster samples again and again (the tasks named ``.v2``); ``v_measure`` counts.

    Parameters
    ----------
    vectors
        ``[n, d]``, in the order of the data set. Rows that `clustered_rows` leaves out
        are not looked at and may hold anything. Vectors of `scipy.sparse` are taken
        too, all rows finite.
    labels
        For each row its label; or a list of labels, from coarse to fine, where there
        is a hierarchy. Levels are clustered one by one, and rows that lack one (or
        have -1 there) are left out of it, if labels are numbers.
    max_documents
        Of all rows take that many first. Tasks say so themselves: usually 2,048, and
        ``int(0.04 * n)`` where they say nothing. None for all.
    draws, documents_per_draw
        Samples for each level, and rows in one, drawn with replacement.
    batch_size
        Of the mini-batch k-means.
    max_depth
        Levels to look at; None for all.
    seed
        Of samples and k-means.

    Returns
    -------
    ProtocolResult
        Scores: ``v_measure`` and ``ami`` (mutual information adjusted for chance),
        means over draws and levels. Items: the same by level and draw,
        ``[levels, draws]``. Draws share rows, so an interval from them speaks of the
        sampling, not of other documents.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import adjusted_mutual_info_score, v_measure_score

    x = _rows(vectors, len(labels))
    paths = [list(lab) if isinstance(lab, list | tuple) else [lab] for lab in labels]
    if draws < 1 or documents_per_draw < 1:
        raise ValueError(
            f"draws={draws}, documents_per_draw={documents_per_draw}: one or more"
        )
    rng = random.Random(seed)
    if max_documents is not None:
        kept = _sample(rng, x.shape[0], max_documents)
        x, paths = x[kept], [paths[i] for i in kept]
    depth = max(map(len, paths))
    names: dict[str, list[list[float]]] = {"v_measure": [], "ami": []}
    for level in range(depth if max_depth is None else min(depth, max_depth)):
        # One array: numbers beside words become words, so a missing level (-1) is then
        # a label like any other. MTEB has it so, and the score depends on it.
        here = np.array([path[level] if len(path) > level else -1 for path in paths])
        known = np.array([label != -1 for label in here])
        points, gold = x[known], here[known]
        model = MiniBatchKMeans(
            n_clusters=len(np.unique(gold)),
            batch_size=batch_size,
            init="k-means++",
            n_init=1,
            random_state=seed,
        )
        found: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(draws):
            chosen = rng.choices(range(points.shape[0]), k=documents_per_draw)
            cluster = model.fit_predict(points[chosen])
            found["v_measure"].append(v_measure_score(gold[chosen], cluster))
            found["ami"].append(adjusted_mutual_info_score(gold[chosen], cluster))
        for name, values in found.items():
            names[name].append(values)
    items = {name: np.array(values) for name, values in names.items()}
    scores = {name: float(np.mean(values.ravel())) for name, values in items.items()}
    return ProtocolResult("v_measure", scores, items)


def clustering_legacy(
    sets: Iterable[tuple[Rows, Sequence[Any]]],
    *,
    batch_size: int = 500,
    seed: int = 42,
) -> ProtocolResult:
    """Cluster each set of documents once (the first version); ``v_measure`` counts.

    Parameters
    ----------
    sets
        Vectors ``[n, d]`` and labels ``[n]`` of each set. A set with a single label
        counts as 1, whatever its vectors.
    batch_size, seed
        Of the mini-batch k-means.

    Returns
    -------
    ProtocolResult
        Scores: ``v_measure``, the mean over the sets, and ``v_measure_std``, their
        standard deviation. Items: ``"v_measure"`` by set.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import v_measure_score

    values = []
    for vectors, labels in sets:
        kinds = len(set(labels))
        if kinds < 2:
            values.append(1.0)
            continue
        model = MiniBatchKMeans(
            n_clusters=kinds, batch_size=batch_size, n_init="auto", random_state=seed
        )
        cluster = model.fit(_rows(vectors, len(labels))).labels_
        values.append(float(v_measure_score(labels, cluster)))
    if not values:
        raise ValueError("no sets to cluster")
    scores = {
        "v_measure": float(np.mean(values)),
        "v_measure_std": float(np.std(values)),
    }
    return ProtocolResult("v_measure", scores, {"v_measure": np.array(values)})


def _sample(rng: random.Random, count: int, most: int) -> list[int]:
    if most < 1:
        raise ValueError(f"max_documents={most}: at least one")
    return rng.sample(range(count), k=min(count, most))


def _rows(vectors: Rows, count: int) -> Any:  # noqa: ANN401  (dense or sparse)
    x = (
        checked_sparse(vectors, "vectors")
        if is_sparse(vectors)
        else np.asarray(vectors)
    )
    if x.ndim != 2 or x.shape[0] != count or not count:
        raise ValueError(
            f"vectors of shape {list(x.shape)} for {count} labels: give [n, d] and n"
        )
    return x
