"""What 08's study trains and reads with: first stages, and cross-encoders above them.

A first stage is an encoder, BM25, or both fused. A cross-encoder learns lists: a query,
its answer, and wrong answers that a first stage found. Nothing here has learnt from
what is *aside*: categories of ICD-10-CM, and scikit-learn, on which settings are
chosen, or from the test, on which they are judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from fields import averaged, field, learnt
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from experiments.profiles import current
from experiments.runs import Stored, get_or_train
from sbert_lab.adaptation.recipe import Recipe, sha256_of
from sbert_lab.adaptation.supervised import mine_negatives, train
from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.domains import Domain, python_domain
from sbert_lab.datasets.icd10cm import RetrievalTask, drawn_task
from sbert_lab.datasets.pairs import Pairs, plain
from sbert_lab.datasets.python_docs import SPLITS
from sbert_lab.evaluation.metrics import ndcg_at_k
from sbert_lab.index.exact import exact_search
from sbert_lab.index.fusion import Fused, convex_combination
from sbert_lab.losses.objective import Batch, Encode, LabelRule, to_float32
from sbert_lab.losses.pair_scores import ListwiseCrossEntropy
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.registry import cache_home
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of
from sbert_lab.training import TrainingData
from sbert_lab.training.trainer import has_fast_bfloat16

OURS = Recipe()  #: of the encoders, that of 07
#: Of the cross-encoders: four wrong answers of the first twenty for each query.
LISTS = Recipe(2, 16, 1.5e-4, negatives=4, rank=(0, 20), base_weight=0.0)
DEEPEST = 200
SHARES = tuple(tenths / 10 for tenths in range(11))
Columns = Mapping[str, Sequence[Any]]


@cache
def side(name: str, where: str) -> Domain:
    """Return a field to judge on, ``"test"``, or to choose on, ``"aside"``.

    Its pairs are what may be learnt: the same for all. Both have as many queries as a
    cross-encoder can read for; ``"whole test"`` and ``"whole aside"`` have all.
    """
    profile = current()
    few = {"aside": profile.rerank_aside, "test": profile.rerank_queries}
    count = few.get(where)
    if name == "python":
        split = "dev" if "aside" in where else "test"
        # Its documents are longer, and fewer can be read.
        count = count and max(2, count // (2 if "aside" in where else 4))
        sizes = count, profile.rerank_documents
        libraries = profile.libraries
        if libraries and split == "dev":
            libraries = (*libraries, *SPLITS["dev"])
        return python_domain(*sizes, libraries, split=split)
    aside = kept_aside(field("icd"), queries=few["aside"] if count else None)
    asked, test = aside.test, field("icd").test
    pairs = list(zip(asked.queries, asked.relevant, strict=True))
    corpus = list(zip(asked.corpus_codes, asked.corpus_texts, strict=True))
    if "aside" in where:
        some = drawn_task(pairs, corpus, None, profile.domain_codes)
        return replace(aside, test=some)
    pairs = list(zip(test.queries, test.relevant, strict=True))
    corpus = list(zip(test.corpus_codes, test.corpus_texts, strict=True))
    some = drawn_task(pairs, corpus, count)
    group = tuple(code[:3] for code in some.relevant)
    return replace(aside, test=some, group=group)


def kept_aside(
    domain: Domain, share: float = 0.1, queries: int | None = None, seed: int = 0
) -> Domain:
    """Return a domain that learns from fewer categories, and is tested on the others.

    To choose whatever has to be chosen without a look at the test: the pairs of a
    `share` of the categories become `queries` (None for all), and the whole
    `icd10cm.retrieval_corpus` is searched. A term that is also written for a category
    that stays is no query.
    """
    rng = np.random.default_rng(seed)
    group = [code[:3] for code in domain.codes]
    names = sorted(set(group))
    order = rng.permutation(len(names))[: round(share * len(names))].tolist()
    aside = {names[place] for place in order}
    kept = [row for row, name in enumerate(group) if name not in aside]
    pairs = domain.pairs.pick(kept)
    known = set(map(plain, pairs.anchor))
    asked = [
        row
        for row, (name, term) in enumerate(zip(group, domain.pairs.anchor, strict=True))
        if name in aside and plain(term) not in known
    ]
    asked = sorted(rng.permutation(asked)[:queries].tolist())
    corpus = icd10cm.retrieval_corpus()
    test = RetrievalTask(
        queries=domain.pairs.pick(asked).anchor,
        relevant=tuple(domain.codes[row] for row in asked),
        corpus_codes=tuple(code.code for code in corpus),
        corpus_texts=tuple(code.description for code in corpus),
    )
    return replace(
        domain,
        pairs=pairs,
        codes=tuple(domain.codes[row] for row in kept),
        test=test,
        group=tuple(code[:3] for code in test.relevant),
    )


@cache
def entries(everything: bool) -> tuple[str, ...]:
    """Return the texts of ICD-10-CM to mine from: all, or those of the learning side.

    That side has neither a category of the test nor one that is kept aside.
    """
    book = [code for code in icd10cm.retrieval_corpus() if code.category]
    if not everything:
        all_pairs, kept = field("icd").codes, side("icd", "test").codes
        aside = {code[:3] for code in all_pairs} - {code[:3] for code in kept}
        book = [code for code in book if icd10cm.split_of(code.category) == "train"]
        book = [code for code in book if code.category not in aside]
    return tuple(dict.fromkeys(code.description for code in book))


# First stages


def adapted(name: str, pairs: Pairs | None = None) -> str:
    """Return the folder of an encoder that learnt a field's pairs, or some of them."""
    base, domain = current().base, side(name, "test")
    few = current().rerank_start if name == "python" else None
    pairs = domain.some(few) if pairs is None else pairs
    trained = learnt(base, pairs, OURS, entries(False) if name == "icd" else ())

    def make() -> SentenceEncoder:
        return averaged(base, trained.folder, OURS.base_weight)

    told = {"trained": trained.folder, "share": OURS.base_weight}
    return get_or_train("averaged", told, make).folder


def by_vectors(folder: str, task: RetrievalTask, k: int = DEEPEST) -> Fused:
    """Return scores and rows ``[q, k]`` of the nearest entries, all compared."""
    encoder = SentenceEncoder.from_pretrained(folder)
    cache = EmbeddingCache(cache_home() / "embeddings")
    queries, corpus = (
        encoder.encode(texts, cache=cache, show_progress=False)
        for texts in (task.queries, task.corpus_texts)
    )
    scores, rows = exact_search(queries, corpus, k, metric_of(encoder))
    return scores.astype(np.float64), rows


def by_words(task: RetrievalTask, k: int = DEEPEST) -> Fused:
    """Return the same by BM25; -1 where no word is shared."""
    scores, rows = Bm25(task.corpus_texts).search(task.queries, k)
    return scores.astype(np.float64), np.where(scores > 0, rows, -1)


def with_words(vectors: Fused, words: Fused, share: float) -> Fused:
    """Return both fused, BM25 counting by its share."""
    found, weights = [vectors, words], (1 - share, share)
    return convex_combination(found, weights, floors=(None, 0.0), k=DEEPEST)


@cache
def first_stages(name: str, where: str) -> dict[str, Fused]:
    """Return what every first stage finds, those with words fused as `words_share`."""
    task = side(name, where).test
    found = {"base": by_vectors(current().base, task)}
    found["adapted"] = by_vectors(adapted(name), task)
    found["words"] = by_words(task)
    for encoder in ("base", "adapted"):
        share = words_share(name)[encoder]
        both = found[encoder], found["words"]
        found[f"{encoder}_words"] = with_words(*both, share)
    return found


@cache
def words_share(name: str) -> dict[str, float]:
    """Return the share of BM25 that is best aside, beside each encoder."""
    task = side(name, "whole aside").test
    words, best = by_words(task), {}
    for encoder, folder in (("base", current().base), ("adapted", adapted(name))):
        vectors = by_vectors(folder, task)
        tried = {s: gains(task, with_words(vectors, words, s)).mean() for s in SHARES}
        best[encoder] = max(tried, key=lambda share: round(tried[share], 9))
    return best


def gains(task: RetrievalTask, found: Fused) -> NDArray[np.float64]:
    """Return the nDCG@10 of each query, ``[q]``."""
    rows = {code: row for row, code in enumerate(task.corpus_codes)}
    ranked = [[row for row in own if row >= 0] for own in found[1].tolist()]
    return ndcg_at_k(ranked, [{rows[code]} for code in task.relevant])


# Second stages


def read(
    model: CrossEncoder, task: RetrievalTask, lists: Mapping[str, NDArray[np.int64]]
) -> dict[str, NDArray[np.float32]]:
    """Return a cross-encoder's scores of several lists of rows, each pair read once."""
    pairs = dict.fromkeys(
        (query, row)
        for rows in lists.values()
        for query, own in enumerate(rows.tolist())
        for row in own
        if row >= 0
    )
    first = [task.queries[query] for query, _ in pairs]
    second = [task.corpus_texts[row] for _, row in pairs]
    scores = model.predict(first, second, activation=None, show_progress=False)
    known = dict(zip(pairs, scores.tolist(), strict=True))
    return {
        name: np.array(
            [
                [known.get((query, row), -np.inf) for row in own]
                for query, own in enumerate(rows.tolist())
            ],
            np.float32,
        )
        for name, rows in lists.items()
    }


def reranked(
    found: Fused, judged: NDArray[np.float32], share: float, k: int | None = None
) -> Fused:
    """Return what was found, the first k sorted anew by the cross-encoder's share."""
    k = judged.shape[1] if k is None else k
    scores, rows = found[0][:, :k], found[1][:, :k]
    both = [(scores, rows), (judged[:, :k], rows)]
    mixed = convex_combination(both, (1 - share, share))
    # The others stay behind them, in their order.
    rest = np.full_like(found[0], -np.inf), found[1]
    sides = zip(mixed, rest, strict=True)
    scores, rows = (np.hstack([ours, theirs[:, k:]]) for ours, theirs in sides)
    return scores, rows


@dataclass(frozen=True)
class Way:
    """How a cross-encoder learns: its first weights, and who found what is wrong."""

    start: str  #: ``"base"``, ``"adapted"`` or ``"raw"``
    cross_fitted: bool  #: the finder has not learnt the pairs; else it has, all of them
    everything: bool  #: wrong answers come from the test's entries, too
    distilled: bool = False  #: it learns the margins of a mixture, not the lists


WAYS = {
    "first": Way("adapted", cross_fitted=False, everything=True),
    "own_side": Way("adapted", cross_fitted=False, everything=False),
    "cross_fitted": Way("adapted", cross_fitted=True, everything=False),
    "from_base": Way("base", cross_fitted=True, everything=False),
    "from_raw": Way("raw", cross_fitted=True, everything=False),
    "distilled": Way("base", cross_fitted=True, everything=False, distilled=True),
}


def folder_of(start: str) -> str:
    """Return the folder or name of the weights that a way starts from."""
    profile = current()
    folders = {"base": profile.base, "raw": profile.raw_model}
    return adapted("icd") if start == "adapted" else folders[start]


def folds() -> NDArray[np.bool_]:
    """Return for each medical pair in which half its category is."""
    codes = side("icd", "test").codes
    return np.array([int(sha256_of(code[:3])[0], 16) % 2 == 1 for code in codes])


def medical_lists(count: int | None, way: Way, seed: int = 0) -> dict[str, list[Any]]:
    """Return so many medical pairs with wrong answers, found as a way says."""
    domain, half = side("icd", "test"), folds()
    drawn = np.random.default_rng(seed).permutation(len(domain.pairs))[:count]
    columns: dict[str, list[Any]] = {"anchor": [], "positive": [], "negative": []}
    for fold in (False, True):
        rows = sorted(row for row in drawn.tolist() if half[row] == fold)
        if way.cross_fitted:
            others = np.flatnonzero(half != fold).tolist()
            finder = adapted("icd", domain.pairs.pick(others))
        else:
            finder = adapted("icd")
        corpus = entries(way.everything)
        found = lists(finder, domain.pairs.pick(rows), corpus, LISTS)
        columns = {role: own + found[role] for role, own in columns.items()}
    return columns


def lists(
    finder: str, pairs: Pairs, corpus: Sequence[str], recipe: Recipe
) -> dict[str, list[Any]]:
    """Return pairs with a list of wrong answers each, found by an encoder."""
    encoder = SentenceEncoder.from_pretrained(finder)
    cache = EmbeddingCache(cache_home() / "embeddings")
    mined = mine_negatives(encoder, pairs, recipe, corpus or None, cache=cache)
    assert mined is not None
    return {
        role: [column[row] for row in mined.rows]
        for role, column in mined.columns().items()
    }


def taught(way: Way, columns: Columns, recipe: Recipe = LISTS) -> Stored:
    """Return the cross-encoder that learns lists, or margins where there are labels."""
    start = folder_of(way.start)
    told = {
        "start": SentenceEncoder.from_pretrained(start).fingerprint()
        if way.start != "raw"
        else start,
        "data": sha256_of({role: list(column) for role, column in columns.items()}),
        "recipe": asdict(recipe),
        "bf16": has_fast_bfloat16(),
    }

    def make() -> CrossEncoder:
        model = CrossEncoder.from_pretrained(start, head_seed=recipe.seed)
        data = TrainingData(columns, source="lists")
        objective = PairMargins() if "label" in columns else ListwiseCrossEntropy()
        train(model, data, objective, recipe)
        return model

    return get_or_train("cross-encoder", told, make)


class PairMargins(ListwiseCrossEntropy):
    """Margin distillation of a cross-encoder: MSE of its margins and a teacher's.

    Source: Hofstätter et al. 2020, equation 5, with a cross-encoder as student.
    """

    label = LabelRule()

    def forward(self, encode: Encode, batch: Batch) -> Tensor:
        """Score the pairs of a batch, and return the loss."""
        anchor, positive, negative = (batch.texts[role] for role in self.roles)
        pairs = self._pair_ids([*anchor, *anchor], [*positive, *negative])
        right, wrong = to_float32(encode(pairs))[:, 0].chunk(2)
        return F.mse_loss(right - wrong, self.label_of(batch, right))


def mixture_margins(teacher: CrossEncoder, columns: Columns) -> dict[str, list[Any]]:
    """Return lists as triplets, labelled by a mixture: cross-encoder and encoder.

    Each counts by its spread over the lists; the unit is the cross-encoder's.
    """
    anchor, positive, negative = (columns[role] for role in PairMargins.roles)
    triplets: dict[str, list[Any]] = {
        "anchor": [a for a, own in zip(anchor, negative, strict=True) for _ in own],
        "positive": [p for p, own in zip(positive, negative, strict=True) for _ in own],
        "negative": [text for own in negative for text in own],
    }
    encoder = SentenceEncoder.from_pretrained(adapted("icd"))
    cache = EmbeddingCache(cache_home() / "embeddings")
    query, right, wrong = (
        encoder.encode(texts, normalize=True, cache=cache, show_progress=False)
        for texts in triplets.values()
    )
    scores = [
        teacher.predict(triplets["anchor"], triplets[role], activation=None)
        for role in ("positive", "negative")
    ]
    cosines = [(query * other).sum(1) for other in (right, wrong)]
    spread = float(np.std(scores) / np.std(cosines))
    margin = (scores[0] - scores[1] + spread * (cosines[0] - cosines[1])) / 2
    return triplets | {"label": margin.astype(float).tolist()}
