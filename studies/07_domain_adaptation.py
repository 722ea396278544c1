"""07: what pairs of a field buy, what they cost elsewhere, and where to get them free.

all-MiniLM-L6-v2 is adapted by the recipe of ``sbert_lab adapt``: from a hundred medical
pairs to ten thousand, and from a thousand of Python's docstrings. Every model is
measured in both fields and on STS Benchmark. Beside it stand the settings that most
tutorials have, the recipe with one part missing, pairs that nobody had to write, and
bert-mini with and without denoising (TSDAE) before its first pairs.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from fields import (
    FIELDS,
    SETS,
    UNIT,
    Items,
    averaged,
    drawn,
    field,
    general,
    judged,
    known,
    learnt,
    measured,
    ndcg,
)
from study import Study, main

from experiments.profiles import current
from experiments.runs import get_or_train, raw_encoder
from sbert_lab.adaptation.recipe import RECIPES, Recipe, sha256_of
from sbert_lab.adaptation.unsupervised import train_on_texts
from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean
from sbert_lab.evaluation.tasks import similarity_score
from sbert_lab.models.sentence_encoder import SentenceEncoder

OURS = Recipe()
#: What differs from ours, by name.
CHANGES: dict[str, dict[str, Any]] = {
    "usual": {"epochs": 1, "learning_rate": 2e-5, "base_weight": 0.0},
    "not_mined": {"negatives": 0},
    "not_averaged": {"base_weight": 0.0},
}
ELSEWHERE_SEEDS = 2  # of each point that are also measured elsewhere
SHARES = (0.0, 0.2, 0.6, 0.8)  # of the base, beside the recipe's
#: Seconds of a core to measure in medicine and elsewhere, and to learn a pair.
MEASURING, ELSEWHERE, LEARNING = 65, 50, {"icd": 0.15, "python": 0.7}


def adapted(name: str, count: int, recipe: Recipe) -> Items:
    """Adapt the base to pairs of a field, and measure."""
    base = current().base
    trained = learnt(base, drawn(name, count, recipe.seed), recipe, known(name))
    encoder = averaged(base, trained.folder, recipe.base_weight)
    found = measured(encoder, SETS if recipe.seed < ELSEWHERE_SEEDS else ("icd",))
    return found | {"training_s": np.array(trained.seconds)}


def headings(count: int, seed: int) -> Pairs:
    """Return entries of the training side with the heading above each, as pairs."""
    book, rows = icd10cm.by_code(), []
    for code in icd10cm.load():
        above = book.get(code.parent)
        if above is None or not above.category:
            continue
        if icd10cm.split_of(code.category) == "train":
            rows.append((code.description, above.description))
    order = np.random.default_rng(seed).permutation(len(rows))[:count].tolist()
    anchor, positive = zip(*(rows[row] for row in order), strict=True)
    return Pairs(anchor, positive)


def from_headings(count: int, seed: int) -> Items:
    """Adapt the base to pairs that the hierarchy gives, and measure."""
    base, recipe = current().base, replace(OURS, seed=seed)
    trained = learnt(base, headings(count, seed), recipe, known("icd"))
    return measured(averaged(base, trained.folder, recipe.base_weight), ("icd",))


def descriptions() -> list[str]:
    """Return texts of the training side, in random order."""
    texts = list(known("icd"))
    np.random.default_rng(0).shuffle(texts)
    return texts[: current().texts]


def raw_then_pairs(denoised: bool, seed: int) -> Items:
    """Teach raw BERT pairs, after denoising or at once; measure medical search."""
    raw, recipe = raw_encoder(current()), replace(RECIPES["tsdae"], seed=seed)

    def make() -> SentenceEncoder:
        encoder = deepcopy(raw)
        if denoised:
            train_on_texts("tsdae", encoder, descriptions(), recipe)
        return encoder

    told = {"raw": raw.fingerprint(), "recipe": asdict(recipe)}
    told |= {"texts": sha256_of(descriptions()) if denoised else ""}
    start = get_or_train("denoised", told, make).folder
    plain = replace(OURS, seed=seed, base_weight=0.0)
    pairs = drawn("icd", current().trial_pairs, seed)
    trained = learnt(start, pairs, plain, known("icd"))
    encoders = (SentenceEncoder.from_pretrained(f) for f in (start, trained.folder))
    before, after = (ndcg(encoder, field("icd").test) for encoder in encoders)
    return {"before": before, "after": after}


def runs() -> dict[str, tuple[str, int, Recipe]]:
    """Return every adaptation on labelled pairs: its field, pairs and recipe."""
    profile, found = current(), {}
    few, most = profile.trial_pairs, profile.pair_counts[-1]
    for count, seeds in zip(profile.pair_counts, profile.pair_seeds, strict=True):
        for seed in range(seeds):
            found[f"icd {count} ours {seed}"] = "icd", count, replace(OURS, seed=seed)
    for seed, (name, told) in product(range(profile.change_seeds), CHANGES.items()):
        recipe = replace(OURS, seed=seed, **told)
        found[f"icd {few} {name} {seed}"] = "icd", few, recipe
    found[f"python {few} ours 0"] = "python", few, OURS
    for share in SHARES:
        recipe = replace(OURS, base_weight=share)
        found[f"icd {most} share {share}"] = "icd", most, recipe
    return found


def build() -> Study:
    """Return the study: a job for each model that is measured."""
    profile = current()
    uses = [profile.base, profile.raw_model, "icd10cm", "stsb"]
    study = Study("07_domain_adaptation", uses=uses, judged=judged())
    base = partial(SentenceEncoder.from_pretrained, profile.base)
    told: dict[str, object] = {"base": profile.base}
    study.add("base", lambda: measured(base()), seconds=MEASURING, depends=told)
    for title, (name, count, recipe) in runs().items():
        pairs = drawn(name, count, recipe.seed)
        data = sha256_of([pairs.anchor, pairs.positive])
        depends = told | {"data": data, "recipe": asdict(recipe)}
        learning = LEARNING[name] * count * recipe.epochs / OURS.epochs
        seconds = MEASURING + (0 if " share " in title else learning)  # trained before
        seconds += ELSEWHERE if recipe.seed < ELSEWHERE_SEEDS else 0
        work = partial(adapted, name, count, recipe)
        study.add(title, work, seconds=seconds, depends=depends)
    depends = told | {"headings": profile.free_pairs, "seed": 0}
    seconds = MEASURING + LEARNING["icd"] * profile.free_pairs
    work = partial(from_headings, profile.free_pairs, 0)
    study.add("headings 0", work, seconds=seconds, depends=depends)
    for seed in range(profile.change_seeds):
        for denoised in (False, True):
            work = partial(raw_then_pairs, denoised, seed)
            depends = {"raw": profile.raw_model, "denoised": denoised, "seed": seed}
            depends |= {"pairs": profile.trial_pairs, "texts": profile.texts}
            title = f"raw {'denoised' if denoised else 'plain'} {seed}"
            study.add(title, work, seconds=240, depends=depends)
    return study


def change(
    name: str, ours: Sequence[Mapping[str, Any]], over: Sequence[Mapping[str, Any]]
) -> Interval:
    """Return a paired gain, over items and seeds; one in `over` counts for all."""
    gains, was = (np.stack([items[name] for items in runs]) for runs in (ours, over))
    if name == "stsb":
        return similarity_score(
            general(), gains, baseline=np.broadcast_to(was, gains.shape)
        )
    return bootstrap_mean(gains - was, groups=field(name).group)


def conclude(study: Study, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Record levels before, gains of every adaptation, and the training's time."""
    profile, before = study.profile, items["base"]
    few, most = profile.trial_pairs, profile.pair_counts[-1]

    def seeds_of(start: str) -> list[Mapping[str, Any]]:
        return [found for title, found in items.items() if title.startswith(start)]

    for name in FIELDS:
        level = bootstrap_mean(before[name], groups=field(name).group)
        study.record(f"base.{name}", level, UNIT[name])
    study.record("base.stsb", similarity_score(general(), before["stsb"]), "Spearman")
    models = {f"icd_{count}": f"icd {count} ours " for count in profile.pair_counts}
    models |= {f"python_{few}": f"python {few} ours ", "headings": "headings "}
    models |= {f"{name}_{few}": f"icd {few} {name} " for name in CHANGES}
    models |= {f"share_{share}": f"icd {most} share {share}" for share in SHARES}
    for key, start in models.items():
        found = seeds_of(start)
        for name in SETS:
            if known := [one for one in found if name in one]:
                gain = change(name, known, [before])
                study.record(f"{key}.{name}", gain, UNIT[name])
        study.record(f"{key}.seeds", len(found), "seeds")
        if "training_s" in found[0]:
            times = [float(one["training_s"]) for one in found]
            study.record(f"{key}.training_s", float(np.median(times)), "seconds")
    for count in profile.pair_counts[:-1]:
        gap = change("icd", seeds_of(models[f"icd_{most}"]), seeds_of(f"icd {count} o"))
        study.record(f"icd_{most}_over_{count}", gap, UNIT["icd"])
    ours = seeds_of(models[f"icd_{few}"])
    for name in CHANGES:
        found = seeds_of(f"icd {few} {name} ")
        gap = change("icd", ours[: len(found)], found)
        study.record(f"ours_over_{name}_{few}", gap, UNIT["icd"])
    for key, start in (("raw", "raw plain "), ("denoised", "raw denoised ")):
        for when in ("before", "after"):
            levels = np.stack([found[when] for found in seeds_of(start)])
            scored = bootstrap_mean(levels, groups=field("icd").group)
            study.record(f"{key}.{when}", scored, UNIT["icd"])


if __name__ == "__main__":
    raise SystemExit(main(build, conclude))
