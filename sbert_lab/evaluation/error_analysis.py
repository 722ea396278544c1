"""What kind of pair a model fails on: one with a negation."""

import re

_NEGATION = re.compile(
    r"\b(?:no|not|nor|none|never|neither|nobody|nothing|nowhere|without|cannot)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)


def negates(text: str) -> bool:
    """Return whether a text holds a word that negates, such as *not* or *nobody*."""
    return _NEGATION.search(text) is not None
