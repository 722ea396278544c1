"""06: models, formats of their vectors and indexes, measured side by side.

Every candidate on the tasks of ICD-10-CM and by the clock, with the indexes of 04's
record: what comes of it is the survey that `python -m sbert_lab select` chooses from.
Then fewer dimensions: the leading ones, and those in which the collection varies, for
all-MiniLM-L6-v2 and for bert-mini, trained with and without the Matryoshka objective.

Times say something only if nothing else runs on the machine.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from study import Study, main

from experiments.profiles import current
from experiments.runs import Items, raw_encoder, train_and_keep
from sbert_lab import SentenceEncoder, exact_search
from sbert_lab._utils import committed_results, machine, write_bytes
from sbert_lab.datasets import icd10cm
from sbert_lab.evaluation.metrics import ndcg_at_k
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.index.exact import normalized
from sbert_lab.losses import MatryoshkaLoss, MultipleNegativesRankingLoss
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.registry import cache_home
from sbert_lab.selection.command import RECORDED
from sbert_lab.selection.measure import measure_all
from sbert_lab.selection.recommend import (
    Constraints,
    read_indexes,
    read_survey,
    recommend,
    write_survey,
)
from sbert_lab.training import TrainingData

NDCG = "nDCG@10"
COMPARED = (
    ("all-MiniLM-L6-v2-int8", "all-MiniLM-L6-v2-onnx"),
    ("all-MiniLM-L6-v2", "bm25"),
    ("all-MiniLM-L6-v2", "wordllama-256"),
)
SHARES = (1, 2, 4, 8, 16)  # of the dimensions one part is kept


def kept() -> EmbeddingCache:
    """Return where vectors are kept."""
    return EmbeddingCache(cache_home() / "embeddings")


@cache
def task() -> icd10cm.RetrievalTask:
    """Return terms, the codes that they belong to, and the codes to search in."""
    profile = current()
    sizes = profile.queries, profile.codes
    return icd10cm.retrieval_task("test", *sizes, profile.seed)


def survey() -> Items:
    """Measure every candidate, and one that was trained for this field."""
    profile = current()
    names = {name: name for name in profile.candidates}
    names[f"{profile.raw_model}, trained"] = trained("plain")
    found, _ = measure_all(
        names,
        size=profile.survey,
        kinds=profile.kinds,
        cache=kept(),
        rounds=profile.turns,
        index_mb=profile.index_mb,
        texts=profile.timed_texts,
    )
    return {"survey": np.array(json.dumps(asdict(found)))}


@cache
def trained(way: str) -> str:
    """Return bert-mini trained on medical pairs, plainly or by Matryoshka's loss."""
    profile = current()
    terms = icd10cm.split_pairs("train")
    drawn = np.random.default_rng(profile.seed).permutation(len(terms))
    chosen = [terms[i] for i in drawn[: profile.domain_pairs]]
    columns = {
        "anchor": [term for term, _ in chosen],
        "positive": [code.description for _, code in chosen],
    }
    data = TrainingData(columns, source="ICD-10-CM")
    widths = [raw_encoder(profile).dimension // share for share in SHARES]
    ranking = MultipleNegativesRankingLoss
    ways = {
        "plain": lambda _: ranking(),
        "matryoshka": lambda _: MatryoshkaLoss(ranking(), widths),
    }
    return str(train_and_keep(profile, f"icd10cm-{way}", data, ways[way]).folder)


def dimensions(name: str, *, pca: bool) -> Items:
    """Judge a model's vectors, cut to fewer dimensions, by the nDCG@10 of each term."""
    model = name if name == current().model else trained(name)
    encoder = SentenceEncoder.from_pretrained(model)
    options = {"cache": kept(), "show_progress": False}
    both = task().queries, task().corpus_texts
    sides = [encoder.encode(texts, **options) for texts in both]
    found: dict[str, NDArray[np.float64]] = {}
    for share in SHARES:
        width = encoder.dimension // share
        if pca:
            varies = PCA(width, svd_solver="covariance_eigh").fit(sides[1])
            short = [x @ varies.components_.T for x in sides]
        else:
            short = [normalized(x[:, :width]) for x in sides]
        rows = exact_search(*short, 10)[1]
        codes = [[task().corpus_codes[i] for i in row] for row in rows]
        answers = [{code} for code in task().relevant]
        found[str(width)] = ndcg_at_k(codes, answers)
    return found


def build() -> Study:
    """Return the study with all its jobs."""
    profile = current()
    uses = [profile.model, profile.raw_model, "wordllama-256", "icd10cm"]
    study = Study("06_model_selection", uses=uses)
    cuts = {
        "leading": (profile.model, "plain", "matryoshka"),
        "pca": (profile.model, "plain"),
    }
    for way, names in cuts.items():
        for name in names:
            told = {"cut": way, "model": name, "queries": profile.queries}
            work = partial(dimensions, name, pca=way == "pca")
            study.add(f"{name} {way}", work, seconds=200, depends=told)
    told = {
        "survey": list(profile.candidates),
        "on": machine(),
        "terms": profile.survey,
    }
    study.add("survey", survey, seconds=1200, depends=told)
    return study


def conclude(study: Study, items: Mapping[str, Items]) -> None:
    """Record every score and cost, and write the survey beside the record."""
    topics = [code[:3] for code in task().relevant]
    path = study.path.with_name(RECORDED)
    write_bytes(path, str(items["survey"]["survey"]).encode())
    known = read_indexes(committed_results("full") / "04.json")
    found = replace(read_survey(path), indexes=known)  # as they are recorded now
    write_survey(path, found)
    for row in found.rows:
        for kind, score in row.quality.items():
            study.record(f"{row.name}.{kind}", score, row.metrics[kind])
        for cost, value in row.cost.items():
            study.record(f"{row.name}.{cost}", value, cost)
    for name, by_width in items.items():
        if name == "survey":
            continue
        widest = max(map(int, by_width))
        for width, scores in by_width.items():
            key = f"{name.replace(' ', '.')}.{width}"
            study.record(key, bootstrap_mean(scores, groups=topics), NDCG)
            lost = bootstrap_mean(scores - by_width[str(widest)], groups=topics)
            study.record(f"{key}_lost", lost, f"{NDCG}, difference from all dimensions")
    for width, scores in items["matryoshka leading"].items():
        gap = bootstrap_mean(scores - items["plain leading"][width], groups=topics)
        study.record(f"matryoshka_over_plain.{width}", gap, NDCG)
    for one, other in COMPARED:
        if {one, other} <= {row.name for row in found.rows}:
            gap = found.difference("Retrieval", one, other)
            study.record(f"{one}_over_{other}", gap, NDCG)
    limits = Constraints(corpus=1_000_000, max_ms=20, max_mb=2_000)
    choice, key = recommend(found, limits)[0], "choice.1000000"
    study.record(f"{key}.quality", choice.quality, NDCG)
    study.record(f"{key}.ms", choice.ms(limits.corpus).mean, "milliseconds a query")
    study.record(f"{key}.mb", choice.mb(limits.corpus), "MB of the whole process")
    dollars = choice.dollars(limits.corpus, limits.price)[1]
    study.record(f"{key}.dollars", dollars, "dollars for a million queries")
    study.record("price", limits.price, "dollars an hour")


if __name__ == "__main__":
    raise SystemExit(main(build, conclude))
