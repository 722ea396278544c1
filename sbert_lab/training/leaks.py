"""Texts that stand in training and in evaluation: a score on them is a memory."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from sbert_lab.datasets.pairs import DataError, plain
from sbert_lab.training.data import TrainingData

#: Name of an evaluation, and what it judges: pairs of texts, or single ones.
HeldOut = tuple[str, Iterable[Sequence[str]]]


def leaks(training: Sequence[TrainingData], held_out: Iterable[HeldOut]) -> list[str]:
    """Return one sentence for each item of evaluation that is also trained on.

    A pair has leaked where a row of training holds both its texts, in whatever order; a
    single text, such as a query, where any row holds it. Case, spacing and the form of
    characters do not count.

    Parameters
    ----------
    training
        The data.
    held_out
        Name and items of each evaluation.
    """
    items = [
        (name, _counted(map(plain, item)), item)
        for name, part in held_out
        for item in part
    ]
    judged = {text for _, key, _ in items for text, _ in key}
    rows = defaultdict(set)  # text, how many times -> (data set, row)
    for number, data in enumerate(training):
        wanted = {n: p for n, t in enumerate(data.texts) if (p := plain(t)) in judged}
        for row, numbers in enumerate(data.text_numbers.tolist()) if wanted else ():
            for place in _counted(wanted[n] for n in numbers if n in wanted):
                rows[place].add((number, row))
    found = []
    for name, key, item in items:
        both = set.intersection(*(rows.get(place, set()) for place in key))
        if both:
            number, row = min(both)
            shown = " / ".join(text[:50] for text in item)
            data = training[number]
            found.append(
                f"{name}: {shown!r} is also in {data.source}, row "
                f"{data.row_names[row]}; keep it on one side, or pass overlap='warn'"
            )
    return found


def refuse_leaks(training: Sequence[TrainingData], held_out: Iterable[HeldOut]) -> None:
    """Raise where `leaks` finds something.

    Raises
    ------
    DataError
        Naming the items.
    """
    found = leaks(training, held_out)
    if found:
        raise DataError(found)


def _counted(texts: Iterable[str]) -> list[tuple[str, int]]:
    """Return each text, and which of its like it is: a pair of equal ones has two."""
    seen: Counter[str] = Counter()
    found = []
    for text in texts:
        seen[text] += 1
        found.append((text, seen[text]))
    return found
