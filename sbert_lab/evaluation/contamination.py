"""What a test set shares with training texts: a score on it is partly a memory.

`SentenceTrainer` refuses a training that sees its own evaluation, text for text. This
module measures instead: how much of a test set, by three looser and looser measures,
stands in texts that some model may have been trained on.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sbert_lab.datasets.pairs import plain
from sbert_lab.evaluation.lexical import words
from sbert_lab.evaluation.statistics import Floats


@dataclass(frozen=True)
class Contamination:
    """What of a test set stands in training; rows are numbered from 0.

    Parameters
    ----------
    n
        Items of the test set.
    pairs
        ``(test row, training row)`` where one training row holds all texts of the item,
        in whatever order: the first such row.
    texts
        ``(test row, training row)`` where a training row holds at least one of them.
    known
        Share of an item's word runs that occur in training, ``[n]``: of the text that
        is least known.
    threshold
        From which share on an item counts as a near duplicate.
    """

    n: int
    pairs: tuple[tuple[int, int], ...]
    texts: tuple[tuple[int, int], ...]
    known: Floats
    threshold: float

    @property
    def pair_share(self) -> float:
        """Share of items that stand in training as a whole."""
        return len(self.pairs) / self.n

    @property
    def text_share(self) -> float:
        """Share of items of which at least one text stands in training."""
        return len(self.texts) / self.n

    @property
    def near(self) -> tuple[int, ...]:
        """Test rows that are near duplicates."""
        return tuple(np.flatnonzero(self.known >= self.threshold).tolist())

    @property
    def near_share(self) -> float:
        """Share of items that are near duplicates."""
        return len(self.near) / self.n

    def row(self) -> dict[str, float]:
        """Return the shares as a row of a table."""
        return {
            "items": self.n,
            "whole item in training": self.pair_share,
            "one text in training": self.text_share,
            "near duplicate": self.near_share,
        }


def contamination(
    training: Iterable[Sequence[str]],
    test: Iterable[Sequence[str]],
    *,
    run: int = 8,
    threshold: float = 0.7,
) -> Contamination:
    """Measure what of a test set stands in training texts.

    Texts are compared by their runs of letters a to z and digits, lower-cased, so
    neither case nor punctuation counts. That is for English; a text with other letters
    is compared as `datasets.pairs.find_leaks` does it, by Unicode's own rules.

    A near duplicate is an item each of whose texts has at least `threshold` of its runs
    of `run` words somewhere in training. A text with fewer words than that has no such
    run; it counts as known where a training text has just its words, in any order.
    Single shared phrases thus do not count, and "a man plays" is not found in every
    longer sentence with these words.

    Parameters
    ----------
    training, test
        Items of one text, such as a query, or more, such as a pair or a triplet; tuples
        or lists of texts.
    run
        Words in a run.
    threshold
        Share of runs from which on an item counts as a near duplicate.

    Raises
    ------
    TypeError
        An item is a bare string; wrap it: ``[text]``.
    ValueError
        No test items, an item without texts, or a parameter out of range.

    Source: for runs of 8 words and 0.7, Chowdhery et al. 2022, section 8.
    """
    if run < 1 or not 0 < threshold <= 1:
        raise ValueError(f"run={run}, threshold={threshold}: from 1; above 0, up to 1")
    items = [tuple(map(normal, item)) for item in _checked(test)]
    if not items or not all(items):
        raise ValueError("a test set needs items, and an item at least one text")
    wanted = {text for item in items for text in item}
    runs = {text: _runs(text, run) for text in wanted}
    sought = {each for found in runs.values() for each in found}
    whole = {len(item): set[tuple[str, ...]]() for item in items}
    for item in items:
        whole[len(item)].add(tuple(sorted(item)))
    rows: dict[tuple[str, ...], int] = {}  # an item or a single text, where it stands
    single: dict[str, int] = {}
    seen: set[tuple[str, ...]] = set()
    for number, row in enumerate(_checked(training)):
        texts = sorted(map(normal, row))
        for text in texts:
            if text in wanted:
                single.setdefault(text, number)
            seen.update(each for each in _runs(text, run) if each in sought)
        if any(text in wanted for text in texts):
            for size, keys in whole.items():
                for key in combinations(texts, size):
                    if key in keys:
                        rows.setdefault(key, number)
    keyed = [tuple(sorted(item)) for item in items]
    first = [
        min((single[t] for t in item if t in single), default=-1) for item in items
    ]
    share = {t: sum(r in seen for r in each) / len(each) for t, each in runs.items()}
    return Contamination(
        n=len(items),
        pairs=tuple((i, rows[key]) for i, key in enumerate(keyed) if key in rows),
        texts=tuple((i, number) for i, number in enumerate(first) if number >= 0),
        known=np.array([min(share[text] for text in item) for item in items]),
        threshold=threshold,
    )


def normal(text: str) -> str:
    """Return a text's runs of a to z and 0 to 9, lower-cased, with single spaces.

    A text with letters of other alphabets, or with none at all, stays whole, as
    `datasets.pairs.plain` writes it: what is left of "北京 2008" would be a year.
    """
    if any(letter.isalnum() and not letter.isascii() for letter in text):
        return plain(text)
    return " ".join(words(text)) or plain(text)


def _checked(items: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
    for item in items:
        if isinstance(item, str):
            raise TypeError(f"{item[:50]!r} is a bare string; wrap it: [text]")
        yield item


def _runs(text: str, size: int) -> set[tuple[str, ...]]:
    """Return the different runs of `size` words, or the sorted words if fewer."""
    split = text.split()
    if len(split) < size:
        return {("", *sorted(split))}  # marked: never equal to a run
    return {tuple(split[i : i + size]) for i in range(len(split) - size + 1)}
