"""ICD-10-CM as documents: a page for each block, longer than any encoder reads.

For the retrieval step of an application that cites its sources: a page is cut into
passages, a question finds some of them, and the places say whether they hold an answer.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from sbert_lab.datasets.icd10cm import Code, ancestors, retrieval_corpus


@dataclass(frozen=True)
class Page:
    """A block, its categories one paragraph each, their codes one line each.

    Parameters
    ----------
    name
        The block's code: ``"E08-E13"``.
    text
        What it says, inclusion terms behind each description.
    places
        Where each category begins and ends, in characters, and its name.
    """

    name: str
    text: str = field(repr=False)
    places: tuple[tuple[int, int, str], ...] = field(repr=False)

    def categories(self, start: int, end: int) -> frozenset[str]:
        """Return the categories of which something stands between two characters."""
        return frozenset(
            name for first, last, name in self.places if first < end and start < last
        )


def pages(
    count: int | None = None, *, holding: Collection[str] = (), seed: int = 0
) -> tuple[Page, ...]:
    """Return pages in the order of the book.

    Parameters
    ----------
    count
        How many: those that hold something of `holding`, all of them, filled up at
        random; None takes the whole book.
    holding
        Categories that must be there.
    seed
        Of the draw.
    """
    blocks: dict[str, dict[str, list[Code]]] = {}
    titles: dict[str, str] = {}
    for code in retrieval_corpus():
        if code.category:
            block = next(c for c in ancestors(code) if c.kind == "block")
            titles[block.code] = block.description
            own = blocks.setdefault(block.code, {})
            own.setdefault(code.category, []).append(code)
    made = [_page(name, titles[name], own) for name, own in blocks.items()]
    if count is None or count >= len(made):
        return tuple(made)
    needed = [
        row
        for row, page in enumerate(made)
        if not page.categories(0, len(page.text)).isdisjoint(holding)
    ]
    others = sorted(set(range(len(made))) - set(needed))
    more = np.random.default_rng(seed).permutation(others)
    drawn = more[: max(0, count - len(needed))].tolist()
    return tuple(made[row] for row in sorted([*needed, *drawn]))


def _page(name: str, title: str, categories: dict[str, list[Code]]) -> Page:
    text, places = title, []
    for category, codes in categories.items():
        start = len(text) + 2
        text += "\n\n" + "\n".join(map(_line, codes))
        places.append((start, len(text), category))
    return Page(name, text, tuple(places))


def _line(code: Code) -> str:
    terms = "".join(f"; {term}" for term in code.inclusion_terms)
    return f"{code.code} {code.description}{terms}."
