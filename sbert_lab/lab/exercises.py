"""Checkers for the exercises: they try your function and say what to look at.

A checker never raises: a wrong answer gets a hint, a right one gets "Right".
"""

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from sbert_lab.evaluation.geometry import anisotropy
from sbert_lab.exact import exact_search, normalized

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
    if number not in _CHECKERS:
        raise KeyError(f"no exercise {number!r}; there are {', '.join(_CHECKERS)}")
    try:
        hint = _CHECKERS[number](_on_copies(answer))
    except Exception as error:  # whatever the reader's code does is a hint, not a crash
        return f"Not yet: it raised {type(error).__name__}: {error}"
    return f"Not yet: {hint}" if hint else "Right."


def _on_copies(answer: Answer) -> Answer:
    """Return the answer, kept from changing the arrays that it is judged with."""

    @functools.wraps(answer)
    def tried(*arguments: object) -> object:
        return answer(*copy.deepcopy(arguments))

    return tried


def _masked_mean(answer: Answer) -> str:
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(2, 4, 3))
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    got = answer(tokens, mask)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != (2, 3):
        return f"the shape is {got.shape}; one vector a text: (2, 3)"
    if np.allclose(got, tokens.mean(1)):
        return "padding is averaged too; weigh each token with the mask"
    summed = (tokens * mask[:, :, None]).sum(1)
    if np.allclose(got, summed / 4):
        return "divide by the number of tokens of each text, not by its padded length"
    right = summed / mask.sum(1, keepdims=True)
    return "" if np.allclose(got, right) else "sum the tokens, divide by how many"


def _pair_hours(answer: Answer) -> str:
    got = answer(10_000, 4)
    if got is None:
        return "it returns nothing yet"
    right = 10_000 * 9_999 / 2 * 4 / 3_600_000
    if np.isclose(got, 2 * right, rtol=1e-3):
        return "each pair is counted twice: the order of the two does not matter"
    if np.isclose(got, right * 3_600, rtol=1e-3):
        return "these are seconds; an hour has 3,600 of them"
    return "" if np.isclose(got, right, rtol=1e-6) else "n (n − 1) / 2 pairs, in hours"


def _mean_cosine(answer: Answer) -> str:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(30, 5)) + 1
    got = answer(vectors)
    if got is None:
        return "it returns nothing yet"
    right = anisotropy(vectors)
    unit = normalized(vectors.astype(np.float32))
    if np.isclose(got, (unit @ unit.T).mean(), atol=1e-4):
        return "each row's cosine with itself is in it; leave these n ones out"
    return "" if np.isclose(got, right, atol=1e-5) else "sum the unit rows, and square"


def _top_k(answer: Answer) -> str:
    rng = np.random.default_rng(4)
    queries = rng.normal(size=(3, 8)).astype(np.float32)
    corpus = rng.normal(size=(40, 8)).astype(np.float32)
    got = answer(queries, corpus, 5)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != (3, 5):
        return f"the shape is {got.shape}; one row a query, k columns: (3, 5)"
    right = exact_search(queries, corpus, 5, "cosine")[1]
    if np.array_equal(got, exact_search(queries, corpus, 5, "dot")[1]):
        return "this ranks by dot product; divide by the lengths first"
    if np.array_equal(got[:, ::-1], right):
        return "the order is upside down: the nearest comes first"
    return "" if np.array_equal(got, right) else "these are not the nearest rows"


def _cosine_from_l2(answer: Answer) -> str:
    rng = np.random.default_rng(4)
    a, b = normalized(rng.normal(size=(2, 6)).astype(np.float32)).astype(np.float64)
    got = answer(float(((a - b) ** 2).sum()))
    if got is None:
        return "it returns nothing yet"
    if np.isclose(got, 1 - ((a - b) ** 2).sum()):
        return "expand |a − b|² = |a|² + |b|² − 2a·b, and both lengths are 1"
    return "" if np.isclose(got, a @ b) else "expand |a − b|² with |a| = |b| = 1"


def _index_bytes(answer: Answer) -> str:
    wanted = ["count", "dimension", "links"]
    if list(inspect.signature(answer).parameters)[:3] != wanted:
        return f"keep the arguments {wanted}"
    got = answer(1_000_000, 384, 32)
    if got is None:
        return "it returns nothing yet"
    vectors = 1_000_000 * 384 * 4
    if got == vectors:
        return "that is the vectors; the graph's edges need room too"
    if got == vectors + 1_000_000 * 32 * 4:
        return "HNSW's bottom layer has twice `links` edges a node"
    right = vectors + 1_000_000 * 64 * 4
    return "" if abs(got - right) < 0.02 * right else "4 bytes a number, 4 an edge"


def _features(answer: Answer) -> str:
    u, v = np.random.default_rng(7).normal(size=(2, 3, 4))
    got = answer(u, v)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != (3, 12):
        return f"the shape is {got.shape}; three parts side by side: (3, 12)"
    if np.allclose(got, np.concatenate([u, v, u - v], axis=1)):
        return "the difference needs its absolute value: order must not matter"
    right = np.concatenate([u, v, np.abs(u - v)], axis=1)
    return "" if np.allclose(got, right) else "the order is u, v, |u - v|"


def _ranking_loss(answer: Answer) -> str:
    similarity = np.random.default_rng(8).uniform(-1, 1, size=(5, 5))
    got = answer(similarity, 0.05)
    if got is None:
        return "it returns nothing yet"
    z = similarity / 0.05
    losses = np.log(np.exp(z).sum(1)) - np.diag(z)
    if np.allclose(got, -losses.mean()):
        return "the sign is turned round: a loss falls as the right answer rises"
    if np.allclose(got, losses.sum()):
        return "take the mean over the rows, not the sum"
    if not np.allclose(got, losses.mean()):
        return "divide by t first; then log-softmax over each row, its diagonal entry"
    if not np.isfinite(answer(similarity * 100, 0.05)):
        return "it overflows for large logits; subtract each row's largest first"
    return ""


def _same_positive(answer: Answer) -> str:
    got = answer(np.array([4, 7, 4, 9, 4]))
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    right = np.zeros((5, 5), bool)
    for i, j in ((0, 2), (0, 4), (2, 4)):
        right[i, j] = right[j, i] = True
    if got.shape != (5, 5):
        return f"the shape is {got.shape}; a matrix (5, 5)"
    if np.array_equal(got, right | np.eye(5, dtype=bool)):
        return "a row's own positive is the right answer, and must stay in"
    return "" if np.array_equal(got, right) else "compare the numbers row by row"


def _masked_max(answer: Answer) -> str:
    tokens = -1 - np.random.default_rng(9).random((2, 4, 3))  # all below zero
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    tokens[0, 2:] = 5.0  # padding that would win
    got = answer(tokens, mask)
    if got is None:
        return "it returns nothing yet"
    got = np.asarray(got)
    if got.shape != (2, 3):
        return f"the shape is {got.shape}; one vector a text: (2, 3)"
    if np.allclose(got, tokens.max(1)):
        return "padding won; put minus infinity where the mask is zero"
    if np.allclose(got, (tokens * mask[:, :, None]).max(1)):
        return "times zero is not enough: zero is larger than a negative number"
    right = np.stack([tokens[0, :2].max(0), tokens[1].max(0)])
    return "" if np.allclose(got, right) else "the largest of each column"


def _paired(answer: Answer) -> str:
    rng = np.random.default_rng(10)
    a = rng.normal(size=6)
    b = a + rng.normal(scale=0.1, size=6) - 0.2
    got = answer(a, b)
    if got is None:
        return "it returns nothing yet"
    mean, error = got
    d = a - b
    if not np.isclose(mean, d.mean()):
        return "the first number is the mean of a minus b"
    unpaired = np.sqrt(a.var(ddof=1) / 6 + b.var(ddof=1) / 6)
    if np.isclose(error, unpaired):
        return "that is for independent seeds; take the spread of the differences"
    if np.isclose(error, d.std() / np.sqrt(6)):
        return "with few seeds divide by n - 1: ddof=1"
    right = np.isclose(error, d.std(ddof=1) / np.sqrt(6))
    return "" if right else "the spread of the differences over the root of n"


def _seeds_needed(answer: Answer) -> str:
    got = answer(0.01, 0.007)
    if got is None:
        return "it returns nothing yet"
    if got == 2:
        return "both models spread: the variance of the difference is twice as large"
    # No whole number before rounding up, which the last digit could turn over.
    if (got, answer(0.01, 0.019), answer(0.02, 0.019)) == (4, 29, 8):
        return ""
    return "set two standard errors, 2 * sd * sqrt(2 / n), equal to the gap; round up"


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
        return ""
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
        return ""
    if np.isclose(got, far / 199):
        return "count the measured one among the draws: plus one above and below"
    if np.isclose(got, ((drawn >= measured).sum() + 1) / 200):
        return "two-sided: as far from zero on either side"
    return (
        "flip, take each row's mean, count those as far from zero as the measured one"
    )


_CHECKERS: dict[str, Callable[[Answer], str]] = {
    "01.1": _masked_mean,
    "01.2": _pair_hours,
    "01.3": _mean_cosine,
    "02.1": _features,
    "02.2": _ranking_loss,
    "02.3": _same_positive,
    "03.1": _masked_max,
    "03.2": _paired,
    "03.3": _seeds_needed,
    "04.1": _top_k,
    "04.2": _cosine_from_l2,
    "04.3": _index_bytes,
    "05.1": _spearman,
    "05.2": _holm,
    "05.3": _sign_flips,
}
