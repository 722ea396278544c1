"""Headings among what is searched: known to the index, told by no text.

A classification lists headings beside the finer entries under them, often in the same
words. Where the finer entry is the answer, a rule that sets headings back needs no
model and costs no time.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sbert_lab.adaptation.two_stages import Candidates
from sbert_lab.datasets.icd10cm import ancestors, by_code

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
    found: Candidates, heading: NDArray[np.bool_], penalty: float, depth: int
) -> Candidates:
    """Return candidates whose second score is a rule: the first, less for headings.

    Parameters
    ----------
    found
        Candidates with cosines as first scores.
    heading
        Of each entry of the corpus, ``[n]``.
    penalty
        What a heading's cosine is lowered by.
    depth
        How many candidates of each query the rule sees.
    """
    first = found.first[:, :depth]
    lowered = first - np.float32(penalty) * heading[found.rows[:, :depth]]
    return replace(found, second=lowered.astype(np.float32))


def best_penalty(
    found: Candidates,
    heading: NDArray[np.bool_],
    depth: int,
    penalties: Sequence[float] = PENALTIES,
) -> float:
    """Return the penalty with the highest mean nDCG@10; of equal ones the first.

    To be chosen on queries that nothing is claimed of.
    """

    def worth(penalty: float) -> float:
        return float(set_back(found, heading, penalty, depth).ndcg(depth).mean())

    return max(penalties, key=worth)
