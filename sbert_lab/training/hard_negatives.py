"""Hard negatives: texts that a model takes for the answer, and that are not.

The nearest wrong texts teach most, but among them stand right answers that nobody wrote
down, and a model that is taught to push those away gets worse. So most of this is about
what is *not* mined.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
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

Rows = NDArray[np.int64]
#: Rows of pairs ``[m]`` and of the corpus ``[m]`` to True where they must not meet.
Guard = Callable[[Rows, Rows], NDArray[np.bool_]]
#: Numbers of anchors ``[q]`` and k to scores and texts' positions ``[q, k]``, −1: none.
Search = Callable[[Rows, int], tuple[Vectors, Rows]]

_ANCHORS_AT_ONCE = 1_024
_SPARE = 16  # neighbours looked at beyond those asked for, at first
_SAMPLINGS = ("first", "random")
_WINDOW = 10  # candidates looked at for each negative, if no last rank is given
_ALLOWED, _REPEATED, _KNOWN, _GUARDED = range(4)


class NoNegativesError(ValueError):
    """No anchor has a negative."""


@dataclass(frozen=True, eq=False)
class Mined:
    """What was mined for n pairs. Pairs of one anchor have the same negatives.

    ``negatives`` are corpus rows, int64 ``[n, per_anchor]``, nearest first, -1 where
    there are fewer. ``removed`` counts the candidates that were passed over as
    ``known`` positives, by the ``guard``, and for the ``relative_margin``.
    """

    anchors: Sequence[str] = field(repr=False)
    positives: Sequence[str] = field(repr=False)
    corpus: Sequence[str] = field(repr=False)
    negatives: Rows = field(repr=False)
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
        pair, place = np.nonzero(self.negatives >= 0)
        return {
            "anchor": [self.anchors[i] for i in pair.tolist()],
            "positive": [self.positives[i] for i in pair.tolist()],
            "negative": [self.corpus[i] for i in self.negatives[pair, place].tolist()],
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

    An anchor's nearest corpus texts are its candidates, but for its positives, itself,
    and whatever `known` and `guard` forbid. Texts are the same if `pairs.plain` makes
    them so. An anchor may stand in several pairs and a text in several corpus rows:
    what one of them forbids is forbidden.

    Parameters
    ----------
    encoder
        Its own measure counts. Or BM25 over the corpus, which passes over texts
        without a word in common with the anchor.
    anchors, positives
        n texts each, belonging together row by row.
    corpus
        Where negatives come from; the default is the positives of the other anchors.
    rank
        From which rank, 0 is the nearest, up to and without which; None for ten
        candidates a negative. Ranks are counted among what `known` and `guard` leave.
    relative_margin
        A negative scores at most as much as the anchor's lowest positive, minus this
        share of its absolute value: 0.05 keeps those 5 % below. Not for BM25.
    known
        More positives: pairs of (anchor, text).
    guard
        True where a row of pairs and a row of the corpus must not meet, such as
        `icd10cm.HierarchyGuard`.
    sampling, seed
        ``"first"`` takes the nearest of what is left, ``"random"`` draws among it.

    Raises
    ------
    ValueError
        Columns of different length, no texts, or an option out of range.
    NoNegativesError
        Nothing is left; says what was in the way.

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
    if not 0 <= first < first + per_anchor <= last or sampling not in _SAMPLINGS:
        raise ValueError(
            f"rank={rank}, per_anchor={per_anchor}, sampling={sampling!r}: ranks begin "
            f"at 0, one for each negative at least; sampling is one of {_SAMPLINGS}"
        )
    pairs = _Pairs(anchors, positives, corpus, known, guard)
    if isinstance(encoder, Bm25):
        if relative_margin is not None:
            raise ValueError("relative_margin: BM25 does not score the positives")
        search = _by_words(encoder, pairs)
        positive_scores = np.zeros(len(positives), np.float32)
    else:
        search, positive_scores = _by_vectors(
            encoder, pairs, positives, cache, show_progress
        )
    last = max(first + per_anchor, min(last, len(pairs.texts)))
    highest = np.full(len(pairs.anchors), np.inf)
    if relative_margin is not None:
        np.minimum.at(highest, pairs.anchor_of, positive_scores)
        highest -= np.abs(highest) * relative_margin
    shape = len(highest), last - first
    key = np.broadcast_to(np.arange(float(shape[1])), shape)
    if sampling == "random":
        key = np.random.default_rng(seed).random(shape)
    removed = {"known": 0, "guard": 0, "relative_margin": 0}
    rows = np.full((len(highest), per_anchor), -1)
    with progress(len(highest), "mine", show=show_progress) as move:
        for anchor, texts, scores in _windows(search, pairs, (first, last), removed):
            left = np.flatnonzero(scores <= highest[anchor])
            removed["relative_margin"] += len(texts) - len(left)
            chosen = np.sort(left[np.argsort(key[anchor, left])[:per_anchor]])
            rows[anchor, : len(chosen)] = pairs.first_row[texts[chosen]]
            move(1)
    if (rows < 0).all():
        raise NoNegativesError(
            f"no negative is left; removed were {removed}. Give a larger corpus, look "
            f"deeper than rank={rank}, or loosen what removed most"
        )
    return Mined(anchors, positives, corpus, rows[pairs.anchor_of], removed)


class _Pairs:
    """The q different anchors, by `plain`, the t different texts, and who may meet."""

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
                reasons = pairs.reasons(anchor, texts[texts >= 0])
                allowed = np.flatnonzero(reasons == _ALLOWED)
                if len(allowed) < last and k <= found.shape[1]:
                    deeper.append(anchor)
                    continue
                passed = reasons[: allowed[last - 1] if len(allowed) >= last else None]
                removed["known"] += int((passed == _KNOWN).sum())
                removed["guard"] += int((passed == _GUARDED).sum())
                taken = allowed[first:last]
                yield anchor, texts[taken], score[taken]
            pending, k = deeper, 2 * k


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
