"""Where a model fails: which pairs, which kinds of pairs, and which queries.

Spearman's correlation says how well an order of pairs follows people's. Here the
distance between both orders is looked at pair by pair.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.metrics import Values, spearman
from sbert_lab.evaluation.statistics import bootstrap_mean

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

_NEGATION = re.compile(
    r"\b(?:no|not|nor|none|never|neither|nobody|nothing|nowhere|without|cannot)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
#: "One" is left out: it stands for "a" and for a person as often as for a number.
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        "two three four five six seven eight nine ten eleven twelve".split(), 2
    )
}


def words(text: str) -> list[str]:
    """Return the lower-cased words of a text, numbers included."""
    return re.findall(r"[a-z0-9]+", text.lower())


def word_overlap(first: str, second: str) -> float:
    """Return the share of words, but stop words, that two texts have in common."""
    a, b = (set(words(text)) - STOP_WORDS for text in (first, second))
    return len(a & b) / max(1, len(a | b))


def bag_of_words_cosine(first: Sequence[str], second: Sequence[str]) -> Values:
    """Return the cosine of the word counts of each pair, ``[n]``, stop words too."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    counter = CountVectorizer(tokenizer=words, token_pattern=None, lowercase=False)
    counts = normalize(counter.fit_transform([*first, *second]))
    left, right = counts[: len(first)], counts[len(first) :]
    cosines: Values = np.asarray(left.multiply(right).sum(axis=1)).ravel()
    return cosines


def rank_errors(gold: ArrayLike, cosines: ArrayLike) -> Values:
    """Return how much too high the model ranks each pair, ``[n]``, from -1 to 1.

    ``(rank by cosine - rank by gold) / (n - 1)``, ties at their mean rank: 0.1 means
    that the pair stands higher by a tenth of all pairs than people would put it.
    """
    from scipy.stats import rankdata

    wanted, found = np.asarray(gold, np.float64), np.asarray(cosines, np.float64)
    if wanted.shape != found.shape or not np.isfinite(found).all():
        raise ValueError("give one finite cosine for each gold score")
    errors: Values = (rankdata(found) - rankdata(wanted)) / (len(wanted) - 1)
    return errors


def strata(pairs: ScoredPairs) -> dict[str, list[str]]:
    """Return the kind of each pair by length, overlap, negation and numbers.

    Lengths are thirds by the words of both sides; overlaps quarters of `word_overlap`;
    numbers stand in digits, or from *two* to *twelve* in words.
    """
    both = list(zip(pairs.first, pairs.second, strict=True))
    counts = np.array([len(words(a)) + len(words(b)) for a, b in both])
    edges = np.quantile(counts, [1 / 3, 2 / 3], method="lower")
    third = np.searchsorted(edges, counts)
    sizes = []
    for number, size in enumerate(("short", "middle", "long")):
        part = counts[third == number]
        sizes.append(f"{size} ({part.min()} to {part.max()})" if len(part) else size)
    quarters = ("below 0.25", "0.25 to 0.5", "0.5 to 0.75", "0.75 or more")
    sides = ("neither side negates", "one side negates", "both sides negate")
    numbers = []
    for first, second in ((_numbers(a), _numbers(b)) for a, b in both):
        same = "the same numbers" if first == second else "different numbers"
        numbers.append(same if first or second else "no number")
    return {
        "length": [sizes[number] for number in third],
        "overlap": [quarters[min(3, int(4 * word_overlap(a, b)))] for a, b in both],
        "negation": [sides[sum(bool(_NEGATION.search(t)) for t in p)] for p in both],
        "numbers": numbers,
    }


def by_stratum(
    pairs: ScoredPairs, cosines: ArrayLike, kinds: Sequence[str]
) -> list[dict[str, Any]]:
    """Return how the model does on pairs of each kind, as rows of a table.

    Errors are `rank_errors` among all pairs; Spearman's correlation alone is taken
    within a kind, and is lower where scores vary less.
    """
    gold, found = np.asarray(pairs.score), np.asarray(cosines, np.float64)
    errors = rank_errors(gold, found)
    groups = np.asarray(pairs.group) if pairs.group else np.arange(len(pairs))
    rows = []
    for kind in sorted(set(kinds), key=_place):
        kept = np.array(kinds) == kind
        varied = all(len(np.unique(part[kept])) > 1 for part in (gold, found))
        drawable = len(np.unique(groups[kept])) > 1
        spread = drawable and bootstrap_mean(abs(errors[kept]), groups=groups[kept])
        rows.append(
            {
                "pairs": kind,
                "n": int(kept.sum()),
                "mean error": float(errors[kept].mean()),
                "mean absolute error": str(spread) if spread else "",
                "Spearman": spearman(found[kept], gold[kept]) if varied else "",
            }
        )
    return rows


def worst_pairs(
    pairs: ScoredPairs, cosines: ArrayLike, count: int, *, too_similar: bool
) -> list[dict[str, Any]]:
    """Return the pairs that the model finds most too similar, or too different."""
    errors = rank_errors(pairs.score, cosines)
    size, found = errors if too_similar else -errors, np.asarray(cosines, np.float64)
    return [
        {
            "first": pairs.first[i],
            "second": pairs.second[i],
            "score": float(pairs.score[i]),
            "cosine": float(found[i]),
            "error": float(errors[i]),
        }
        for i in np.argsort(-size, kind="stable")[:count]
        if size[i] > 0
    ]


def misses(
    queries: Sequence[str],
    found: Sequence[Sequence[Any]],
    relevant: Sequence[Collection[Any]],
    texts: Mapping[Any, str],
) -> list[dict[str, Any]]:
    """Return the queries whose first hit is wrong, as rows of a table, worst first.

    ``found`` are ids that came back, nearest first, ``relevant`` those that are right,
    and `texts` says what an id stands for.
    """
    rows = []
    for query, row, wanted in zip(queries, found, relevant, strict=True):
        places = (place for place, key in enumerate(row, 1) if key in wanted)
        rank = next(places, math.inf)
        if wanted and rank > 1:
            shown = {
                "query": query,
                "wanted": " / ".join(texts[key] for key in wanted),
                "its rank": "not found" if rank == math.inf else rank,
                "came first": texts[row[0]] if len(row) else "",
            }
            rows.append((rank, shown))
    return [shown for _, shown in sorted(rows, key=lambda pair: -pair[0])]


def _numbers(text: str) -> list[str]:
    """Return the numbers of a text, in digits and sorted."""
    plain = unicodedata.normalize("NFKC", text).lower()
    digits = [number.replace(",", "") for number in _NUMBER.findall(plain)]
    named = [_NUMBER_WORDS[word] for word in words(plain) if word in _NUMBER_WORDS]
    return sorted(digits + named)


def _place(name: str) -> tuple[int, str]:
    """Order names of kinds by size and count, then by the alphabet."""
    known = ("short", "middle", "long", "below", "no", "neither", "one", "both")
    word = name.split()[0]
    return known.index(word) if word in known else len(known), name
