"""Which candidates are taken: scores, margins, a second opinion, and the draw."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sbert_lab._utils import Vectors, progress
from sbert_lab.training.hard_negatives.candidates import Admission, Flags, Rows, Window
from sbert_lab.training.hard_negatives.mined import Texts

#: Scores m pairs of (anchor, text), larger is more alike, ``[m]``.
Judge = Callable[[list[tuple[str, str]]], ArrayLike]
Sampling = Literal["first", "random"]

_WINDOW = 10  # candidates looked at for each negative, if no last rank is given
_PAIRS_AT_ONCE = 1_024  # for the judge


@dataclass(frozen=True)
class Options:
    """What may be a negative, checked; see `hard.mine`."""

    per_anchor: int
    rank: tuple[int, int]
    score: tuple[float, float]
    absolute_margin: float | None
    relative_margin: float | None
    judge_margin: float
    sampling: Sampling
    seed: int

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        first, last = self.rank
        if self.per_anchor < 1:
            raise ValueError(
                f"per_anchor={self.per_anchor}: ask for at least one negative"
            )
        if not 0 <= first < last:
            raise ValueError(
                f"rank={self.rank}: ranks start at 0, and the last must be above the "
                "first"
            )
        if last - first < self.per_anchor:
            raise ValueError(
                f"rank={self.rank} holds {last - first} candidates, "
                f"per_anchor={self.per_anchor} asks for more; widen the one or lower "
                "the other"
            )
        if not self.score[0] <= self.score[1]:
            raise ValueError(
                f"score={self.score}: the least must not be above the largest"
            )
        if self.relative_margin is not None and not 0 <= self.relative_margin <= 1:
            raise ValueError(
                f"relative_margin={self.relative_margin}: a share of the positive's "
                "score from 0 to 1; 0.05 is 5 %"
            )
        for name in ("absolute_margin", "judge_margin"):
            value = getattr(self, name)
            if value is not None and not isfinite(value):
                raise ValueError(f"{name}={value}: give a finite number")
        if self.sampling not in ("first", "random"):
            raise ValueError(f"sampling={self.sampling!r}: 'first' or 'random'")

    @property
    def scores_decide(self) -> bool:
        """Whether a candidate can be lost by its score."""
        margins = (self.absolute_margin, self.relative_margin)
        return self.score != (-inf, inf) or margins != (None, None)


def last_rank(rank: tuple[int, int | None], per_anchor: int) -> tuple[int, int]:
    """Return the range of ranks, its end filled in."""
    first, last = rank
    return first, first + _WINDOW * max(1, per_anchor) if last is None else last


def left_by_scores(
    window: Window, admission: Admission, positive_scores: Vectors, options: Options
) -> tuple[Flags, dict[str, int]]:
    """Return which candidates ``[q, w]`` are left, and how many each option took."""
    count = len(admission.anchors)
    lowest = _lowest(positive_scores, admission.query, count)[:, None]
    scores = window.scores.astype(np.float64)
    low, high = options.score
    refused = {"score": (scores < low) | (scores > high)}
    if (margin := options.absolute_margin) is not None:
        refused["absolute_margin"] = scores > lowest - margin
    if (margin := options.relative_margin) is not None:
        refused["relative_margin"] = scores > lowest - np.abs(lowest) * margin
    left = window.rows >= 0
    removed = {"known": window.known, "guard": window.guard}
    for name, out in refused.items():
        removed[name] = int((out & left).sum())
        left &= ~out
    return left, removed


def suspected(
    judge: Judge,
    margin: float,
    candidates: Flags,
    window: Window,
    admission: Admission,
    texts: Texts,
    *,
    show_progress: bool | None = None,
) -> Flags:
    """Return which candidates ``[q, w]`` the judge takes for unwritten positives."""
    anchors, positives, corpus = texts
    query, place = np.nonzero(candidates)
    open_to: Flags = np.any(candidates, axis=1)
    wanted = np.flatnonzero(open_to[admission.query])
    right = [(anchors[i], positives[i]) for i in wanted]
    open_ = [
        (admission.anchors[q], corpus[row])
        for q, row in zip(query, window.rows[query, place], strict=True)
    ]
    found = judge_scores(judge, right + open_, show_progress)
    owner = admission.query[wanted]
    lowest = _lowest(found[: len(right)], owner, len(candidates))
    out = np.zeros_like(candidates)
    out[query, place] = found[len(right) :] > lowest[query] - margin
    return out


def chosen(window: Window, left: Flags, options: Options) -> tuple[Rows, Vectors]:
    """Return rows and scores ``[q, per_anchor]`` of those taken, nearest first."""
    width = left.shape[1]
    key = np.broadcast_to(np.arange(width, dtype=np.float64), left.shape)
    if options.sampling == "random":
        key = np.random.default_rng(options.seed).random(left.shape)
    order = np.argsort(np.where(left, key, inf), axis=1, kind="stable")
    order = order[:, : options.per_anchor]
    there = np.take_along_axis(left, order, 1)
    order = np.sort(np.where(there, order, width), axis=1)
    there, order = order < width, np.minimum(order, width - 1)
    rows = np.where(there, np.take_along_axis(window.rows, order, 1), -1)
    scores = np.where(there, np.take_along_axis(window.scores, order, 1), -inf)
    return rows, scores.astype(np.float32)


def nothing_left(removed: dict[str, int], window: Window, options: Options) -> str:
    """Say why no anchor has a negative, and what to loosen."""
    seen = int((window.rows >= 0).sum())
    took = ", ".join(f"{name} {count}" for name, count in removed.items() if count)
    if seen:
        after = {name: removed[name] for name in list(removed)[2:]}
        most = max(after, key=lambda name: after[name])
        option = "judge_margin" if most == "judge" else most
        return (
            f"no negative is left of {seen} candidates; removed were {took}. Loosen "
            f"{option}={getattr(options, option)}, or look deeper than "
            f"rank={options.rank}"
        )
    if options.rank[0]:
        return (
            f"no anchor has a candidate at rank={options.rank}; removed were "
            f"{took or 'none'}. Begin at a nearer rank, or give a larger corpus"
        )
    return (
        f"no anchor has a candidate; removed were {took or 'none'}. Give a larger "
        "corpus, or loosen known and guard"
    )


def judge_scores(
    judge: Judge, pairs: list[tuple[str, str]], show: bool | None
) -> NDArray[np.float64]:
    """Return the judge's scores of m pairs, float64 ``[m]``, asked for in parts."""
    scores = np.empty(len(pairs))
    with progress(len(pairs), "judge", show=show) as move:
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = pairs[start : start + _PAIRS_AT_ONCE]
            found = np.asarray(judge(part), np.float64)
            if found.shape != (len(part),) or not np.isfinite(found).all():
                raise ValueError(
                    f"the judge gave scores of shape {list(found.shape)} for "
                    f"{len(part)} pairs; it must give one finite number a pair"
                )
            scores[start : start + len(part)] = found
            move(len(part))
    return scores


def _lowest(scores: ArrayLike, owner: Rows, count: int) -> NDArray[np.float64]:
    """Return the lowest score of each owner, ``[count]``; infinity for none."""
    lowest = np.full(count, inf)
    np.minimum.at(lowest, owner, np.asarray(scores, np.float64))
    return lowest
