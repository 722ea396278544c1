"""How to adapt: every number that decides, in one place."""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """What an adaptation is told; the defaults suit a few hundred pairs and more.

    Parameters
    ----------
    epochs
        How often every pair is seen.
    batch
        Pairs in a batch; each pair's answer is a wrong one to the others.
    rate
        Highest learning rate, reached after `warmup` and falling to 0 from there.
    temperature
        τ of multiple negatives ranking.
    negatives
        Hard negatives to mine for each anchor; 0 mines none.
    rank
        From which rank in the base's search they are drawn, up to and without which.
    relative_margin
        How far below the right answer's similarity they stay, as a share of it; None
        lets them lie above it.
    keep
        Share of the base's weights in the average at the end, 0 to 1: more forgets
        less, and learns less.
    warmup
        Share of the steps in which the rate rises.
    test_share
        Share of the pairs kept aside where no test is given.
    seed
        Of the split, the draw of negatives, the batches and dropout.

    Raises
    ------
    ValueError
        A number is out of range; names it.
    """

    epochs: int = 2
    batch: int = 64
    rate: float = 2e-4
    temperature: float = 0.05
    negatives: int = 2
    rank: tuple[int, int] = (0, 10)
    relative_margin: float | None = None
    keep: float = 0.4
    warmup: float = 0.1
    test_share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:  # noqa: D105
        object.__setattr__(self, "rank", tuple(self.rank))
        whole = {"epochs": 1, "batch": 2, "negatives": 0, "seed": 0}
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value!r}: a whole number, {least} or more")
        for name in ("rate", "temperature"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name}={value}: a finite number above 0")
        for name in ("relative_margin", "keep", "warmup"):
            value = getattr(self, name)
            if value is None and name == "relative_margin":
                continue
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value}: from 0 to 1")
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share={self.test_share}: above 0 and below 1")
        begin, end = self.rank
        if not 0 <= begin < end or (self.negatives and end - begin < self.negatives):
            raise ValueError(
                f"rank={self.rank} with negatives={self.negatives}: two rising numbers "
                "with room for the negatives between them, e.g. (0, 10)"
            )

    def as_json(self) -> dict[str, Any]:
        """Return all fields as JSON gives them back."""
        return {**asdict(self), "rank": list(self.rank)}
