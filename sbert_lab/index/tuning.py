"""How much of the truth an index finds, and how hard it must look.

An approximate index trades recall for time by one number, its search effort. Here the
trade is measured against exact search, and the effort chosen by that measurement.
"""

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import Vectors
from sbert_lab.index.exact import checked, exact_search
from sbert_lab.index.stores import Kind, Store

_SAME = 1e-6  # scores that differ by less are the same distance, seen twice


class Tunable(ABC):
    """The part of a `search.VectorIndex` that measures and tunes itself."""

    kind: Kind
    settings: dict[str, int]
    _store: Store
    _removed: NDArray[np.bool_]

    @abstractmethod
    def __len__(self) -> int:
        """Count the vectors that can be found."""

    @abstractmethod
    def _rows(self, scaled: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Return scores and row numbers ``[q, k]``."""

    @abstractmethod
    def _scaled(self, vectors: Vectors) -> Vectors:
        """Return vectors as the metric wants them."""

    @abstractmethod
    def _same_width(self, vectors: Vectors) -> Vectors:
        """Return vectors of the index's dimension, or say that they are not."""

    def recall_against_exact(
        self, queries: Vectors, k: int = 10, *, vectors: Vectors | None = None
    ) -> NDArray[np.float64]:
        """Return, for each query, which share of its k true neighbours is found.

        A found row counts if it is as near as the k-th true neighbour, so that equal
        texts under several ids cannot make a right answer look wrong.

        Parameters
        ----------
        queries
            float32 ``[q, d]``.
        k
            Neighbours a query.
        vectors
            The vectors as they were added, ``[n, d]``. Needed for ``ivfpq``, which
            keeps only codes; the other kinds hold them.

        Returns
        -------
        NDArray
            float64 ``[q]``, from 0 to 1.
        """
        queries = self._scaled(self._same_width(checked(queries, "queries")))
        k = min(k, len(self))
        truth, best = self._neighbours(queries, k, vectors)
        return self._recall(queries, k, truth, best)

    def sweep(
        self,
        queries: Vectors,
        efforts: Sequence[int],
        k: int = 10,
        *,
        vectors: Vectors | None = None,
    ) -> list[dict[str, float]]:
        """Measure recall and time at several search efforts; changes nothing.

        Returns
        -------
        list of dict
            One for each effort: ``effort``, ``recall``, ``low`` and ``high`` (95 %
            interval of its mean over `queries`), ``ms_per_query`` (all queries in
            one batch, median of three).
        """
        queries = self._scaled(self._same_width(checked(queries, "queries")))
        k = min(k, len(self))
        truth, best = self._neighbours(queries, k, vectors)
        before, rows = self.settings.get("effort"), []
        try:
            for effort in efforts:
                self.settings["effort"] = int(effort)
                seconds = statistics.median(
                    _seconds(lambda: self._rows(queries, k)) for _ in range(3)
                )
                recall = self._recall(queries, k, truth, best)
                spread = 0.0
                if len(recall) > 1:
                    spread = 1.96 * recall.std(ddof=1) / np.sqrt(len(recall))
                rows.append(
                    {
                        "effort": float(effort),
                        "recall": float(recall.mean()),
                        "low": float(recall.mean() - spread),
                        "high": float(recall.mean() + spread),
                        "ms_per_query": 1e3 * seconds / len(queries),
                    }
                )
        finally:
            if before is None:
                self.settings.pop("effort", None)
            else:
                self.settings["effort"] = before
        return rows

    def tune(
        self,
        queries: Vectors,
        target_recall: float,
        k: int = 10,
        *,
        vectors: Vectors | None = None,
    ) -> list[dict[str, float]]:
        """Set the smallest search effort that reaches a recall, by measurement.

        The effort is efSearch for ``hnsw``, lists visited for ``ivfpq``. It is chosen
        so that the lower end of the 95 % interval of the mean recall over `queries`
        reaches the target; so it may be expected to hold for other queries of their
        kind.

        Parameters
        ----------
        queries
            float32 ``[q, d]``; a few hundred that stand for the real ones.
        target_recall
            Share of the k true neighbours to find, over 0 and at most 1.
        k, vectors
            See `recall_against_exact`.

        Returns
        -------
        list of dict
            One for each effort tried, as `sweep` gives them.

        Raises
        ------
        ValueError
            No effort reaches the target; the message says what does, and the effort
            stays as it was.
        """
        if self.kind not in ("hnsw", "ivfpq"):
            raise ValueError(f"a {self.kind} index is exact: there is nothing to tune")
        if not 0 < target_recall <= 1 or len(queries) < 2:
            raise ValueError(
                f"target_recall={target_recall} with {len(queries)} queries: give a "
                "share over 0 and at most 1, and two queries or more"
            )
        tried: list[dict[str, float]] = []
        for effort in _efforts(self.kind, k, self.settings):
            tried += self.sweep(queries, [effort], k, vectors=vectors)
            if tried[-1]["low"] >= target_recall:
                self.settings["effort"] = effort
                return tried
        top = max(tried, key=lambda row: row["recall"])
        remedy = "links or build_effort" if self.kind == "hnsw" else "code_bytes"
        raise ValueError(
            f"recall@{k} of {target_recall} is not reached: the best is "
            f"{top['recall']:.3f} (lower end {top['low']:.3f}) at effort "
            f"{top['effort']:.0f}; build with more {remedy}, or ask for less"
        )

    def _neighbours(
        self, scaled: Vectors, k: int, vectors: Vectors | None
    ) -> tuple[Vectors, Vectors]:
        """Return the true rows ``[n, d]`` and the k-th best score of each query."""
        if vectors is None:
            truth = self._store.vectors()
        elif len(vectors) == self._store.count():
            truth = self._scaled(self._same_width(checked(vectors, "vectors")))
        else:
            raise ValueError(
                f"{len(vectors)} vectors given, {self._store.count()} were added; pass "
                "them all, in the order of adding"
            )
        kept = truth[~self._removed] if self._removed.any() else truth
        scores, _ = exact_search(scaled, kept, k, "dot")
        return truth, scores[:, -1]

    def _recall(
        self, scaled: Vectors, k: int, truth: Vectors, kth_best: Vectors
    ) -> NDArray[np.float64]:
        """Return the share of found rows that are as near as the k-th true one."""
        _, rows = self._rows(scaled, k)
        found = np.einsum("qd,qkd->qk", scaled, truth[np.maximum(rows, 0)])
        near = (found >= kth_best[:, None] - _SAME) & (rows >= 0)
        share: NDArray[np.float64] = near.mean(1)
        return share


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _efforts(kind: Kind, k: int, settings: dict[str, int]) -> list[int]:
    """Return the efforts to try, rising by half an octave."""
    first, last = (max(k, 8), 2048) if kind == "hnsw" else (1, settings["lists"])
    steps = int(2 * np.log2(max(last / first, 1))) + 2
    rising = {min(last, round(first * 2 ** (i / 2))) for i in range(steps)}
    return sorted(rising | {last})
