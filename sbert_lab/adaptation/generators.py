"""Queries made up from texts: cut out of them, or written by a model."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from sbert_lab.datasets.pairs import DataError

log = logging.getLogger(__name__)


class Generator(Protocol):
    """Texts go in, made-up queries come out.

    Optional is ``fingerprint()``, which names the generator in records.
    """

    def generate(
        self, texts: Sequence[str], per_text: int, seed: int
    ) -> list[list[str]]:
        """Return up to `per_text` queries for each text, the same for the same seed."""
        ...


def text_generator(text: str, seed: int) -> np.random.Generator:
    """Return a random generator of a text's own, wherever in a list the text stands."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    words = np.frombuffer(digest[:16], np.uint32).tolist()
    return np.random.default_rng([seed, *words])


@dataclass(frozen=True)
class CropGenerator:
    """Queries without a model: a part of the text, with words missing.

    A contiguous run of words is drawn, and then words are deleted from it. What it
    teaches is that a part belongs to its whole. As the text keeps the words, so does it
    teach that equal words are worth much; questions in other words than the text's it
    does not teach.

    Parameters
    ----------
    share
        Least and largest part of the words that a query has, before deletion. Rounded
        to whole words, at least one, and at most all but one.
    delete
        Probability that a word is deleted; one always stays.
    skip_short
        Texts of one word cannot be cropped: True makes no query of them (they can still
        be negatives), False refuses them.

    Sources: Lee, Chang and Toutanova 2019, section 4 (inverse cloze task); Izacard et
    al. 2022, section 3.1 (independent cropping, deletion; 10 % to 50 %, 10 %).
    """

    share: tuple[float, float] = (0.1, 0.5)
    delete: float = 0.1
    skip_short: bool = False

    def __post_init__(self) -> None:  # noqa: D105
        low, high = self.share
        if not 0 < low <= high <= 1:
            raise ValueError(f"share={self.share}: two numbers, 0 < least <= most <= 1")
        if not 0 <= self.delete < 1:
            raise ValueError(f"delete={self.delete}: from 0 to below 1")

    def generate(
        self, texts: Sequence[str], per_text: int, seed: int
    ) -> list[list[str]]:
        """Return `per_text` crops of each text; its place in the list plays no part.

        Raises
        ------
        DataError
            Texts of one word, unless `skip_short`.
        """
        words = [text.split() for text in texts]
        short = [row for row, found in enumerate(words) if len(found) < 2]
        if short and not self.skip_short:
            raise DataError(
                [
                    f"text {row}, {texts[row][:40]!r}, is one word and cannot be "
                    "cropped; take it out, or let CropGenerator(skip_short=True) pass "
                    "it over"
                    for row in short
                ]
            )
        if short:
            log.info("%d of %d texts are one word: no queries", len(short), len(texts))
        return [
            [self._crop(found, rng) for _ in range(per_text)] if len(found) > 1 else []
            for found, rng in (
                (found, text_generator(text, seed))
                for text, found in zip(texts, words, strict=True)
            )
        ]

    def fingerprint(self) -> str:
        """Name the settings in records."""
        return json.dumps(asdict(self), sort_keys=True)

    def _crop(self, words: Sequence[str], rng: np.random.Generator) -> str:
        count = len(words)
        low, high = (
            min(max(round(share * count), 1), count - 1) for share in self.share
        )
        length = int(rng.integers(low, high + 1))
        start = int(rng.integers(0, count - length + 1))
        luck = rng.random(length)
        stays = luck >= self.delete
        if not stays.any():
            stays[luck.argmax()] = True
        part = words[start : start + length]
        return " ".join(w for w, kept in zip(part, stays, strict=True) if kept)
