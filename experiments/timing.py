"""Time several ways of doing one thing, taking turns.

A busy moment of the machine then hits all of them alike.
"""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key")
Result = TypeVar("Result")


def side_by_side(
    ways: Mapping[Key, Callable[[], object]], repeats: int
) -> dict[Key, NDArray[np.float64]]:
    """Return the seconds of each way, alternating, after one unmeasured round."""
    rounds = [[timed(way)[1] for way in ways.values()] for _ in range(repeats + 1)]
    return dict(zip(ways, np.array(rounds[1:]).T, strict=True))


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Do something once, and return its result and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
