"""The settings of an adaptation."""

import hashlib
import json
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Recipe:
    """How to adapt a model; the defaults suit a few hundred pairs and more.

    Parameters
    ----------
    epochs
        How often every pair, or text, is seen.
    batch_size
        Pairs, or texts, in a batch; those of the others are each one's wrong answers.
    learning_rate
        The highest one, reached after `warmup` and falling to 0 from there.
    temperature
        τ of multiple negatives ranking.
    negatives
        Hard negatives to mine for each anchor; 0 mines none.
    rank
        From which rank in the base's search they are drawn, up to and without which.
    relative_margin
        How far below the right answer's similarity they stay, as a share of it; None
        lets them lie above it.
    base_weight
        Share of the base's weights in the average at the end, 0 to 1: more forgets
        less, and learns less.
    warmup
        Share of the steps in which the learning rate rises.
    test_share
        Share of the pairs kept aside where no test is given.
    seed
        Of the split, the draw of negatives, the batches and dropout.
    """

    epochs: int = 2
    batch_size: int = 64
    learning_rate: float = 2e-4
    temperature: float = 0.05
    negatives: int = 2
    rank: tuple[int, int] = (0, 10)
    relative_margin: float | None = None
    base_weight: float = 0.4
    warmup: float = 0.1
    test_share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a number that is out of range."""
        begin, end = self.rank
        if not 0 <= begin < end or end - begin < self.negatives:
            raise ValueError(
                f"rank={self.rank}: two numbers, room for negatives between"
            )
        for name, least, most in (
            ("epochs", 1, inf),
            ("batch_size", 2, inf),
            ("learning_rate", 1e-12, 1),
            ("temperature", 1e-6, inf),
            ("negatives", 0, inf),
            ("relative_margin", 0, 1),
            ("base_weight", 0, 1),
            ("warmup", 0, 1),
            ("test_share", 1e-6, 1),
            ("seed", 0, inf),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name}={value}: from {least:g} to {most:g}")


#: The defaults by method, the last three for texts without pairs.
RECIPES = {
    "pairs": Recipe(),
    "simcse": Recipe(1, 64, 3e-5, base_weight=0),
    "tsdae": Recipe(1, 8, 3e-5, base_weight=0),
    "pseudo-labels": Recipe(1, 32, 2e-5, negatives=1, rank=(0, 50), base_weight=0),
}


def sha256_of(value: object) -> str:
    """Return the hash of a value that JSON can take."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
