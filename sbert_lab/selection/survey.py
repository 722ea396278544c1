"""One run that measures every candidate: quality, costs, and their differences."""

import platform
from collections.abc import Iterable, Sequence
from functools import partial
from importlib import metadata

import numpy as np
import torch

from sbert_lab.cache import EmbeddingCache
from sbert_lab.datasets import icd10cm_tasks
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.evaluation.scoreboard import KINDS, Measured, interval
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.interface import Encoder, encode_documents
from sbert_lab.progress import progress
from sbert_lab.selection import candidates
from sbert_lab.selection.costs import encoding_costs, footprints, search_costs
from sbert_lab.selection.quality import corpus_of, on_icd10cm, on_pairs
from sbert_lab.selection.rows import Row, Survey, paired

#: Texts of one timed call, and words of a long text.
SHORT, LONG, LONG_WORDS = 256, 48, 50

_PACKAGE = {"sklearn": "scikit-learn"}  # where a library's package has another name

_VERSIONS = ("torch", "transformers", "onnxruntime", "faiss-cpu", "scikit-learn")


def measure_survey(
    names: Sequence[str],
    *,
    pairs: Pairs | None = None,
    size: int | None = None,
    kinds: Sequence[str] = KINDS,
    rounds: int = 5,
    processes: int = 3,
    cache: EmbeddingCache | None = None,
    show_progress: bool | None = None,
) -> Survey:
    """Measure candidates side by side.

    Parameters
    ----------
    names
        Names of `candidates.CANDIDATES`, folders, or hub repositories.
    pairs
        The reader's own: their quality is then measured, and nothing else.
    size, kinds
        Without `pairs`: of the ICD-10-CM tasks, as in `scoreboard.measure`.
    rounds, processes
        Repeats of the timings, and fresh processes for memory and loading.
    cache
        Where vectors are kept; it shortens quality, and never a timing.
    show_progress
        As in `progress`.

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError
        A candidate, or a library that runs it, is not here; says what to do.
    ValueError
        No candidate, one twice, or too few pairs.
    """
    if not names or len(set(names)) < len(names):
        raise ValueError(f"candidates must be different, one at least: {list(names)}")
    chosen = [candidates.candidate(name) for name in names]
    for one in chosen:
        if missing := one.missing_libraries():
            raise ModuleNotFoundError(
                f"{one.name} needs {' and '.join(missing)}: pip install "
                f"{' '.join(_PACKAGE.get(name, name) for name in missing)}"
            )
    # Whatever has to be made, or is missing, shows before minutes of measuring.
    disk_mb = {one.name: one.disk_mb() for one in chosen}
    corpus, short, long = _texts(pairs, size)
    encoders: dict[str, Encoder] = {}
    measured: dict[str, dict[str, Measured]] = {}
    bar = partial(progress, show=show_progress, minimum=1)
    with bar(len(chosen), "quality") as move:
        for one in chosen:
            encoder = one.load(corpus)
            encoders[one.name] = encoder
            measured[one.name] = (
                on_icd10cm(encoder, size, kinds=kinds, cache=cache)
                if pairs is None
                else on_pairs(encoder, pairs, cache=cache)
            )
            move(1)
    timed = encoding_costs(
        encoders, short, long, rounds=rounds, show_progress=show_progress
    )
    searched = search_costs(encoders, short[:20], corpus, rounds=rounds)
    loaders = {name: partial(candidates.load, name, corpus) for name in names}
    with bar(processes * len(names), "memory") as move:
        grown = footprints(loaders, long, rounds=processes, advance=move)
    rows = [
        Row(
            name=one.name,
            about=one.about,
            dimension=encoders[one.name].dimension,
            bytes_per_entry=_bytes_per_entry(encoders[one.name], corpus),
            disk_mb=disk_mb[one.name],
            quality={task: interval(m) for task, m in measured[one.name].items()},
            metrics={task: m.metric for task, m in measured[one.name].items()},
            cost={
                **timed[one.name],
                "search_ms": searched[one.name],
                **grown[one.name],
            },
            lexical=one.lexical,
        )
        for one in chosen
    ]
    return Survey(rows, differences(measured), about(pairs, size, kinds))


def differences(
    measured: dict[str, dict[str, Measured]],
) -> dict[str, dict[tuple[str, str], Interval]]:
    """Return the paired difference of every two candidates, task by task."""
    tasks: Iterable[str] = dict.fromkeys(
        t for found in measured.values() for t in found
    )
    return {
        task: {
            (a, b): interval(measured[a][task], measured[b][task])
            for a, b in paired([n for n, found in measured.items() if task in found])
        }
        for task in tasks
    }


def about(
    pairs: Pairs | None, size: int | None, kinds: Sequence[str] = KINDS
) -> dict[str, str]:
    """Return what a reader of the figures must know: machine, versions, data."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads{gpu}",
        "python": platform.python_version(),
        **{package: _version(package) for package in _VERSIONS},
        "quality on": f"ICD-10-CM, {len(kinds)} of {len(KINDS)} kinds of task"
        + ("" if size is None else f", size {size}")
        if pairs is None
        else f"{pairs.source.name}, {len(pairs)} pairs",
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _texts(
    pairs: Pairs | None, size: int | None
) -> tuple[list[str], list[str], list[str]]:
    """Return the corpus to fit to, and short and long texts to time with."""
    if pairs is not None:
        corpus, queries = corpus_of(pairs), list(dict.fromkeys(pairs.anchor))
    else:
        task = icd10cm_tasks.term_retrieval(size)
        corpus, queries = list(task.corpus_texts), list(task.queries)
    return corpus, _cycled(queries, SHORT), _cycled(paragraphs(corpus), LONG)


def paragraphs(texts: Sequence[str], words: int = LONG_WORDS) -> list[str]:
    """Join neighbouring texts until each has at least so many words; one at least."""
    joined, part = [], []
    for text in texts:
        part += text.split()
        if len(part) >= words:
            joined.append(" ".join(part))
            part = []
    return joined or [" ".join(part)]


def _cycled(texts: Sequence[str], count: int) -> list[str]:
    """Return `count` different texts; where there are fewer, marked copies of them.

    Copies carry a number, since an encoder may encode equal texts once.
    """
    found = list(texts[:count])
    copy = 2
    while len(found) < count:
        found += [f"{text} {copy}" for text in texts[: count - len(found)]]
        copy += 1
    return found


def _bytes_per_entry(encoder: Encoder, corpus: Sequence[str]) -> float:
    """Return what an entry takes: float32 a dimension, or its words and weights."""
    few = encode_documents(encoder, corpus[:1_000])
    if isinstance(few, np.ndarray):
        return float(4 * few.shape[1])
    return float((few.data.nbytes + few.indices.nbytes) / few.shape[0])
