"""Who is whose relative in ICD-10-CM: a guard against false negatives."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sbert_lab.datasets.icd10cm import ancestors, by_code


@dataclass(frozen=True)
class HierarchyGuard:
    """Forbids that an anchor meets a relative of its code; see `hierarchy_guard`."""

    anchor_codes: tuple[str, ...]
    corpus_codes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse codes that are not in the book."""
        for name in ("anchor_codes", "corpus_codes"):
            unknown = [c for c in getattr(self, name) if c not in by_code()]
            if unknown:
                raise ValueError(
                    f"{name}: {unknown[0]!r} is no code of ICD-10-CM ({len(unknown)} "
                    "such); dots belong to a code, as in 'A00.0'"
                )

    def __call__(
        self, anchor_rows: NDArray[np.int64], corpus_rows: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return where the two codes are one, or one stands above the other, ``[m]``.

        Two lines from the chapter down are compared where the shorter one ends.
        """
        (above, depth), (below, deep) = self._lines
        first, second = above[anchor_rows], below[corpus_rows]
        end = np.minimum(depth[anchor_rows], deep[corpus_rows])
        at = np.arange(len(end))
        related: NDArray[np.bool_] = first[at, end] == second[at, end]
        return related

    def fingerprint(self) -> str:
        """Return a hash of the codes and of their place in the book."""
        codes = sorted({*self.anchor_codes, *self.corpus_codes})
        lines = [[c.code for c in ancestors(by_code()[code])] for code in codes]
        told = json.dumps([self.anchor_codes, self.corpus_codes, lines])
        return hashlib.sha256(told.encode()).hexdigest()

    @cached_property
    def _lines(self) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]:
        """Numbers of the codes from the chapter down ``[n, levels]``, and own level."""
        numbers: dict[str, int] = {}
        found = []
        for codes in (self.anchor_codes, self.corpus_codes):
            lines = []
            for name in codes:
                code = by_code()[name]
                line = [c.code for c in (*reversed(ancestors(code)), code)]
                lines.append([numbers.setdefault(c, len(numbers)) for c in line])
            depth = np.array([len(line) - 1 for line in lines], np.int64)
            padded = np.full((len(lines), depth.max(initial=0) + 1), -1, np.int64)
            for row, places in enumerate(lines):
                padded[row, : len(places)] = places
            found.append((padded, depth))
        return tuple(found)


def hierarchy_guard(
    anchor_codes: Sequence[str], corpus_codes: Sequence[str] | None = None
) -> HierarchyGuard:
    """Return a guard for `mining.mine`: no negative is a relative of the positive.

    Who writes a term for a code is not wrong to be shown the heading above it, or a
    finer code below: neither can be taught as a wrong answer. Siblings can.

    Parameters
    ----------
    anchor_codes
        Code of each pair's positive.
    corpus_codes
        Code of each corpus text; the default is that the positives are the corpus.

    Returns
    -------
    HierarchyGuard
        Of rows of pairs ``[m]`` and of the corpus ``[m]``, True where the codes are
        the same or one is an ancestor of the other.

    Raises
    ------
    ValueError
        A code that is not in the book.
    """
    others = anchor_codes if corpus_codes is None else corpus_codes
    return HierarchyGuard(tuple(anchor_codes), tuple(others))
