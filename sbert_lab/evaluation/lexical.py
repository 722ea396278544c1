"""What the words alone say: overlap of content words, and a bag of words.

An encoder must beat this before anything is said about meaning.
"""

import re
from collections.abc import Sequence

import numpy as np

from sbert_lab.evaluation.metrics import Values

#: Words that are left out: they say little about what a sentence is about.
STOP_WORDS = frozenset(
    """
    a an the and or but nor of to in on at for with from by as into onto over
    under up down out off about across through during within without against
    between around is are was were be been being am do does did done doing has
    have had having will would shall can could should may might must i you he
    she it we they me him her us them my your his its our their mine yours this
    that these those there here not no so if than then too very just also who
    whom whose what when where which how why while because before after until
    since all both each some any one s t don didn isn wasn doesn won couldn let
    please
    """.split()
)


def words(text: str) -> list[str]:
    """Return the lower-cased words of a text, numbers included."""
    return re.findall(r"[a-z0-9]+", text.lower())


def content_words(text: str) -> set[str]:
    """Return the different words of a text, `STOP_WORDS` left out."""
    return set(words(text)) - STOP_WORDS


def word_overlap(first: str, second: str) -> float:
    """Return the share of content words that two texts have in common (Jaccard)."""
    a, b = content_words(first), content_words(second)
    return len(a & b) / max(1, len(a | b))


def bag_of_words_cosine(first: Sequence[str], second: Sequence[str]) -> Values:
    """Return the cosine of the word counts of each pair, ``[n]``.

    Every word is a dimension of its own, function words included: what averaging
    would measure if no two words meant alike.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    counter = CountVectorizer(tokenizer=words, token_pattern=None, lowercase=False)
    counts = normalize(counter.fit_transform([*first, *second]))
    left, right = counts[: len(first)], counts[len(first) :]
    cosines: Values = np.asarray(left.multiply(right).sum(axis=1)).ravel()
    return cosines
