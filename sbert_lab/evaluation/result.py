"""What a protocol gives back: one score that counts, and what it was made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ProtocolResult:
    """The scores of one model on one task.

    Parameters
    ----------
    main
        Name of the score that counts, such as ``"ndcg_at_10"``.
    scores
        All scores by the names that MTEB gives them, unrounded.
    items
        What the scores were made of, by name, one number an item, for intervals and
        error analysis. Each protocol says what its items are.
    ids
        The queries, in the order of `items`; empty where items are rows of the input.
    """

    main: str
    scores: Mapping[str, float]
    items: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    ids: tuple[str, ...] = ()

    @property
    def main_score(self) -> float:
        """Return the score that counts."""
        return self.scores[self.main]
