"""05: what a score depends on, what differences are real, how many queries show them.

Six models on the six tasks of ICD-10-CM, beside vectors drawn at random; Spearman's
correlation of pairs with few and with many words in common; how often a set of so many
queries finds a difference; and thirty typed searches whose results two people graded.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from material import word_overlap
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import cohen_kappa_score
from study import Items, Study, main

from experiments.profiles import current
from experiments.runs import raw_encoder
from sbert_lab._utils import Vectors
from sbert_lab.adaptation.recipe import sha256_of
from sbert_lab.datasets import sts
from sbert_lab.datasets.icd10cm_tasks import KINDS
from sbert_lab.datasets.pairs import read_authored
from sbert_lab.evaluation.metrics import ndcg_at_k, pairwise_cosine
from sbert_lab.evaluation.statistics import (
    Interval,
    bootstrap_mean,
    bootstrap_score,
    holm,
    items_needed,
    minimum_detectable_difference,
)
from sbert_lab.evaluation.tasks import TaskResult, compare, interval, measure
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.onnx import load_onnx
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.models.static import StaticEncoder

VERSION = 1  # raise it when a job is done in another way
SETS = ("ladder", "stsb")
#: Shares of words in common: 0, above it, and so on; the last ends at 1.
EDGES = (-1.0, 0.0, 0.2, 0.4, 0.6, 1.0)
#: Pairs of models: as good as the same, near, and far.
RIVALS = {
    "same": ("minilm", "int8"),
    "near": ("minilm", "l3"),
    "far": ("minilm", "wordllama"),
}
COUNTS = (50, 100, 200, 500, 1000, 2000, 5000)
DRAWS = 400  # sets of so many queries


def encoders() -> dict[str, Callable[[Sequence[str]], Vectors]]:
    """Return how each model encodes texts, the last one by chance."""
    minilm = SentenceEncoder.from_pretrained(current().model)

    def by_chance(texts: Sequence[str]) -> Vectors:
        rng = np.random.default_rng(len(texts))
        return rng.standard_normal((len(texts), 64), np.float32)

    return {
        "minilm": minilm.encode,
        "int8": load_onnx("all-MiniLM-L6-v2-int8-onnx").encode,
        "l3": load_onnx("paraphrase-MiniLM-L3-v2-onnx").encode,
        "wordllama": StaticEncoder.from_pretrained("wordllama-256").encode,
        "raw": raw_encoder(current()).encode,
        "static": StaticEncoder.from_pretrained("bert-mini-static").encode,
        "chance": by_chance,
    }


@cache
def board() -> dict[str, dict[str, TaskResult]]:
    """Return every model on every task."""
    size = current().benchmark
    return {name: measure(encode, size) for name, encode in encoders().items()}


def levels() -> dict[str, ArrayLike]:
    """Return every score with its interval, and all differences of two models.

    Clustering's draws share documents, so that it has no test.
    """
    found: dict[str, ArrayLike] = {}
    for name, tasks in board().items():
        for kind, one in tasks.items():
            got = interval(one)
            found[f"{name} {kind}"] = [got.mean, got.low, got.high, got.n]
    kinds = [kind for kind in KINDS if kind != "Clustering"]
    models = {
        name: {kind: tasks[kind] for kind in kinds}
        for name, tasks in board().items()
        if name != "chance"
    }
    rows = compare(models)
    found["differences"] = [[d.mean, d.low, d.high] for *_, d, _ in rows]
    found["p"] = holm([p for *_, p in rows])
    found["between"] = [[kind, a, b] for kind, a, b, *_ in rows]
    return found


def power() -> dict[str, ArrayLike]:
    """Return what so many queries show, and how often a set of them does.

    The queries of a set are drawn one by one, whatever diseases they belong to.
    """
    found: dict[str, ArrayLike] = {}
    rng = np.random.default_rng(0)
    for rivals, (first, second) in RIVALS.items():
        ours, theirs = (board()[name]["Retrieval"] for name in (first, second))
        gaps = ours.items - theirs.items
        least, needed = 0.0, 0
        if np.ptp(gaps):  # not so in a handful of queries
            least = minimum_detectable_difference(gaps) * np.sqrt(len(gaps))
            needed = items_needed(gaps, 0.01)
        found[f"{rivals} shown"] = [least / np.sqrt(count) for count in COUNTS]
        found[f"{rivals} needed"] = [needed]
        gap = bootstrap_mean(gaps, groups=ours.group)
        found[f"{rivals} gap"] = [gap.mean, gap.low, gap.high, gap.n]
        share = []
        for count in COUNTS:
            drawn = gaps[rng.integers(len(gaps), size=(DRAWS, count))]
            error = drawn.std(1, ddof=1) / np.sqrt(count)
            share.append(float((abs(drawn.mean(1)) > 1.96 * error).mean()))
        found[f"{rivals} found"] = share
        found[f"{rivals} same query"] = [float((gaps == 0).mean())]
    return found


def overlap(name: str) -> dict[str, ArrayLike]:
    """Return cosines of a set's pairs, their scores and the words in common."""
    pairs = (
        sts.ladder(current().ladder_anchors) if name == "ladder" else sts.stsb("test")
    )
    shared = [
        word_overlap(*both) for both in zip(pairs.first, pairs.second, strict=True)
    ]
    found: dict[str, ArrayLike] = {"gold": pairs.score, "shared": shared}
    for model in ("minilm", "raw"):
        encode = encoders()[model]
        found[model] = pairwise_cosine(encode(pairs.first), encode(pairs.second))
    return found


def judged() -> dict[str, ArrayLike]:
    """Return two annotators' grades, and what they say of three searches."""
    rows = read_authored("judged_searches.csv")
    queries = list(dict.fromkeys(row["query"] for row in rows))
    found: dict[str, ArrayLike] = {
        who: [int(row[who]) for row in rows] for who in ("first", "second")
    }
    entries = {row["category"]: row["entry"] for row in rows}
    codes, texts = list(entries), list(entries.values())
    encode = {name: encoders()[name] for name in ("minilm", "wordllama")}
    for who in ("first", "second"):
        grades: dict[str, dict[int, int]] = {query: {} for query in queries}
        for row in rows:
            grades[row["query"]][codes.index(row["category"])] = int(row[who])
        for name, make in encode.items():
            a, b = (
                x / np.linalg.norm(x, axis=1, keepdims=True)
                for x in (make(queries), make(texts))
            )
            order = np.argsort(-(a @ b.T), axis=1, kind="stable").tolist()
            found[f"{who} {name}"] = ndcg_at_k(order, list(grades.values()))
        order = Bm25(texts).search(queries, 10)[1].tolist()
        found[f"{who} bm25"] = ndcg_at_k(order, list(grades.values()))
    return found


def build() -> Study:
    """Return the study: its jobs are the tasks, the power, the sets, and the grades."""
    profile = current()
    uses = [profile.model, profile.raw_model, "wordllama-256", "icd10cm", "stsb"]
    uses += ["bert-mini-static", "paraphrase-MiniLM-L3-v2-onnx"]
    uses += ["all-MiniLM-L6-v2-int8-onnx"]
    judged_on = [read_authored("judged_searches.csv"), profile.benchmark]
    study = Study("05_evaluation", uses=uses, judged=sha256_of(judged_on))
    jobs: dict[str, Callable[[], Mapping[str, ArrayLike]]] = {
        "levels": levels,
        "power": power,
        **{f"overlap {name}": partial(overlap, name) for name in SETS},
        "judged": judged,
    }
    for name, make in jobs.items():
        seconds = 900 if name == "levels" else 60
        depends = {"job": name, "version": VERSION}
        study.add(name, make, seconds=seconds, depends=depends)
    return study


def conclude(study: Study, items: Mapping[str, Items]) -> None:
    """Record levels, the differences that are real, power, overlap and agreement."""
    found: Mapping[str, Any] = items["levels"]
    for key, values in found.items():
        if key not in ("differences", "p", "between"):
            study.record(key.replace(" ", "."), as_interval(values), "score")
    real = found["p"] <= 0.05
    study.record("pairs", len(real), "differences")
    study.record("pairs.real", int(real.sum()), "differences beyond chance, by Holm")
    large = found["differences"][:, 1] > 0.01
    study.record("pairs.large", int((real & large).sum()), "of them, above 0.01")
    for kind, better, other in found["between"].tolist():
        row = (found["between"] == [kind, better, other]).all(1)
        gap = found["differences"][row][0]
        study.record(f"gap.{kind}.{better}.{other}", as_interval(gap), "difference")
        study.record(f"p.{kind}.{better}.{other}", float(found["p"][row][0]), "p, Holm")
    for key, values in items["power"].items():
        rivals, _, what = key.partition(" ")
        if what == "gap":
            study.record(f"power.{rivals}.gap", as_interval(values), "nDCG@10")
        elif len(values) == 1:
            name = what.replace(" ", "_")
            study.record(f"power.{rivals}.{name}", float(values[0]), what)
        else:
            for count, value in zip(COUNTS, values.tolist(), strict=True):
                study.record(f"power.{rivals}.{what}.{count}", float(value), what)
    for name in SETS:
        by_overlap(study, name, items[f"overlap {name}"])
    grades = items["judged"]
    study.record("judged.rows", len(grades["first"]), "pooled results")
    agree = float((grades["first"] == grades["second"]).mean())
    study.record("judged.agree", agree, "share of equal grades")
    for key, weights in (("kappa", None), ("weighted", "linear")):
        kappa = cohen_kappa_score(grades["first"], grades["second"], weights=weights)
        study.record(f"judged.{key}", float(kappa), "Cohen's kappa")
    for who in ("first", "second"):
        for name in ("minilm", "wordllama", "bm25"):
            level = bootstrap_mean(grades[f"{who} {name}"])
            study.record(f"judged.{who}.{name}", level, "nDCG@10, graded")
        gap = grades[f"{who} minilm"] - grades[f"{who} bm25"]
        study.record(f"judged.{who}.gap", bootstrap_mean(gap), "nDCG@10, graded")


def by_overlap(study: Study, name: str, found: Items) -> None:
    """Record Spearman for pairs with ever more words in common.

    Pairs that share many words have a narrower range of scores, which alone lowers a
    correlation. So it is also recorded how often, of two pairs of one class whose
    scores are one to two steps apart, the better one has the higher cosine.
    """
    gold, shared = found["gold"], found["shared"]
    for model in ("minilm", "raw"):
        whole = bootstrap_score(found[model], gold)
        study.record(f"overlap.{name}.{model}", whole, "Spearman")
        for number, (low, high) in enumerate(pairwise(EDGES)):
            own = (shared > low) & (shared <= high)
            score = bootstrap_score(found[model][own], gold[own])
            study.record(f"overlap.{name}.{model}.{number}", score, "Spearman")
            ordered = in_order(found[model][own], gold[own])
            study.record(f"order.{name}.{model}.{number}", ordered, "share in order")
    for number, (low, high) in enumerate(pairwise(EDGES)):
        own = (shared > low) & (shared <= high)
        study.record(f"spread.{name}.{number}", float(gold[own].std()), "of scores")


def in_order(cosines: NDArray[Any], gold: NDArray[Any]) -> float:
    """Return how often the better of two pairs, one to two steps apart, is nearer."""
    step = gold[:, None] - gold[None, :]
    apart = (step >= 1) & (step <= 2)
    return float((cosines[:, None] > cosines[None, :])[apart].mean())


def as_interval(values: NDArray[Any]) -> Interval:
    """Return mean, low and high, and perhaps n, as an interval."""
    mean, low, high, *n = (float(value) for value in values)
    return Interval(mean, low, high, int(n[0]) if n else 0)


if __name__ == "__main__":
    raise SystemExit(main(build, conclude))
