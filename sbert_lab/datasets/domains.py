"""Fields to adapt a model to: pairs to learn, and a search to become better at."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sbert_lab.datasets import icd10cm, python_docs
from sbert_lab.datasets.icd10cm import HierarchyGuard, RetrievalTask
from sbert_lab.datasets.pairs import Pairs, plain
from sbert_lab.datasets.python_docs import LIBRARIES, ApiEntry


@dataclass(frozen=True)
class Domain:
    """What is learnt from, and a search that shares no text with it, to be improved."""

    name: str
    pairs: Pairs = field(repr=False)
    test: RetrievalTask = field(repr=False)
    #: Of each query: those of one group belong together, for intervals.
    group: tuple[str, ...] = field(repr=False)
    #: Where hard negatives come from; None for the answers of training.
    candidates: tuple[str, ...] | None = field(default=None, repr=False)
    #: Of ICD-10-CM, for each pair and each candidate; empty in other fields.
    codes: tuple[str, ...] = field(default=(), repr=False)
    candidate_codes: tuple[str, ...] = field(default=(), repr=False)

    def some(
        self, count: int | None, seed: int = 0
    ) -> tuple[Pairs, HierarchyGuard | None]:
        """Draw pairs, in the file's order, and a guard against mining their relatives.

        A smaller count of the same seed gives some of the larger's.
        """
        drawn = np.random.default_rng(seed).permutation(len(self.pairs))
        few = self._of_pairs(sorted(drawn[:count].tolist()))
        guard = HierarchyGuard(few.codes, self.candidate_codes) if self.codes else None
        return few.pairs, guard

    def _of_pairs(self, rows: Sequence[int]) -> "Domain":
        codes = tuple(self.codes[row] for row in rows) if self.codes else ()
        return replace(self, pairs=self.pairs.pick(rows), codes=codes)


def icd10cm_domain(queries: int | None = None, codes: int | None = None) -> Domain:
    """Return the terms of ICD-10-CM by category, `queries` and `codes` to test with."""
    terms, meant = zip(*icd10cm.split_pairs("train"), strict=True)
    corpus = icd10cm.retrieval_corpus()
    test = icd10cm.retrieval_task("test", queries, codes)
    return Domain(
        "ICD-10-CM",
        Pairs(terms, tuple(code.description for code in meant)),
        test,
        tuple(code[:3] for code in test.relevant),
        tuple(code.description for code in corpus),
        tuple(code.code for code in meant),
        tuple(code.code for code in corpus),
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


def kept_aside(
    domain: Domain, share: float = 0.1, queries: int | None = None, seed: int = 0
) -> Domain:
    """Return a domain that learns from fewer categories, and is tested on the others.

    To choose whatever has to be chosen without a look at the test: the pairs of a
    `share` of the categories become `queries` (None for all), and all candidates the
    corpus. A term that is also written for a category that stays is no query.
    """
    rng = np.random.default_rng(seed)
    group = [code[:3] for code in domain.codes]
    names = sorted(set(group))
    order = rng.permutation(len(names))[: round(share * len(names))].tolist()
    aside = {names[place] for place in order}
    kept = domain._of_pairs([r for r, name in enumerate(group) if name not in aside])
    known = set(map(plain, kept.pairs.anchor))
    asked = [
        row
        for row, (name, term) in enumerate(zip(group, domain.pairs.anchor, strict=True))
        if name in aside and plain(term) not in known
    ]
    test = domain._of_pairs(sorted(rng.permutation(asked)[:queries].tolist()))
    corpus = domain.candidate_codes, domain.candidates or ()
    return replace(
        kept,
        test=RetrievalTask(test.pairs.anchor, test.codes, *corpus),
        group=tuple(code[:3] for code in test.codes),
    )


def narrowed(
    domain: Domain, pairs: int | None = None, codes: int | None = None, seed: int = 0
) -> Domain:
    """Return a domain with fewer pairs and candidates, for a quick look; None is all.

    Candidates are the answers of the pairs that stay, filled up at random.
    """
    rng = np.random.default_rng(seed)
    few = domain._of_pairs(sorted(rng.permutation(len(domain.pairs))[:pairs].tolist()))
    wanted = set(few.codes)
    places = rng.permutation(len(domain.candidate_codes)).tolist()
    places.sort(key=lambda place: domain.candidate_codes[place] not in wanted)
    kept = sorted(places[: None if codes is None else max(codes, len(wanted))])
    candidates = domain.candidates or ()
    return replace(
        few,
        candidates=tuple(candidates[place] for place in kept),
        candidate_codes=tuple(domain.candidate_codes[place] for place in kept),
    )
