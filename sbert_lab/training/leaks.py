"""Texts that are both trained on and evaluated."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from sbert_lab.datasets.pairs import plain


def find_leaks(
    training: Iterable[Sequence[str]],
    held_out: Iterable[Sequence[str]],
    normalize: Callable[[str], str] = plain,
) -> list[tuple[int, int]]:
    """Return what of an evaluation is also trained on: a score on it is a memory.

    An item has leaked where one training row holds all its texts, in whatever order: a
    pair needs both of them, a single text such as a query just itself.

    Parameters
    ----------
    training
        The texts of each training row.
    held_out
        The texts of each item that is judged: two for a pair, one for a query.
    normalize
        Texts are equal if it makes them so.

    Returns
    -------
    list of tuple
        (item, the first training row that holds it), both from 0.
    """
    items = [Counter(map(normalize, item)) for item in held_out]
    # For each text that is judged: how many times each training row holds it.
    times_in: dict[str, Counter[int]] = {text: Counter() for i in items for text in i}
    for row, texts in enumerate(training):
        for text in map(normalize, texts):
            if text in times_in:
                times_in[text][row] += 1
    found = []
    for number, item in enumerate(items):
        holding = [
            {row for row, times in times_in[text].items() if times >= needed}
            for text, needed in item.items()
        ]
        if rows := set.intersection(*holding):
            found.append((number, min(rows)))
    return found
