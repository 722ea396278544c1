"""Where a model fails: which pairs, which kinds of pairs, and which queries.

Spearman's correlation says how well an order of pairs follows people's. Here the
distance between both orders is looked at pair by pair, and averaged over pairs that
have something in common: their length, common words, a negation, numbers.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.lexical import word_overlap, words
from sbert_lab.evaluation.metrics import spearman
from sbert_lab.evaluation.statistics import Floats, Interval, bootstrap_mean

_NEGATION = re.compile(
    r"\b(?:no|not|nor|none|never|neither|nobody|nothing|nowhere|without|cannot)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
_LEADING = re.compile(r"-?\d+(?:\.\d+)?")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
#: "One" is left out: it stands for "a" and for a person as often as for a number.
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        "two three four five six seven eight nine ten eleven twelve".split(), 2
    )
}


@dataclass(frozen=True)
class Stratum:
    """How a model does on pairs of one kind.

    Parameters
    ----------
    name
        Of the kind.
    n
        Pairs of it.
    error
        Mean of `rank_errors`: above 0 the model finds them more similar than people do.
    distance
        Mean of their absolute values, with its interval; None where fewer than two
        pairs, or groups of pairs, leave nothing to draw.
    correlation
        Spearman's, within the kind; NaN where one side never varies.
    """

    name: str
    n: int
    error: float
    distance: Interval | None
    correlation: float

    def row(self) -> dict[str, str | int | float]:
        """Return it as a row of a table."""
        return {
            "pairs": self.name,
            "n": self.n,
            "mean error": self.error,
            "mean absolute error": "" if self.distance is None else str(self.distance),
            "Spearman": "" if math.isnan(self.correlation) else self.correlation,
        }


@dataclass(frozen=True)
class PairError:
    """A pair, and how far the model's order puts it from where people do.

    Parameters
    ----------
    number
        Of the pair in its set, from 0.
    first, second, gold, cosine
        The pair, people's score and the model's similarity.
    error
        As in `rank_errors`.
    """

    number: int
    first: str
    second: str
    gold: float
    cosine: float
    error: float


@dataclass(frozen=True)
class Miss:
    """A query whose answer does not stand where it should.

    Parameters
    ----------
    number, query
        Of the query, from 0, and its text.
    wanted
        Ids that answer it.
    rank
        Place of the first of them, from 1; None where the ranking ends before it.
    first
        Id that stands first instead; None where nothing was found.
    """

    number: int
    query: str
    wanted: tuple[Any, ...]
    rank: int | None
    first: Any


def rank_errors(gold: ArrayLike, cosines: ArrayLike) -> Floats:
    """Return how much too high the model ranks each pair, ``[n]``, from -1 to 1.

    ``(rank by cosine - rank by gold) / (n - 1)``, ties at their mean rank: 0.1 means
    that the pair stands higher by a tenth of all pairs than people would put it. The
    mean over all pairs is 0. In sets with few different scores no order is without
    error, for a model's cosines have no ties.
    """
    from scipy.stats import rankdata

    wanted, found = np.asarray(gold, np.float64), np.asarray(cosines, np.float64)
    if wanted.ndim != 1 or wanted.shape != found.shape or len(wanted) < 2:
        raise ValueError(
            f"cosines of shape {found.shape} for gold scores of shape {wanted.shape}: "
            "give one each for two or more pairs"
        )
    if not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        raise ValueError("a cosine or a gold score is not finite")
    errors: Floats = (rankdata(found) - rankdata(wanted)) / (len(wanted) - 1)
    return errors


def length_strata(pairs: ScoredPairs, lengths: ArrayLike | None = None) -> list[str]:
    """Return the third that each pair's length falls in, as ``"short (4 to 14)"``.

    Parameters
    ----------
    pairs
        The pairs.
    lengths
        Length of each, ``[n]``, such as tokens; None counts the words of both sides.
        Pairs of one length stay together, so thirds differ somewhat in size.
    """
    if lengths is None:
        both = zip(pairs.first, pairs.second, strict=True)
        lengths = [len(words(a)) + len(words(b)) for a, b in both]
    counts = np.asarray(lengths)
    if counts.shape != (len(pairs),):
        raise ValueError(f"lengths of shape {counts.shape} for {len(pairs)} pairs")
    low, high = np.quantile(counts, [1 / 3, 2 / 3], method="lower")
    third = np.where(counts <= low, 0, np.where(counts <= high, 1, 2))
    names = {}
    for number in set(third.tolist()):
        part = counts[third == number]
        kind = ("short", "middle", "long")[number]
        names[number] = f"{kind} ({part.min()} to {part.max()})"
    return [names[number] for number in third.tolist()]


def overlap_strata(pairs: ScoredPairs) -> list[str]:
    """Return which quarter from 0 to 1 each pair's `word_overlap` falls in."""
    names = ("below 0.25", "0.25 to 0.5", "0.5 to 0.75", "0.75 or more")
    both = zip(pairs.first, pairs.second, strict=True)
    return [names[min(3, int(4 * word_overlap(a, b)))] for a, b in both]


def gold_strata(pairs: ScoredPairs, parts: int = 5) -> list[str]:
    """Return which part of the scale each gold score falls in, as ``"0 to 1"``.

    The scale, from its lowest score to its highest, is cut into `parts` of one width.
    At its ends errors can go one way only: the mean error of the lowest part is above 0
    and that of the highest below it for every model, so compare models, not parts.
    """
    if parts < 1:
        raise ValueError(f"parts={parts}: at least one")
    scores = np.asarray(pairs.score, np.float64)
    edges = np.linspace(scores.min(), scores.max(), parts + 1)
    places = np.clip(np.searchsorted(edges, scores, "right") - 1, 0, parts - 1)
    return [f"{edges[i]:g} to {edges[i + 1]:g}" for i in places.tolist()]


def negation_strata(pairs: ScoredPairs) -> list[str]:
    """Return whether ``"neither side"``, ``"one side"`` or ``"both sides"`` negates.

    By a word such as *not*, *no*, *never*, *without*, or an ending in *n't*.
    """
    names = ("neither side negates", "one side negates", "both sides negate")
    both = zip(pairs.first, pairs.second, strict=True)
    return [names[sum(bool(_NEGATION.search(text)) for text in pair)] for pair in both]


def number_strata(pairs: ScoredPairs) -> list[str]:
    """Return whether the sides have no numbers, the same ones or different ones.

    Numbers in digits, and *two* to *twelve* in words, in whatever order.
    """
    found = []
    for pair in zip(pairs.first, pairs.second, strict=True):
        first, second = map(_numbers, pair)
        same = "the same numbers" if first == second else "different numbers"
        found.append(same if first or second else "no number")
    return found


def by_stratum(
    pairs: ScoredPairs,
    cosines: ArrayLike,
    strata: Sequence[str],
    *,
    seed: int = 0,
    draws: int = 2_000,
) -> list[Stratum]:
    """Return how the model does on pairs of each kind, in the order of the names.

    Ranks are those among all pairs; Spearman's correlation alone is taken within a
    kind, and is lower where gold scores vary less.

    Parameters
    ----------
    pairs, cosines
        The set, and the model's similarity of each pair, ``[n]``.
    strata
        The kind of each pair, ``[n]``, as the functions ``…_strata`` give it.
    seed, draws
        Of the interval, which draws whole groups where the set has them.
    """
    kinds = np.asarray(strata)
    if kinds.shape != (len(pairs),):
        raise ValueError(f"strata of shape {kinds.shape} for {len(pairs)} pairs")
    gold, found = np.asarray(pairs.score), np.asarray(cosines, np.float64)
    errors = rank_errors(gold, found)
    groups = np.asarray(pairs.group) if pairs.group else np.arange(len(pairs))
    rows = []
    for kind in _in_order(set(kinds.tolist())):
        kept = kinds == kind
        drawn = groups[kept]
        distance = None
        if len(set(drawn.tolist())) > 1:
            distance = bootstrap_mean(
                np.abs(errors[kept]), groups=drawn, seed=seed, draws=draws
            )
        varied = all(len(set(part[kept].tolist())) > 1 for part in (gold, found))
        correlation = spearman(found[kept], gold[kept]) if varied else math.nan
        mean = float(errors[kept].mean())
        rows.append(Stratum(kind, int(kept.sum()), mean, distance, correlation))
    return rows


def worst_pairs(
    pairs: ScoredPairs,
    cosines: ArrayLike,
    count: int = 10,
    *,
    side: Literal["both", "too similar", "too different"] = "both",
) -> list[PairError]:
    """Return the pairs with the largest errors, the largest first.

    Parameters
    ----------
    pairs, cosines
        As in `by_stratum`.
    count
        At most so many; a pair without an error of that side is not among them.
    side
        Errors of both signs, or only pairs that the model finds ``"too similar"``, or
        ``"too different"``.
    """
    errors = rank_errors(pairs.score, cosines)
    signs = {"both": np.abs(errors), "too similar": errors, "too different": -errors}
    if side not in signs:
        raise ValueError(f"side={side!r}: one of {', '.join(map(repr, signs))}")
    size, found = signs[side], np.asarray(cosines, np.float64)
    order = [int(i) for i in np.argsort(-size, kind="stable") if size[i] > 0]
    return [
        PairError(
            number=i,
            first=pairs.first[i],
            second=pairs.second[i],
            gold=float(pairs.score[i]),
            cosine=float(found[i]),
            error=float(errors[i]),
        )
        for i in order[:count]
    ]


def misses(
    queries: Sequence[str],
    found: Sequence[Sequence[Any]],
    relevant: Sequence[Collection[Any]],
    *,
    k: int = 1,
) -> list[Miss]:
    """Return the queries with no right answer among the first k, the worst first.

    Parameters
    ----------
    queries
        Their texts.
    found, relevant
        Ids that came back, nearest first, and ids that are right, for each query, as
        for `metrics`. A query without a right id is left out: it cannot be met.
    k
        Where an answer must stand.
    """
    if k < 1:
        raise ValueError(f"k={k}: at least 1")
    missed = []
    rows = zip(queries, found, relevant, strict=True)
    for number, (query, row, wanted) in enumerate(rows):
        places = (place for place, key in enumerate(row, 1) if key in wanted)
        rank = next(places, None)
        if wanted and (rank is None or rank > k):
            first = row[0] if len(row) else None
            missed.append(Miss(number, query, tuple(wanted), rank, first))
    return sorted(missed, key=lambda miss: -(miss.rank or math.inf))


def shown(miss: Miss, texts: Mapping[Any, str]) -> dict[str, str | int]:
    """Return a miss as a row of a table, ids replaced by their texts where known."""
    return {
        "query": miss.query,
        "wanted": " / ".join(texts.get(key, str(key)) for key in miss.wanted),
        "its rank": "not found" if miss.rank is None else miss.rank,
        "came first": "" if miss.first is None else texts.get(miss.first, miss.first),
    }


def _numbers(text: str) -> list[str]:
    """Return the numbers of a text, in digits and sorted, to compare two texts by."""
    plain = unicodedata.normalize("NFKC", text).lower()
    digits = [number.replace(",", "") for number in _NUMBER.findall(plain)]
    named = [_NUMBER_WORDS[word] for word in words(plain) if word in _NUMBER_WORDS]
    return sorted(digits + named)


def _in_order(names: Collection[str]) -> list[str]:
    """Sort names of kinds: words of size and count first, then by leading number."""
    known = ("short", "middle", "long", "below", "no", "neither", "one", "both")

    def place(name: str) -> tuple[int, float, str]:
        word = name.split()[0] if name.split() else ""
        rank = known.index(word) if word in known else len(known)
        number = float(word) if _LEADING.fullmatch(word) else math.inf
        return rank, number, name

    return sorted(names, key=place)
