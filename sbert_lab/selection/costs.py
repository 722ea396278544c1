"""What a candidate costs: time by the clock, memory in a process of its own.

All candidates take turns in one run, so that a busy moment of the machine hits each of
them, and every figure is the middle of several with the smallest and largest beside it.
Threads are those of the process: PyTorch's and ONNX Runtime's own defaults. Files have
been read before, so that loading finds them in the system's cache.
"""

import logging
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import Advance, progress
from sbert_lab.models.sentence_encoder import Encoder, encode_documents, encode_queries
from sbert_lab.selection.rows import Spread

#: What a process has imported before its memory and its loading are measured: the
#: libraries are there once, whichever model is chosen.
_PRELOADED = (
    "torch",
    "transformers",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert_fast",
    "transformers.models.mpnet.modeling_mpnet",
    "onnxruntime",
    "sklearn.feature_extraction.text",
    "sklearn.decomposition",
    "scipy.sparse",
    "sbert_lab.models.sentence_encoder",
    "sbert_lab.models.onnx",
    "sbert_lab.selection.candidates",
)

_LIBRARY = re.compile(r"\.(so|dylib|dll)(\.|$)")

_MILLION = 1_000_000  # entries that a search is reckoned for

Load = Callable[[], Encoder]


class ProcessDied(RuntimeError):
    """A process ended before it could say what it measured."""


def encoding_costs(
    encoders: Mapping[str, Encoder],
    short: Sequence[str],
    long: Sequence[str],
    *,
    rounds: int = 5,
    alone: int = 100,
    show_progress: bool | None = None,
) -> dict[str, dict[str, Spread]]:
    """Time the encoding of texts, in batches and one at a time.

    Parameters
    ----------
    encoders
        Name to candidate.
    short, long
        Texts of a query's length, and of a paragraph's. All are encoded as one call;
        the first `alone` of the short ones, and a quarter as many long ones, one a
        call.
    rounds
        How often each candidate takes its turn, after one unmeasured round.
    alone
        Queries of a round; their percentiles are taken within it.
    show_progress
        As in `progress`; None shows a bar on a terminal.

    Returns
    -------
    dict
        Name to cost to its spread over the rounds: ``short_texts``,
        ``short_texts_alone``, ``long_texts``, ``long_texts_alone``, ``query_ms_p50``,
        ``query_ms_p95`` (see `rows.COSTS`).
    """
    if rounds < 1 or alone < 4 or not short or not long:
        raise ValueError(
            f"rounds={rounds}, alone={alone}, {len(short)} short and {len(long)} long "
            "texts: one round, four queries and a text of each kind at least"
        )
    found: dict[str, dict[str, list[float]]] = {name: {} for name in encoders}
    total = (rounds + 1) * len(encoders)
    with _quiet(), progress(total, "time", show=show_progress, minimum=1) as move:
        for turn in range(rounds + 1):
            for name, encoder in encoders.items():
                for cost, value in _one_round(encoder, short, long, alone).items():
                    if turn:  # the first round warms up
                        found[name].setdefault(cost, []).append(value)
                move(1)
    return {
        name: {cost: spread(values) for cost, values in costs.items()}
        for name, costs in found.items()
    }


def _one_round(
    encoder: Encoder, short: Sequence[str], long: Sequence[str], alone: int
) -> dict[str, float]:
    short, long = list(short), list(long)
    queries, paragraphs = short[:alone], long[: max(1, alone // 4)]
    each = [_seconds(encode_queries, encoder, [text]) for text in queries]
    few = [_seconds(encode_documents, encoder, [text]) for text in paragraphs]
    return {
        "short_texts": len(short) / _seconds(encode_documents, encoder, short),
        "short_texts_alone": len(each) / sum(each),
        "long_texts": len(long) / _seconds(encode_documents, encoder, long),
        "long_texts_alone": len(few) / sum(few),
        "query_ms_p50": 1e3 * float(np.percentile(each, 50)),
        "query_ms_p95": 1e3 * float(np.percentile(each, 95)),
    }


def search_costs(
    encoders: Mapping[str, Encoder],
    queries: Sequence[str],
    corpus: Sequence[str],
    *,
    rounds: int = 5,
    k: int = 10,
    index_mb: float = 400,
) -> dict[str, Spread]:
    """Time an exact search for one query, in milliseconds for a million entries.

    Vectors are searched in a flat FAISS index of random unit vectors, since its time
    depends on their number and width alone; words in the sparse rows of `corpus`, over
    and over. Both times grow with the number of entries, which is how a million is
    reckoned where fewer fill the index. Candidates of one width share a measurement.

    Parameters
    ----------
    encoders
        Name to candidate.
    queries, corpus
        Texts. Each query is searched for alone; the middle of their times counts.
    rounds
        How often each candidate takes its turn, after one unmeasured round.
    k
        Entries to find.
    index_mb
        Size of an index, which holds a million entries at most. Let it be more than
        the processor's cache, as a million are: 50,000 vectors of 256 dimensions stay
        in a large one, and are then searched twice as fast, entry by entry.
    """
    rng = np.random.default_rng(0)
    searches: dict[str, tuple[Callable[[int], object], int]] = {}
    shared: dict[str, str] = {}  # name to the first candidate of the same width
    for name, encoder in encoders.items():
        asked = encode_queries(encoder, queries)
        if not isinstance(asked, np.ndarray):  # sparse rows
            rows: Any = encode_documents(encoder, corpus)
            bytes_each = (rows.data.nbytes + rows.indices.nbytes) / rows.shape[0]
            entries = _entries(bytes_each, index_mb)
            # By word: a query meets the entries of its own words alone.
            by_word = rows[np.arange(entries) % rows.shape[0]].T.tocsr()
            searches[name] = partial(_by_words, asked, by_word, k), entries
            shared[name] = name
            continue
        width = asked.shape[1]
        shared[name] = f"{width} dimensions"
        if shared[name] in searches:
            continue
        entries = _entries(4 * width, index_mb)
        index = _flat_index(width, entries, rng)
        searches[shared[name]] = partial(_by_vectors, asked, index, k), entries
    found: dict[str, list[float]] = {name: [] for name in searches}
    for turn in range(rounds + 1):
        for name, (search, entries) in searches.items():
            each = [_seconds(search, i) for i in range(len(queries))]
            if turn:
                found[name].append(1e9 * float(np.median(each)) / entries)
    return {name: spread(found[owner]) for name, owner in shared.items()}


def _flat_index(width: int, entries: int, rng: np.random.Generator) -> Any:  # noqa: ANN401
    """Return a flat index of random unit vectors, made where it stands.

    To add them would take the memory twice while the index grows.
    """
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


def _entries(bytes_each: float, index_mb: float) -> int:
    """Return how many entries fill an index; a million at most."""
    return int(min(_MILLION, max(1.0, index_mb * 1e6 / max(bytes_each, 1.0))))


def _by_vectors(queries: Any, index: Any, k: int, row: int) -> None:  # noqa: ANN401
    index.search(queries[row : row + 1], k)


def _by_words(queries: Any, by_word: Any, k: int, row: int) -> NDArray[np.int64]:  # noqa: ANN401
    """Return the k best columns for one sparse query, best first."""
    scores = (queries[[row]] @ by_word).toarray()[0]
    k = min(k, len(scores))
    columns = np.argpartition(-scores, k - 1)[:k]
    best: NDArray[np.int64] = columns[np.argsort(-scores[columns])]
    return best


def footprints(
    loaders: Mapping[str, Load],
    texts: Sequence[str],
    *,
    rounds: int = 3,
    advance: Advance | None = None,
) -> dict[str, dict[str, Spread]]:
    """Measure memory and loading, each time in a fresh process.

    Parameters
    ----------
    loaders
        Name to a function that loads or fits the candidate; it is pickled, so it must
        be a module's function, or `functools.partial` of one.
    texts
        Encoded once after loading, since the first use claims memory too.
    rounds
        Processes for each candidate.
    advance
        Is called with 1 after each of them, to move a bar.

    Returns
    -------
    dict
        Name to ``resident_mb``, by how much the process grew, libraries left out, in MB
        of a million bytes; and ``load_s``, seconds until the first text is encoded.

    Raises
    ------
    ProcessDied
        Of one, as happens where it asks for more memory than there is.
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
        for name, load in loaders.items():
            with ProcessPoolExecutor(1, mp_context=context) as fresh:
                try:
                    one = fresh.submit(_footprint, load, list(texts)).result()
                except BrokenProcessPool as error:
                    raise ProcessDied(
                        f"{name}: the process that loaded it died; is there memory "
                        "enough? Leave it out, or free some"
                    ) from error
            for cost, value in one.items():
                found[name].setdefault(cost, []).append(value)
            if advance is not None:
                advance(1)
    return {
        name: {cost: spread(values) for cost, values in costs.items()}
        for name, costs in found.items()
    }


def _footprint(load: Load, texts: list[str]) -> dict[str, float]:
    import psutil

    for module in _PRELOADED:  # a fork server has done it, a spawned process has not
        with suppress(ImportError):
            import_module(module)
    logging.disable(logging.WARNING)  # said once, where the candidate is measured
    process = psutil.Process()
    before, start = _own_bytes(process), time.perf_counter()
    encoder = load()
    encode_queries(encoder, texts[:1])
    seconds = time.perf_counter() - start
    encode_documents(encoder, texts)
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back warnings: said once where quality is measured; writing takes time."""
    logger = logging.getLogger("sbert_lab")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def spread(values: Sequence[float]) -> Spread:
    """Return smallest, middle and largest of some repeats."""
    return Spread(min(values), float(np.median(values)), max(values))


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start
