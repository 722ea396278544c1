"""03: mean pooling beside [CLS] and max, before training, after, and switched.

bert-mini learns from the dictionary by multiple negatives ranking, with mean, [CLS] or
max pooling, from a few thousand pairs, several seeds each, and from more, one seed; a
seed draws the pairs and their order. Each training is one epoch, with a warm-up and a
falling rate of its own. Then each encoder of the longest one is used with the other
poolings, and so are encoders that others trained.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import product

import numpy as np
from material import RANKED, SETS, UNIT, judged, measured, trained, yardstick
from study import Study, main

from experiments.profiles import current
from experiments.runs import Items, raw_encoder
from sbert_lab.datasets import dictionary
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.losses import MultipleNegativesRankingLoss
from sbert_lab.models.registry import resolve
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training import TrainingData

POOLINGS = ("mean", "cls", "max")
#: Encoders that were trained with mean pooling, and the seconds of their jobs.
FINISHED = {
    "minilm": ("all-MiniLM-L6-v2", 200),
    "mpnet": ("all-mpnet-base-v2", 1200),
}
RATE, TEMPERATURE = 5e-4, 0.05


@cache
def pairs_of(seed: int) -> Pairs:
    """Return all pairs of the dictionary, in the order of a seed."""
    return dictionary.ranking_pairs("train", seed=seed)


def material(count: int, seed: int) -> TrainingData:
    """Return the first `count` pairs."""
    found = pairs_of(seed)
    columns = {"anchor": found.anchor[:count], "positive": found.positive[:count]}
    return TrainingData(columns, source="the dictionary's pairs")


def with_pooling(encoder: SentenceEncoder, used: str) -> SentenceEncoder:
    """Return an encoder of the same weights that pools otherwise."""
    layout = replace(encoder.layout, pooling=(used,))
    parts = encoder.transformer, encoder.tokenizer, layout
    return SentenceEncoder(*parts).to(encoder.device).eval()


def every_pooling(encoder: SentenceEncoder) -> Items:
    """Measure an encoder with each pooling, as ``used_cls.stsb`` and so on."""
    return {
        f"used_{used}.{name}": values.astype(np.float32)
        for used in POOLINGS
        for name, values in yardstick().measure(with_pooling(encoder, used)).items()
    }


def after_training(pooling: str, count: int, seed: int) -> Items:
    """Train with a pooling, and measure; after the most pairs with all poolings."""
    folder = trained(
        "ranking",
        material(count, seed),
        lambda _: MultipleNegativesRankingLoss(temperature=TEMPERATURE),
        seed=seed,
        learning_rate=RATE,
        batch_size=RANKED,
        pooling=pooling,
    )
    if count < max(current().pooling_pairs):
        return measured(folder)
    found = every_pooling(SentenceEncoder.from_pretrained(folder))
    return found | chosen(found, f"used_{pooling}")


def untrained() -> Items:
    """Measure bert-mini as it is, with each pooling."""
    return every_pooling(raw_encoder(current()))


def finished(name: str) -> Items:
    """Measure an encoder that others trained with mean pooling, with each pooling."""
    encoder = SentenceEncoder.from_pretrained(name)
    assert encoder.layout.pooling == ("mean",)
    return every_pooling(encoder)


def present() -> dict[str, tuple[str, int]]:
    """Return those encoders that are installed."""
    found = {}
    for short, (name, seconds) in FINISHED.items():
        try:
            resolve(name, allow_hub=False)
        except FileNotFoundError as error:
            print(f"left out: {error}")
        else:
            found[short] = name, seconds
    return found


def seeds_of(count: int) -> range:
    """Return the seeds of a number of pairs: of the most, one."""
    profile = current()
    return range(1 if count == max(profile.pooling_pairs) else profile.study_seeds)


def build() -> Study:
    """Return the study: a job for each pooling, number of pairs and seed."""
    profile, models = current(), present()
    uses = [profile.raw_model, "wordnet", "stsb", "sick", "icd10cm"]
    uses += [name for name, _ in models.values()]
    study = Study("03_pooling_ablation", uses=uses, judged=judged(yardstick()))
    study.add("raw", untrained, seconds=60, depends={"raw": profile.raw_model})
    trainings = [(n, seed) for n in profile.pooling_pairs for seed in seeds_of(n)]
    for (count, seed), pooling in product(trainings, POOLINGS):
        told = {
            "pooling": pooling,
            "data": material(count, seed).fingerprint(),
            "seed": seed,
            "rate": RATE,
            "temperature": TEMPERATURE,
            "batch": RANKED,
        }
        work = partial(after_training, pooling, count, seed)
        title = f"{pooling}, {count} pairs, seed {seed}"
        study.add(title, work, seconds=30 + count / 40, depends=told)
    for short, (name, seconds) in models.items():
        work = partial(finished, name)
        study.add(short, work, seconds=seconds, depends={"encoder": name})
    return study


def conclude(study: Study, items: Mapping[str, Items]) -> None:
    """Record levels and differences by step, their noise, and the switches."""
    counts, yard = study.profile.pooling_pairs, yardstick()
    runs = {
        (pooling, -(-count // RANKED)): [
            items[f"{pooling}, {count} pairs, seed {seed}"] for seed in seeds_of(count)
        ]
        for pooling, count in product(POOLINGS, counts)
    }
    runs |= {(p, 0): [chosen(items["raw"], f"used_{p}")] for p in POOLINGS}
    end, longest = (-(-count // RANKED) for count in (counts[0], counts[-1]))
    study.record("pairs.train", counts[0], "pairs")
    study.record("pairs.longest", counts[-1], "pairs")
    study.record("seeds", len(seeds_of(counts[0])), "seeds")
    for name, (pooling, step) in product(SETS, runs):
        ours, unit = runs[pooling, step], UNIT[name]
        level = yard.score(name, ours)
        study.record(f"{pooling}.step_{step}.{name}", level, unit)
        if pooling != "mean":
            gap = yard.score(name, runs["mean", step], ours)
            study.record(f"mean_over_{pooling}.step_{step}.{name}", gap, unit)
    for name, own, used in product(SETS, POOLINGS, POOLINGS):
        if own != used:
            moved = [chosen(run, f"used_{used}") for run in runs[own, longest]]
            cost = yard.score(name, moved, runs[own, longest])
            study.record(f"switch.{own}_{used}.{name}", cost, UNIT[name])
    for short, name in product([each for each in FINISHED if each in items], SETS):
        own = [chosen(items[short], "used_mean")]
        study.record(f"{short}.mean.{name}", yard.score(name, own), UNIT[name])
        for used in POOLINGS[1:]:
            moved = [chosen(items[short], f"used_{used}")]
            cost = yard.score(name, moved, own)
            study.record(f"switch.{short}.{used}.{name}", cost, UNIT[name])
    for name, pooling in product(yard.sets, POOLINGS[1:]):
        # Two cells, of which `score` takes the mean: half of what the gap has changed.
        before = {p: runs[p, 0] * len(runs[p, end]) for p in ("mean", pooling)}
        ours = [*runs["mean", end], *before[pooling]]
        theirs = [*runs[pooling, end], *before["mean"]]
        half = yard.score(name, ours, theirs, cells=2)
        change = Interval(2 * half.mean, 2 * half.low, 2 * half.high, half.n)
        study.record(f"change.{pooling}.{name}", change, "Spearman")
        each = [
            yard.score(name, [mean], [other])
            for mean, other in zip(runs["mean", end], runs[pooling, end], strict=True)
        ]
        spread = np.std([one.mean for one in each], ddof=min(1, len(each) - 1))
        width = np.mean([one.high - one.low for one in each])
        noise = {
            "seeds": (spread, "SD over seeds"),
            "items": (width / 3.92, "SE of items"),
        }
        for of, (value, unit) in noise.items():
            study.record(f"noise.{pooling}.{of}.{name}", float(value), unit)


def chosen(run: Items, what: str) -> Items:
    """Return of ``what.stsb`` and so on the arrays by set."""
    start = f"{what}."
    return {k.removeprefix(start): v for k, v in run.items() if k.startswith(start)}


if __name__ == "__main__":
    raise SystemExit(main(build, conclude))
