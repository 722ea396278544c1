"""Every candidate measured in one run: quality, costs, and paired differences.

Candidates take turns, so that a busy moment of the machine hits each of them; a time is
the median of several rounds, with the smallest and largest beside it.
"""

import multiprocessing
import platform
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from sklearn.exceptions import ConvergenceWarning

from sbert_lab._utils import Vectors, progress
from sbert_lab.datasets import icd10cm_tasks
from sbert_lab.datasets.icd10cm_tasks import KINDS
from sbert_lab.datasets.pairs import Pairs, retrieval_from_pairs
from sbert_lab.evaluation.metrics import ndcg_at_k
from sbert_lab.evaluation.tasks import TaskResult, interval, measure, measure_bm25
from sbert_lab.index.exact import exact_search, normalized
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.sentence_encoder import (
    Encoder,
    SentenceEncoder,
    encode_documents,
    encode_queries,
    metric_of,
)
from sbert_lab.selection.candidates import Model, candidate, load
from sbert_lab.selection.recommend import Row, Spread, Survey

#: The one task of a reader's own pairs.
OWN = "your pairs"

#: Candidates, from what they are called to a name that `candidates.candidate` takes.
Names = Mapping[str, str]

_ALONE = 100  # queries of a round that are encoded one by one

#: Imported before memory and loading are measured: needed whichever model is chosen.
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


def measure_all(
    names: Names,
    *,
    pairs: Pairs | None = None,
    size: int | None = None,
    kinds: Sequence[str] = KINDS,
    cache: EmbeddingCache | None = None,
    show_progress: bool | None = None,
) -> dict[str, dict[str, TaskResult]]:
    """Measure the quality of candidates: name to task to result.

    On the ICD-10-CM tasks, of `size` and `kinds` as in `evaluation.tasks.measure`; or
    on `pairs`, where each anchor must find its positives in the whole file (nDCG@10).
    """
    chosen = {name: candidate(what) for name, what in names.items()}
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
    measured: Mapping[str, Mapping[str, TaskResult]],
    *,
    pairs: Pairs | None = None,
    size: int | None = None,
    rounds: int = 5,
    index_mb: float = 400,
    texts: tuple[int, int] = (256, 48),
) -> Survey:
    """Measure the costs of candidates side by side, and compare their quality.

    `measure_all` gave `measured`, for the same names, pairs and size. `texts` are the
    numbers of short and of long ones in a timed call.
    """
    chosen = {name: candidate(what) for name, what in names.items()}
    corpus, queries = _texts(pairs, size)
    short = queries[: texts[0]]
    long = _paragraphs(corpus)[: texts[1]]
    models = {name: one.load(corpus) for name, one in chosen.items()}
    timed = encoding_costs(models, short, long, rounds)
    searched = search_costs(models, short[:20], corpus, rounds, index_mb)
    rows = [
        Row(
            name=name,
            about=one.about,
            dimension=(
                len(model.vocabulary) if isinstance(model, Bm25) else model.dimension
            ),
            bytes_per_entry=_bytes_per_entry(model),
            disk_mb=one.disk_mb(),
            quality={task: interval(m) for task, m in measured[name].items()},
            metrics={task: m.metric for task, m in measured[name].items()},
            cost={
                **timed[name],
                "search_ms": searched[name],
                **footprint(one.name, corpus, long),
            },
            lexical=isinstance(model, Bm25),
        )
        for (name, one), model in zip(chosen.items(), models.values(), strict=True)
    ]
    tasks = dict.fromkeys(task for found in measured.values() for task in found)
    differences = {
        task: {
            (a, b): interval(measured[a][task], measured[b][task])
            for a, b in combinations([n for n in measured if task in measured[n]], 2)
        }
        for task in tasks
    }
    data = f"ICD-10-CM, {len(tasks)} of {len(KINDS)} kinds of task"
    data += "" if size is None else f", size {size}"
    if pairs is not None:
        data = f"{pairs.source.name}, {len(pairs)} pairs"
    return Survey(rows, differences, {"machine": _machine(), "quality on": data})


def on_pairs(
    model: Model, pairs: Pairs, cache: EmbeddingCache | None = None
) -> TaskResult:
    """Measure a candidate on pairs: `retrieval_from_pairs` says who answers whom."""
    search = retrieval_from_pairs(pairs)
    if isinstance(model, Bm25):
        found = model.search(search.queries, 10)[1]
    else:
        found = exact_search(
            _vectors(model, search.queries, "encode_query", cache),
            _vectors(model, search.corpus, "encode_document", cache),
            10,
            metric_of(model),
        )[1]
    items = ndcg_at_k(found.tolist(), list(map(set, search.relevant)))
    group = tuple(map(str, search.group))
    score = float(items.mean())
    return TaskResult(score, "ndcg_at_10", score, items, group=group)


def _on_icd10cm(
    model: Model, size: int | None, kinds: Sequence[str], cache: EmbeddingCache | None
) -> dict[str, TaskResult]:
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
    if isinstance(encoder, SentenceEncoder):
        options = {"cache": cache, "show_progress": False}
    vectors: Vectors = getattr(encoder, way, encoder.encode)(list(texts), **options)
    return vectors


def encoding_costs(
    models: Mapping[str, Model],
    short: Sequence[str],
    long: Sequence[str],
    rounds: int = 5,
) -> dict[str, dict[str, Spread]]:
    """Time the encoding of texts, in batches and one at a time, in turns.

    The first of ``rounds + 1`` rounds warms up; percentiles are taken within a round.
    BM25 encodes a document by indexing it, and a query by looking it up in an index of
    the short texts.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            found[name].append(_one_round(model, short, long))
    return {
        name: {cost: _spread([turn[cost] for turn in turns[1:]]) for cost in turns[0]}
        for name, turns in found.items()
    }


def _one_round(
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


def search_costs(
    models: Mapping[str, Model],
    queries: Sequence[str],
    corpus: Sequence[str],
    rounds: int = 5,
    index_mb: float = 400,
) -> dict[str, Spread]:
    """Time an exact search for one query, in milliseconds for a million entries.

    Vectors are searched in a flat FAISS index of random ones, words in the texts of
    `corpus`, over and over: both times grow with the number of entries. `index_mb` must
    be more than the processor's cache: what stays in it is searched twice as fast.
    """
    flat: dict[int, Any] = {}
    searches: dict[str, tuple[Callable[..., object], Any, int]] = {}
    for name, model in models.items():
        entries = int(min(1e6, max(1.0, index_mb * 1e6 / _bytes_per_entry(model))))
        if isinstance(model, Bm25):
            entries = min(entries, 100_000)
            words = Bm25(np.resize(corpus, entries).tolist())
            searches[name] = words.search, [[query] for query in queries], entries
        else:
            width = model.dimension
            if width not in flat:
                flat[width] = _flat_index(width, entries)
            vectors = encode_queries(model, list(queries))[:, None]
            searches[name] = flat[width].search, vectors, entries
    found: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(rounds + 1):
        for name, (search, asked, entries) in searches.items():
            each = [_seconds(search, query, 10) for query in asked]
            found[name].append(1e9 * float(np.median(each)) / entries)
    return {name: _spread(values[1:]) for name, values in found.items()}


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
) -> dict[str, Spread]:
    """Measure a candidate's memory and its loading in a process of its own.

    Returns ``resident_mb``, by how much the process grew, libraries left out, and
    ``load_s``, seconds until the first text is encoded.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as fresh:
        found = fresh.submit(_footprint, name_or_path, corpus, texts).result()
    return {cost: _spread([value]) for cost, value in found.items()}


def _footprint(
    name_or_path: str, corpus: Sequence[str], texts: Sequence[str]
) -> dict[str, float]:
    for module in _PRELOADED:
        with suppress(ImportError):
            import_module(module)
    before, start = _own_bytes(), time.perf_counter()
    model = load(name_or_path, corpus)
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


def _texts(pairs: Pairs | None, size: int | None) -> tuple[list[str], list[str]]:
    """Return the corpus to fit to, and the queries."""
    if pairs is not None:
        search = retrieval_from_pairs(pairs)
        return list(search.corpus), list(search.queries)
    task = icd10cm_tasks.term_retrieval(size)
    return list(task.corpus_texts), list(task.queries)


def _paragraphs(texts: Sequence[str]) -> list[str]:
    """Join neighbouring texts until each has 50 words; one at least."""
    joined = [""]
    for text in texts:
        joined[-1] = f"{joined[-1]} {text}".strip()
        if joined[-1].count(" ") >= 49:
            joined.append("")
    return joined[:-1] or joined


def _bytes_per_entry(model: Model) -> float:
    """Return what an entry takes: float32 a dimension, or its share of BM25's index."""
    if isinstance(model, Bm25):
        return model.nbytes / len(model)
    return float(4 * model.dimension)


def _machine() -> str:
    """Return what a reader of the figures must know of where they were measured."""
    processor = platform.processor() or platform.machine()
    told = Path("/proc/cpuinfo")
    if told.is_file() and (line := re.search(r"model name\s*: (.*)", told.read_text())):
        processor = line[1]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor}, {torch.get_num_threads()} threads{gpu}"


def _spread(values: Sequence[float]) -> Spread:
    return Spread(min(values), float(np.median(values)), max(values))


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start
