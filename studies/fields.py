"""What the studies of 07 and 08 share: two fields, and encoders adapted to them.

Medical search: a term must find its entry of ICD-10-CM, in categories of which no term
was learnt. Python search: the first sentence of a docstring must find its function, in
libraries of which nothing was learnt. A recipe is that of ``sbert_lab adapt``: hard
negatives are mined by the base, among entries of the training side alone.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from experiments.profiles import current
from experiments.runs import RETRIEVAL, Stored, Yardstick, get_or_train
from sbert_lab.adaptation.recipe import Recipe, sha256_of
from sbert_lab.adaptation.supervised import mine_negatives, train_on_pairs
from sbert_lab.datasets import icd10cm, sts
from sbert_lab.datasets.domains import Domain, icd10cm_domain, python_domain
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.models.averaging import average
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training.trainer import has_fast_bfloat16

FIELDS = ("icd", "python")
SETS = (*FIELDS, "stsb")
UNIT = {"icd": "nDCG@10", "python": "nDCG@10", "stsb": "Spearman"}

#: One number a query, or a cosine a pair.
Items = dict[str, NDArray[np.float32]]


@cache
def field(name: str) -> Domain:
    """Return a field: pairs to learn from, and a search to become better at."""
    profile = current()
    if name == "icd":
        return icd10cm_domain(profile.domain_queries, profile.domain_codes)
    sizes = profile.second_queries, profile.second_documents
    return python_domain(*sizes, profile.libraries)


@cache
def general() -> ScoredPairs:
    """Return the sentences of no field on which forgetting is measured."""
    pairs, few = sts.stsb("test"), current().benchmark
    return pairs if few is None else pairs.only(np.arange(len(pairs)) < 10 * few)


def drawn(name: str, count: int, seed: int) -> Pairs:
    """Return some pairs of a field; a smaller count gives some of the larger's."""
    return field(name).some(count, seed)


@cache
def known(name: str) -> tuple[str, ...]:
    """Return the entries of a field's training side, to mine negatives from.

    Of Python none: negatives are then other answers of the pairs that are learnt.
    """
    if name == "python":
        return ()
    book = [code for code in icd10cm.retrieval_corpus() if code.category]
    texts = [c.description for c in book if icd10cm.split_of(c.category) == "train"]
    return tuple(dict.fromkeys(texts))


def learnt(
    base: str, pairs: Pairs, recipe: Recipe, candidates: Sequence[str]
) -> Stored:
    """Return the encoder that a base becomes by training on pairs, not averaged.

    Hard negatives are mined from `candidates` or else from the answers.
    """
    start, plain = SentenceEncoder.from_pretrained(base), replace(recipe, base_weight=0)
    told = {
        "base": start.fingerprint(),
        "data": sha256_of([pairs.anchor, pairs.positive]),
        "mined from": sha256_of(list(candidates)) if recipe.negatives else "",
        "recipe": asdict(plain),
        "bf16": has_fast_bfloat16(),
    }

    def make() -> SentenceEncoder:
        mined = mine_negatives(
            start, pairs, plain, candidates or None, cache=EmbeddingCache()
        )
        encoder = deepcopy(start)
        train_on_pairs(encoder, pairs, plain, mined)
        return encoder

    return get_or_train("adapted", told, make)


def averaged(base: str, trained: str, share: float) -> SentenceEncoder:
    """Return the average of a base and what it became, by the base's share."""
    first, second = (SentenceEncoder.from_pretrained(f) for f in (base, trained))
    return average(first, second, share)


def ndcg(encoder: SentenceEncoder, task: RetrievalTask) -> NDArray[np.float32]:
    """Return the nDCG@10 of each query, all entries compared."""
    return Yardstick({}, task).measure(encoder)[RETRIEVAL].astype(np.float32)


def measured(encoder: SentenceEncoder, on: Sequence[str] = SETS) -> Items:
    """Return the nDCG@10 of every query of a field, and the general cosines."""
    found = {name: ndcg(encoder, field(name).test) for name in FIELDS if name in on}
    if "stsb" in on:
        cosines = Yardstick({"stsb": general()}).measure(encoder)["stsb"]
        found["stsb"] = cosines.astype(np.float32)
    return found


def judged() -> str:
    """Return a hash of all that is measured on."""
    tasks: list[Mapping[str, object]] = [asdict(field(name).test) for name in FIELDS]
    return sha256_of([*tasks, asdict(general())])
