"""One run that measures every candidate: quality, costs, and paired differences.

All candidates take turns, so that a busy moment of the machine hits each of them; every
cost is the middle of several rounds with the smallest and largest beside it.
"""

import logging
import multiprocessing
import platform
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module, metadata
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sbert_lab._utils import Advance, Vectors, progress
from sbert_lab.datasets import icd10cm_tasks
from sbert_lab.datasets.icd10cm_tasks import KINDS
from sbert_lab.datasets.pairs import Pairs, retrieval_from_pairs
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.evaluation.tasks import (
    TaskResult,
    in_order,
    interval,
    judge_ranking,
    measure,
    measure_bm25,
    ranking,
)
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.onnx import OnnxEncoder
from sbert_lab.models.sentence_encoder import (
    Encoder,
    SentenceEncoder,
    encode_documents,
    encode_queries,
    metric_of,
)
from sbert_lab.selection.candidates import Candidate, Model, candidate, load
from sbert_lab.selection.recommend import Row, Spread, Survey

#: The one task of a reader's own pairs.
OWN = "your pairs"

#: Candidates by name, or from what they shall be called to a name.
Names = Sequence[str] | Mapping[str, str]

_PACKAGE = {"sklearn": "scikit-learn"}  # where a library's package has another name
_VERSIONS = ("torch", "transformers", "onnxruntime", "faiss-cpu", "scikit-learn")
_LIBRARY = re.compile(r"\.(so|dylib|dll)(\.|$)")
_LONG_WORDS = 50  # of a long text
_ALONE = 100  # queries of a round that are encoded one by one

#: What a process has imported before its memory and its loading are measured: the
#: libraries are there once, whichever model is chosen.
_PRELOADED = (
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.mpnet.modeling_mpnet",
    "onnxruntime",
    "bm25s",
    "sklearn.feature_extraction.text",
    "sklearn.decomposition",
    "sbert_lab.selection.candidates",
)


class ProcessDied(RuntimeError):
    """A process ended before it could say what it measured."""


def measure_all(
    names: Names,
    *,
    pairs: Pairs | None = None,
    size: int | None = None,
    kinds: Sequence[str] = KINDS,
    cache: EmbeddingCache | None = None,
    show_progress: bool | None = None,
) -> dict[str, dict[str, TaskResult]]:
    """Measure the quality of candidates, item by item: name to task to result.

    Parameters
    ----------
    names
        Names of `candidates.CANDIDATES`, folders, or hub repositories; or a mapping to
        them from what they shall be called.
    pairs
        The reader's own: each anchor must then find its positives among all answers of
        the file (nDCG@10), and nothing else is measured.
    size, kinds
        Without `pairs`: of the ICD-10-CM tasks, as in `evaluation.tasks.measure`.
    cache
        Where vectors are kept.
    """
    chosen = _chosen(names)
    for one in chosen.values():  # made or missed before minutes of measuring
        one.disk_mb()
    corpus, _ = _texts(pairs, size)
    found = {}
    with progress(len(chosen), "quality", show=show_progress, minimum=1) as move:
        for name, one in chosen.items():
            model = one.load(corpus)
            found[name] = (
                _on_icd10cm(model, size, kinds, cache)
                if pairs is None
                else {OWN: on_pairs(model, pairs, cache)}
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
    texts: tuple[int, int] = (256, 48),
    cache: EmbeddingCache | None = None,
    show_progress: bool | None = None,
) -> Survey:
    """Measure candidates side by side: quality, costs, and their paired differences.

    Parameters
    ----------
    names, pairs, size, kinds, cache
        As in `measure_all`.
    measured
        What `measure_all` gave for them; None measures it now.
    rounds, processes
        Repeats of the timings, and fresh processes for memory and loading.
    index_mb
        Of the index whose search is timed; see `search_costs`.
    texts
        Short and long texts of one timed call.
    """
    chosen = _chosen(names)
    if measured is None:
        options = {"kinds": kinds, "cache": cache, "show_progress": show_progress}
        measured = measure_all(names, pairs=pairs, size=size, **options)  # type: ignore[arg-type]
    corpus, queries = _texts(pairs, size)
    short = _cycled(queries, texts[0])
    long = _cycled(_paragraphs(corpus), texts[1])
    models = {name: one.load(corpus) for name, one in chosen.items()}
    timed = encoding_costs(models, short, long, rounds, show_progress)
    searched = search_costs(models, short[:20], corpus, rounds, index_mb)
    loaders = {name: partial(load, one.name, corpus) for name, one in chosen.items()}
    total = processes * len(chosen)
    with progress(total, "memory", show=show_progress, minimum=1) as move:
        grown = footprints(loaders, long, processes, move)
    rows = [
        Row(
            name=name,
            about=one.about,
            dimension=_dimension(models[name]),
            bytes_per_entry=_bytes_per_entry(models[name]),
            disk_mb=one.disk_mb(),
            quality={task: interval(m) for task, m in measured[name].items()},
            metrics={task: m.metric for task, m in measured[name].items()},
            cost={**timed[name], "search_ms": searched[name], **grown[name]},
            lexical=isinstance(models[name], Bm25),
        )
        for name, one in chosen.items()
    ]
    return Survey(rows, _differences(measured), _about(pairs, size, kinds))


def on_pairs(
    model: Model, pairs: Pairs, cache: EmbeddingCache | None = None
) -> TaskResult:
    """Measure a candidate on pairs: `retrieval_from_pairs` says who answers whom."""
    search = retrieval_from_pairs(pairs)
    # Of equal scores the larger id comes first: here, the earlier text.
    ids = [f"{len(search.corpus) - row:09d}" for row in range(len(search.corpus))]
    asked = [f"query {number}" for number in range(len(search.queries))]
    right = {
        query: {ids[row]: 1 for row in rows}
        for query, rows in zip(asked, search.relevant, strict=True)
    }
    if isinstance(model, Bm25):
        hits = zip(*model.search(search.queries, len(ids)), strict=True)
        found = [in_order(s.tolist(), [ids[i] for i in rows]) for s, rows in hits]
        result = judge_ranking(found, asked, right, "ndcg_at_10")
    else:
        result = ranking(
            asked,
            _vectors(model, search.queries, "encode_query", cache),
            ids,
            _vectors(model, search.corpus, "encode_document", cache),
            right,
            metric=metric_of(model),
        )
    return replace(result, group=tuple(map(str, search.group)))


def _on_icd10cm(
    model: Model, size: int | None, kinds: Sequence[str], cache: EmbeddingCache | None
) -> dict[str, TaskResult]:
    from sklearn.exceptions import ConvergenceWarning

    if isinstance(model, Bm25):
        found = measure_bm25(size)
        return {kind: found[kind] for kind in kinds if kind in found}
    with warnings.catch_warnings():
        # The protocol stops its classifier after 100 steps, as mteb does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return measure(
            lambda texts: _vectors(model, texts, "encode_query", cache),
            size,
            kinds=kinds,
            encode_document=lambda t: _vectors(model, t, "encode_document", cache),
            metric=metric_of(model),
        )


def _vectors(
    encoder: Encoder, texts: Sequence[str], way: str, cache: EmbeddingCache | None
) -> Vectors:
    """Encode texts, through the cache if the encoder is of the kind that can."""
    options: dict[str, Any] = {}
    if isinstance(encoder, SentenceEncoder | OnnxEncoder):
        options = {"cache": cache, "show_progress": False}
    vectors: Vectors = getattr(encoder, way, encoder.encode)(list(texts), **options)
    return vectors


def _differences(
    measured: Mapping[str, Mapping[str, TaskResult]],
) -> dict[str, dict[tuple[str, str], Interval]]:
    """Return the paired difference of every two candidates, task by task."""
    return {
        task: {
            (a, b): interval(measured[a][task], measured[b][task])
            for a, b in combinations([n for n in measured if task in measured[n]], 2)
        }
        for task in dict.fromkeys(task for found in measured.values() for task in found)
    }


def encoding_costs(
    models: Mapping[str, Model],
    short: Sequence[str],
    long: Sequence[str],
    rounds: int = 5,
    show_progress: bool | None = None,
) -> dict[str, dict[str, Spread]]:
    """Time the encoding of texts, in batches and one at a time, in turns.

    The first of ``rounds + 1`` rounds warms up. Returns name to some of
    `recommend.COSTS`; percentiles are taken within a round. BM25 encodes a document by
    indexing it, and a query by looking it up in an index of the short texts.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in models}
    total = (rounds + 1) * len(models)
    logger = logging.getLogger("sbert_lab")
    level = logger.level
    logger.setLevel(logging.ERROR)  # said once, where quality is measured
    try:
        with progress(total, "time", show=show_progress, minimum=1) as move:
            for turn in range(rounds + 1):
                for name, model in models.items():
                    for cost, value in _one_round(model, short, long).items():
                        if turn:
                            found[name].setdefault(cost, []).append(value)
                    move(1)
    finally:
        logger.setLevel(level)
    return {name: _spreads(costs) for name, costs in found.items()}


def _one_round(
    model: Model, short: Sequence[str], long: Sequence[str]
) -> dict[str, float]:
    if isinstance(model, Bm25):
        model = Bm25(short)
    each = [_seconds(_ask, model, text) for text in short[:_ALONE]]
    few = [_seconds(_read, model, [text]) for text in long[: _ALONE // 4]]
    return {
        "short_texts": len(short) / _seconds(_read, model, short),
        "short_texts_alone": len(each) / sum(each),
        "long_texts": len(long) / _seconds(_read, model, long),
        "long_texts_alone": len(few) / sum(few),
        "query_ms_p50": 1e3 * float(np.percentile(each, 50)),
        "query_ms_p95": 1e3 * float(np.percentile(each, 95)),
    }


def _ask(model: Model, query: str) -> None:
    if isinstance(model, Bm25):
        model.search([query], 10)
    else:
        encode_queries(model, [query])


def _read(model: Model, texts: Sequence[str]) -> None:
    if isinstance(model, Bm25):
        with suppress(ValueError):  # not a word in them
            Bm25(texts)
    else:
        encode_documents(model, list(texts))


def search_costs(
    models: Mapping[str, Model],
    queries: Sequence[str],
    corpus: Sequence[str],
    rounds: int = 5,
    index_mb: float = 400,
) -> dict[str, Spread]:
    """Time an exact search for one query, in milliseconds for a million entries.

    Vectors are searched in a flat FAISS index of random ones, since its time depends on
    their number and width alone; words in the texts of `corpus`, over and over. Both
    times grow with the number of entries, a million of vectors and 100,000 of words at
    most. Candidates of one width share a measurement. Let `index_mb` be more than the
    processor's cache: vectors that stay in it are searched twice as fast.
    """
    rng = np.random.default_rng(0)
    searches: dict[str, tuple[Callable[[int], object], int]] = {}
    shared: dict[str, str] = {}
    for name, model in models.items():
        shared[name] = f"{_dimension(model)} dimensions"
        entries = int(min(1e6, max(1.0, index_mb * 1e6 / _bytes_per_entry(model))))
        if isinstance(model, Bm25):
            entries = min(entries, 100_000)
            words, shared[name] = Bm25(np.resize(corpus, entries).tolist()), name
            searches[name] = partial(_by_words, words, queries), entries
        elif shared[name] not in searches:
            asked = np.asarray(encode_queries(model, list(queries)))
            index = _flat_index(model.dimension, entries, rng)
            searches[shared[name]] = partial(_by_vectors, index, asked), entries
    found: dict[str, list[float]] = {name: [] for name in searches}
    for turn in range(rounds + 1):
        for name, (search, entries) in searches.items():
            each = [_seconds(search, i) for i in range(len(queries))]
            if turn:
                found[name].append(1e9 * float(np.median(each)) / entries)
    return {name: _spread(found[owner]) for name, owner in shared.items()}


def _by_words(words: Bm25, queries: Sequence[str], row: int) -> None:
    words.search(queries[row : row + 1], 10)


def _by_vectors(index: Any, queries: Vectors, row: int) -> None:  # noqa: ANN401
    index.search(queries[row : row + 1], 10)


def _flat_index(width: int, entries: int, rng: np.random.Generator) -> Any:  # noqa: ANN401
    """Return a flat index of random unit vectors, never held twice."""
    import faiss

    index = faiss.IndexFlatIP(width)
    index.codes.resize(4 * entries * width)
    index.ntotal = entries
    rows = faiss.rev_swig_ptr(index.get_xb(), entries * width).reshape(-1, width)
    for start in range(0, entries, 10_000):
        block = rows[start : start + 10_000]
        rng.standard_normal(dtype=np.float32, out=block)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return index


def footprints(
    loaders: Mapping[str, Callable[[], Model]],
    texts: Sequence[str],
    rounds: int = 3,
    advance: Advance = lambda _: None,
) -> dict[str, dict[str, Spread]]:
    """Measure memory and loading, each time in a fresh process.

    Returns name to ``resident_mb``, by how much the process grew, libraries left out,
    and ``load_s``, seconds until the first text is encoded. Loaders are pickled.
    """
    methods = multiprocessing.get_all_start_methods()
    # A fork server has imported the libraries once, and is otherwise empty.
    context = multiprocessing.get_context(
        "forkserver" if "forkserver" in methods else "spawn"
    )
    if hasattr(context, "set_forkserver_preload"):
        context.set_forkserver_preload(list(_PRELOADED))
    found: dict[str, dict[str, list[float]]] = {name: {} for name in loaders}
    for _ in range(rounds):
        for name, loader in loaders.items():
            with ProcessPoolExecutor(1, mp_context=context) as fresh:
                try:
                    one = fresh.submit(_footprint, loader, list(texts)).result()
                except BrokenProcessPool as error:
                    raise ProcessDied(
                        f"{name}: the process that loaded it died; is there memory "
                        "enough? Leave it out, or free some"
                    ) from error
            for cost, value in one.items():
                found[name].setdefault(cost, []).append(value)
            advance(1)
    return {name: _spreads(costs) for name, costs in found.items()}


def _footprint(loader: Callable[[], Model], texts: list[str]) -> dict[str, float]:
    import psutil

    for module in _PRELOADED:  # a fork server has done it, a spawned process has not
        with suppress(ImportError):
            import_module(module)
    logging.disable(logging.WARNING)  # said once, where the candidate is measured
    process = psutil.Process()
    before, start = _own_bytes(process), time.perf_counter()
    model = loader()
    _ask(model, texts[0])
    seconds = time.perf_counter() - start
    _read(model, texts)
    grown = _own_bytes(process) - before
    return {"resident_mb": max(grown, 0) / 1e6, "load_s": seconds}


def _own_bytes(process: Any) -> int:  # noqa: ANN401
    """Return what is resident, without the code of libraries.

    A library's pages become resident one by one, when they are first used: that of
    PyTorch would be counted as part of the smallest transformer.
    """
    resident = int(process.memory_info().rss)
    if hasattr(process, "memory_maps"):  # not everywhere
        resident -= sum(
            area.rss
            for area in process.memory_maps()
            if _LIBRARY.search(Path(area.path).name)
        )
    return resident


def _chosen(names: Names) -> dict[str, Candidate]:
    """Return the candidates under the names they are called by, all sound."""
    if not names or len(set(names)) < len(names):
        raise ValueError(f"candidates must be different, one at least: {list(names)}")
    if not isinstance(names, Mapping):
        names = {name: name for name in names}
    chosen = {name: candidate(what) for name, what in names.items()}
    for one in chosen.values():
        if missing := one.missing_libraries():
            raise ModuleNotFoundError(
                f"{one.name} needs {' and '.join(missing)}: pip install "
                f"{' '.join(_PACKAGE.get(name, name) for name in missing)}"
            )
    return chosen


def _texts(pairs: Pairs | None, size: int | None) -> tuple[list[str], list[str]]:
    """Return the corpus to fit to, and the queries."""
    if pairs is not None:
        search = retrieval_from_pairs(pairs)
        return list(search.corpus), list(search.queries)
    task = icd10cm_tasks.term_retrieval(size)
    return list(task.corpus_texts), list(task.queries)


def _paragraphs(texts: Sequence[str]) -> list[str]:
    """Join neighbouring texts until each has `_LONG_WORDS` words; one at least."""
    joined, part = [], []
    for text in texts:
        part += text.split()
        if len(part) >= _LONG_WORDS:
            joined.append(" ".join(part))
            part = []
    return joined or [" ".join(part)]


def _cycled(texts: Sequence[str], count: int) -> list[str]:
    """Return `count` different texts; where there are fewer, numbered copies of them.

    Numbered since an encoder may encode equal texts once.
    """
    copies = ((row // len(texts), texts[row % len(texts)]) for row in range(count))
    return [f"{text} {copy + 1}" if copy else text for copy, text in copies]


def _dimension(model: Model) -> int:
    return len(model.vocabulary) if isinstance(model, Bm25) else model.dimension


def _bytes_per_entry(model: Model) -> float:
    """Return what an entry takes: float32 a dimension, or its share of BM25's index."""
    if isinstance(model, Bm25):
        return model.nbytes / len(model)
    return float(4 * model.dimension)


def _about(
    pairs: Pairs | None, size: int | None, kinds: Sequence[str]
) -> dict[str, str]:
    """Return what a reader of the figures must know: machine, versions, data."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    data = f"ICD-10-CM, {len(kinds)} of {len(KINDS)} kinds of task"
    data += "" if size is None else f", size {size}"
    if pairs is not None:
        data = f"{pairs.source.name}, {len(pairs)} pairs"
    return {
        "machine": f"{_processor()}, {torch.get_num_threads()} threads{gpu}",
        "python": platform.python_version(),
        **{package: _version(package) for package in _VERSIONS},
        "quality on": data,
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


def _spreads(costs: Mapping[str, Sequence[float]]) -> dict[str, Spread]:
    return {cost: _spread(values) for cost, values in costs.items()}


def _spread(values: Sequence[float]) -> Spread:
    return Spread(min(values), float(np.median(values)), max(values))


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start
