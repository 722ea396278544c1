"""Hard negatives: texts that a model takes for the answer, and that are not.

The nearest wrong texts teach most, but among them stand right answers that nobody wrote
down, and a model that is taught to push those away gets worse.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import Vectors
from sbert_lab.datasets.pairs import plain
from sbert_lab.index.exact import exact_search, normalized
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
#: Rows of pairs ``[m]`` and of the corpus ``[m]`` to True where they must not meet.
Guard = Callable[[Rows, Rows], NDArray[np.bool_]]
#: Numbers of anchors ``[q]`` and k to scores and numbers of texts ``[q, k]``.
Search = Callable[[Rows, int], tuple[Vectors, Rows]]

_ANCHORS_AT_ONCE = 1_024
_SPARE = 16  # neighbours looked at beyond those asked for, at first
_ALLOWED, _KNOWN, _GUARDED = range(3)


class NoNegativesError(ValueError):
    """No anchor has a negative."""


@dataclass(frozen=True, eq=False)
class Mined:
    """What was mined for n pairs. Pairs of one anchor have the same negatives."""

    anchors: Sequence[str] = field(repr=False)
    positives: Sequence[str] = field(repr=False)
    corpus: Sequence[str] = field(repr=False)
    #: Corpus rows, int64 ``[n, per_anchor]``, nearest first, -1 where there are fewer.
    negatives: Rows = field(repr=False)
    #: How many candidates were passed over, and why.
    removed: dict[str, int]

    @property
    def rows(self) -> Rows:
        """Numbers of the pairs that have a negative, rising."""
        return np.flatnonzero((self.negatives >= 0).any(1))

    def columns(self) -> dict[str, list[str] | list[list[str]]]:
        """Return ``anchor``, ``positive`` and a list of ``negative`` for each pair."""
        lists = [[self.corpus[i] for i in row if i >= 0] for row in self.negatives]
        return {
            "anchor": list(self.anchors),
            "positive": list(self.positives),
            "negative": lists,
        }

    def triplets(self) -> dict[str, list[str]]:
        """Return the same columns with a row for each negative."""
        if without := len(self.anchors) - len(self.rows):
            told = "%d of %d pairs have no negative and make no row; removed were %s"
            log.warning(told, without, len(self.anchors), self.removed)
        pair, place = np.nonzero(self.negatives >= 0)
        return {
            "anchor": [self.anchors[i] for i in pair.tolist()],
            "positive": [self.positives[i] for i in pair.tolist()],
            "negative": [self.corpus[i] for i in self.negatives[pair, place].tolist()],
        }


def mine(
    encoder: SentenceEncoder,
    anchors: Sequence[str],
    positives: Sequence[str],
    *,
    corpus: Sequence[str] | None = None,
    per_anchor: int = 1,
    rank: tuple[int, int] = (0, 10),
    relative_margin: float | None = None,
    guard: Guard | None = None,
    seed: int = 0,
    cache: EmbeddingCache | None = None,
) -> Mined:
    """Find hard negatives for n pairs of texts that belong together row by row.

    An anchor's nearest texts of `corpus`, by default the positives, are its candidates,
    but for its positives, itself, and whatever `guard` forbids, such as
    `icd10cm.HierarchyGuard`. Negatives are drawn from the first rank of these, 0 is the
    nearest, up to and without the last. Each has at most the cosine of the anchor's
    lowest positive, minus `relative_margin` of its absolute value. Texts are the same
    if `pairs.plain` makes them so; where an anchor stands in several pairs, or a text
    in several rows, what one of them forbids is forbidden.

    A `NoNegativesError` says what was in the way of all.

    Sources: Karpukhin et al. 2020, section 3.2 (negatives from a search); Moreira et
    al. 2024, section 3.2 (margins relative to the positive, TopK-PercPos).
    """
    corpus = positives if corpus is None else corpus
    first, last = rank
    if len(anchors) != len(positives) or not len(anchors) or not len(corpus):
        raise ValueError(
            f"{len(anchors)} anchors, {len(positives)} positives and {len(corpus)} "
            "texts: each anchor needs its positive, row by row, and a corpus"
        )
    if not 0 <= first < first + per_anchor <= last:
        raise ValueError(f"rank={rank}, per_anchor={per_anchor}: no room between")
    pairs = _Pairs(anchors, positives, corpus, guard)
    wanted = list(dict.fromkeys([*pairs.texts, *positives]))
    queries = normalized(encoder.encode_query(pairs.anchors, cache=cache))
    documents = normalized(encoder.encode_document(wanted, cache=cache))

    def search(anchors: Rows, k: int) -> tuple[Vectors, Rows]:
        return exact_search(queries[anchors], documents[: len(pairs.texts)], k, "dot")

    last = max(first + per_anchor, min(last, len(pairs.texts)))
    highest = np.full(len(pairs.anchors), np.inf)
    if relative_margin is not None:
        at = {text: row for row, text in enumerate(wanted)}
        own = documents[[at[text] for text in positives]]
        scores = np.einsum("nd,nd->n", queries[pairs.anchor_of], own)
        np.minimum.at(highest, pairs.anchor_of, scores)
        highest -= np.abs(highest) * relative_margin
    key = np.random.default_rng(seed).random((len(highest), last - first))
    removed = {"known": 0, "guard": 0, "relative_margin": 0}
    rows = np.full((len(highest), per_anchor), -1)
    for anchor, texts, scores in _windows(search, pairs, (first, last), removed):
        left = np.flatnonzero(scores <= highest[anchor])
        removed["relative_margin"] += len(texts) - len(left)
        chosen = np.sort(left[np.argsort(key[anchor, left])[:per_anchor]])
        rows[anchor, : len(chosen)] = [pairs.rows_of[text][0] for text in texts[chosen]]
    if (rows < 0).all():
        raise NoNegativesError(
            f"no negative is left; removed were {removed}. Give a larger corpus, look "
            f"deeper than rank={rank}, or loosen what removed most"
        )
    return Mined(anchors, positives, corpus, rows[pairs.anchor_of], removed)


class _Pairs:
    """The q different anchors and the t different texts, by `plain`, and who may meet.

    `pairs_of` and `rows_of` say in which pairs and corpus rows each of them stands.
    """

    def __init__(
        self,
        anchors: Sequence[str],
        positives: Sequence[str],
        corpus: Sequence[str],
        guard: Guard | None,
    ) -> None:
        self.guard = guard
        names, self.anchor_of, self.pairs_of = _different(anchors)
        numbers, _, self.rows_of = _different(corpus)
        self.anchors = [anchors[rows[0]] for rows in self.pairs_of]
        self.texts = [corpus[rows[0]] for rows in self.rows_of]
        self._right = [
            [
                numbers.get(text, -1)
                for text in (name, *(plain(positives[i]) for i in rows))
            ]
            for name, rows in zip(names, self.pairs_of, strict=True)
        ]

    def reasons(self, anchor: int, texts: Rows) -> Rows:
        """Return for some texts why each is out for an anchor, or 0."""
        out = np.where(np.isin(texts, self._right[anchor]), _KNOWN, _ALLOWED)
        allowed = np.flatnonzero(out == _ALLOWED)
        if self.guard is not None and len(allowed):
            members = [self.rows_of[text] for text in texts[allowed]]
            rows: Rows = np.concatenate(members)
            sizes = [len(one) for one in members]
            for pair in self.pairs_of[anchor]:
                forbidden = self.guard(np.full(len(rows), pair), rows)
                out[np.repeat(allowed, sizes)[forbidden]] = _GUARDED
        return out


def _windows(
    search: Search, pairs: _Pairs, rank: tuple[int, int], removed: dict[str, int]
) -> Iterator[tuple[int, Rows, Vectors]]:
    """Yield the admissible texts of a range of ranks for each anchor, and their scores.

    Whoever asks for thirty gets thirty, even if the guard takes hundreds in front of
    them: the few anchors that need it are searched again, twice as deep.
    """
    first, last = rank
    for start in range(0, len(pairs.anchors), _ANCHORS_AT_ONCE):
        pending = list(range(len(pairs.anchors)))[start : start + _ANCHORS_AT_ONCE]
        k = last + _SPARE
        while pending:
            scores, found = search(np.array(pending), k)
            deeper = []
            for anchor, score, texts in zip(pending, scores, found, strict=True):
                reasons = pairs.reasons(anchor, texts)
                allowed = np.flatnonzero(reasons == _ALLOWED)[:last]
                if len(allowed) < last and k < len(pairs.texts):
                    deeper.append(anchor)
                    continue
                passed = reasons[: allowed[-1] if len(allowed) == last else None]
                removed["known"] += int((passed == _KNOWN).sum())
                removed["guard"] += int((passed == _GUARDED).sum())
                taken = allowed[first:]
                yield anchor, texts[taken], score[taken]
            pending, k = deeper, 2 * k


def _different(texts: Sequence[str]) -> tuple[dict[str, int], Rows, list[list[int]]]:
    """Return the number of each `plain` text, those of all texts, and who has each."""
    numbers: dict[str, int] = {}
    of = [numbers.setdefault(plain(text), len(numbers)) for text in texts]
    members: list[list[int]] = [[] for _ in numbers]
    for row, number in enumerate(of):
        members[number].append(row)
    return numbers, np.array(of, np.int64), members
