"""08: what words and a cross-encoder add to an encoder, and what each costs.

Two searches, those of 07, and two encoders: all-MiniLM-L6-v2, and the same adapted to
medical terms. Every weight is chosen on queries that are kept aside: of diseases that
neither encoder nor cross-encoder learnt from, and of scikit-learn's documentation. A
cross-encoder learns to find the right entry among those that a search takes for right;
which search, and where its wrong answers come from, is compared on fewer pairs first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import cycle, pairwise, product
from typing import Any

import numpy as np
from fields import FIELDS, averaged, field, learnt
from numpy.typing import NDArray
from study import Items, Study, main

from experiments.profiles import current
from experiments.runs import get_or_train
from experiments.timing import side_by_side
from sbert_lab._utils import machine
from sbert_lab.adaptation.recipe import Recipe, sha256_of
from sbert_lab.adaptation.supervised import mine_negatives, train
from sbert_lab.datasets import icd10cm, python_docs, python_reference
from sbert_lab.datasets.domains import Domain, icd10cm_domain, kept_aside, python_domain
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.evaluation.metrics import ndcg_at_k, recall_at_k
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean
from sbert_lab.index.exact import exact_search
from sbert_lab.index.fusion import Fused, convex_combination, reciprocal_rank_fusion
from sbert_lab.index.passages import TRIED, Passages, Weights
from sbert_lab.losses.pair_scores import ListwiseCrossEntropy
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of
from sbert_lab.training import TrainingData
from sbert_lab.training.trainer import has_fast_bfloat16

NDCG = "nDCG@10"
DEEP, MIDDLE = 200, 50  # entries that a first stage finds; that are mostly read
ADAPTED = Recipe()
#: Of a cross-encoder: one epoch, three wrong answers of the thirty nearest.
READER = Recipe(1, 16, 1e-4, negatives=3, rank=(0, 30), base_weight=0.0)
SEARCHES = tuple(product(("icd", "python"), ("base", "adapted")))
#: How a cross-encoder is trained: its start, what its negatives are mined by and from.
WAYS = {
    "first_edition": ("adapted", "adapted", "all"),
    "training_side": ("adapted", "adapted", "known"),
    "cross_fitted": ("adapted", "folds", "known"),
    "by_base": ("adapted", "base", "known"),
    "start_base": ("base", "base", "known"),
    "start_raw": ("raw", "base", "known"),
}

LAST = "by_base"  # the way of the cross-encoder that learns from all pairs
WHENS = ("test", "aside")
#: Tokens of a passage, and how many neighbours are cited with it.
CUTS = {"short": (128, 0), "long": (254, 0), "long_neighbours": (254, 2)}
CITED = 5

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Asked:
    """A search whose queries are judged, or kept aside to choose weights on."""

    task: RetrievalTask
    group: tuple[str, ...]


@cache
def inner() -> Domain:
    """Return medical search without the pairs of a tenth of the diseases."""
    return kept_aside(icd10cm_domain(), queries=current().rerank_aside)


@cache
def to_mine_from() -> tuple[str, ...]:
    """Return entries of the diseases that are learnt from."""
    learnt_from = {code[:3] for code in inner().codes}
    book = [c for c in icd10cm.retrieval_corpus() if c.category in learnt_from]
    return tuple(dict.fromkeys(code.description for code in book))


@cache
def asked(name: str, when: str) -> Asked:
    """Return a field's queries, ``"test"`` or ``"aside"``."""
    profile = current()
    if when == "test":
        return Asked(field(name).test, field(name).group)
    if name == "icd":
        return Asked(inner().test, inner().group)
    sizes = profile.rerank_aside, profile.second_documents
    some = tuple(profile.libraries)  # of all, where none is named
    libraries = (*some, *python_docs.SPLITS["dev"]) if some else ()
    dev = python_domain(*sizes, libraries, split="dev")
    return Asked(dev.test, dev.group)


def folds(half: int | None) -> Pairs:
    """Return the pairs of one half of the diseases, or some of all."""
    pairs, codes = inner().pairs, inner().codes
    names = sorted({code[:3] for code in codes})
    np.random.default_rng(0).shuffle(names)
    mine = set(names if half is None else names[half::2])
    rows = [row for row, code in enumerate(codes) if code[:3] in mine]
    drawn = np.random.default_rng(0).permutation(rows)[: current().rerank_start]
    return pairs.pick(sorted(drawn.tolist()))


def folder(name: str) -> str:
    """Return where an encoder is: the base, raw BERT, or what the base becomes.

    ``"fold 0"`` and ``"fold 1"`` know one half of the diseases each.
    """
    base = str(current().base)
    if name in ("base", "raw"):
        return base if name == "base" else str(current().raw_model)
    half = None if name == "adapted" else int(name[-1])
    trained = learnt(base, folds(half), ADAPTED, to_mine_from()).folder
    make = partial(averaged, base, trained, ADAPTED.base_weight)
    return get_or_train("averaged", {"of": trained, "with": base}, make).folder


@cache
def encoder(name: str) -> SentenceEncoder:
    """Return the encoder in a folder."""
    return SentenceEncoder.from_pretrained(folder(name))


def first_stage(name: str, by: str) -> dict[str, NDArray[Any]]:
    """Return what an encoder and BM25 find for all queries, test and aside."""
    found: dict[str, NDArray[Any]] = {}
    model, memory = encoder(by), EmbeddingCache()
    for when in WHENS:
        task = asked(name, when).task
        queries, corpus = (
            model.encode(texts, cache=memory, show_progress=False)
            for texts in (task.queries, task.corpus_texts)
        )
        k = min(DEEP, len(task.corpus_texts))
        scores, rows = exact_search(queries, corpus, k, metric_of(model))
        words, by_words = Bm25(task.corpus_texts).search(task.queries, k)
        found[f"{when}.scores"], found[f"{when}.rows"] = scores, rows
        found[f"{when}.words"] = words
        found[f"{when}.word_rows"] = np.where(words > 0, by_words, -1)
    return found


def lists(way: str, count: int | None) -> dict[str, list[Any]]:
    """Return medical terms with their entry and mined wrong ones, as columns."""
    _, by, source = WAYS[way]
    pairs, codes = inner().pairs, inner().codes
    drawn = sorted(np.random.default_rng(1).permutation(len(pairs))[:count].tolist())
    places = to_mine_from() if source == "known" else inner().candidates
    names = sorted({code[:3] for code in codes})
    np.random.default_rng(0).shuffle(names)
    # Each fold's negatives are mined by the encoder that learnt from the other.
    parts = [("fold 1", {*names[0::2]}), ("fold 0", {*names[1::2]})]
    parts = parts if by == "folds" else [(by, {*names})]
    columns: dict[str, list[Any]] = {"anchor": [], "positive": [], "negative": []}
    for miner, own in parts:
        some = pairs.pick([row for row in drawn if codes[row][:3] in own])
        mined = mine_negatives(
            encoder(miner), some, READER, places, cache=EmbeddingCache()
        )
        assert mined is not None
        for role, column in mined.columns().items():
            columns[role] += [column[row] for row in mined.rows.tolist()]
    return columns


def docstrings(count: int | None) -> dict[str, list[Any]]:
    """Return sentences of docstrings with their function and mined wrong ones."""
    pairs, base = field("python").some(count, 1)[0], encoder("base")
    mined = mine_negatives(base, pairs, READER, cache=EmbeddingCache())
    assert mined is not None
    columns = mined.columns()
    return {role: [own[row] for row in mined.rows] for role, own in columns.items()}


def reader(start: str, columns: Mapping[str, Sequence[Any]]) -> CrossEncoder:
    """Return a cross-encoder trained to put the right entry first, from a start."""
    told = {
        "start": start if start == "raw" else encoder(start).fingerprint(),
        "data": sha256_of({role: list(own) for role, own in columns.items()}),
        "recipe": asdict(READER),
        "bf16": has_fast_bfloat16(),
    }

    def make() -> CrossEncoder:
        model = CrossEncoder.from_pretrained(folder(start), head_seed=READER.seed)
        train(model, TrainingData(columns), ListwiseCrossEntropy(), READER)
        return model

    stored = get_or_train("reader", told, make)
    return CrossEncoder.from_pretrained(stored.folder)


def judged_queries(name: str, when: str) -> Rows:
    """Return which queries a cross-encoder reads for: some of the test's."""
    count = len(asked(name, when).task.queries)
    most = current().rerank_queries if when == "test" else count
    return np.sort(np.random.default_rng(2).permutation(count)[:most])


def read(
    model: CrossEncoder, rankings: Mapping[str, Rows], name: str, depth: int
) -> dict[str, NDArray[np.float32]]:
    """Return a cross-encoder's scores of the best of each ranking, ``[q, depth]``.

    Of those that are kept aside it reads `MIDDLE`.
    """
    found = {}
    for when, rows in rankings.items():
        task, deep = asked(name, when).task, depth if when == "test" else MIDDLE
        own = judged_queries(name, when)
        best_rows = rows[own, :deep]
        width = best_rows.shape[1]
        queries = [task.queries[query] for query in own.tolist() for _ in range(width)]
        texts = [task.corpus_texts[row] for row in best_rows.ravel().tolist()]
        scores = model.predict(queries, texts, activation=None, show_progress=False)
        found[when] = scores.reshape(best_rows.shape)
    return found


def ndcg(name: str, when: str, rows: Rows, queries: Rows | None = None) -> Any:
    """Return the nDCG@10 of rankings of some queries, or of all."""
    return ndcg_at_k(*_names(name, rows, queries, when))


def _names(
    name: str, rows: Rows, queries: Rows | None = None, when: str = "test"
) -> tuple[list[list[str]], list[set[str]]]:
    """Return rankings by the names of entries, and what answers each query."""
    task = asked(name, when).task
    picked = range(len(task.queries)) if queries is None else queries.tolist()
    found = [[task.corpus_codes[row] for row in own if row >= 0] for own in rows]
    return found, [{task.relevant[query]} for query in picked]


# What is done, and what follows


def fused(first: Mapping[str, NDArray[Any]], when: str, words: float) -> Fused:
    """Return scores and rankings of encoder and BM25 together, by words' share."""
    parts = [
        (first[f"{when}.scores"], first[f"{when}.rows"]),
        (first[f"{when}.words"], first[f"{when}.word_rows"]),
    ]
    weights, floors = (1 - words, words), (None, 0.0)
    return convex_combination(parts, weights, floors=floors, k=DEEP)


def ranked(first: Mapping[str, NDArray[Any]], when: str, words: float) -> Fused:
    """Return the same by ranks alone."""
    parts = [first[f"{when}.rows"], first[f"{when}.word_rows"]]
    return reciprocal_rank_fusion(parts, weights=(1 - words, words), k=DEEP)


def reranked(first: Fused, judged: NDArray[Any], depth: int, share: float) -> Rows:
    """Return rankings, the first `depth` sorted by the share of a cross-encoder."""
    scores, rows = first
    head, rest = rows[:, :depth], rows[:, depth:]
    both = [(scores[:, :depth], head), (judged[:, :depth], head)]
    return np.hstack([convex_combination(both, (1 - share, share))[1], rest])


def best(quality: Callable[[float], float]) -> float:
    """Return the weight of the highest quality, the least of several."""
    return max(TRIED, key=lambda weight: round(quality(weight), 9))


def read_what_is_found(way: str, count: int | None, depth: int) -> dict[str, Any]:
    """Train a cross-encoder one way, and read what both encoders find in medicine."""
    model = reader(WAYS[way][0], lists(way, count))
    found: dict[str, Any] = {}
    for by in ("base", "adapted"):
        first = first_stage("icd", by)
        rankings = {when: first[f"{when}.rows"] for when in WHENS}
        judged = read(model, rankings, "icd", depth)
        found |= {f"{by}.{when}": scores for when, scores in judged.items()}
    return found


@cache
def last() -> CrossEncoder:
    """Return the cross-encoder that learnt from all pairs of both fields."""
    columns = lists(LAST, None)
    for role, own in docstrings(current().rerank_docs).items():
        columns[role] += own
    return reader(WAYS[LAST][0], columns)


def read_last(name: str, by: str) -> dict[str, Any]:
    """Read what an encoder finds alone, and what it and BM25 find together."""
    first = first_stage(name, by)
    share = words_of(name, by)
    alone = {when: first[f"{when}.rows"] for when in WHENS}
    both = {when: fused(first, when, share)[1] for when in WHENS}
    shallow, deep = read(last(), alone, name, MIDDLE), read(last(), both, name, DEEP)
    found: dict[str, Any] = {f"alone.{when}": own for when, own in shallow.items()}
    return found | {f"fused.{when}": own for when, own in deep.items()}


def words_of(name: str, by: str) -> float:
    """Return the share of words that is best for the queries kept aside."""
    return best(partial(_aside, name, first_stage(name, by), fused))


def _aside(
    name: str,
    first: Mapping[str, NDArray[Any]],
    merge: Callable[[Mapping[str, NDArray[Any]], str, float], Fused],
    words: float,
) -> float:
    return float(ndcg(name, "aside", merge(first, "aside", words)[1]).mean())


def cited_answers() -> dict[str, Any]:
    """Ask for passages of Python's reference, cut three ways, with words and without.

    Every third question is for tuning the share of words, and judged nowhere.
    """
    pages, rows = python_reference.pages(), python_reference.questions()
    pages = {name: pages[name] for name in list(pages)[: current().pages]}
    rows = [row for row in rows if any(row[2] in text for text in pages.values())]
    texts, quotes = [row[0] for row in rows], [row[2] for row in rows]
    tuned = np.arange(len(rows)) % 3 == 0
    found: dict[str, Any] = {"judged": ~tuned}
    for cut, (tokens, neighbours) in CUTS.items():
        memory = Passages(encoder("base"), hybrid=True, max_tokens=tokens)
        memory.add_all(pages)
        memory.tune(
            [text for text, aside in zip(texts, tuned, strict=True) if aside],
            [[quote] for quote, aside in zip(quotes, tuned, strict=True) if aside],
            by="text",
        )
        found[f"{cut}.share"] = memory.weights.words
        for how, share in (("vectors", 0.0), ("tuned", memory.weights.words)):
            memory.weights = Weights(words=share)
            hits = [memory.search(text, CITED, neighbours=neighbours) for text in texts]
            found[f"{cut}.{how}"] = np.array(
                [
                    any(_plain(quote) in _plain(hit.text) for hit in own)
                    for quote, own in zip(quotes, hits, strict=True)
                ],
                float,
            )
            letters = [sum(len(hit.text) for hit in own) for own in hits]
            found[f"{cut}.{how}.letters"] = np.mean(letters)
    return found


def _plain(text: str) -> str:
    return " ".join(text.split())


def clock() -> dict[str, Any]:
    """Time single queries from text to ranking, the depths taking turns."""
    profile = current()
    first, model = first_stage("icd", "base"), last()
    task, base = asked("icd", "test").task, encoder("base")
    corpus = base.encode(task.corpus_texts, normalize=True, show_progress=False)
    words, turns = Bm25(task.corpus_texts), cycle(judged_queries("icd", "test"))

    def answer(depth: int) -> object:
        row = int(next(turns))
        query = task.queries[row]
        vector = base.encode([query], show_progress=False)
        found = exact_search(vector, corpus, DEEP, normalized_corpus=True)
        if depth < 0:
            return found
        both = [found, words.search([query], DEEP)]
        convex_combination(both, (0.8, 0.2), floors=(None, 0.0), k=DEEP)
        own = first["test.rows"][row, :depth].tolist()
        texts = [task.corpus_texts[entry] for entry in own]
        return model.rerank(query, texts, show_progress=False) if texts else found

    depths = (-1, 0, *profile.rerank_depths)
    ways = {depth: partial(answer, depth) for depth in depths}
    times = side_by_side(ways, profile.repeats)
    return {f"at {depth}": 1e3 * np.array(spent) for depth, spent in times.items()}


def build() -> Study:
    """Return the study: a job for each first stage, cross-encoder and comparison."""
    profile = current()
    uses = [profile.base, profile.raw_model, "icd10cm"]
    told: dict[str, Any] = {
        "read": [DEEP, MIDDLE, profile.rerank_queries, profile.rerank_aside]
    }
    searches = [asdict(asked(name, when)) for name in FIELDS for when in WHENS]
    judged = sha256_of(searches)
    study = Study("08_retrieve_and_rerank", uses=uses, judged=judged)
    told |= {"base": profile.base, "adapted": [profile.rerank_start, asdict(ADAPTED)]}
    for name, by in SEARCHES:
        work, depends = partial(first_stage, name, by), told | {"first": [name, by]}
        study.add(f"first {name} {by}", work, seconds=300, depends=depends)
    told |= {"recipe": asdict(READER), "pairs": profile.rerank_pairs}
    for way in WAYS:
        work = partial(read_what_is_found, way, profile.rerank_pairs, MIDDLE)
        depends = told | {"way": WAYS[way]}
        study.add(f"way {way}", work, seconds=1800, depends=depends)
    told |= {"docstrings": profile.rerank_docs, "last": LAST}
    for name, by in SEARCHES:
        work, depends = partial(read_last, name, by), told | {"last": [name, by]}
        study.add(f"last {name} {by}", work, seconds=2400, depends=depends)
    depends = {"cuts": CUTS, "base": profile.base, "pages": profile.pages}
    study.add("cited", cited_answers, seconds=900, depends=depends)
    depends = told | {"clock": profile.repeats, "machine": machine()}
    study.add("clock", clock, seconds=120, depends=depends)
    return study


def gain(name: str, ours: Any, over: Any, queries: Rows | None = None) -> Interval:
    """Return a paired gain, whole groups of queries drawn together."""
    group = np.array(asked(name, "test").group)
    own = group if queries is None else group[queries]
    return bootstrap_mean(ours - over, groups=own)


def conclude_fusion(study: Study, items: Mapping[str, Items]) -> None:
    """Record what words add to each encoder in each field, by weights chosen aside."""
    for name, by in SEARCHES:
        first, key = items[f"first {name} {by}"], f"{name}.{by}"
        vectors = ndcg(name, "test", first["test.rows"])
        words = ndcg(name, "test", first["test.word_rows"])
        group = asked(name, "test").group
        study.record(f"{key}.vectors", bootstrap_mean(vectors, groups=group), NDCG)
        study.record(f"{key}.words", bootstrap_mean(words, groups=group), NDCG)
        for how, merge in (("convex", fused), ("ranks", ranked)):
            share = best(partial(_aside, name, first, merge))
            study.record(f"{key}.{how}.share", share, "weight of words")
            for what, w in (("tuned", share), ("equal", 0.5)):
                ours = ndcg(name, "test", merge(first, "test", w)[1])
                gap = gain(name, ours, vectors)
                study.record(f"{key}.{how}.{what}", gap, NDCG)
        usual = ndcg(name, "test", fused(first, "test", Weights().words)[1])
        study.record(f"{key}.default", gain(name, usual, vectors), NDCG)


def conclude_reading(
    study: Study,
    key: str,
    name: str,
    first: Mapping[str, Fused],
    judged: Mapping[str, NDArray[Any]],
    depths: Sequence[int],
) -> None:
    """Record what reading adds to a first stage at every depth, share chosen aside."""
    own = {when: judged_queries(name, when) for when in WHENS}
    some = {
        when: (first[when][0][own[when]], first[when][1][own[when]]) for when in WHENS
    }
    before = ndcg(name, "test", some["test"][1], own["test"])

    def aside(share: float, depth: int) -> float:
        rows = reranked(some["aside"], judged["aside"], min(depth, MIDDLE), share)
        return float(ndcg(name, "aside", rows, own["aside"]).mean())

    for depth in depths:
        share = best(partial(aside, depth=depth))
        study.record(f"{key}.{depth}.share", share, "weight of the cross-encoder")
        for how, weight in (("mixed", share), ("alone", 1.0)):
            rows = reranked(some["test"], judged["test"], depth, weight)
            ours = ndcg(name, "test", rows, own["test"])
            gap = gain(name, ours, before, own["test"])
            study.record(f"{key}.{depth}.{how}", gap, NDCG)
        held = recall_at_k(*_names(name, some["test"][1], own["test"]), depth)
        study.record(f"{key}.{depth}.ceiling", float(held.mean()), "recall")


def conclude_ways(study: Study, items: Mapping[str, Items]) -> None:
    """Record what each way of training adds, and which side it puts first."""
    own = judged_queries("icd", "test")
    codes = asked("icd", "test").task.corpus_codes
    known_side = {code[:3] for code in inner().codes}
    learnt_rows = [row for row, code in enumerate(codes) if code[:3] in known_side]
    for way, by in product(WAYS, ("base", "adapted")):
        first, judged = items[f"first icd {by}"], items[f"way {way}"]
        key, rankings = f"way.{way}.{by}", {w: plain(first, w) for w in WHENS}
        told = {when: judged[f"{by}.{when}"] for when in WHENS}
        conclude_reading(study, key, "icd", rankings, told, (MIDDLE,))
        rows = first["test.rows"][own, :MIDDLE]
        firsts = rows[np.arange(len(own)), told["test"].argmax(1)]
        for when, places in (("read", rows), ("before", rows[:, 0]), ("after", firsts)):
            share = float(np.isin(places, learnt_rows).mean())
            study.record(f"{key}.learnt_side.{when}", share, "share of entries")


def plain(first: Mapping[str, NDArray[Any]], when: str) -> Fused:
    """Return scores and rankings of an encoder alone."""
    return first[f"{when}.scores"], first[f"{when}.rows"]


def conclude(study: Study, items: Mapping[str, Items]) -> None:
    """Record fusion, ways to train, depths, times, and answers that are cited."""
    conclude_fusion(study, items)
    conclude_ways(study, items)
    depths = study.profile.rerank_depths
    for name, by in SEARCHES:
        first, judged = items[f"first {name} {by}"], items[f"last {name} {by}"]
        share = words_of(name, by)
        for what, rankings, deep in (
            ("alone", {w: plain(first, w) for w in WHENS}, (MIDDLE,)),
            ("fused", {w: fused(first, w, share) for w in WHENS}, depths),
        ):
            told = {when: judged[f"{what}.{when}"] for when in WHENS}
            key = f"{name}.{by}.read_{what}"
            conclude_reading(study, key, name, rankings, told, deep)
    for depth, ms in items["clock"].items():
        study.record(f"ms.{depth}", float(np.median(ms)), "ms for a query")
    found = items["cited"]
    judged_on = found["judged"]
    for cut in CUTS:
        for how in ("vectors", "tuned"):
            hits = found[f"{cut}.{how}"][judged_on]
            study.record(f"cited.{cut}.{how}", bootstrap_mean(hits), "recall@5")
    for ours, over in pairwise(reversed(CUTS)):
        gap = found[f"{ours}.tuned"] - found[f"{over}.tuned"]
        key = f"cited.{ours}_over_{over}"
        study.record(key, bootstrap_mean(gap[judged_on]), "difference in recall@5")
    study.record("cited.questions", int(judged_on.sum()), "questions")


if __name__ == "__main__":
    raise SystemExit(main(build, conclude))
