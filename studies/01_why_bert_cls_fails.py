"""01: [CLS] beside other vectors of a sentence, and what reading every pair buys.

bert-mini as it is, pooled in four ways, beside vectors that no BERT made, the encoder
that 02's largest training with the ranking objective gives, and a published encoder.
Then a cross-encoder beside an encoder, both begun with that one and taught the STS
Benchmark's scored pairs, and the time of both.

``SBERT_LAB_SET='{"nsp_model": "FOLDER"}'`` adds a BERT that was also pre-trained to
tell whether one sentence follows another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from material import judged, regression, stsb_rows, word_overlap, yardstick
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize
from study import Study, main
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    get_linear_schedule_with_warmup,
)

from experiments.profiles import current
from experiments.runs import Items, Yardstick, get_or_train, raw_encoder
from experiments.timing import side_by_side
from sbert_lab._utils import Vectors, machine
from sbert_lab.datasets import nli, sts
from sbert_lab.datasets.icd10cm_tasks import graded_hierarchy
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.metrics import anisotropy, pairwise_cosine
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.models.checkpoint import Layout
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.probing import (
    encode_all_poolings,
    first_token_attention,
    untrained_bert,
)
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.models.static import StaticEncoder
from sbert_lab.training import set_dropout

CROSS = {"epochs": 3, "batch_size": 32, "learning_rate": 3e-4}
WHITENED = ("stsb", "everyday")
READ = ("stsb", "everyday")  # by the cross-encoder
SENTENCES = 500  # whose attention and cone are looked at
TIMED = 256  # pairs, and texts
UNIT = "Spearman"
NUMBER = 10_000  # sentences whose most similar pair is sought, as in the paper
PASSES = NUMBER * (NUMBER - 1) // 2
#: BERT-base's shape with bert-mini's word pieces. Its weights are random: they do not
#: change its time.
BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}


@cache
def sets() -> dict[str, ScoredPairs]:
    """Return the scored pairs of all three studies, and those of ICD-10-CM."""
    profile = current()
    graded = graded_hierarchy(profile.anchors, seed=profile.seed)
    return {**yardstick().sets, "icd10cm": graded}


def texts_of(pairs: ScoredPairs) -> list[str]:
    """Return all first sentences, then all second ones."""
    return [*pairs.first, *pairs.second]


def cosines(vectors: Vectors) -> Vectors:
    """Return the cosine of each row of the first half and its row of the second."""
    first, second = np.split(vectors, 2)
    return pairwise_cosine(first, second).astype(np.float32)


def random_bert(seed: int) -> SentenceEncoder:
    """Return an encoder of bert-mini's shape with random weights."""
    raw = raw_encoder(current())
    blank = untrained_bert(raw.transformer.config, seed).to(raw.device)
    return SentenceEncoder(blank, raw.tokenizer, Layout(raw.dimension)).eval()


def measured(name: str) -> Items:
    """Return a set's cosines by every way that is not trained here."""
    profile, texts = current(), texts_of(sets()[name])
    raw = raw_encoder(profile)
    vectors = encode_all_poolings(raw, texts)
    if name in WHITENED:
        vectors |= whitened(raw, name, vectors)
    vectors["static"] = StaticEncoder.from_pretrained("bert-mini-static").encode(texts)
    encoder = SentenceEncoder.from_pretrained(profile.sbert)
    vectors["encoder"] = encoder.encode(texts, show_progress=False)
    found = {way: cosines(each) for way, each in vectors.items()}
    drawn = [random_bert(seed) for seed in range(profile.study_few)]
    found["random"] = np.stack([cosines(one.encode(texts)) for one in drawn])
    unit, half = normalize(CountVectorizer().fit_transform(texts)), len(texts) // 2
    bags = unit[:half].multiply(unit[half:]).sum(axis=1)
    return found | {"bag": np.asarray(bags, np.float32).ravel()}


def whitened(
    raw: SentenceEncoder, name: str, vectors: Mapping[str, Vectors]
) -> dict[str, Vectors]:
    """Whiten [CLS] and mean by other sentences of a set's kind, half the directions."""
    if name == "stsb":
        others = texts_of(sts.stsb("train"))
    else:
        others = [text for p in nli.authored() for text in (p.premise, p.hypothesis)]
    seen = encode_all_poolings(raw, sorted(set(others)))
    found = {}
    for way in ("cls", "mean"):
        half = min(raw.dimension // 2, len(seen[way]) - 1)
        fitted = PCA(half, whiten=True).fit(seen[way].astype(np.float64))
        found[f"{way}_whitened"] = fitted.transform(vectors[way])
    return found


def two() -> Any:
    """Return the study of 02, whose name is no word of Python."""
    return import_module("02_training_sbert")


def ranking(seed: int) -> Any:
    """Return 02's largest training of those that all its objectives have."""
    return two().Training("ranking", current().study_pairs[-1], seed)


def trained(seed: int) -> Items:
    """Return each set's cosines by the encoder that 02 trained on the dictionary."""
    encoder = SentenceEncoder.from_pretrained(ranking(seed).folder())
    return {
        name: cosines(encoder.encode(texts_of(pairs), show_progress=False))
        for name, pairs in sets().items()
    }


def next_sentence(folder: str) -> Items:
    """Return each set's cosines by [CLS] and mean of a raw BERT in a folder."""
    raw = raw_encoder(current().but(raw_model=folder))
    found = {}
    for name, pairs in sets().items():
        vectors = encode_all_poolings(raw, texts_of(pairs))
        found |= {f"{name}.{way}": cosines(vectors[way]) for way in ("cls", "mean")}
    return found


def shape() -> Items:
    """Return where [CLS] looks, and the mean cosine of any two sentences."""
    raw, every = raw_encoder(current()), sorted(set(texts_of(sets()["stsb"])))
    order = np.random.default_rng(0).permutation(len(every))[:SENTENCES]
    some = [every[row] for row in order]
    vectors = encode_all_poolings(raw, some)
    encoder = SentenceEncoder.from_pretrained(current().sbert)
    vectors["encoder"] = encoder.encode(some, show_progress=False)
    ways = ("cls", "mean", "encoder")
    return {
        **first_token_attention(raw, some),
        **{f"cone.{way}": np.array(anisotropy(vectors[way])) for way in ways},
    }


def read_together(seed: int) -> Items:
    """Teach a cross-encoder the STS Benchmark's pairs; return its scores, by set."""
    start = ranking(seed).folder()
    model = CrossEncoder.from_pretrained(start, head_seed=seed)
    rows = regression(stsb_rows()).fingerprint()
    base = SentenceEncoder.from_pretrained(start).fingerprint()
    told = {"base": base, "seed": seed, "rows": rows, "learn": 1}  # its version

    def make() -> CrossEncoder:
        learn(model, stsb_rows(), seed)
        return model

    folder = get_or_train("study-cross-encoder", told | CROSS, make).folder
    reader = CrossEncoder.from_pretrained(folder)
    return {
        name: reader.predict(pairs.first, pairs.second, activation=None)
        for name, pairs in sets().items()
        if name in READ
    }


def learn(model: CrossEncoder, pairs: ScoredPairs, seed: int) -> None:
    """Train on scored pairs by binary cross-entropy (Reimers and Gurevych 2019)."""
    set_dropout(model, 0.0)
    kinds = model.transformer.bert.embeddings.token_type_embeddings.weight
    with torch.no_grad():
        kinds[1] = kinds[0]  # bert-mini never saw a second text: its row is untrained
    rng, size = np.random.default_rng(seed), CROSS["batch_size"]
    ids = [torch.from_numpy(each) for each in model.pair_ids(pairs.first, pairs.second)]
    lengths, score = np.array([len(each) for each in ids]), np.array(pairs.score) / 5
    batches: list[Any] = []
    for _ in range(CROSS["epochs"]):  # of pairs of about one length
        order = np.argsort(lengths + 6 * rng.random(len(ids)))
        rows = np.array_split(order, -(-len(ids) // size))
        batches += [rows[at] for at in rng.permutation(len(rows))]
    optimizer = torch.optim.AdamW(model.parameters(), lr=CROSS["learning_rate"])
    steps = len(batches)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    for rows in batches:
        padded = pad_sequence([ids[row] for row in rows], batch_first=True)
        mask = torch.arange(padded.shape[1]) < torch.tensor(lengths[rows])[:, None]
        found = model(padded, mask.long())[:, 0]
        target = torch.tensor(score[rows], dtype=torch.float32)
        loss = F.binary_cross_entropy_with_logits(found, target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def vectors_alike(seed: int) -> Items:
    """Return the cosines of 02's encoder of the same start and the same pairs."""
    before = ranking(seed)
    encoder = SentenceEncoder.from_pretrained(two().after_stsb(seed, before))
    return {
        name: cosines(encoder.encode(texts_of(pairs), show_progress=False))
        for name, pairs in sets().items()
        if name in READ
    }


def cost() -> Items:
    """Return the seconds a pair and a text take, in rounds, of two sizes of BERT."""
    pairs = sets()["stsb"]
    rows = np.random.default_rng(0).permutation(len(pairs))[:TIMED]
    pairs = pairs.only(np.isin(np.arange(len(pairs)), rows))
    texts = sorted(set(texts_of(pairs)))[::2]  # an encoder reads equal ones once
    raw, found = raw_encoder(current()), {}
    for name, shape in (("mini", {}), ("base", BASE)):
        config = BertConfig.from_dict(raw.transformer.config.to_dict() | shape)
        config.num_labels = 1
        reader = CrossEncoder(BertForSequenceClassification(config), raw.tokenizer)
        bert, width = reader.transformer.bert, Layout(config.hidden_size)
        encoder = SentenceEncoder(bert, raw.tokenizer, width)
        spent = side_by_side(
            {
                "pair": partial(reader.predict, pairs.first, pairs.second),
                "text": partial(encoder.encode, texts),
            },
            current().turns,
        )
        counts = {"pair": len(pairs), "text": len(texts)}
        found |= {f"{name}_{what}": spent[what] / n for what, n in counts.items()}
    return found


def build() -> Study:
    """Return the study with all its jobs."""
    uses = ["bert-mini", "bert-mini-static", current().sbert, "icd10cm"]
    uses += ["wordnet", "stsb", "sick"]
    study = Study("01_why_bert_cls_fails", uses=uses, judged=judged(Yardstick(sets())))
    profile, seeds = current(), current().study_seeds
    for name, pairs in sets().items():
        told = {"set": name, "pairs": len(pairs), "model": profile.sbert}
        told["random"] = profile.study_few
        study.add(name, partial(measured, name), seconds=120, depends=told)
    study.add("shape", shape, seconds=20, depends={"shape": SENTENCES})
    for seed in range(seeds):
        told = {"trained": asdict(ranking(seed)), **two().SETTINGS["ranking"]}
        work = partial(trained, seed)
        study.add(f"trained, seed {seed}", work, seconds=700, depends=told)
    for seed in range(1):  # it takes as long as all the rest
        told = {"start": asdict(ranking(seed)), **two().SETTINGS["ranking"]}
        told |= {"seed": seed, "stsb": two().STSB}
        work = partial(vectors_alike, seed)
        study.add(f"vectors alike, seed {seed}", work, seconds=20, depends=told)
        work = partial(read_together, seed)
        told = told | {"read": CROSS}
        study.add(f"cross-encoder, seed {seed}", work, seconds=500, depends=told)
    study.add("cost", cost, seconds=120, depends={"cost": TIMED, "on": machine()})
    if folder := profile.nsp_model:
        work = partial(next_sentence, folder)
        told = {"weights": raw_encoder(profile.but(raw_model=folder)).fingerprint()}
        study.add("next sentence", work, seconds=60, depends=told)
    return study


def by_way(items: Mapping[str, Items]) -> dict[str, list[Items]]:
    """Return by way, and for each of its seeds, the cosines of every set."""
    found: dict[str, list[Items]] = {}
    first = items[next(iter(sets()))]
    for way in first:
        if not way.endswith("_whitened"):
            rows = {name: np.atleast_2d(items[name][way]) for name in sets()}
            seeds = len(rows[next(iter(sets()))])
            found[way] = [
                {n: r[seed] for n, r in rows.items()} for seed in range(seeds)
            ]
    found["trained"] = [i for name, i in items.items() if name.startswith("trained,")]
    return found


def conclude(study: Study, items: Mapping[str, Items]) -> None:
    """Record levels, differences from the mean, and what explains them."""
    yard, ways = Yardstick(sets()), by_way(items)
    for name in sets():
        for way, runs in ways.items():
            study.record(f"{name}.{way}", yard.score(name, runs), UNIT)
            if way != "mean":
                over = yard.score(name, runs, ways["mean"])
                study.record(f"{name}.{way}_over_mean", over, UNIT)
        over = yard.score(name, ways["mean"], ways["cls"])
        study.record(f"{name}.mean_over_cls", over, UNIT)
    explained(study, ways)
    repaired(study, items, ways)
    look = items["shape"]
    for place in ("itself", "words", "end", "evenness"):
        study.record(f"attention.{place}", bootstrap_mean(look[place]), "share")
    for way in ("cls", "mean", "encoder"):
        study.record(f"cone.{way}", float(look[f"cone.{way}"]), "cosine")
    reading(study, items)
    priced(study, items["cost"])
    if "next sentence" in items:
        asked(study, items["next sentence"], ways)


def explained(study: Study, ways: Mapping[str, Sequence[Items]]) -> None:
    """Record how word overlap ranks the pairs, and how far each way follows it."""
    shared = {
        name: [
            word_overlap(*two) for two in zip(pairs.first, pairs.second, strict=True)
        ]
        for name, pairs in sets().items()
    }
    for name, values in shared.items():
        found = Yardstick(sets()).score(name, [{name: np.array(values)}])
        study.record(f"{name}.overlap", found, UNIT)
    stsb = replace(sets()["stsb"], score=tuple(shared["stsb"]))
    for way, runs in ways.items():
        follows = Yardstick({"stsb": stsb}).score("stsb", runs)
        study.record(f"overlap_explains.{way}", follows, "Spearman, with overlap")


def repaired(
    study: Study, items: Mapping[str, Items], ways: Mapping[str, Sequence[Items]]
) -> None:
    """Record what whitening makes of [CLS] and mean, and what it gains."""
    for name in WHITENED:
        for way in ("cls", "mean"):
            runs = [{name: items[name][f"{way}_whitened"]}]
            score = partial(Yardstick(sets()).score, name, runs)
            study.record(f"{name}.{way}_whitened", score(), UNIT)
            study.record(f"{name}.{way}_whitened_gain", score(ways[way]), UNIT)


def reading(study: Study, items: Mapping[str, Items]) -> None:
    """Record the cross-encoder, and its difference from encoders of its seeds."""
    runs, alike = (
        [found for name, found in items.items() if name.startswith(start)]
        for start in ("cross-encoder,", "vectors alike,")
    )
    yard = Yardstick(sets())
    for name in READ:
        study.record(f"cross_encoder.{name}", yard.score(name, runs), UNIT)
        study.record(f"vectors_alike.{name}", yard.score(name, alike), UNIT)
        over = yard.score(name, runs, alike)
        study.record(f"cross_encoder_over_vectors.{name}", over, UNIT)


def priced(study: Study, seconds: Items) -> None:
    """Record the time of a pair and a text, of all pairs and texts of `NUMBER`."""
    for size, start in (("mini", "cost."), ("base", "cost.base_")):
        pair, text = (
            float(np.median(seconds[f"{size}_{w}"])) for w in ("pair", "text")
        )
        study.record(f"{start}pair_ms", 1e3 * pair, "ms")
        study.record(f"{start}text_ms", 1e3 * text, "ms")
        study.record(f"{start}hours_10000", pair * PASSES / 3600, "hours")
        study.record(f"{start}seconds_10000", text * NUMBER, "s")
    study.record("cost.sentences", float(NUMBER), "sentences")
    study.record("cost.passes", float(PASSES), "passes")


def asked(study: Study, found: Items, ways: Mapping[str, Sequence[Items]]) -> None:
    """Record [CLS] and mean of the BERT that was asked about next sentences."""
    yard = Yardstick(sets())
    for name in sets():
        runs = {way: [{name: found[f"{name}.{way}"]}] for way in ("cls", "mean")}
        for way, run in runs.items():
            study.record(f"{name}.{way}_nsp", yard.score(name, run), UNIT)
            gain = yard.score(name, run, ways[way])
            study.record(f"{name}.{way}_nsp_gain", gain, UNIT)
        over = yard.score(name, runs["mean"], runs["cls"])
        study.record(f"{name}.mean_over_cls_nsp", over, UNIT)


if __name__ == "__main__":
    raise SystemExit(main(build, conclude))
