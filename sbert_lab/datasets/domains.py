"""Fields to adapt a model to: pairs to learn, and a search to become better at."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sbert_lab.datasets import icd10cm, python_docs
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.datasets.python_docs import LIBRARIES, ApiEntry


@dataclass(frozen=True)
class Domain:
    """What is learnt from, and a search that shares no text with it, to be improved."""

    name: str
    pairs: Pairs = field(repr=False)
    test: RetrievalTask = field(repr=False)
    #: Of each query: those of one group belong together, for intervals.
    group: tuple[str, ...] = field(repr=False)
    #: The ICD-10-CM code of each pair's positive; empty in other fields.
    codes: tuple[str, ...] = field(default=(), repr=False)

    def some(self, count: int | None, seed: int = 0) -> Pairs:
        """Draw pairs, in the file's order; None takes all.

        A smaller count of the same seed gives some of the larger's.
        """
        drawn = np.random.default_rng(seed).permutation(len(self.pairs))
        return self.pairs.pick(sorted(drawn[:count].tolist()))


def icd10cm_domain(queries: int | None = None, codes: int | None = None) -> Domain:
    """Return the terms of ICD-10-CM by category, `queries` and `codes` to test with."""
    terms, meant = zip(*icd10cm.split_pairs("train"), strict=True)
    test = icd10cm.retrieval_task("test", queries, codes)
    return Domain(
        "ICD-10-CM",
        Pairs(terms, tuple(code.description for code in meant)),
        test,
        tuple(code[:3] for code in test.relevant),
        tuple(code.code for code in meant),
    )


def python_domain(
    queries: int | None = None,
    documents: int | None = None,
    libraries: Sequence[str] = (),
    data: tuple[ApiEntry, ...] | None = None,
    split: str = "test",
) -> Domain:
    """Return Python API search, split by library; of `split` are those that are asked.

    `queries` and `documents` are how many to test with and to search in; `libraries`
    are some of `python_docs.LIBRARIES`. Default: all.
    """
    data = python_docs.load(tuple(libraries) or LIBRARIES) if data is None else data
    test = python_docs.retrieval_task(split, data, queries, documents)
    # Functions of one module are alike: a.b.c and a.b.d.
    group = tuple(name.rpartition(".")[0] for name in test.relevant)
    return Domain("Python API", python_docs.training_pairs("train", data), test, group)
