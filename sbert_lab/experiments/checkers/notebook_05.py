"""Exercises of notebook 05."""

from collections.abc import Callable
from typing import Any

import numpy as np

Answer = Callable[..., Any]


def _spearman(answer: Answer) -> str:
    rng = np.random.default_rng(11)
    a = rng.permutation(np.exp(rng.normal(size=9)))
    b = a + rng.normal(size=9)
    got = answer(a, b)
    if got is None:
        return "it returns nothing yet"
    ranks = [np.argsort(np.argsort(x)) for x in (a, b)]
    right = np.corrcoef(ranks[0], ranks[1])[0, 1]
    if np.isclose(got, right):
        turned = np.isclose(answer(a, -b), -right)
        return "" if turned else "an order turned round is below zero"
    if np.isclose(got, np.corrcoef(a, b)[0, 1]):
        return "that is Pearson's, of the values; take their ranks first"
    if np.isclose(got, np.corrcoef(np.argsort(a), np.argsort(b))[0, 1]):
        return "argsort says who stands where; its own argsort says the rank of each"
    return "correlate the ranks of a with the ranks of b"


def _holm(answer: Answer) -> str:
    p = np.array([0.03, 0.005, 0.04, 0.02])
    got = answer(p.copy())
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got, np.float64)
    if got.shape != (4,):
        return f"the shape is {got.shape}; one value for each: (4,)"
    if np.allclose(got, p * 4):
        return "that is Bonferroni's; only the smallest is multiplied by their number"
    if np.allclose(got, [0.06, 0.02, 0.04, 0.06]):
        return "none may be smaller than the one before it: keep the running maximum"
    if np.allclose(got, [0.02, 0.06, 0.06, 0.06]):
        return "give them back in the order in which they came"
    if not np.allclose(got, [0.06, 0.02, 0.06, 0.06]):
        return "smallest times m, next times m - 1, and so on"
    if np.max(answer(np.array([0.9, 0.8]))) > 1:
        return "a probability is at most 1"
    return ""


def _sign_flips(answer: Answer) -> str:
    rng = np.random.default_rng(12)
    differences = rng.normal(0.4, 1, size=12)
    signs = rng.choice([-1, 1], size=(199, 12))
    got = answer(differences, signs)
    if got is None:
        return "it returns nothing yet"
    drawn, measured = (signs * differences).mean(1), differences.mean()
    far = int((np.abs(drawn) >= abs(measured)).sum())
    if np.isclose(got, (far + 1) / 200):
        if not np.isclose(answer(-differences, signs), got):
            return "a mean below zero is as far: take its absolute value, too"
        few = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]])
        equal = np.isclose(answer(np.ones(2), few), 3 / 5)
        return "" if equal else "as far counts, too: >=, not >"
    if np.isclose(got, far / 199):
        return "count the measured one among the draws: plus one above and below"
    if np.isclose(got, ((drawn >= measured).sum() + 1) / 200):
        return "two-sided: as far from zero on either side"
    return (
        "flip, take each row's mean, count those as far from zero as the measured one"
    )


CHECKERS: dict[str, Callable[[Answer], str]] = {
    "05.1": _spearman,
    "05.2": _holm,
    "05.3": _sign_flips,
}
