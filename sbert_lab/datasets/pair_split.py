"""Keep a test aside, so that no text of it is trained on.

A question asked in two ways, or an answer that serves two questions, ties rows
together: with one of them in training, the other tests memory. So rows that share a
text are one group, and whole groups are kept aside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbert_lab.datasets.pairs import DataError, Pairs, plain

#: Fewer pairs than this teach, or measure, next to nothing.
LEAST = 20


@dataclass(frozen=True)
class Split:
    """Rows of a file, from 0, on two sides.

    Parameters
    ----------
    train, test
        Rows, rising.
    groups
        How many groups of rows there are that share no text.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]
    groups: int


def split_pairs(pairs: Pairs, test_share: float = 0.2, seed: int = 0) -> Split:
    """Split pairs into training and test, with no text on both sides.

    Groups are drawn at random until the test has its share of the rows. A group that
    is larger than the share goes to training.

    Parameters
    ----------
    pairs
        The file.
    test_share
        Share of the rows to keep aside, above 0 and below 1; a little less comes out,
        since groups are not cut.
    seed
        Of the draw.

    Raises
    ------
    ValueError
        `test_share` is out of range.
    DataError
        Fewer than `LEAST` pairs are left on a side; says why.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share={test_share}: above 0 and below 1, such as 0.2")
    group = row_groups(pairs)
    sizes = np.bincount(group)
    rows, count = len(pairs), len(sizes)
    wanted = max(LEAST, round(test_share * rows))
    if rows < wanted + LEAST:
        raise DataError(
            [
                f"{pairs.source}: {rows} pairs are too few to train on {LEAST} and "
                f"test on {wanted} others; bring more, or a test of their own"
            ]
        )
    in_test, taken = np.zeros(count, bool), 0
    for number in np.random.default_rng(seed).permutation(count):
        if taken + sizes[number] <= wanted:
            in_test[number] = True
            taken += int(sizes[number])
    if taken < LEAST:
        largest = int(sizes.argmax())
        first = int(np.flatnonzero(group == largest)[0])
        raise DataError(
            [
                f"{pairs.source}: {sizes.max()} of {rows} rows hang together by texts "
                f"they share (row {pairs.rows[first]} is one), which leaves {taken} "
                "pairs to test on; bring a test file of other texts, or drop what is "
                "shared by so many rows"
            ]
        )
    test = in_test[group]
    return Split(
        tuple(np.flatnonzero(~test).tolist()),
        tuple(np.flatnonzero(test).tolist()),
        count,
    )


def row_groups(pairs: Pairs) -> NDArray[np.int64]:
    """Return the group of each row, int64 ``[n]``, numbered as they first occur.

    Two rows are of one group if they share a text, in whichever of the two columns and
    written however (`datasets.pairs.plain`), or if other rows tie them together.
    Negatives do not count: one is often the answer to another question.
    """
    parent = list(range(len(pairs)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]  # halve the way for the next one
            row = parent[row]
        return row

    first: dict[str, int] = {}
    for row, texts in enumerate(zip(pairs.anchor, pairs.positive, strict=True)):
        for text in texts:
            a, b = root(first.setdefault(plain(text), row)), root(row)
            parent[max(a, b)] = min(a, b)  # so a root is its group's first row
    roots = np.array([root(row) for row in range(len(pairs))])
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def pick(pairs: Pairs, rows: Sequence[int]) -> Pairs:
    """Return some rows of a file, with the numbers that its editor shows."""

    def of(column: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(column[row] for row in rows)

    return Pairs(
        anchor=of(pairs.anchor),
        positive=of(pairs.positive),
        negative=None if pairs.negative is None else of(pairs.negative),
        label=None if pairs.label is None else of(pairs.label),
        source=pairs.source,
        rows=of(pairs.rows),
    )
