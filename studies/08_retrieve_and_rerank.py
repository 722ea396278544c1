"""08: what BM25 and a cross-encoder add to an encoder, and where each of them pays.

First words and vectors fused, on all queries of the test. Then six ways to train a
cross-encoder, compared on categories kept aside; the best of them, trained on pairs of
both fields, is judged on the test, above every first stage and from 5 candidates to
200. At last questions to Python's reference: passages of several lengths, and what each
stage adds there. Every weight is chosen aside.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
from fields import FIELDS, field, judged
from numpy.typing import NDArray
from second_stage import (
    DEEPEST,
    LISTS,
    SHARES,
    WAYS,
    Way,
    adapted,
    by_vectors,
    by_words,
    entries,
    first_stages,
    gains,
    lists,
    medical_lists,
    mixture_margins,
    read,
    reranked,
    side,
    taught,
    with_words,
    words_share,
)
from study import Items, Study, main

from experiments.profiles import current
from experiments.timing import side_by_side, timed
from sbert_lab import SentenceEncoder
from sbert_lab.datasets import python_reference
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean
from sbert_lab.index.exact import exact_search
from sbert_lab.index.fusion import Fused, reciprocal_rank_fusion
from sbert_lab.index.passages import Passages, Weights
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.lexical import Bm25

NDCG, ANSWERED = "nDCG@10", "share of questions"
ENCODERS = ("base", "adapted")
STAGES = ("base", "adapted", "words", "base_words", "adapted_words")
READ = 50  # candidates
#: Ways among which the last cross-encoder's is chosen: of one size, without a teacher.
CHOICES = ("own_side", "cross_fitted", "from_base")
DEEP = "base_words"  # is read down to `DEEPEST`, in medicine
#: How Python's reference is cut: tokens, overlap, passages that are cited, and
#: neighbours with each. The last two hand over about as many words.
CUTS = {
    "128": (128, 0, 5, 0),
    "128_overlap": (128, 32, 5, 0),
    "254": (254, 0, 5, 0),
    "254_overlap": (254, 64, 5, 0),
    "254_neighbours": (254, 0, 5, 1),
    "254_twenty": (254, 0, 20, 0),
    "254_more": (254, 0, 5, 2),
}
BEST_CUT = "254_more"  # the stages are compared on it
READ_PAGES = 30  # passages
LIVE = replace(LISTS, epochs=1)  # what the notebook trains itself


# Words and vectors


def fused(name: str) -> Items:
    """Return the nDCG@10 of every query of the test, by every share of BM25."""
    task = side(name, "whole test").test
    words = by_words(task)
    found: dict[str, Any] = {"words": gains(task, words)}
    for encoder, folder in (("base", current().base), ("adapted", adapted(name))):
        vectors = by_vectors(folder, task)
        found[encoder] = gains(task, vectors)
        found[f"{encoder} share"] = words_share(name)[encoder]
        shares = (with_words(vectors, words, share) for share in SHARES)
        found[f"{encoder} fused"] = np.stack([gains(task, each) for each in shares])
        rank = rank_share(name, folder)
        found[f"{encoder} rank share"] = rank
        found[f"{encoder} ranks"] = gains(task, by_ranks(vectors, words, rank))
        found[f"{encoder} equal ranks"] = gains(task, by_ranks(vectors, words, 0.5))
    return found


def by_ranks(vectors: Fused, words: Fused, share: float) -> Fused:
    """Return both fused by reciprocal ranks."""
    weights = (1 - share, share)
    return reciprocal_rank_fusion([vectors[1], words[1]], weights=weights, k=DEEPEST)


def rank_share(name: str, folder: str) -> float:
    """Return BM25's share in reciprocal ranks that is best aside."""
    task = side(name, "whole aside").test
    vectors, words = by_vectors(folder, task), by_words(task)
    tried = {s: gains(task, by_ranks(vectors, words, s)).mean() for s in SHARES}
    return max(tried, key=lambda share: round(tried[share], 9))


def kinds() -> Items:
    """Return of each medical query whether its entry has a word of it, and its words.

    Words are those that BM25 counts.
    """
    task = side("icd", "test").test
    texts = dict(zip(task.corpus_codes, task.corpus_texts, strict=True))
    pairs = [(q, texts[c]) for q, c in zip(task.queries, task.relevant, strict=True)]
    shared = [Bm25([text, "-"]).scores([query])[0, 0] > 0 for query, text in pairs]
    return {"shares": np.array(shared), "words": [len(q.split()) for q, _ in pairs]}


def identifiers(study: Study) -> Items:
    """Return nDCG@10 where the query is a function's bare name, as ``add_subplot``."""
    task = side("python", "whole test").test
    names = [name.rpartition(".")[2] for name in task.corpus_codes]
    once = [row for row, name in enumerate(names) if names.count(name) == 1]
    once = [row for row in once if "_" in names[row].strip("_")]
    rows = np.random.default_rng(0).permutation(once)[: current().rerank_queries // 5]
    drawn = rows.tolist()
    queries = tuple(names[row] for row in drawn)
    right = tuple(task.corpus_codes[row] for row in drawn)
    own = RetrievalTask(queries, right, task.corpus_codes, task.corpus_texts)
    vectors, words = by_vectors(current().base, own), by_words(own)
    both = with_words(vectors, words, words_share("python")["base"])
    judged = read(model(best_way(study)), own, {DEEP: both[1][:, :READ]})[DEEP]
    mixed = reranked(both, judged, share_of(study, "python", DEEP))
    ways = {"base": vectors, "words": words, "base_words": both, "read": mixed}
    return {key: gains(own, found) for key, found in ways.items()}


# Ways to train a cross-encoder


def way(name: str) -> Items:
    """Train a cross-encoder in one way, and measure it aside, above both encoders."""
    told = WAYS[name]
    columns: Mapping[str, Sequence[Any]] = medical_lists(current().rerank_pairs, told)
    if told.distilled:
        teacher = taught(WAYS["cross_fitted"], columns)
        columns = mixture_margins(CrossEncoder.from_pretrained(teacher.folder), columns)
    trained = taught(told, columns)
    task = side("icd", "aside").test
    stages = {key: first_stages("icd", "aside")[key] for key in ENCODERS}
    rows = {key: found[1][:, :READ] for key, found in stages.items()}
    judged = read(CrossEncoder.from_pretrained(trained.folder), task, rows)
    learnt = set(entries(everything=False))
    known = np.array([text in learnt for text in task.corpus_texts])
    right = np.array([task.corpus_codes.index(code) for code in task.relevant])[:, None]
    found: dict[str, Any] = {"training_s": trained.seconds}
    for key, first in stages.items():
        alone = reranked(first, judged[key], 1.0)
        found[f"{key} before"] = gains(task, first)
        found[f"{key} alone"] = gains(task, alone)
        found[f"{key} mixed"] = gains(task, reranked(first, judged[key], 0.5))
        found[f"{key} first learnt"] = known[alone[1][:, 0]]
        found[f"{key} first wrong"] = alone[1][:, 0] != right[:, 0]
    return found


def best_way(study: Study) -> Way:
    """Return the way of the highest nDCG@10 aside, over both encoders, mixed."""
    scores = {}
    for name in CHOICES:
        found = wait_for(study, f"way {name}")
        score = sum(found[f"{key} mixed"].mean() for key in ENCODERS)
        scores[name] = float(score)
    return WAYS[max(scores, key=lambda name: scores[name])]


# The last cross-encoder


@cache
def model(how: Way) -> CrossEncoder:
    """Return the cross-encoder that learnt lists of both fields, in one way."""
    profile = current()
    columns = medical_lists(profile.rerank_most, how)
    pairs = side("python", "test").some(profile.rerank_docs)
    docs = lists(profile.base, pairs, (), LISTS)
    both = {role: [*own, *docs[role]] for role, own in columns.items()}
    return CrossEncoder.from_pretrained(taught(how, both).folder)


def last(study: Study) -> Items:
    """Train the last cross-encoder, and return which way was best."""
    how = best_way(study)
    _, seconds = timed(partial(model, how))
    name = next(name for name, told in WAYS.items() if told == how)
    return {"way": np.array(name), "training_s": np.array(seconds)}


def reading(study: Study, name: str, where: str) -> Items:
    """Return what the last cross-encoder says of all first stages' candidates."""
    task, stages = side(name, where).test, first_stages(name, where)
    rows = {key: found[1][:, :READ] for key, found in stages.items()}
    if name == "icd" and where == "test":
        rows[DEEP] = stages[DEEP][1][:, :DEEPEST]
    return dict(read(model(best_way(study)), task, rows))


def best_share(name: str, stage: str, judged: Items) -> float:
    """Return the cross-encoder's share that is best aside, above a first stage."""
    task, first = side(name, "aside").test, first_stages(name, "aside")[stage]
    tried = {s: gains(task, reranked(first, judged[stage], s)).mean() for s in SHARES}
    return max(tried, key=lambda share: round(tried[share], 9))


def share_of(study: Study, name: str, stage: str) -> float:
    """Return the same, of the kept readings."""
    return best_share(name, stage, wait_for(study, f"read {name} aside"))


def wait_for(study: Study, title: str) -> Items:
    """Return what a job gave; another process may be at it."""
    while not study.jobs[title].path.is_file():
        time.sleep(5)
    return study.jobs[title].load()[0]


def small() -> Items:
    """Train what the notebook trains itself, and read the base's candidates."""
    profile = current()
    task, first = side("icd", "test").test, first_stages("icd", "test")["base"]
    pairs, answers = field("icd").some(profile.live_lists), field("icd").pairs.positive
    columns = lists(profile.base, pairs, answers, LIVE)
    trained = taught(WAYS["from_base"], columns, LIVE)
    encoder = CrossEncoder.from_pretrained(trained.folder)
    judged = read(encoder, task, {"base": first[1][:, :READ]})["base"]
    mixed = reranked(first, judged, 0.5)
    return {"before": gains(task, first), "mixed": gains(task, mixed)}


def clock(study: Study) -> Items:
    """Return the seconds of one query by number of candidates read, round by round."""
    profile = current()
    task = side("icd", "test").test
    encoder = SentenceEncoder.from_pretrained(profile.base)
    corpus = encoder.encode(task.corpus_texts, normalize=True, show_progress=False)
    words, reader = Bm25(task.corpus_texts), model(best_way(study))
    queries = iter(task.queries * 99)

    def ask(depth: int, *, hybrid: bool = True) -> None:
        query = [next(queries)]
        asked = encoder.encode(query, normalize=True)
        vectors = exact_search(asked, corpus, 200, "dot")
        found: Fused = (vectors[0].astype(np.float64), vectors[1])
        if hybrid:
            found = with_words(found, words.search(query, 200), 0.2)  # type: ignore[arg-type]
        if depth:
            texts = [task.corpus_texts[row] for row in found[1][0, :depth]]
            reader.rerank(query[0], texts, activation=None)

    ways: dict[str, Any] = {"encoder": partial(ask, 0, hybrid=False)}
    ways |= {str(depth): partial(ask, depth) for depth in (0, *profile.rerank_depths)}
    return side_by_side(ways, profile.repeats)


# Questions to pages


def pages(cuts: Sequence[str], reader: CrossEncoder | None = None) -> Items:
    """Return whether each question is answered by what is cited, by cut.

    Weights are chosen on the questions of one half of the topics for the other half. A
    cut with "vectors" behind it is searched without words.
    """
    encoder = SentenceEncoder.from_pretrained(current().base)
    longest = int(encoder.max_seq_length or 256) - 2  # beside two special tokens
    found: dict[str, Any] = {}
    kept: dict[tuple[int, int], Passages] = {}
    for cut in cuts:
        wanted, overlap, cited, neighbours = CUTS[cut.split()[0]]
        size = min(wanted, longest), overlap
        if size not in kept:
            kept[size] = Passages(encoder, max_tokens=size[0], overlap=overlap)
            kept[size].add_all(python_reference.pages())
        memory = kept[size]
        memory.hybrid, memory.cross_encoder = "vectors" not in cut, reader
        found[cut], found[f"{cut} words"], found[f"{cut} weights"] = answered(
            memory, cited, neighbours, READ if reader is None else READ_PAGES
        )
    return found


def answered(
    memory: Passages, k: int, neighbours: int, candidates: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return which questions are answered, the words handed over, and the weights."""
    asked, half = python_reference.questions(), halves()
    hits, sizes, weights = np.zeros(len(asked)), np.zeros(len(asked)), []
    for part in (0, 1):
        memory.weights = Weights(words=0.0)
        others = [asked[row] for row in np.flatnonzero(half != part)]
        queries, quotes = [q for q, *_ in others], [[quote] for *_, quote in others]
        memory.tune(queries, quotes, by="text", candidates=candidates)
        weights.append([memory.weights.words, memory.weights.cross_encoder])
        for row in np.flatnonzero(half == part).tolist():
            question, _, quote = asked[row]
            told = {"neighbours": neighbours, "candidates": candidates}
            cited = memory.search(question, k, **told)
            texts = [" ".join(each.text.split()) for each in cited]
            hits[row] = any(" ".join(quote.split()) in text for text in texts)
            sizes[row] = sum(len(text.split()) for text in texts)
    return hits, sizes, np.array(weights)


def halves() -> NDArray[np.int64]:
    """Return in which half each question's topic is."""
    topics = [topic for _, topic, _ in python_reference.questions()]
    names = sorted(set(topics))
    return np.array([names.index(topic) % 2 for topic in topics])


# The study


def build() -> Study:
    """Return the study with all its jobs."""
    profile = current()
    uses = [profile.base, profile.raw_model, "icd10cm"]
    study = Study("08_retrieve_and_rerank", uses=uses, judged=judged())
    told: dict[str, object] = {"base": profile.base, "start": profile.rerank_start}
    told |= {"aside": profile.rerank_aside, "documents": profile.rerank_documents}
    for name in FIELDS:
        work = partial(fused, name)
        study.add(f"fused {name}", work, seconds=400, depends=told | {"fused": name})

    def add_way(name: str) -> None:
        depends = told | {"way": vars(WAYS[name]), "pairs": profile.rerank_pairs}
        study.add(f"way {name}", partial(way, name), seconds=300, depends=depends)

    for name in CHOICES:
        add_way(name)
    told |= {"queries": profile.rerank_queries}
    work = partial(pages, [*CUTS, f"{BEST_CUT} vectors"])
    depends = {"base": profile.base, "cuts": [[*each] for each in CUTS.values()]}
    study.add("pages", work, seconds=400, depends=depends)
    most = {"most": [profile.rerank_most, profile.rerank_docs], "chosen": CHOICES}
    work = partial(last, study)
    study.add("last", work, seconds=2_000, depends=told | most | {"last": 1})
    for name in WAYS:
        if name not in CHOICES:
            add_way(name)
    study.add("kinds", kinds, seconds=20, depends=told | {"kinds": 1})
    depends = told | {"live": [profile.live_lists, vars(LIVE)], "mined": "answers"}
    study.add("small", small, seconds=300, depends=depends)
    told |= most
    for name in FIELDS:
        for where in ("aside", "test"):
            work, depends = partial(reading, study, name, where), told | {"read": name}
            title = f"read {name} {where}"
            study.add(title, work, seconds=600, depends=depends | {"where": where})
    work = partial(identifiers, study)
    study.add("identifiers", work, seconds=200, depends=told | {"names": 1})
    study.add(
        "pages read",
        lambda: pages([BEST_CUT], model(best_way(study))),
        seconds=400,
        depends=told | {"cut": CUTS[BEST_CUT], "read": READ_PAGES},
    )
    depends = told | {"clock": list(profile.rerank_depths), "turns": profile.repeats}
    study.add("clock", partial(clock, study), seconds=300, depends=depends)
    return study


def mean(values: NDArray[Any], name: str, where: str = "test") -> Interval:
    """Return a mean over the queries of a side, groups drawn together."""
    return bootstrap_mean(values, groups=side(name, where).group)


def conclude(study: Study, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Record levels and paired gains of every stage, and what they cost."""
    conclude_fusion(study, items)
    conclude_ways(study, items)
    for name in FIELDS:
        conclude_reading(study, name, items)
    conclude_depth(study, items)
    conclude_kinds(study, items)
    conclude_pages(study, {**items["pages"], "read": items["pages read"]})
    for key, value in (("before", 0), ("mixed", 1)):
        found = items["small"][key] - value * items["small"]["before"]
        study.record(f"small.{key}", mean(found, "icd"), NDCG)
    for way_name, seconds in items["clock"].items():
        study.record(f"clock.{way_name}", 1_000 * float(np.median(seconds)), "ms")


def conclude_fusion(study: Study, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Record what BM25 adds to both encoders of both fields, weights chosen aside."""
    default = SHARES.index(Weights().words)
    for name in FIELDS:
        found = items[f"fused {name}"]
        score = partial(mean, name=name, where="whole test")
        study.record(f"fusion.{name}.words", score(found["words"]), NDCG)
        for encoder in ENCODERS:
            key, own = f"fusion.{name}.{encoder}", found[encoder]
            share = float(found[f"{encoder} share"])
            tuned = found[f"{encoder} fused"][SHARES.index(share)]
            study.record(key, score(own), NDCG)
            study.record(f"{key}.share", share, "share of BM25")
            study.record(f"{key}.tuned", score(tuned - own), NDCG)
            for place, tried in enumerate(SHARES):
                gain = score(found[f"{encoder} fused"][place] - own)
                study.record(f"{key}.by_{tried}", gain, NDCG)
            study.record(
                f"{key}.default", score(found[f"{encoder} fused"][default] - own), NDCG
            )
            rank = float(found[f"{encoder} rank share"])
            study.record(f"{key}.rank_share", rank, "share of BM25")
            for way_name in ("ranks", "equal ranks"):
                gain = score(found[f"{encoder} {way_name}"] - own)
                study.record(f"{key}.{way_name.replace(' ', '_')}", gain, NDCG)


def conclude_ways(study: Study, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Record what each way of training gives aside, and whom its first places favour.

    ``favour`` is the share of the learning side among first places after reading, minus
    that before, over the queries whose first place is wrong both times.
    """
    score = partial(mean, name="icd", where="aside")
    task, stages = side("icd", "aside").test, first_stages("icd", "aside")
    learnt = set(entries(everything=False))
    known = np.array([text in learnt for text in task.corpus_texts])
    right = np.array([task.corpus_codes.index(code) for code in task.relevant])
    for name in WAYS:
        found = items[f"way {name}"]
        for encoder in ENCODERS:
            before = found[f"{encoder} before"]
            for how in ("alone", "mixed"):
                gain = score(found[f"{encoder} {how}"] - before)
                study.record(f"way.{name}.{encoder}.{how}", gain, NDCG)
            top = stages[encoder][1][:, 0]
            wrong = found[f"{encoder} first wrong"] & (top != right)
            gap = found[f"{encoder} first learnt"] - known[top].astype(float)
            groups = np.array(side("icd", "aside").group)[wrong]
            favour = bootstrap_mean(gap[wrong], groups=groups)
            study.record(f"way.{name}.{encoder}.favour", favour, "share")
        if name != "first":
            both = (
                sum(items[f"way {one}"][f"{key} mixed"] for key in ENCODERS) / 2
                for one in (name, "first")
            )
            study.record(f"way.{name}.over_first", score(np.subtract(*both)), NDCG)
        study.record(f"way.{name}.training_s", float(found["training_s"]), "seconds")
    best = list(WAYS).index(str(items["last"]["way"]))
    study.record("last.way", best, "place among the ways, from 0")
    study.record("last.training_s", float(items["last"]["training_s"]), "seconds")


def conclude_reading(
    study: Study, name: str, items: Mapping[str, Mapping[str, Any]]
) -> None:
    """Record what the last cross-encoder adds to every first stage, shares aside."""
    task, judged_test = side(name, "test").test, items[f"read {name} test"]
    for stage, first in first_stages(name, "test").items():
        key, before = f"{name}.{stage}", gains(task, first)
        share = best_share(name, stage, items[f"read {name} aside"])
        study.record(f"{key}.before", mean(before, name), NDCG)
        study.record(f"{key}.share", share, "share of the cross-encoder")
        ways = {"read": share, "alone": 1.0, "default": Weights().cross_encoder}
        for how, part in ways.items():
            after = gains(task, reranked(first, judged_test[stage], part, READ))
            study.record(f"{key}.{how}", mean(after - before, name), NDCG)
            if how == "read" and stage == DEEP:
                base = gains(task, first_stages(name, "test")["base"])
                study.record(f"{name}.all", mean(after - base, name), NDCG)


def conclude_depth(study: Study, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Record the gain by the number of candidates, and the most that there can be."""
    task, first = side("icd", "test").test, first_stages("icd", "test")[DEEP]
    judged_test, before = items["read icd test"][DEEP], gains(task, first)
    share = best_share("icd", DEEP, items["read icd aside"])
    right = np.array([task.corpus_codes.index(code) for code in task.relevant])[:, None]
    for depth in study.profile.rerank_depths:
        after = gains(task, reranked(first, judged_test, share, depth))
        study.record(f"depth.{depth}.gain", mean(after - before, "icd"), NDCG)
        held = (first[1][:, :depth] == right).any(1)
        study.record(f"depth.{depth}.recall", mean(held, "icd"), "recall")


def conclude_kinds(study: Study, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Record what each stage adds to the base, by the kind of query.

    Words have their default weight: as tuned for all medical queries, it may be none.
    """
    task, stages = side("icd", "test").test, first_stages("icd", "test")
    share = best_share("icd", DEEP, items["read icd aside"])
    judged_test = items["read icd test"][DEEP]
    fused = with_words(stages["base"], stages["words"], Weights().words)
    mixed = reranked(stages[DEEP], judged_test, share, READ)
    found = {"base": stages["base"], "words": stages["words"], DEEP: fused}
    ways = {key: gains(task, each) for key, each in {**found, "read": mixed}.items()}
    told, groups = items["kinds"], np.array(side("icd", "test").group)
    chosen = {
        "no_word": ~told["shares"],
        "word": told["shares"],
        "short": told["words"] <= 2,
        "long": told["words"] >= 7,
    }
    for kind, which in chosen.items():
        if which.sum() < 2:  # in tests alone
            continue
        record_kind(study, kind, {k: v[which] for k, v in ways.items()}, groups[which])
    names = items["identifiers"]
    record_kind(study, "identifier", names, np.arange(len(names["base"])))


def record_kind(
    study: Study, kind: str, ways: Mapping[str, NDArray[Any]], groups: NDArray[Any]
) -> None:
    """Record what each stage adds to the base for queries of one kind."""
    for key in ("base", "words"):
        study.record(
            f"kind.{kind}.{key}", bootstrap_mean(ways[key], groups=groups), NDCG
        )
    for key in (DEEP, "read"):
        gap = bootstrap_mean(ways[key] - ways["base"], groups=groups)
        study.record(f"kind.{kind}.{key}", gap, NDCG)


def conclude_pages(study: Study, found: Mapping[str, Any]) -> None:
    """Record how many questions are answered by what is cited, and paired gains."""
    topics = [topic for _, topic, _ in python_reference.questions()]
    score = partial(bootstrap_mean, groups=topics)
    best = {key: (found, key) for key in CUTS}
    best |= {
        "vectors": (found, f"{BEST_CUT} vectors"),
        "read": (found["read"], BEST_CUT),
    }
    for key, (items, title) in best.items():
        study.record(f"pages.{key}", score(items[title]), ANSWERED)
        words = float(items[f"{title} words"].mean())
        study.record(f"pages.{key}.words", words, "words handed over")
        chosen = items[f"{title} weights"].mean(0)
        study.record(f"pages.{key}.share", float(chosen[0]), "share of BM25")
        study.record(f"pages.{key}.read", float(chosen[1]), "share of cross-encoder")
    names = [*CUTS]
    pairs = list(zip(names[1:], names, strict=False))
    pairs += [(BEST_CUT, "vectors"), ("read", BEST_CUT), (BEST_CUT, "128")]
    for one, over in dict.fromkeys(pairs):
        ours, theirs = (items[title] for items, title in (best[one], best[over]))
        study.record(f"pages.{one}_over_{over}", score(ours - theirs), ANSWERED)


if __name__ == "__main__":
    raise SystemExit(main(build, conclude))
