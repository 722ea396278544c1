"""08: what words and a cross-encoder add to an encoder, and what each costs.

Two searches, those of 07, and two encoders: all-MiniLM-L6-v2, and the same adapted to
medical terms. Every weight is chosen on queries that are kept aside: of diseases that
neither encoder nor cross-encoder learnt from, and of scikit-learn's documentation. A
cross-encoder learns to find the right entry among those that a search takes for right;
which search, and where its wrong answers come from, is compared on fewer pairs first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
from fields import UNIT, averaged, field, known, learnt
from numpy.typing import NDArray
from study import Study, main

from experiments.profiles import current
from experiments.runs import Stored, get_or_train
from sbert_lab.adaptation.recipe import Recipe, sha256_of
from sbert_lab.adaptation.supervised import mine_negatives, train
from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.domains import Domain, icd10cm_domain, kept_aside, python_domain
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.evaluation.metrics import ndcg_at_k, recall_at_k
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.index.exact import exact_search
from sbert_lab.index.fusion import convex_combination, reciprocal_rank_fusion
from sbert_lab.index.passages import TRIED
from sbert_lab.losses.pair_scores import ListwiseCrossEntropy
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of
from sbert_lab.training import TrainingData
from sbert_lab.training.trainer import has_fast_bfloat16

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
    dev = python_domain(*sizes, profile.libraries, split="dev")
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


@cache
def encoder(name: str) -> SentenceEncoder:
    """Return the base, or what it becomes; ``"fold 0"`` knows one half of diseases."""
    base = current().base
    if name == "base":
        return SentenceEncoder.from_pretrained(base)
    half = None if name == "adapted" else int(name[-1])
    trained = learnt(base, folds(half), ADAPTED, to_mine_from())
    return averaged(base, trained.folder, ADAPTED.base_weight)
