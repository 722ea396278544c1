"""Hard negatives: texts that a model takes for the answer, and that are not.

The nearest wrong texts teach most, but among them stand right answers that nobody wrote
down, and a model that is taught to push those away gets worse. So most of this is about
what is *not* mined.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import Vectors, progress
from sbert_lab.datasets.pairs import plain
from sbert_lab.index.exact import checked, exact_search, normalized
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.sentence_encoder import (
    Encoder,
    SentenceEncoder,
    encode_documents,
    encode_queries,
    metric_of,
)

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
#: Rows of pairs ``[m]`` and of the corpus ``[m]`` to True where they must not meet.
Guard = Callable[[Rows, Rows], NDArray[np.bool_]]
#: Numbers of anchors ``[q]`` and k to scores and texts' positions ``[q, k]``, −1: none.
Search = Callable[[Rows, int], tuple[Vectors, Rows]]

_ANCHORS_AT_ONCE = 1_024
_SPARE = 16  # neighbours looked at beyond those asked for, at first
_WINDOW = 10  # candidates looked at for each negative, if no last rank is given
_ALLOWED, _REPEATED, _KNOWN, _GUARDED = range(4)


class NoNegativesError(ValueError):
    """No anchor has a negative."""


@dataclass(frozen=True, eq=False)
class Mined:
    """What was mined for n pairs. Pairs of one anchor have the same negatives.

    Parameters
    ----------
    anchors, positives, corpus
        The texts, as given; without a corpus it is the positives.
    negatives
        Corpus rows, int64 ``[n, per_anchor]``, nearest first; -1 where there are fewer.
        Of a text that repeats, the first row.
    scores
        Their similarity to the anchor, float32 ``[n, per_anchor]``; minus infinity
        where there is none.
    removed
        How many candidates were passed over, by reason: ``known``, ``guard`` (before
        ranks are counted) and ``relative_margin``. A candidate is one text for one
        anchor, and counts for the first reason.
    """

    anchors: Sequence[str] = field(repr=False)
    positives: Sequence[str] = field(repr=False)
    corpus: Sequence[str] = field(repr=False)
    negatives: Rows = field(repr=False)
    scores: Vectors = field(repr=False)
    removed: dict[str, int]

    @property
    def rows(self) -> Rows:
        """Numbers of the pairs that have a negative, rising."""
        return np.flatnonzero((self.negatives >= 0).any(1))

    def triplets(self) -> dict[str, list[str]]:
        """Return columns ``anchor``, ``positive``, ``negative``: one row a negative.

        Pairs without a negative are left out. For `training.data.TrainingData`.
        """
        row, place = np.nonzero(self.negatives >= 0)
        return {
            "anchor": [self.anchors[i] for i in row.tolist()],
            "positive": [self.positives[i] for i in row.tolist()],
            "negative": [self.corpus[i] for i in self.negatives[row, place].tolist()],
        }

    def columns(self) -> dict[str, list[str] | list[list[str]]]:
        """Return the same columns, one row a pair, with a list of its negatives.

        All n pairs are there, in their order; a list may be empty. For objectives that
        take any number of negatives, such as multiple negatives ranking.
        """
        lists = [[self.corpus[i] for i in row if i >= 0] for row in self.negatives]
        return {
            "anchor": list(self.anchors),
            "positive": list(self.positives),
            "negative": lists,
        }


def mine(
    encoder: Encoder | Bm25,
    anchors: Sequence[str],
    positives: Sequence[str],
    *,
    corpus: Sequence[str] | None = None,
    per_anchor: int = 1,
    rank: tuple[int, int | None] = (0, None),
    relative_margin: float | None = None,
    known: Iterable[tuple[str, str]] = (),
    guard: Guard | None = None,
    sampling: Literal["first", "random"] = "first",
    seed: int = 0,
    cache: EmbeddingCache | None = None,
    show_progress: bool | None = None,
) -> Mined:
    """Find hard negatives for pairs of texts.

    Each anchor's nearest corpus texts are its candidates, without its positives, the
    anchor itself, and whatever `known` and `guard` forbid. Texts are the same if
    `datasets.pairs.plain` makes them so. An anchor in several pairs has several
    positives, and a text in several corpus rows may have several codes: what one of
    them forbids is forbidden.

    Parameters
    ----------
    encoder
        Its ``encode_query`` and ``encode_document`` are used, if it has them, and its
        own measure. Or BM25 over the corpus; a text without a word in common with the
        anchor is no candidate then.
    anchors, positives
        n texts each, belonging together row by row.
    corpus
        Where negatives come from; the default is the positives of the other anchors.
    per_anchor
        Negatives for each anchor, at most.
    rank
        From which rank, 0 is the nearest, up to and without which. Ranks are counted
        among admissible texts, and before the margin takes any away. None looks at ten
        candidates for each negative.
    relative_margin
        A negative's score is at most that of the lowest positive minus this share of
        its absolute value: 0.05 keeps those 5 % below. Not for BM25.
    known
        More positives: pairs of (anchor, text).
    guard
        A function of rows of pairs ``[m]`` and rows of the corpus ``[m]`` to bool
        ``[m]``, True where the two must not meet, e.g. a `HierarchyGuard`.
    sampling
        ``"first"`` takes the nearest of what is left, ``"random"`` draws among it, by
        `seed`.
    cache
        Keeps vectors.
    show_progress
        Bars on standard error; by default for long work on a terminal.

    Raises
    ------
    ValueError
        Columns of different length, no texts, or an option out of range.
    NoNegativesError
        No negative is left; says what was in the way.

    Sources: Karpukhin et al. 2020, section 3.2 (negatives from a search); Moreira et
    al. 2024, section 3.2 (margins relative to the positive, TopK-PercPos).
    """
    corpus = positives if corpus is None else corpus
    first, last = rank
    last = first + _WINDOW * per_anchor if last is None else last
    if len(anchors) != len(positives) or not len(anchors) or not len(corpus):
        raise ValueError(
            f"{len(anchors)} anchors, {len(positives)} positives and {len(corpus)} "
            "texts: each anchor needs its positive, row by row, and a corpus"
        )
    if per_anchor < 1 or first < 0 or last - first < per_anchor:
        raise ValueError(
            f"rank={rank}, per_anchor={per_anchor}: ranks start at 0, and from the "
            "first up to the last there must be one for each negative"
        )
    if sampling not in ("first", "random"):
        raise ValueError(f"sampling={sampling!r}: 'first' or 'random'")
    pairs = _Pairs(anchors, positives, corpus, known, guard)
    if isinstance(encoder, Bm25):
        if relative_margin is not None or len(encoder) != len(corpus):
            raise ValueError("BM25 must be that of the corpus, and knows no margin")
        search, reachable = _by_words(encoder, pairs), len(corpus)
        positive_scores = np.zeros(len(positives), np.float32)
    else:
        search, positive_scores = _by_vectors(
            encoder, pairs, positives, cache, show_progress
        )
        reachable = len(pairs.texts)
    last = max(first + per_anchor, min(last, reachable))
    found, scores, removed = _window(
        search, pairs, reachable, (first, last), show_progress
    )
    left = found >= 0
    if relative_margin is not None:
        lowest = np.full(len(pairs.anchors), np.inf)
        np.minimum.at(lowest, pairs.anchor_of, positive_scores)
        highest = lowest - np.abs(lowest) * relative_margin
        out = left & (scores > highest[:, None])
        removed["relative_margin"] = int(out.sum())
        left &= ~out
    if not left.any():
        raise NoNegativesError(
            f"no negative is left; removed were {removed}. Give a larger corpus, look "
            f"deeper than rank={rank}, or loosen what removed most"
        )
    if sampling == "random":
        key = np.random.default_rng(seed).random(left.shape)
    else:
        key = np.broadcast_to(np.arange(float(left.shape[1])), left.shape)
    order = np.argsort(np.where(left, key, np.inf), axis=1, kind="stable")
    chosen = np.zeros_like(left)
    np.put_along_axis(chosen, order[:, :per_anchor], True, 1)
    chosen &= left
    # Nearest first, then the places of those that are missing.
    order = np.argsort(~chosen, axis=1, kind="stable")[:, :per_anchor]
    there = np.take_along_axis(chosen, order, 1)
    rows = np.where(there, pairs.first_row[np.take_along_axis(found, order, 1)], -1)
    scores = np.where(there, np.take_along_axis(scores, order, 1), -np.inf)
    fewer = int((there.sum(1) < per_anchor).sum())
    if fewer:
        log.info(
            "%d of %d anchors got fewer than %d negatives; removed were %s",
            fewer,
            len(rows),
            per_anchor,
            removed,
        )
    return Mined(
        tuple(anchors),
        tuple(positives),
        tuple(corpus),
        rows[pairs.anchor_of],
        scores.astype(np.float32)[pairs.anchor_of],
        removed,
    )


class _Pairs:
    """Different anchors and texts, and which of them may meet.

    Attributes
    ----------
    anchors, texts
        The q different anchors, by `plain`; the t different texts, as written.
    anchor_of
        Number of each pair's anchor, ``[n]``.
    first_row
        First corpus row of each text, ``[t]``.
    """

    def __init__(
        self,
        anchors: Sequence[str],
        positives: Sequence[str],
        corpus: Sequence[str],
        known: Iterable[tuple[str, str]],
        guard: Guard | None,
    ) -> None:
        self.guard = guard
        self.anchor_of, anchor_numbers = _numbered(map(plain, anchors))
        self.pairs_of = _members(self.anchor_of)
        self.anchors = [anchors[rows[0]] for rows in self.pairs_of]
        self.text_at, text_numbers = _numbered(corpus)
        self.texts = list(text_numbers)
        self.first_row = np.array([rows[0] for rows in _members(self.text_at)])
        plain_at, plain_numbers = _numbered(map(plain, corpus))
        self._plain = plain_at[self.first_row]  # of each text
        self._rows_of = _members(plain_at)
        right: dict[int, set[int]] = defaultdict(set)
        own = ((anchor, anchor) for anchor in anchors)
        for pair in (*zip(anchors, positives, strict=True), *own, *known):
            anchor, text = map(plain, pair)
            if anchor in anchor_numbers and text in plain_numbers:
                right[anchor_numbers[anchor]].add(plain_numbers[text])
        self._right = [
            np.array(sorted(right[q]), int) for q in range(len(self.anchors))
        ]

    def reasons(self, anchor: int, texts: Rows) -> NDArray[np.int64]:
        """Return for an anchor's candidates, nearest first, why each is out, or 0."""
        numbers = self._plain[texts]
        out = np.full(len(texts), _REPEATED)
        first = np.unique(numbers, return_index=True)[1]
        out[first] = np.where(
            np.isin(numbers[first], self._right[anchor]), _KNOWN, _ALLOWED
        )
        allowed = np.flatnonzero(out == _ALLOWED)
        if self.guard is not None and len(allowed):
            members = [self._rows_of[number] for number in numbers[allowed]]
            rows, sizes = np.concatenate(members), [len(rows) for rows in members]
            for pair in self.pairs_of[anchor]:
                forbidden = self.guard(np.full(len(rows), pair), rows)
                out[np.repeat(allowed, sizes)[forbidden]] = _GUARDED
        return out


def _window(
    search: Search,
    pairs: _Pairs,
    reachable: int,
    rank: tuple[int, int],
    show_progress: bool | None,
) -> tuple[Rows, Vectors, dict[str, int]]:
    """Return the admissible texts of a range of ranks, ``[q, w]``, and their scores.

    Whoever asks for thirty gets thirty, even if the guard takes hundreds in front of
    them: the few anchors that need it are searched again, twice as deep.
    """
    first, last = rank
    total = len(pairs.anchors)
    texts = np.full((total, last - first), -1)
    scores = np.full((total, last - first), -np.inf, np.float32)
    removed = {"known": 0, "guard": 0}
    with progress(total, "mine", show=show_progress) as move:
        for start in range(0, total, _ANCHORS_AT_ONCE):
            pending = np.arange(start, min(start + _ANCHORS_AT_ONCE, total))
            k = min(last + _SPARE, reachable)
            while len(pending):
                similar, found = search(pending, k)
                deeper = []
                for anchor, row, score in zip(
                    pending.tolist(), found, similar, strict=True
                ):
                    reasons = pairs.reasons(anchor, row[row >= 0])
                    allowed = np.flatnonzero(reasons == _ALLOWED)
                    if len(allowed) < last and k < reachable:
                        deeper.append(anchor)
                        continue
                    taken = allowed[first:last]
                    texts[anchor, : len(taken)] = row[taken]
                    scores[anchor, : len(taken)] = score[taken]
                    passed = reasons[: allowed[last - 1] if len(allowed) >= last else k]
                    removed["known"] += int((passed == _KNOWN).sum())
                    removed["guard"] += int((passed == _GUARDED).sum())
                    move(1)
                pending, k = np.array(deeper, int), min(2 * k, reachable)
    return texts, scores, removed


def _by_vectors(
    encoder: Encoder,
    pairs: _Pairs,
    positives: Sequence[str],
    cache: EmbeddingCache | None,
    show: bool | None,
) -> tuple[Search, Vectors]:
    """Return an exact search among the texts, and each positive's score, ``[n]``."""
    metric = metric_of(encoder)
    wanted = list(dict.fromkeys([*pairs.texts, *positives]))
    if isinstance(encoder, SentenceEncoder):
        options = {"cache": cache, "show_progress": show}
        queries = encoder.encode_query(pairs.anchors, **options)
        documents = encoder.encode_document(wanted, **options)
    else:
        queries = encode_queries(encoder, pairs.anchors)
        documents = encode_documents(encoder, wanted)
    queries = checked(np.asarray(queries), "anchors")
    documents = checked(np.asarray(documents), "corpus")
    if metric == "cosine":
        queries, documents = normalized(queries), normalized(documents)
    at = {text: row for row, text in enumerate(wanted)}
    own = documents[[at[text] for text in positives]]
    corpus = documents[: len(pairs.texts)]

    def search(anchors: Rows, k: int) -> tuple[Vectors, Rows]:
        return exact_search(queries[anchors], corpus, k, "dot")

    return search, np.einsum("nd,nd->n", queries[pairs.anchor_of], own)


def _by_words(bm25: Bm25, pairs: _Pairs) -> Search:
    def search(anchors: Rows, k: int) -> tuple[Vectors, Rows]:
        scores, rows = bm25.search([pairs.anchors[a] for a in anchors], k)
        return scores, np.where(scores > 0, pairs.text_at[rows], -1)

    return search


def _numbered(texts: Iterable[str]) -> tuple[Rows, dict[str, int]]:
    """Return the number of each text ``[n]``, equal for equal ones, and all numbers."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(text, len(numbers)) for text in texts]
    return np.array(found, np.int64), numbers


def _members(numbers: Rows) -> list[Rows]:
    """Return for each number from 0 on who has it, rising."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
