"""Every candidate measured in one run: quality, costs, and paired differences.

Candidates take turns, so that a busy moment of the machine hits each of them; a time is
the median of several rounds.
"""

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sbert_lab._utils import committed_results, machine, progress
from sbert_lab.datasets.icd10cm_tasks import KINDS, term_retrieval
from sbert_lab.datasets.pairs import Pairs, PairSearch, retrieval_from_pairs
from sbert_lab.evaluation.evaluators import search_quality
from sbert_lab.evaluation.metrics import ndcg_at_k
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.evaluation.tasks import TaskResult, interval, measure, measure_bm25
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of
from sbert_lab.selection.candidates import Model, candidate
from sbert_lab.selection.recommend import Row, Survey, read_indexes

#: The one task of a reader's own pairs.
OWN = "your pairs"

#: Results of one candidate, by task.
Quality = dict[str, TaskResult]

#: What is done with texts: they are encoded, say.
Work = Callable[[Sequence[str]], Any]


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
) -> tuple[Survey, dict[str, Quality]]:
    """Measure candidates side by side; returns rows, and the results behind them.

    `names` maps what a row is called to what `candidates.candidate` takes. Quality is
    that on ICD-10-CM, of `size` and `kinds` as in `evaluation.tasks.measure`; or on
    `pairs`, where each anchor must find its positives in the whole file (nDCG@10).
    `texts` are the numbers of short and of long ones in a timed call.
    """
    if pairs is None:
        search, terms = None, term_retrieval(size)
        corpus, queries = terms.corpus_texts, terms.queries
        about = f"ICD-10-CM, {len(kinds)} of {len(KINDS)} kinds of task"
        about += "" if size is None else f", size {size}"
    else:
        search = retrieval_from_pairs(pairs)
        corpus, queries = search.corpus, search.queries
        about = (
            f"{pairs.source.name}, {len(queries)} queries in its {len(corpus)} answers"
        )
    models = {name: candidate(what).load(corpus) for name, what in names.items()}
    for model in models.values():
        if not isinstance(model, Bm25):
            metric_of(model)  # says early that one cannot be searched by
    measured: dict[str, Quality] = {}
    with progress(len(models), "quality", minimum=1) as move:
        for name, model in models.items():
            if search is None:
                measured[name] = _on_icd10cm(model, size, kinds, cache)
            else:
                measured[name] = {OWN: on_pairs(model, search, cache)}
            move(1)
    short = queries[: texts[0]]
    words = " ".join(corpus).split()
    long = [" ".join(words[i : i + 50]) for i in range(0, len(words), 50)][: texts[1]]
    timed = costs(models, short, long, corpus, rounds, index_mb)
    rows = [
        Row(
            name=name,
            dimension=(
                len(model.vocabulary) if isinstance(model, Bm25) else model.dimension
            ),
            bytes_per_entry=_bytes_per_entry(model),
            quality={task: interval(one) for task, one in measured[name].items()},
            metrics={task: one.metric for task, one in measured[name].items()},
            cost=timed[name] | in_a_fresh_process(names[name], corpus, long),
            lexical=isinstance(model, Bm25),
        )
        for name, model in models.items()
    ]
    differences: dict[str, dict[str, dict[str, Interval]]] = {
        task: {} for found in measured.values() for task in found
    }
    for first, second in combinations(measured, 2):
        for task in [t for t in measured[first] if t in measured[second]]:
            gap = interval(measured[first][task], measured[second][task])
            differences[task].setdefault(first, {})[second] = gap
    source = {"machine": machine(), "quality on": about}
    indexes = read_indexes(committed_results("full") / "04.json")
    return Survey(rows, differences, source, indexes), measured


def on_pairs(
    model: Model, search: PairSearch, cache: EmbeddingCache | None = None
) -> TaskResult:
    """Measure a candidate on a search made of pairs: nDCG@10."""
    if isinstance(model, Bm25):
        found = model.search(search.queries, 10)[1]
        items = ndcg_at_k(found.tolist(), search.relevant)
    else:
        ask, read = _ways(model, cache)
        items, _ = search_quality(
            ask,
            read,
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
) -> Quality:
    if isinstance(model, Bm25):
        found = measure_bm25(size)
        return {kind: found[kind] for kind in kinds if kind in found}
    (ask, read), metric = _ways(model, cache), metric_of(model)
    # The protocol stops its classifier after 100 steps, as mteb does.
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        return measure(ask, size, kinds=kinds, encode_document=read, metric=metric)


def _ways(model: Model, cache: EmbeddingCache | None = None) -> tuple[Work, Work]:
    """Return what is done with queries and with documents, by the cache if it can be.

    BM25 takes in documents by indexing them, and a query by looking it up.
    """
    if isinstance(model, Bm25):
        return partial(model.search, k=10), Bm25
    options: dict[str, Any] = {}
    if isinstance(model, SentenceEncoder):
        options = {"cache": cache, "show_progress": False}
    return (
        partial(getattr(model, "encode_query", model.encode), **options),
        partial(getattr(model, "encode_document", model.encode), **options),
    )


def costs(
    models: Mapping[str, Model],
    short: Sequence[str],
    long: Sequence[str],
    corpus: Sequence[str],
    rounds: int,
    index_mb: float,
) -> dict[str, dict[str, float]]:
    """Time encoding and exact search, in turns; the first of `rounds` + 1 warms up.

    Vectors are searched in a flat FAISS index of random ones, words in the texts of
    `corpus`, over and over: both times grow with the number of entries. `index_mb` must
    be more than the processor's cache: what stays in it is searched twice as fast.
    Texts are a second, searches in milliseconds, scaled to a million entries.
    """
    import faiss

    indexes: dict[int | None, Any] = {}  # shared by candidates of one width
    for model in models.values():
        width, entries = _width(model), int(index_mb * 1e6 / _bytes_per_entry(model))
        if width is None:
            indexes[width] = Bm25(np.resize(corpus, min(entries, 100_000)).tolist())
        elif width not in indexes:
            rng, shape = np.random.default_rng(0), (min(entries, 1_000_000), width)
            indexes[width] = faiss.IndexFlatIP(width)
            indexes[width].add(rng.standard_normal(shape, np.float32))
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    with progress((rounds + 1) * len(models), "times", minimum=1) as move:
        for name, model in (rounds + 1) * list(models.items()):
            turns[name].append(_one_turn(model, indexes[_width(model)], short, long))
            move(1)
    return {
        name: {c: float(np.median([turn[c] for turn in found[1:]])) for c in found[0]}
        for name, found in turns.items()
    }


def _one_turn(
    model: Model,
    index: Any,  # noqa: ANN401  (FAISS has no types)
    short: Sequence[str],
    long: Sequence[str],
) -> dict[str, float]:
    if isinstance(model, Bm25):
        entries, asked = len(index), [[text] for text in short[:20]]
        ask, read = _ways(Bm25(short))
    else:
        ask, read = _ways(model)
        entries, asked = index.ntotal, ask(short[:20])[:, None]
    alone = [_seconds(ask, [text]) for text in short[:100]]
    searched = [_seconds(index.search, query, 10) for query in asked]
    return {
        "short_texts": len(short) / _seconds(read, short),
        "short_texts_alone": len(alone) / sum(alone),
        "long_texts": len(long) / _seconds(read, long),
        "query_ms_p50": 1e3 * float(np.percentile(alone, 50)),
        "query_ms_p95": 1e3 * float(np.percentile(alone, 95)),
        "search_ms": 1e9 * float(np.median(searched)) / entries,
    }


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def in_a_fresh_process(
    name_or_path: str, corpus: Sequence[str], texts: Sequence[str]
) -> dict[str, float]:
    """Measure a candidate's `footprint` where nothing else was loaded."""
    command = [sys.executable, "-m", "sbert_lab.selection.candidates"]
    told = json.dumps([name_or_path, list(corpus), list(texts)])
    done = subprocess.run(command, input=told, capture_output=True, text=True)
    if done.returncode:
        raise ChildProcessError(f"{name_or_path}: {done.stderr.strip()[-300:]}")
    return dict(json.loads(done.stdout))


def _width(model: Model) -> int | None:
    return None if isinstance(model, Bm25) else model.dimension


def _bytes_per_entry(model: Model) -> float:
    """Return what an entry takes: float32 a dimension, or its share of BM25's index."""
    if isinstance(model, Bm25):
        return model.nbytes / len(model)
    return 4.0 * model.dimension
