"""Time several ways of doing one thing, taking turns.

A busy moment of the machine then hits all of them alike.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from sbert_lab.evaluation.statistics import Interval, bootstrap_mean

Result = TypeVar("Result")


@dataclass(frozen=True)
class Timing:
    """Seconds of one way, over its repeats."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle run."""
        return statistics.median(self.seconds)

    @property
    def fastest(self) -> float:
        """The run that was disturbed least."""
        return min(self.seconds)

    @property
    def slowest(self) -> float:
        """The run that was disturbed most."""
        return max(self.seconds)


def times_as_fast(slow: Timing, fast: Timing, seed: int = 0) -> Interval:
    """Return how many times as fast `fast` is: mean ratio of the rounds, paired."""
    pairs = zip(slow.seconds, fast.seconds, strict=True)
    return bootstrap_mean([a / b for a, b in pairs], seed=seed)


def side_by_side(
    ways: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, Timing]:
    """Time each way `repeats` times, alternating, after one unmeasured round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            _, spent = timed(way)
            if turn:
                seconds[name].append(spent)
    return {name: Timing(tuple(runs)) for name, runs in seconds.items()}


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Do something once, and return its result and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
