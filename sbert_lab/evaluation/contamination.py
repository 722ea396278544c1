"""What a test set shares with training texts: a score on it is partly a memory.

A training that sees its own evaluation is refused (`datasets.pairs`); this module
measures, by three looser and looser measures, what some model may have been trained on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbert_lab.datasets.pairs import find_leaks, plain
from sbert_lab.evaluation.error_analysis import words

_RUN = 8  # words


@dataclass(frozen=True)
class Contamination:
    """Which items of a test set stand in training, booleans ``[n]``.

    Of a ``whole`` item one training row holds all texts, in whatever order; of one with
    ``one_text`` a training row holds at least one; ``near`` ones are near duplicates.
    """

    whole: NDArray[np.bool_]
    one_text: NDArray[np.bool_]
    near: NDArray[np.bool_]

    def row(self) -> dict[str, float]:
        """Return the shares as a row of a table."""
        return {
            "items": len(self.whole),
            "whole item in training": float(self.whole.mean()),
            "one text in training": float(self.one_text.mean()),
            "near duplicate": float(self.near.mean()),
        }


def contamination(
    training: Iterable[Sequence[str]], test: Iterable[Sequence[str]]
) -> Contamination:
    """Measure what of a test set's items, of one text or more, stands in training.

    Texts are compared by their letters a to z and digits, lower-cased; those with other
    letters by Unicode's rules. A near duplicate is an item each of whose texts has 0.7
    of its runs of 8 words somewhere in training; a shorter text counts where a training
    text has just its words, in any order. Source: Chowdhery et al. 2022, section 8.
    """
    rows, items = ([_item(texts) for texts in side] for side in (training, test))
    if not items or not all(items):
        raise ValueError("a test set needs items, and an item at least one text")
    runs = {text: _runs(text) for item in items for text in item}
    sought = {each for found in runs.values() for each in found}
    seen = {each for row in rows for text in row for each in sought & _runs(text)}
    known = {text: len(found & seen) / len(found) for text, found in runs.items()}
    whole = {item for item, _ in find_leaks(rows, items, normalize=str)}
    texts = {text for row in rows for text in row}
    return Contamination(
        whole=np.array([i in whole for i in range(len(items))]),
        one_text=np.array([not texts.isdisjoint(item) for item in items]),
        near=np.array([min(known[t] for t in item) >= 0.7 for item in items]),
    )


def _item(texts: Sequence[str]) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise TypeError(f"{texts[:50]!r} is a bare string; wrap it: [text]")
    return tuple(map(_normal, texts))


def _normal(text: str) -> str:
    """Return a text's words of a to z and 0 to 9; other alphabets stay whole.

    What is left of "北京 2008" would be a year.
    """
    if any(letter.isalnum() and not letter.isascii() for letter in text):
        return plain(text)
    return " ".join(words(text)) or plain(text)


def _runs(text: str) -> set[tuple[str, ...]]:
    """Return the different runs of 8 words, or the sorted words if fewer."""
    split = text.split()
    if len(split) < _RUN:
        return {("", *sorted(split))}  # marked: never equal to a run
    return {tuple(split[i : i + _RUN]) for i in range(len(split) - _RUN + 1)}
