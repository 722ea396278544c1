"""The leak check: what stands in training must not be what a model is judged by."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain

from sbert_lab.datasets.pairs import DataError, Pairs, plain, read_authored
from sbert_lab.datasets.sts import ScoredPairs, sick, stsb
from sbert_lab.models.registry import resolve


def find_leaks(
    training: Iterable[Sequence[str]],
    held_out: Iterable[Sequence[str]],
) -> list[tuple[int, int]]:
    """Return (item, first training row that holds it) of what is also trained on.

    An item has leaked where one training row holds all its texts, in whatever order: a
    pair needs both of them, a query just itself. `training` and `held_out` are the
    texts of each row and item; `pairs.plain` says which texts are the same.
    """
    items = [Counter(map(plain, item)) for item in held_out]
    # For each text that is judged: how many times each training row holds it.
    times_in: dict[str, Counter[int]] = {text: Counter() for i in items for text in i}
    for row, texts in enumerate(training):
        for text in map(plain, texts):
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


def check_no_leak(train: Pairs, test: Pairs) -> None:
    """Refuse two files that share a text, with both places of every such text."""
    known, judged = list(train.texts()), list(test.texts())
    problems = []
    for place, first in find_leaks([[t] for *_, t in known], [[t] for *_, t in judged]):
        row, role, text = judged[place]
        seen_row, seen_role, _ = known[first]
        problems.append(
            f"{test.source}, row {row}, column {role!r}: {text[:60]!r} is also in "
            f"{train.source}, row {seen_row}, column {seen_role!r}; keep it on one "
            "side only"
        )
    if problems:
        raise DataError(problems)


def judged_texts() -> frozenset[str]:
    """Return all texts by which similarity and entailment are judged, as `plain`.

    The project's own, and those of the STS Benchmark and SICK, all splits, where they
    are on this machine.
    """
    found: list[Iterable[str]] = []
    for name, columns in (
        ("similarity_ladder.csv", ("anchor", "partner")),
        ("everyday_pairs.csv", ("anchor", "partner")),
        ("everyday_forms.csv", ("partner",)),
        ("nli.csv", ("premise", "hypothesis")),
    ):
        found += [[row[key] for key in columns] for row in read_authored(name)]
    readers: list[tuple[str, Callable[[], ScoredPairs]]] = [("sick", sick)]
    readers += [("stsb", partial(stsb, split)) for split in ("train", "dev", "test")]
    for name, read in readers:
        with suppress(FileNotFoundError):
            resolve(name, allow_hub=False)  # waiting for a hub takes half a minute each
            pairs = read()
            found += [pairs.first, pairs.second]
    return frozenset(map(plain, chain.from_iterable(found)))
