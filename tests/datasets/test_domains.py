"""Fields to adapt to: what is learnt is not asked, and fewer pairs are some of all."""

import numpy as np
import pytest
from second_stage import kept_aside
from tiny_cross_encoder import WORDS

from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.domains import Domain, icd10cm_domain, python_domain
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.leaks import check_no_leak
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.datasets.python_docs import ApiEntry


@pytest.fixture(scope="module")
def domain():
    """Real codes of 20 categories under made-up texts: answers repeat a word."""
    book = [c for c in icd10cm.retrieval_corpus() if c.category]
    categories = list(dict.fromkeys(c.category for c in book))[:20]
    codes = [c.code for name in categories for c in book if c.category == name][:100]
    rng = np.random.default_rng(0)
    answers = [f"{WORDS[i]} {rng.choice(WORDS[100:])}" for i in range(len(codes))]
    terms = [f"{rng.choice(WORDS[100:])} {WORDS[i]}" for i in range(len(codes))]
    terms[3] = terms[-1]  # the same term in the first category and in the last
    pairs, names = Pairs(tuple(terms), tuple(answers)), tuple(codes)
    task = RetrievalTask(pairs.anchor, names, names, pairs.positive)
    return Domain("made up", pairs, task, tuple(code[:3] for code in codes), names)


def test_fewer_pairs_are_some_of_more(domain):
    few, more, every = (domain.some(count, seed=2) for count in (10, 30, None))
    assert len(few) == 10
    assert set(few.rows) < set(more.rows) < set(every.rows)
    assert list(few.rows) == sorted(few.rows)
    assert every == domain.pairs
    assert set(domain.some(10, seed=3).rows) != set(few.rows)


def test_icd10cm_keeps_categories_apart():
    domain = icd10cm_domain(50, 300)
    assert len(domain.test.queries) == len(domain.group) == 50
    assert len(domain.test.corpus_codes) == 300
    learnt = {code[:3] for code in domain.codes}
    assert learnt.isdisjoint(domain.group)
    check_no_leak(domain.pairs, Pairs(domain.test.queries, domain.test.queries))
    book = icd10cm.by_code()
    meant = tuple(book[code].description for code in domain.codes)
    assert meant == domain.pairs.positive


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
    assert domain.codes == ()
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
    corpus = zip(inner.test.corpus_codes, inner.test.corpus_texts, strict=True)
    book = icd10cm.retrieval_corpus()
    assert list(corpus) == [(code.code, code.description) for code in book]


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
