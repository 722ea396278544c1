"""Batches: which tokens a step sees, by seed and step alone.

No state of a random generator has to be saved: a run resumes at any step, and two
runs with one seed see the same text in the same order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tools.pretraining.corpus import load_table
from tools.pretraining.vocabulary import CLS, SEP


@dataclass(frozen=True, eq=False)
class Streams:
    """All token streams end to end.

    Parameters
    ----------
    ids
        Token ids, int16.
    borders, weights
        For each source, where it begins and ends, and how much of it a pass shows.
    """

    ids: NDArray[np.int16]
    borders: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]


def join_streams(
    arrays: Mapping[str, NDArray[np.int16]], weights: Mapping[str, float]
) -> Streams:
    """Put the streams of all sources end to end."""
    names = [name for name in weights if len(arrays[name])]
    ends = np.cumsum([len(arrays[name]) for name in names]).tolist()
    return Streams(
        ids=np.concatenate([arrays[name] for name in names]),
        borders=tuple(zip([0, *ends[:-1]], ends, strict=True)),
        weights=tuple(weights[name] for name in names),
    )


def load_streams(data: Path, part: str) -> Streams:
    """Read the ``"train"`` or ``"heldout"`` streams of a prepared folder."""
    weights = {row["source"]: float(row["weight"]) for row in load_table(data)}
    return join_streams(load_file(data / f"{part}.safetensors"), weights)


def available_chunks(streams: Streams, span: int) -> list[int]:
    """Count each source's chunks of `span` tokens, wherever the first one begins."""
    return [max(0, (end - start) // span - 1) for start, end in streams.borders]


def chunks_per_pass(streams: Streams, span: int) -> list[int]:
    """Count the chunks that a pass takes from each source: weight times all."""
    chunks = available_chunks(streams, span)
    return [int(weight * n) for weight, n in zip(streams.weights, chunks, strict=True)]


@lru_cache(maxsize=4)
def pass_order(streams: Streams, epoch: int, seed: int, span: int) -> NDArray[np.int64]:
    """Return where the chunks of a pass start, shuffled.

    The first chunk of a source begins at another token in every pass, so that chunks
    are not cut at the same places.
    """
    random = np.random.default_rng([seed, epoch, span])
    places: list[NDArray[np.int64]] = []
    for (start, _), chunks, share in zip(
        streams.borders,
        available_chunks(streams, span),
        chunks_per_pass(streams, span),
        strict=True,
    ):
        first, wanted = start + int(random.integers(span)), share
        while wanted > 0:  # more than once round where a weight is above 1
            taken = random.permutation(chunks)[:wanted].astype(np.int64)
            places.append(first + span * taken)
            wanted -= len(taken)
    return random.permutation(np.concatenate(places))


def batch_at(
    streams: Streams, step: int, seed: int, rows: int, length: int, long_every: int = 0
) -> NDArray[np.int64]:
    """Return the token ids of one step, ``[CLS] text [SEP]`` in every row.

    Parameters
    ----------
    streams
        Where the text comes from.
    step, seed
        What decides which chunks these are.
    rows, length
        Shape of the batch, ``[rows, length]``.
    long_every
        Each so-many-th step has half as many rows of twice the length, so that all
        positions are learnt while most steps stay cheap; 0 for never.
    """
    span = length - 2
    steps = max(1, sum(chunks_per_pass(streams, span)) // rows)
    epoch, place = divmod(step, steps)
    order = pass_order(streams, epoch, seed, span)
    starts = order[place * rows : (place + 1) * rows]
    if long_every and step % long_every == long_every - 1:
        starts, span = starts[: max(1, rows // 2)], 2 * length - 2
    starts = np.minimum(starts, len(streams.ids) - span)
    text = streams.ids[starts[:, None] + np.arange(span)].astype(np.int64)
    border = np.ones((len(text), 1), dtype=np.int64)
    return np.concatenate([CLS * border, text, SEP * border], axis=1)
