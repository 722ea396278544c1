"""Headings among what is searched: known to the index, told by no text.

A classification lists headings beside the finer entries under them, often in the same
words. Where the finer entry is the answer, a rule that sets headings back needs no
model and costs no time.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sbert_lab.datasets.icd10cm import ancestors, by_code
from sbert_lab.experiments.two_stages import Candidates

#: What cosines are lowered by, to choose among.
PENALTIES = (0.0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2)


def headings(codes: Sequence[str]) -> NDArray[np.bool_]:
    """Return which entries have finer ones among those given, ``[n]``.

    Parameters
    ----------
    codes
        Of ICD-10-CM, dots included.

    Raises
    ------
    ValueError
        A code is not in the book; names it.
    """
    book = by_code()
    unknown = [code for code in codes if code not in book]
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is no code of ICD-10-CM ({len(unknown)} such); dots "
            "belong to a code, as in 'A00.0'"
        )
    above = {up.code for code in codes for up in ancestors(book[code])}
    return np.array([code in above for code in codes], dtype=np.bool_)


def set_back(
    found: Candidates, heading: NDArray[np.bool_], penalty: float
) -> Candidates:
    """Return candidates in the order of a rule: their first score, less for headings.

    Parameters
    ----------
    found
        Candidates with cosines as first scores. Where a second stage has read them, it
        has read all: the rule may bring any of them forward.
    heading
        Of each entry of the corpus, ``[n]``.
    penalty
        What a heading's cosine is lowered by; equal ones keep their order.

    Raises
    ------
    ValueError
        Only some of the candidates were read.
    """
    read, all_of = found.second.shape[1], found.first.shape[1]
    if read not in (0, all_of):
        raise ValueError(
            f"{read} of {all_of} candidates a query have a second score; judge all of "
            "them, or none"
        )
    lowered = found.first - np.float32(penalty) * heading[found.rows]
    place = np.argsort(-lowered, axis=1, kind="stable")
    rows = np.take_along_axis(found.rows, place, axis=1)
    first = np.take_along_axis(lowered, place, axis=1).astype(np.float32)
    second = np.take_along_axis(found.second, place, 1) if read else found.second
    return replace(found, rows=rows, first=first, second=second)


def best_penalty(
    found: Candidates,
    heading: NDArray[np.bool_],
    penalties: Sequence[float] = PENALTIES,
) -> float:
    """Return the penalty with the highest mean nDCG@10; of equal ones the first.

    To be chosen on queries that nothing is claimed of.
    """
    return max(
        penalties,
        key=lambda penalty: float(set_back(found, heading, penalty).ndcg().mean()),
    )
