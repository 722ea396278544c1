"""Every candidate measured in one run: quality, costs, and paired differences.

Candidates take turns, so that a busy moment of the machine hits each of them; a time is
the median of several rounds.
"""

import multiprocessing
import platform
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache as remembered
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from sklearn.exceptions import ConvergenceWarning

from sbert_lab._utils import progress
from sbert_lab.datasets import icd10cm_tasks
from sbert_lab.datasets.icd10cm_tasks import KINDS
from sbert_lab.datasets.pairs import Pairs, PairSearch, retrieval_from_pairs
from sbert_lab.evaluation.evaluators import Encode, search_quality
from sbert_lab.evaluation.metrics import ndcg_at_k
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.evaluation.tasks import TaskResult, interval, measure, measure_bm25
from sbert_lab.index.exact import normalized
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.sentence_encoder import (
    Encoder,
    SentenceEncoder,
    encode_documents,
    encode_queries,
    metric_of,
)
from sbert_lab.selection.candidates import Model, candidate
from sbert_lab.selection.recommend import Row, Survey

#: The one task of a reader's own pairs.
OWN = "your pairs"

#: What was measured, by candidate and by task.
Measured = dict[str, dict[str, TaskResult]]

_ALONE = 100  # queries of a round that are encoded one by one

#: Imported before memory and loading are measured: needed whichever model is chosen.
_PRELOADED = [
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.mpnet.modeling_mpnet",
    "onnxruntime",
    "bm25s",
    "sklearn.feature_extraction.text",
    "sklearn.decomposition",
    "sbert_lab.selection.measure",
]


def measure_all(
    names: Mapping[str, str],
    *,
    pairs: Pairs | None = None,
    size: int | None = None,
    kinds: Sequence[str] = KINDS,
    cache: EmbeddingCache | None = None,
    rounds: int = 5,
    index_mb: float = 400,
    texts: tuple[int, int] = (256, 48),
    show_progress: bool | None = None,
) -> tuple[Survey, Measured]:
    """Measure candidates, `names` as `candidates.candidate` takes them by any name.

    On the ICD-10-CM tasks, of `size` and `kinds` as in `evaluation.tasks.measure`; or
    on `pairs`, where each anchor must find its positives in the whole file (nDCG@10).
    `texts` are the numbers of short and of long ones in a timed call; the rest is as in
    `costs`. Returns the survey, and the results that its intervals are made of.
    """
    if pairs is None:
        task = icd10cm_tasks.term_retrieval(size)
        corpus, queries = task.corpus_texts, task.queries
    else:
        search = retrieval_from_pairs(pairs)
        corpus, queries = search.corpus, search.queries
    # All are loaded, or missed, before minutes of measuring.
    models = {name: candidate(what).load(corpus) for name, what in names.items()}
    measured: Measured = {}
    with progress(len(models), "quality", show=show_progress, minimum=1) as move:
        for name, model in models.items():
            if pairs is None:
                measured[name] = _on_icd10cm(model, size, kinds, cache)
            else:
                measured[name] = {OWN: on_pairs(model, search, cache)}
            move(1)
    words = " ".join(corpus).split()
    long = [" ".join(words[i : i + 50]) for i in range(0, len(words), 50)][: texts[1]]
    short = queries[: texts[0]]
    timed = costs(models, short, long, corpus, rounds, index_mb)
    rows = [
        Row(
            name=name,
            dimension=(
                len(model.vocabulary) if isinstance(model, Bm25) else model.dimension
            ),
            bytes_per_entry=_bytes_per_entry(model),
            quality={task: interval(m) for task, m in measured[name].items()},
            metrics={task: m.metric for task, m in measured[name].items()},
            cost=timed[name] | footprint(names[name], corpus, long),
            lexical=isinstance(model, Bm25),
        )
        for name, model in models.items()
    ]
    tasks = dict.fromkeys(task for found in measured.values() for task in found)
    differences: dict[str, dict[str, dict[str, Interval]]] = {}
    for task in tasks:
        by_row = differences[task] = {}
        known = [name for name in measured if task in measured[name]]
        for a, b in combinations(known, 2):
            gap = interval(measured[a][task], measured[b][task])
            by_row.setdefault(a, {})[b] = gap
    data = f"ICD-10-CM, {len(tasks)} of {len(KINDS)} kinds of task"
    data += "" if size is None else f", size {size}"
    if pairs is not None:
        data = f"{pairs.source.name}, {len(pairs)} pairs"
    about = {"machine": _machine(), "quality on": data}
    return Survey(rows, differences, about), measured


def on_pairs(
    model: Model, search: PairSearch, cache: EmbeddingCache | None = None
) -> TaskResult:
    """Measure a candidate on a search made of pairs."""
    if isinstance(model, Bm25):
        found = model.search(search.queries, 10)[1]
        items = ndcg_at_k(found.tolist(), search.relevant)
    else:
        query, document = _sides(model, cache)
        items, _ = search_quality(
            query,
            document,
            search.queries,
            search.corpus,
            search.relevant,
            metric_of(model),
        )
    group = tuple(map(str, search.group))
    score = float(items.mean())
    return TaskResult(score, "ndcg_at_10", score, items, group=group)


def _on_icd10cm(
    model: Model, size: int | None, kinds: Sequence[str], cache: EmbeddingCache | None
) -> dict[str, TaskResult]:
    if isinstance(model, Bm25):
        found = measure_bm25(size)
        return {kind: found[kind] for kind in kinds if kind in found}
    query, document = _sides(model, cache)
    with warnings.catch_warnings():
        # The protocol stops its classifier after 100 steps, as mteb does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        metric = metric_of(model)
        return measure(
            query, size, kinds=kinds, encode_document=document, metric=metric
        )


def _sides(encoder: Encoder, cache: EmbeddingCache | None) -> list[Encode]:
    """Return how queries and documents are encoded, cached where that is possible."""
    options: dict[str, Any] = {}
    if isinstance(encoder, SentenceEncoder):
        options = {"cache": cache, "show_progress": False}
    ways = "encode_query", "encode_document"
    return [partial(getattr(encoder, way, encoder.encode), **options) for way in ways]


def costs(
    models: Mapping[str, Model],
    short: Sequence[str],
    long: Sequence[str],
    corpus: Sequence[str],
    rounds: int = 5,
    index_mb: float = 400,
) -> dict[str, dict[str, float]]:
    """Time encoding, in batches and one at a time, and exact search, in turns.

    The first of ``rounds + 1`` rounds warms up; percentiles are taken within a round.
    BM25 encodes a document by indexing it, and a query by looking it up in an index of
    the short texts. Vectors are searched in a flat FAISS index of random ones, words in
    the texts of `corpus`, over and over. `index_mb` must be more than the processor's
    cache: what stays in it is searched twice as fast.
    """
    flat = remembered(_flat_index)  # candidates of one width search the same index
    searches = {
        name: _search(model, short[:20], corpus, index_mb, flat)
        for name, model in models.items()
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            turn = _encoding(model, short, long) | {"search_ms": searches[name]()}
            found[name].append(turn)
    return {
        name: {c: float(np.median([turn[c] for turn in turns[1:]])) for c in turns[0]}
        for name, turns in found.items()
    }


def _encoding(
    model: Model, short: Sequence[str], long: Sequence[str]
) -> dict[str, float]:
    if isinstance(model, Bm25):
        model = Bm25(short)
    each = [_seconds(_ask, model, text) for text in short[:_ALONE]]
    return {
        "short_texts": len(short) / _seconds(_read, model, short),
        "short_texts_alone": len(each) / sum(each),
        "long_texts": len(long) / _seconds(_read, model, long),
        "query_ms_p50": 1e3 * float(np.percentile(each, 50)),
        "query_ms_p95": 1e3 * float(np.percentile(each, 95)),
    }


def _ask(model: Model, query: str) -> object:
    if isinstance(model, Bm25):
        return model.search([query], 10)
    return encode_queries(model, [query])


def _read(model: Model, texts: Sequence[str]) -> None:
    if isinstance(model, Bm25):
        with suppress(ValueError):  # not a word in them
            Bm25(texts)
    else:
        encode_documents(model, texts)


def _search(
    model: Model,
    queries: Sequence[str],
    corpus: Sequence[str],
    index_mb: float,
    flat: Callable[[int, int], Any],
) -> Callable[[], float]:
    """Return what searches once, in milliseconds a query for a million entries."""
    entries = int(min(1e6, max(1.0, index_mb * 1e6 / _bytes_per_entry(model))))
    asked: Any = [[query] for query in queries]
    if isinstance(model, Bm25):
        entries = min(entries, 100_000)
        index: Any = Bm25(np.resize(corpus, entries).tolist())
    else:
        index = flat(model.dimension, entries)
        asked = encode_queries(model, list(queries))[:, None]

    def search() -> float:
        each = [_seconds(index.search, query, 10) for query in asked]
        return 1e9 * float(np.median(each)) / entries  # time grows with the entries

    return search


def _flat_index(width: int, entries: int) -> Any:  # noqa: ANN401
    """Return a flat index of random unit vectors."""
    import faiss

    rng, index = np.random.default_rng(0), faiss.IndexFlatIP(width)
    for start in range(0, entries, 10_000):
        count = min(10_000, entries - start)
        index.add(normalized(rng.standard_normal((count, width), np.float32)))
    return index


def footprint(
    name_or_path: str, corpus: Sequence[str], texts: Sequence[str]
) -> dict[str, float]:
    """Measure a candidate's memory and its loading in a process of its own.

    Returns ``resident_mb``, by how much the process grew, libraries left out, and
    ``load_s``, seconds until the first text is encoded. The libraries are imported
    once, by the server that the processes are forked from.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with ProcessPoolExecutor(1, mp_context=context) as fresh:
        return fresh.submit(_footprint, name_or_path, corpus, texts).result()


def _footprint(
    name_or_path: str, corpus: Sequence[str], texts: Sequence[str]
) -> dict[str, float]:
    before, start = _own_bytes(), time.perf_counter()
    model = candidate(name_or_path).load(corpus)
    _ask(model, texts[0])
    seconds = time.perf_counter() - start
    _read(model, texts)
    return {"resident_mb": max(_own_bytes() - before, 0) / 1e6, "load_s": seconds}


def _own_bytes() -> int:
    """Return what is resident, without the code of libraries.

    Its pages become resident when first used: PyTorch would count as the model's.
    """
    process = psutil.Process()
    resident = int(process.memory_info().rss)
    if not hasattr(process, "memory_maps"):  # macOS says nothing of single areas
        return resident
    libraries = {".so", ".dll"}
    areas = process.memory_maps()
    code = (area.rss for area in areas if libraries & {*Path(area.path).suffixes})
    return resident - sum(map(int, code))


def _bytes_per_entry(model: Model) -> float:
    """Return what an entry takes: float32 a dimension, or its share of BM25's index."""
    if isinstance(model, Bm25):
        return model.nbytes / len(model)
    return float(4 * model.dimension)


def _machine() -> str:
    """Return what a reader of the figures must know of where they were measured."""
    processor, told = platform.machine(), Path("/proc/cpuinfo")
    if told.is_file() and (line := re.search(r"model name\s*: (.*)", told.read_text())):
        processor = line[1]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor}, {torch.get_num_threads()} threads{gpu}"


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start
