"""One run that measures every candidate: quality, costs, and their differences."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from sbert_lab._utils import progress
from sbert_lab.datasets import icd10cm_tasks
from sbert_lab.datasets.icd10cm_tasks import KINDS
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.evaluation.tasks import TaskResult, interval
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import Encoder, encode_documents
from sbert_lab.selection import candidates
from sbert_lab.selection.costs import encoding_costs, footprints, search_costs
from sbert_lab.selection.quality import corpus_of, on_icd10cm, on_pairs
from sbert_lab.selection.rows import Row, Survey, every_two

#: Texts of one timed call, and words of a long text.
SHORT, LONG, LONG_WORDS = 256, 48, 50

_PACKAGE = {"sklearn": "scikit-learn"}  # where a library's package has another name

#: Candidates by name, or from what they shall be called to a name.
Names = Sequence[str] | Mapping[str, str]

_VERSIONS = ("torch", "transformers", "onnxruntime", "faiss-cpu", "scikit-learn")


def measure_all(
    names: Names,
    *,
    pairs: Pairs | None = None,
    size: int | None = None,
    kinds: Sequence[str] = KINDS,
    cache: EmbeddingCache | None = None,
    show_progress: bool | None = None,
) -> dict[str, dict[str, TaskResult]]:
    """Measure the quality of candidates, item by item.

    Parameters
    ----------
    names
        Names of `candidates.CANDIDATES`, folders, or hub repositories; or a mapping to
        them from what they shall be called.
    pairs
        The reader's own: their quality is then measured, and nothing else.
    size, kinds
        Without `pairs`: of the ICD-10-CM tasks, as in `tasks.measure`.
    cache
        Where vectors are kept.
    show_progress
        As in `progress`.

    Returns
    -------
    dict
        Name to task to what was measured.

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError
        A candidate, or a library that runs it, is not here; says what to do.
    ValueError
        No candidate, one twice, or too few pairs.
    """
    chosen = _chosen(names)
    for one in chosen.values():  # made or missed before minutes of measuring
        one.disk_mb()
    corpus, _, _ = _texts(pairs, size, (1, 1))
    found = {}
    with progress(len(chosen), "quality", show=show_progress, minimum=1) as move:
        for name, one in chosen.items():
            encoder = one.load(corpus)
            found[name] = (
                on_icd10cm(encoder, size, kinds=kinds, cache=cache)
                if pairs is None
                else on_pairs(encoder, pairs, cache=cache)
            )
            move(1)
    return found


def measure_survey(
    names: Names,
    *,
    measured: Mapping[str, Mapping[str, TaskResult]] | None = None,
    pairs: Pairs | None = None,
    size: int | None = None,
    kinds: Sequence[str] = KINDS,
    rounds: int = 5,
    processes: int = 3,
    index_mb: float = 400,
    texts: tuple[int, int] = (SHORT, LONG),
    cache: EmbeddingCache | None = None,
    show_progress: bool | None = None,
) -> Survey:
    """Measure candidates side by side: quality, costs, and their paired differences.

    Parameters
    ----------
    names, pairs, size, kinds, show_progress
        As in `measure_all`.
    measured
        What `measure_all` gave for them; None measures it now.
    rounds, processes
        Repeats of the timings, and fresh processes for memory and loading.
    index_mb
        Of the index whose search is timed; see `search_costs`.
    texts
        Short and long texts of one timed call.
    cache
        Where vectors are kept; it shortens quality, and never a timing.

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError, ValueError
        As `measure_all`.
    """
    chosen = _chosen(names)
    if measured is None:
        measured = measure_all(
            names,
            pairs=pairs,
            size=size,
            kinds=kinds,
            cache=cache,
            show_progress=show_progress,
        )
    if measured.keys() != chosen.keys():
        raise ValueError(f"measured are {list(measured)}, asked for {list(chosen)}")
    corpus, short, long = _texts(pairs, size, texts)
    encoders = {name: one.load(corpus) for name, one in chosen.items()}
    timed = encoding_costs(
        encoders, short, long, rounds=rounds, show_progress=show_progress
    )
    searched = search_costs(
        encoders, short[:20], corpus, rounds=rounds, index_mb=index_mb
    )
    loaders = {
        name: partial(candidates.load, one.name, corpus) for name, one in chosen.items()
    }
    total = processes * len(chosen)
    with progress(total, "memory", show=show_progress, minimum=1) as move:
        grown = footprints(loaders, long, rounds=processes, advance=move)
    rows = [
        Row(
            name=name,
            about=one.about,
            dimension=encoders[name].dimension,
            bytes_per_entry=_bytes_per_entry(encoders[name], corpus),
            disk_mb=one.disk_mb(),
            quality={task: interval(m) for task, m in measured[name].items()},
            metrics={task: m.metric for task, m in measured[name].items()},
            cost={**timed[name], "search_ms": searched[name], **grown[name]},
            lexical=one.lexical,
        )
        for name, one in chosen.items()
    ]
    return Survey(rows, differences(measured), about(pairs, size, kinds))


def _chosen(names: Names) -> dict[str, candidates.Candidate]:
    """Return the candidates under the names they are called by, all sound."""
    if not names or len(set(names)) < len(names):
        raise ValueError(f"candidates must be different, one at least: {list(names)}")
    if not isinstance(names, Mapping):
        names = {name: name for name in names}
    chosen = {name: candidates.candidate(what) for name, what in names.items()}
    for one in chosen.values():
        if missing := one.missing_libraries():
            raise ModuleNotFoundError(
                f"{one.name} needs {' and '.join(missing)}: pip install "
                f"{' '.join(_PACKAGE.get(name, name) for name in missing)}"
            )
    return chosen


def differences(
    measured: Mapping[str, Mapping[str, TaskResult]],
) -> dict[str, dict[tuple[str, str], Interval]]:
    """Return the paired difference of every two candidates, task by task."""
    tasks: Iterable[str] = dict.fromkeys(
        t for found in measured.values() for t in found
    )
    return {
        task: {
            (a, b): interval(measured[a][task], measured[b][task])
            for a, b in every_two([n for n, found in measured.items() if task in found])
        }
        for task in tasks
    }


def about(
    pairs: Pairs | None, size: int | None, kinds: Sequence[str] = KINDS
) -> dict[str, str]:
    """Return what a reader of the figures must know: machine, versions, data."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {
        "machine": f"{_processor()}, {torch.get_num_threads()} threads{gpu}",
        "python": platform.python_version(),
        **{package: _version(package) for package in _VERSIONS},
        "quality on": f"ICD-10-CM, {len(kinds)} of {len(KINDS)} kinds of task"
        + ("" if size is None else f", size {size}")
        if pairs is None
        else f"{pairs.source.name}, {len(pairs)} pairs",
    }


def _processor() -> str:
    """Return the processor's name, or its kind where the system does not tell."""
    told = Path("/proc/cpuinfo")
    if told.is_file():
        for line in told.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _texts(
    pairs: Pairs | None, size: int | None, count: tuple[int, int]
) -> tuple[list[str], list[str], list[str]]:
    """Return the corpus to fit to, and short and long texts to time with."""
    if pairs is not None:
        corpus, queries = corpus_of(pairs), list(dict.fromkeys(pairs.anchor))
    else:
        task = icd10cm_tasks.term_retrieval(size)
        corpus, queries = list(task.corpus_texts), list(task.queries)
    short, long = count
    return corpus, _cycled(queries, short), _cycled(paragraphs(corpus), long)


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
    few = encode_documents(encoder, corpus[:: max(1, len(corpus) // 1_000)])
    if isinstance(few, np.ndarray):
        return float(4 * few.shape[1])
    return float((few.data.nbytes + few.indices.nbytes) / few.shape[0])
