"""Checkers for the exercises: they try your function and say what to look at.

A checker never raises: a wrong answer gets a hint, a right one gets "Right".
"""

import copy
import functools
from collections.abc import Callable
from importlib import import_module, util
from typing import Any

Answer = Callable[..., Any]


def check(number: str, answer: Answer) -> str:
    """Try an answer, and return "Right." or a hint.

    Parameters
    ----------
    number
        ``"04.1"``: notebook and exercise.
    answer
        Your function.
    """
    checkers = _checkers(number[:2])
    if number not in checkers:
        known = ", ".join(checkers) or "none in that notebook"
        raise KeyError(f"no exercise {number!r}; there are {known}")
    try:
        hint = checkers[number](_on_copies(answer))
    except Exception as error:  # whatever the reader's code does is a hint, not a crash
        return f"Not yet: it raised {type(error).__name__}: {error}"
    return f"Not yet: {hint}" if hint else "Right."


def _checkers(notebook: str) -> dict[str, Callable[[Answer], str]]:
    """Return a notebook's checkers; they load on use, so that no other one changes."""
    name = f"sbert_lab.experiments.checkers.notebook_{notebook}"
    if util.find_spec(name) is None:
        return {}
    found: dict[str, Callable[[Answer], str]] = import_module(name).CHECKERS
    return found


def _on_copies(answer: Answer) -> Answer:
    """Return the answer, kept from changing the arrays that it is judged with."""

    @functools.wraps(answer)
    def tried(*arguments: object) -> object:
        return answer(*copy.deepcopy(arguments))

    return tried
