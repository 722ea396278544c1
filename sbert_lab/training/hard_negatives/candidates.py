"""Who may be a negative at all: the nearest texts that nobody calls right.

Texts are compared by `pairs.plain` here, so that case, spacing and Unicode form make
no other text. An anchor that stands in several pairs has several positives, and a
corpus text that stands in several rows may have several codes: what one of them
forbids is forbidden.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import Metric, Vectors, progress
from sbert_lab.datasets.pairs import plain
from sbert_lab.evaluation.sparse import as_measured, is_sparse, similarity
from sbert_lab.index.exact import checked, exact_search, normalized
from sbert_lab.index.vector_index import VectorIndex
from sbert_lab.models.sentence_encoder import Encoded

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]
#: Rows of pairs ``[m]`` and of the corpus ``[m]`` to True where they must not meet.
Guard = Callable[[Rows, Rows], Flags]
#: More positives: pairs of (anchor, text), or whether two texts are one.
Known = Iterable[tuple[str, str]] | Callable[[str, str], bool]
#: Numbers of anchors ``[q]`` and k to scores and corpus rows ``[q, k]``, −1 for none.
Search = Callable[[Rows, int], tuple[Vectors, Rows]]

_ANCHORS_AT_ONCE = 1_024
_SPARE = 16  # neighbours looked at beyond those asked for, at first
_FINE, _NOTHING, _KNOWN, _GUARD = range(4)


@dataclass(frozen=True)
class Window:
    """The admissible candidates of q anchors, w a rank.

    Parameters
    ----------
    rows, scores
        ``[q, w]``, nearest first; -1 and minus infinity where there are no more.
    known, guard
        How many nearer texts were passed over as known positives, and by the guard.
    """

    rows: Rows
    scores: Vectors
    known: int
    guard: int


class Admission:
    """Tells which corpus rows may be negatives of which anchors.

    Parameters
    ----------
    anchors, positives
        n texts each.
    corpus
        c texts.
    known
        Further positives.
    guard
        Forbids by row numbers.

    Attributes
    ----------
    anchors
        The q different anchors, each in the form in which it stands first.
    query
        Which of them each pair has, ``[n]``.
    """

    def __init__(
        self,
        anchors: Sequence[str],
        positives: Sequence[str],
        corpus: Sequence[str],
        known: Known | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.query, queries = _numbered(anchors)
        self._text, texts = _numbered(corpus)
        self._corpus, self._guard = corpus, guard
        self._same = known if callable(known) else None
        self._pairs_of = _Members(self.query, len(queries))
        self._rows_of = _Members(self._text, len(texts))
        self.anchors = [anchors[self._pairs_of.first(q)] for q in range(len(queries))]
        right = [*zip(anchors, positives, strict=True), *((a, a) for a in anchors)]
        if known is not None and not callable(known):
            right += known
        self._texts = len(texts)
        codes = {
            queries[anchor] * self._texts + texts[text]
            for anchor, text in ((plain(a), plain(t)) for a, t in right)
            if anchor in queries and text in texts
        }
        self._right = np.array(sorted(codes), np.int64)

    def reasons(self, queries: Rows, rows: Rows) -> NDArray[np.int8]:
        """Return for ``[q, k]`` corpus rows why each is out, 0 if it is not.

        A text that stands in a row for the second time is nothing new.
        """
        found = np.where(rows >= 0, self._text[rows], -1 - np.arange(rows.shape[1]))
        out = np.where((rows < 0) | _seen_before(found), _NOTHING, _FINE)
        who = np.broadcast_to(queries[:, None], rows.shape)
        open_ = out == _FINE
        out[open_] = np.where(
            self._is_right(who[open_], found[open_], rows[open_]), _KNOWN, _FINE
        )
        if self._guard is not None:
            open_ = out == _FINE
            forbidden = self._forbidden(self._guard, who[open_], found[open_])
            out[open_] = np.where(forbidden, _GUARD, _FINE)
        return out.astype(np.int8)

    def _is_right(self, queries: Rows, texts: Rows, rows: Rows) -> Flags:
        right = np.isin(queries * self._texts + texts, self._right)
        if self._same is not None:
            for i in np.flatnonzero(~right):
                anchor, text = self.anchors[queries[i]], self._corpus[rows[i]]
                right[i] = self._same(anchor, text)
        return right

    def _forbidden(self, guard: Guard, queries: Rows, texts: Rows) -> Flags:
        """Ask the guard about all pairs of an anchor and all rows of a text."""
        owner, pairs = self._pairs_of(queries)
        again, rows = self._rows_of(texts[owner])
        answer = np.asarray(guard(pairs[again], rows))
        if answer.shape != rows.shape or answer.dtype != bool:
            raise ValueError(
                f"the guard gave {answer.dtype} of shape {list(answer.shape)} for "
                f"{len(rows)} pairs of rows; it must give one bool a pair, True where "
                "the two must not meet"
            )
        out = np.zeros(len(queries), bool)
        out[owner[again[answer]]] = True
        return out


class _Members:
    """Who has which number: the inverse of a numbering ``[n]``."""

    def __init__(self, numbers: Rows, count: int) -> None:
        self._order = np.argsort(numbers, kind="stable")
        self._starts = np.searchsorted(numbers[self._order], np.arange(count + 1))

    def first(self, number: int) -> int:
        """Return the first who has a number."""
        return int(self._order[self._starts[number]])

    def __call__(self, wanted: Rows) -> tuple[Rows, Rows]:
        """Return all who have the wanted numbers, and the place of that number."""
        first = self._starts[wanted]
        counts = self._starts[wanted + 1] - first
        owner = np.repeat(np.arange(len(wanted)), counts)
        place = np.arange(len(owner)) - np.repeat(counts.cumsum() - counts, counts)
        return owner, self._order[first[owner] + place]


def nearest(
    search: Search,
    admission: Admission,
    reachable: int,
    rank: tuple[int, int],
    *,
    show_progress: bool | None = None,
) -> Window:
    """Return for each anchor its admissible neighbours of a range of ranks.

    Ranks are counted among admissible texts: whoever asks for thirty gets thirty, even
    if the guard takes hundreds in front of them. The few anchors that need it are
    searched again, twice as deep.

    Parameters
    ----------
    search
        Finds neighbours.
    admission
        Tells which of them count.
    reachable
        Neighbours that there are at most.
    rank
        From this rank, 0 is the nearest, up to and without that one.
    show_progress
        A bar on standard error.
    """
    first, last = rank
    total = len(admission.anchors)
    out_rows = np.full((total, last - first), -1, np.int64)
    out_scores = np.full((total, last - first), -np.inf, np.float32)
    known = guard = 0
    with progress(total, "mine", show=show_progress) as move:
        for start in range(0, total, _ANCHORS_AT_ONCE):
            pending = np.arange(start, min(start + _ANCHORS_AT_ONCE, total))
            k = min(last + _SPARE, reachable)
            while len(pending):
                scores, rows = search(pending, k)
                reasons = admission.reasons(pending, rows)
                fine = reasons == _FINE
                # How many admissible texts stand here or nearer.
                so_far = fine.cumsum(1)
                done = (so_far[:, -1] >= last) | (k >= reachable)
                take = fine & (so_far > first) & (so_far <= last) & done[:, None]
                at = pending[np.nonzero(take)[0]], so_far[take] - first - 1
                out_rows[at], out_scores[at] = rows[take], scores[take]
                passed = (so_far < last) & done[:, None]
                known += int((passed & (reasons == _KNOWN)).sum())
                guard += int((passed & (reasons == _GUARD)).sum())
                move(int(done.sum()))
                pending, k = pending[~done], min(2 * k, reachable)
    return Window(out_rows, out_scores, known, guard)


def search_all(
    queries: Encoded, texts: Encoded, rows: Rows, metric: Metric
) -> tuple[Search, int]:
    """Return an exact search over different texts, and how many there are.

    Parameters
    ----------
    queries, texts
        ``[q, d]`` and ``[t, d]``, dense or sparse.
    rows
        First corpus row of each text, ``[t]``.
    metric
        ``"cosine"`` or ``"dot"``.
    """
    if is_sparse(queries) and is_sparse(texts):
        asked, held = as_measured(queries, metric), as_measured(texts, metric)

        def by_words(wanted: Rows, k: int) -> tuple[Vectors, Rows]:
            scores = similarity(asked[wanted], held, "dot")
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            return np.take_along_axis(scores, order, 1), rows[order]

        return by_words, len(rows)
    dense, corpus = np.asarray(queries), checked(np.asarray(texts), "corpus")
    if metric == "cosine":
        corpus = normalized(corpus)

    def by_vectors(wanted: Rows, k: int) -> tuple[Vectors, Rows]:
        scores, places = exact_search(
            dense[wanted], corpus, k, metric, normalized_corpus=True
        )
        return scores, rows[places]

    return by_vectors, len(rows)


def search_index(
    queries: Encoded,
    index: VectorIndex,
    rows: Rows,
    metric: Metric,
    model_hash: str,
) -> tuple[Search, int]:
    """Return a search by an index whose ids are corpus rows, and its size.

    Parameters
    ----------
    queries
        Dense, ``[q, d]``.
    index
        Of the corpus.
    rows
        For each corpus row the first one with the same text, ``[c]``.
    metric, model_hash
        Of the encoder; the index must have the same.

    Raises
    ------
    ValueError
        The index is of other rows, another metric or another model.
    """
    if is_sparse(queries):
        raise ValueError("an index holds dense vectors, the encoder gives sparse ones")
    if index.ids.dtype.kind != "i" or not np.array_equal(
        np.sort(index.ids), np.arange(len(rows))
    ):
        raise ValueError(
            f"the index must hold the {len(rows)} rows of the corpus under the ids 0 "
            f"to {len(rows) - 1}; it holds {len(index.ids)}: build it with "
            "VectorIndex.build(encoder.encode_document(corpus))"
        )
    if index.metric != metric:
        raise ValueError(
            f"the index measures {index.metric!r}, the encoder is made for {metric!r}; "
            f"build the index with metric={metric!r}"
        )
    dense = np.asarray(queries)

    def by_index(wanted: Rows, k: int) -> tuple[Vectors, Rows]:
        hits = index.search(dense[wanted], k, model_hash=model_hash)
        found = np.asarray(hits.ids, np.int64)
        return hits.scores, np.where(found >= 0, rows[found], -1)

    return by_index, len(index)


def _numbered(texts: Sequence[str]) -> tuple[Rows, dict[str, int]]:
    """Return the number of each text ``[n]``, equal for equal ones, and all numbers."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(plain(text), len(numbers)) for text in texts]
    return np.array(found, np.int64), numbers


def _seen_before(numbers: Rows) -> Flags:
    """Return where a number ``[q, k]`` stands further left in the same row."""
    order = np.argsort(numbers, axis=1, kind="stable")
    ranked = np.take_along_axis(numbers, order, 1)
    again = np.zeros(numbers.shape, bool)
    again[:, 1:] = ranked[:, 1:] == ranked[:, :-1]
    out = np.empty_like(again)
    np.put_along_axis(out, order, again, 1)
    return out
