"""The settings of an adaptation."""

import hashlib
import json
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Recipe:
    """How to adapt a model; the defaults suit a few hundred pairs and more."""

    epochs: int = 2  #: how often every pair, or text, is seen
    batch_size: int = 64  #: each one's wrong answers are those of the others in it
    learning_rate: float = 2e-4  #: the highest one; it falls to 0 from there
    temperature: float = 0.05  #: τ of multiple negatives ranking
    negatives: int = 2  #: hard negatives to mine for each anchor; 0 mines none
    rank: tuple[int, int] = (0, 10)  #: they are drawn from these ranks of a search
    #: How far below the right answer's similarity they stay, as a share of it.
    relative_margin: float | None = None
    #: Share of the base's weights in the average at the end: more forgets less.
    base_weight: float = 0.4
    warmup: float = 0.1  #: share of the steps in which the learning rate rises
    test_share: float = 0.2  #: of the pairs, kept aside where no test is given
    seed: int = 0  #: of the split, the negatives, the batches and dropout

    def __post_init__(self) -> None:
        """Refuse a number that is out of range."""
        begin, end = self.rank
        if not 0 <= begin < end or end - begin < self.negatives:
            raise ValueError(f"rank={self.rank}: no room for {self.negatives} between")
        for name, least, most in (
            ("epochs", 1, inf),
            ("batch_size", 2, inf),
            ("learning_rate", 1e-12, 1),
            ("negatives", 0, inf),
            ("relative_margin", 0, 1),
            ("base_weight", 0, 1),
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
