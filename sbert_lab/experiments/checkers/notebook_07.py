"""Exercises of notebook 07."""

from collections.abc import Callable
from typing import Any

import numpy as np

Answer = Callable[..., Any]


def _mix(answer: Answer) -> str:
    base = {"w": np.array([[0.0, 4.0]]), "b": np.array([2.0])}
    adapted = {"w": np.array([[8.0, 0.0]]), "b": np.array([-2.0])}
    got = answer(base, adapted, 0.25)
    if got is None:
        return "it returns nothing yet"
    if not isinstance(got, dict) or got.keys() != base.keys():
        return "a dictionary with the same keys"
    if np.allclose(got["w"], [[2.0, 3.0]]):
        return "the share is the base's, here a quarter"
    if np.allclose(got["w"], (base["w"] + adapted["w"]) / 2):
        return "use the share"
    right = np.allclose(got["w"], [[6.0, 1.0]]) and np.allclose(got["b"], [-1.0])
    return "" if right else "share times the base, the rest of the adapted one"


def _hardest(answer: Answer) -> str:
    scores = np.array(
        [
            [0.9, 0.85, 0.5, 0.1],  # 0.85 is too near
            [0.2, 0.3, 0.5, 0.4],
            [0.6, 0.5, 0.2, 0.61],  # all but the right one are above the limit
            [0.75, 0.25, 0.75, 0.5],  # 0.5 is at the limit, to the bit
        ]
    )
    right, margin = np.array([0, 2, 2, 0]), 0.25
    got = answer(scores.copy(), right.copy(), margin)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != (4,):
        return f"the shape is {list(got.shape)}; a column for each query: [4]"
    if (got == right).any():
        return "the right answer is no negative"
    if got[2] != -1:
        return "minus one where nothing is left"
    if got[0] == 1:
        return "at most the right one's similarity minus the margin"
    if got[3] == 1:
        return "at the limit is allowed"
    return "" if got.tolist() == [2, 0, -1, 3] else "the best of what is allowed"


def _no_wrong_answers(answer: Answer) -> str:
    anchors, positives = np.array([7, 7, 8, 9]), np.array([1, 2, 1, 3])
    got = answer(anchors, positives)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != (4, 4) or got.dtype != bool:
        return f"{got.dtype} {list(got.shape)}; booleans [4, 4]"
    if got.diagonal().any():
        return "each anchor's own positive is the answer: False on the diagonal"
    # Anchor 7 has answers 1 and 2, so that column 2 (answer 1 again) is right, too.
    right = np.zeros((4, 4), bool)
    right[0, [1, 2]] = right[1, [0, 2]] = right[2, 0] = True
    if (got == right).all():
        return ""
    if not got[2, 0]:
        return "the same positive in another row is no wrong answer"
    if not got[0, 1]:
        return "an equal anchor's positive is no wrong answer"
    if not got[1, 2]:
        return "what is right for an equal anchor is right wherever it stands"
    return "only what is right for an equal anchor"


CHECKERS: dict[str, Callable[[Answer], str]] = {
    "07.1": _mix,
    "07.2": _hardest,
    "07.3": _no_wrong_answers,
}
