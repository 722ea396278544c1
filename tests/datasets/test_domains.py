"""Fields to adapt to: what is learnt is not asked, and smaller ones are some of all."""

import numpy as np
import pytest
from coded_domain import coded_domain
from tiny_cross_encoder import WORDS

from sbert_lab.datasets.domains import (
    icd10cm_domain,
    kept_aside,
    narrowed,
    python_domain,
)
from sbert_lab.datasets.icd10cm import HierarchyGuard
from sbert_lab.datasets.leaks import check_no_leak
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.datasets.python_docs import ApiEntry


@pytest.fixture(scope="module")
def domain():
    return coded_domain()


def test_fewer_pairs_are_some_of_more(domain):
    few, _ = domain.some(10, seed=2)
    more, _ = domain.some(30, seed=2)
    every, guard = domain.some(None, seed=2)
    assert guard is not None
    assert len(few) == 10
    assert set(few.rows) < set(more.rows) < set(every.rows)
    assert list(few.rows) == sorted(few.rows)
    assert every == domain.pairs
    assert set(domain.some(10, seed=3)[0].rows) != set(few.rows)


def test_icd10cm_keeps_categories_apart():
    domain = icd10cm_domain(50, 300)
    assert len(domain.test.queries) == len(domain.group) == 50
    assert len(domain.test.corpus_codes) == 300
    learnt = {code[:3] for code in domain.codes}
    assert learnt.isdisjoint(domain.group)
    check_no_leak(domain.pairs, Pairs(domain.test.queries, domain.test.queries))
    few, guard = domain.some(20, seed=4)
    rows = [domain.pairs.rows.index(row) for row in few.rows]
    codes = tuple(domain.codes[row] for row in rows)
    assert guard == HierarchyGuard(codes, domain.candidate_codes)
    assert len(domain.candidates) == len(domain.candidate_codes)


def entry(name, library, rng):
    sentence, details = (" ".join(rng.choice(WORDS, 7)) for _ in range(2))
    return ApiEntry(name, library, f"{name}(x)", sentence, details)


def test_python_keeps_libraries_apart():
    rng = np.random.default_rng(0)
    data = tuple(
        entry(f"{library}.{kind}.f{i}", library, rng)
        for library in ("fsspec", "scipy", "pillow")
        for kind in ("image", "table")
        for i in range(6)
    )
    domain = python_domain(data=data)
    learnt = {text.split(".")[0] for text in domain.pairs.positive}
    asked = {name.split(".")[0] for name in domain.test.relevant}
    assert (learnt, asked) == ({"fsspec", "scipy"}, {"pillow"})
    assert set(domain.group) == {"pillow.image", "pillow.table"}
    assert len(domain.group) == len(domain.test.queries) > 0
    assert domain.candidates is None
    assert domain.some(5)[1] is None
    assert len(python_domain(2, 5, data=data).test.corpus_codes) == 5


def test_what_is_kept_aside_is_not_learnt(domain):
    inner = kept_aside(domain, 0.25)
    few = kept_aside(domain, 0.25, 3)
    assert len(few.test.queries) == len(few.group) == 3
    assert set(few.test.relevant) < set(inner.test.relevant)
    learnt, asked = ({c[:3] for c in codes} for codes in (inner.codes, inner.group))
    assert len(asked) == round(0.25 * len(set(domain.group))) > 1
    assert not learnt & asked
    assert learnt | asked == set(domain.group)
    assert not set(inner.pairs.anchor) & set(inner.test.queries)
    whole = dict(zip(domain.codes, domain.pairs.anchor, strict=True))
    assert tuple(whole[code] for code in inner.test.relevant) == inner.test.queries
    assert tuple(code[:3] for code in inner.test.relevant) == inner.group
    rows = zip(inner.codes, inner.pairs.anchor, inner.pairs.positive, strict=True)
    given = zip(domain.codes, domain.pairs.anchor, domain.pairs.positive, strict=True)
    assert set(rows) < set(given)
    assert inner.test.corpus_texts == domain.candidates
    assert inner.candidates == domain.candidates


def test_a_term_of_both_sides_is_not_asked(domain):
    first, last = domain.codes[3][:3], domain.codes[-1][:3]
    both = domain.pairs.anchor[-1]
    split = 0
    for seed in range(8):
        inner = kept_aside(domain, 0.4, seed=seed)
        sides = {name in inner.group for name in (first, last)}
        if len(sides) == 2:
            split += 1
            assert both not in inner.test.queries
            assert both in inner.pairs.anchor
    assert split


def test_a_narrow_domain_holds_its_answers(domain):
    few = narrowed(domain, 10, 25)
    assert len(few.pairs) == 10 == len(few.codes)
    assert len(few.candidates) == 25 == len(few.candidate_codes)
    assert set(few.codes) <= set(few.candidate_codes)
    text = dict(zip(domain.candidate_codes, domain.candidates, strict=True))
    assert [text[code] for code in few.candidate_codes] == list(few.candidates)
    assert [text[code] for code in few.codes] == list(few.pairs.positive)
    assert narrowed(domain) == domain
    assert len(narrowed(domain, 40, 3).candidates) == 40
