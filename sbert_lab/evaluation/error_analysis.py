"""What kind of pair a model fails on: words in common, and negation."""

import re

import regex

from sbert_lab.models.lexical import spelled

#: Words that say little about what a sentence is about.
STOP_WORDS = frozenset(
    """
    a an the and or but nor of to in on at for with from by as into onto over under up
    down out off about across through during within without against between around is
    are was were be been being am do does did done doing has have had having will would
    shall can could should may might must i you he she it we they me him her us them my
    your his its our their mine yours this that these those there here not no so if
    than then too very just also who whom whose what when where which how why while
    because before after until since all both each some any one s t don didn isn wasn
    doesn won couldn let please
    """.split()
)

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_NEGATION = re.compile(
    r"\b(?:no|not|nor|none|never|neither|nobody|nothing|nowhere|without|cannot)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)


def word_overlap(first: str, second: str) -> float:
    """Return the share of words, but stop words, that two texts have in common."""
    a, b = (set(_WORD.findall(spelled(text))) - STOP_WORDS for text in (first, second))
    return len(a & b) / max(1, len(a | b))


def negates(text: str) -> bool:
    """Return whether a text holds a word that negates, such as *not* or *nobody*."""
    return _NEGATION.search(text) is not None
