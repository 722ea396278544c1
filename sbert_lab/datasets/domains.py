"""Fields to adapt a model to: pairs to learn, and a search to become better at."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from sbert_lab.datasets import icd10cm, python_docs
from sbert_lab.datasets.icd10cm import HierarchyGuard, RetrievalTask
from sbert_lab.datasets.pairs import Pairs, plain
from sbert_lab.datasets.python_docs import LIBRARIES, ApiEntry


@dataclass(frozen=True)
class Domain:
    """What is learnt from, and the search that should become better by it.

    `test` shares no text with `pairs`; queries of one `group` belong together, for
    intervals. `candidates` are where hard negatives come from; None for the answers of
    training. `codes` and `candidate_codes` are ICD-10-CM's.
    """

    name: str
    pairs: Pairs = field(repr=False)
    test: RetrievalTask = field(repr=False)
    group: tuple[str, ...] = field(repr=False)
    candidates: tuple[str, ...] | None = field(default=None, repr=False)
    codes: tuple[str, ...] | None = field(default=None, repr=False)
    candidate_codes: tuple[str, ...] | None = field(default=None, repr=False)

    def some(
        self, count: int | None, seed: int = 0
    ) -> tuple[Pairs, HierarchyGuard | None]:
        """Draw pairs, in the file's order, and a guard against mining their relatives.

        A smaller count of the same seed gives some of the larger's.
        """
        drawn = np.random.default_rng(seed).permutation(len(self.pairs))
        rows = sorted(drawn[:count].tolist())
        guard = None
        if self.codes is not None:
            codes = tuple(self.codes[row] for row in rows)
            guard = HierarchyGuard(codes, self.candidate_codes)
        return self.pairs.pick(rows), guard


def icd10cm_domain(queries: int | None = None, codes: int | None = None) -> Domain:
    """Return the terms of ICD-10-CM by category, `queries` and `codes` to test with."""
    pairs = icd10cm.split_pairs("train")
    corpus = icd10cm.retrieval_corpus()
    test = icd10cm.retrieval_task("test", queries, codes)
    return Domain(
        "ICD-10-CM",
        Pairs(
            tuple(term for term, _ in pairs),
            tuple(code.description for _, code in pairs),
        ),
        test,
        tuple(code[:3] for code in test.relevant),
        tuple(code.description for code in corpus),
        tuple(code.code for _, code in pairs),
        tuple(code.code for code in corpus),
    )


def python_domain(
    queries: int | None = None,
    documents: int | None = None,
    libraries: Sequence[str] = (),
    data: tuple[ApiEntry, ...] | None = None,
) -> Domain:
    """Return Python API search, split by library.

    `queries` and `documents` are how many to test with and to search in; `libraries`
    are names of `python_docs.LIBRARIES`. Default: all.
    """
    if data is None:
        data = python_docs.load(tuple(libraries) or LIBRARIES)
    test = python_docs.retrieval_task("test", data, queries, documents)
    return Domain(
        "Python API",
        python_docs.training_pairs("train", data),
        test,
        # Functions of one module are alike: a.b.c and a.b.d.
        tuple(name.rpartition(".")[0] for name in test.relevant),
    )


def _coded(domain: Domain) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the codes of the pairs and of the candidates, and the candidates."""
    found = domain.codes, domain.candidate_codes, domain.candidates
    if None in found:
        raise ValueError(f"{domain.name} has no codes to draw by")
    return cast(tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], found)


def kept_aside(
    domain: Domain, share: float = 0.1, queries: int | None = None, seed: int = 0
) -> Domain:
    """Return a domain that learns from fewer categories, and is tested on the others.

    To choose whatever has to be chosen without a look at the test: the pairs of a
    `share` of the categories become queries, and all candidates the corpus. A term that
    is also written for a category that stays is no query. `queries` is how many to ask
    at most.
    """
    codes, candidate_codes, candidates = _coded(domain)
    rng = np.random.default_rng(seed)
    group = [code[:3] for code in codes]
    names = sorted(set(group))
    count = round(share * len(names))
    if not 0 < count < len(names):
        raise ValueError(
            f"share={share} of {len(names)} categories: leave some on either side"
        )
    aside = {names[i] for i in rng.permutation(len(names))[:count].tolist()}
    stay = [row for row, name in enumerate(group) if name not in aside]
    known = {plain(domain.pairs.anchor[row]) for row in stay}
    asked = [
        row
        for row, name in enumerate(group)
        if name in aside and plain(domain.pairs.anchor[row]) not in known
    ]
    asked = sorted(rng.permutation(asked)[:queries].tolist())
    if not asked:
        raise ValueError("no term is left to ask: keep more categories aside")
    return replace(
        domain,
        pairs=domain.pairs.pick(stay),
        codes=tuple(codes[row] for row in stay),
        test=RetrievalTask(
            tuple(domain.pairs.anchor[row] for row in asked),
            tuple(codes[row] for row in asked),
            candidate_codes,
            candidates,
        ),
        group=tuple(group[row] for row in asked),
    )


def narrowed(
    domain: Domain,
    pairs: int | None = None,
    codes: int | None = None,
    seed: int = 0,
) -> Domain:
    """Return a domain with fewer pairs and candidates, for a quick look; None is all.

    Candidates are the answers of the pairs that stay, filled up at random.
    """
    all_codes, candidate_codes, candidates = _coded(domain)
    rng = np.random.default_rng(seed)
    rows = sorted(rng.permutation(len(domain.pairs))[:pairs].tolist())
    own = [all_codes[row] for row in rows]
    wanted = set(own)
    places = rng.permutation(len(candidates)).tolist()
    places.sort(key=lambda place: candidate_codes[place] not in wanted)
    kept = sorted(places[: None if codes is None else max(codes, len(wanted))])
    return replace(
        domain,
        pairs=domain.pairs.pick(rows),
        codes=tuple(own),
        candidates=tuple(candidates[place] for place in kept),
        candidate_codes=tuple(candidate_codes[place] for place in kept),
    )
