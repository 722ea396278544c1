"""02: what training makes of BERT, by objective and by number of pairs.

bert-mini with mean pooling learns from the dictionary by four objectives, from more and
more pairs; what the answers rest on has five seeds, the longest of the other trainings
one. At one number of pairs all objectives see the same number of sentences: n pairs, or
two thirds as many triplets. Fewer than 5,000 pairs are shown again until so many were
seen. Then the STS Benchmark's own training pairs, alone and after the dictionary.

The rates were chosen on the STS Benchmark's development pairs, in pilots of one seed.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import product
from math import ceil

import dictionary_tasks
import numpy as np
import torch
from dictionary_rows import accuracies
from material import (
    RANKED,
    SETS,
    UNIT,
    as_float32,
    head_of,
    judged,
    measured,
    regression,
    stsb_rows,
    trained,
    yardstick,
)
from numpy.typing import NDArray
from study import Study, main

from experiments.profiles import current
from experiments.runs import (
    Items,
    labelled,
    raw_encoder,
)
from sbert_lab.datasets import dictionary
from sbert_lab.datasets.nli import LABELS, Inference, nli_triplets
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.losses import (
    CosineSimilarityLoss,
    MultipleNegativesRankingLoss,
    Objective,
    SoftmaxLoss,
    TripletLoss,
)
from sbert_lab.losses.softmax import concatenated
from sbert_lab.models.averaging import average
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training import TrainingData

VERSION = 2  # of the dictionary's rules: raise it, and all is trained anew
LABELLED = "share of held-out labels"
SETTINGS = {
    "ranking": {"learning_rate": 5e-4, "batch_size": RANKED},
    "shuffled": {"learning_rate": 5e-4, "batch_size": RANKED},
    "small_batch": {"learning_rate": 2e-4, "batch_size": 64},
    "triplet": {"learning_rate": 3e-4, "batch_size": 64},
    "cosine": {"learning_rate": 3e-4, "batch_size": 64},
    "softmax": {"learning_rate": 3e-4, "batch_size": 64},
}
STSB = {"learning_rate": 3e-4, "batch_size": 32, "epochs": 2.0}


@cache
def pairs_of(seed: int) -> dictionary.Pairs:
    """Return all pairs for ranking, in the order of a seed."""
    return dictionary.ranking_pairs("train", seed=seed)


@cache
def inferences(seed: int) -> tuple[Inference, ...]:
    """Return all labelled rows, in the order of a seed."""
    return dictionary_tasks.entailment("train", seed=seed)


def material(name: str, count: int, seed: int) -> TrainingData:
    """Return the rows of `count` pairs, in the order of a seed, for an objective."""
    if name in ("ranking", "shuffled", "small_batch"):
        found = pairs_of(seed).pick(range(min(count, len(pairs_of(seed)))))
        order = np.arange(len(found))
        if name == "shuffled":
            order = np.random.default_rng(seed).permutation(order)
        positive = [found.positive[row] for row in order]
        columns = {"anchor": found.anchor, "positive": positive}
        return TrainingData(columns, source="the dictionary's pairs")
    if name == "cosine":
        scored = dictionary_tasks.graded("train", seed=seed)
        return regression(scored.only(np.arange(len(scored)) < count))
    if name == "triplet":
        rows = nli_triplets(inferences(seed))[: ceil(2 * count / 3)]
        roles = "anchor", "positive", "negative"
        columns = dict(zip(roles, zip(*rows, strict=True), strict=True))
        return TrainingData(columns, source="the dictionary's labelled rows")
    return labelled(inferences(seed)[:count])


def objective(name: str, seed: int, encoder: SentenceEncoder) -> Objective:
    """Make an objective; the softmax draws its first weights by the seed."""
    if name == "softmax":
        generator = torch.Generator().manual_seed(seed)
        return SoftmaxLoss(encoder.dimension, len(LABELS), generator=generator)
    if name == "triplet":
        return TripletLoss()
    if name == "cosine":
        return CosineSimilarityLoss()
    return MultipleNegativesRankingLoss(temperature=0.05)


@dataclass(frozen=True)
class Training:
    """One training on the dictionary; all that decides its weights."""

    objective: str
    pairs: int
    seed: int
    dictionary: int = VERSION

    @property
    def title(self) -> str:
        """What the record calls it, whatever the seed."""
        return f"{self.objective}_{self.pairs}"

    def folder(self) -> str:
        """Return the folder of the trained model, trained now or before."""
        return trained(
            self.objective,
            material(self.objective, self.pairs, self.seed),
            partial(objective, self.objective, self.seed),
            seed=self.seed,
            epochs=ceil(current().study_least / self.pairs),
            **SETTINGS[self.objective],
        )

    def measured(self) -> Items:
        """Train and measure; for the softmax, also which held-out labels it names."""
        folder = self.folder()
        found = measured(folder)
        if self.objective == "softmax":
            found["labels"] = labels_named(folder)
        return found


def labels_named(folder: str) -> NDArray[np.float32]:
    """Return whether the softmax names each held-out label, 1 or 0."""
    rows = dictionary_tasks.entailment("test")[: current().study_labels]
    encoder = SentenceEncoder.from_pretrained(folder)
    both = [row.premise for row in rows] + [row.hypothesis for row in rows]
    u, v = torch.from_numpy(encoder.encode(both)).chunk(2)
    logits = concatenated(u, v) @ head_of(folder)["weight"].T
    right = torch.tensor([LABELS.index(row.label) for row in rows])
    return (logits.argmax(1) == right).float().numpy()


def after_stsb(seed: int, before: Training | None = None) -> str:
    """Train on the STS Benchmark's own pairs, raw or after the dictionary."""
    return trained(
        "stsb",
        regression(stsb_rows()),
        lambda _: CosineSimilarityLoss(),
        seed=seed,
        start=None if before is None else before.folder(),
        **STSB,
    )


def on_stsb(seed: int, before: Training | None = None) -> Items:
    """Train on the STS Benchmark's own pairs, and measure."""
    return measured(after_stsb(seed, before))


def build() -> Study:
    """Return the study with all its jobs, the ones that matter most first."""
    uses = ["bert-mini", "wordnet", "stsb", "sick"]
    study = Study("02_training_sbert", uses=uses, judged=judged(yardstick()))
    profile = current()
    sizes, others = profile.study_pairs, profile.study_others
    seeds, few = range(profile.study_seeds), range(profile.study_few)
    study.add("raw", raw, seconds=60, depends={"raw": profile.raw_model})

    def add(name: str, pairs: int, seeds: range = few) -> None:
        for seed in seeds:
            one = Training(name, pairs, seed)
            title = f"{one.title}, seed {seed}"
            seconds = 60 + pairs / 80
            told = asdict(one) | SETTINGS[name]
            study.add(title, one.measured, seconds=seconds, depends=told)

    def add_after(title: str, before: Training | None, seed: int) -> None:
        told = {"stsb": STSB, "seed": seed}
        if before:
            told["after"] = asdict(before) | SETTINGS[before.objective]
        work = partial(on_stsb, seed, before)
        study.add(f"{title}, seed {seed}", work, seconds=200, depends=told)

    add("ranking", sizes[-1], seeds)
    for seed in seeds:
        add_after("stsb_rows", None, seed)
        add_after("ranking_then_stsb", Training("ranking", sizes[-1], seed), seed)
    for seed in few:
        one = Training("ranking", sizes[-1], seed)
        told = asdict(one) | SETTINGS["ranking"] | {"averaged": 0.5}
        title = f"{one.title}_averaged, seed {seed}"
        study.add(title, partial(averaged, one), seconds=60, depends=told)
    for pairs in reversed(sizes[:-1]):
        add("ranking", pairs)
    for name in ("small_batch", "shuffled"):
        add(name, others[-1])
    for seed in few:
        before = Training("softmax", others[-1], seed)
        add_after("softmax_then_stsb", before, seed)
    curve = sorted(sizes, key=lambda pairs: (pairs not in others, pairs))
    for pairs, name in product(curve, ("softmax", "cosine", "triplet")):
        add(name, pairs, few if pairs <= others[-1] else range(1))
    if profile.study_most > sizes[-1]:
        add("ranking", profile.study_most, range(1))
    told = {"dictionary": VERSION, "rows": sizes[-1], "asked": profile.study_labels}
    study.add("baselines", baselines, seconds=120, depends=told)
    return study


def averaged(one: Training) -> Items:
    """Measure the mean of a training's weights and those that it began with."""
    encoder = SentenceEncoder.from_pretrained(one.folder())
    mixed = average(raw_encoder(current()), encoder, 0.5)
    return as_float32(yardstick().measure(mixed))


def baselines() -> dict[str, float]:
    """Return the share of held-out labels that shallow cues name, of the same rows."""
    test = dictionary_tasks.entailment("test")[: current().study_labels]
    return accuracies(inferences(0)[: current().study_pairs[-1]], test)


def raw() -> Items:
    """Measure bert-mini as it is."""
    return as_float32(yardstick().measure(raw_encoder(current())))


def conclude(study: Study, items: Mapping[str, Items]) -> None:
    """Record the levels, the gains over raw, and the comparisons."""
    shallow = items["baselines"]
    study.record("labels.overlap", float(shallow["word overlap"]), LABELLED)
    study.record("labels.hypothesis_only", float(shallow["hypothesis"]), LABELLED)
    runs: dict[str, list[Items]] = defaultdict(list)
    for name, found in items.items():
        if name != "baselines":
            runs[name.partition(",")[0]].append(found)
    yard = yardstick()
    for name, each in runs.items():
        for on in SETS:
            study.record(f"{name}.{on}", yard.score(on, each), UNIT[on])
            if name != "raw":
                gain = yard.score(on, each, runs["raw"])
                study.record(f"{name}_gain.{on}", gain, UNIT[on])
        if "labels" in each[0]:
            named = bootstrap_mean(np.stack([found["labels"] for found in each]))
            study.record(f"labels.{name}", named, LABELLED)
    most = study.profile.study_others[-1]
    others = ("softmax", "cosine", "triplet", "small_batch")
    pairs = [
        ("ranking_then_stsb", "stsb_rows"),
        ("softmax_then_stsb", "stsb_rows"),
        *((f"ranking_{most}", f"{name}_{most}") for name in others),
    ]
    for on in SETS:
        for name, other in pairs:
            two = runs[name], runs[other]
            few = min(map(len, two))  # the seeds that both have
            over = yard.score(on, *(each[:few] for each in two))
            study.record(f"{name}_over_{other}.{on}", over, UNIT[on])
    study.record("pairs.train", len(pairs_of(0)), "pairs of the dictionary")
    study.record("pairs.labelled", len(inferences(0)), "labelled rows")
    study.record("seeds", study.profile.study_seeds, "seeds")
    study.record("seeds.few", study.profile.study_few, "seeds")


if __name__ == "__main__":
    raise SystemExit(main(build, conclude))
