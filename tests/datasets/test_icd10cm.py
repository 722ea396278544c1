"""ICD-10-CM: the codes and the split, checked from the book."""

import re

import pytest

from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.icd10cm import ancestors, by_code


def test_all_codes_stand_under_22_chapters():
    codes = icd10cm.load()
    assert len(codes) == len(by_code()) == 98_505
    assert all(code.description for code in codes)
    kinds = [sum(c.kind == k for c in codes) for k in ("chapter", "block", "category")]
    assert kinds == [22, 297, 1918]
    seen = set()
    for code in codes:
        assert code.parent in seen or not code.parent  # parents come first
        assert bool(code.parent) == (code.kind != "chapter")
        seen.add(code.code)
    eye = by_code()["E11.311"]
    assert [c.code for c in ancestors(eye)] == "E11.31 E11.3 E11 E08-E13 4".split()
    assert icd10cm.block_of(eye).code == "E08-E13"
    assert (eye.category, eye.chapter) == ("E11", "4")
    # A block and a category of one name are two entries.
    block, category = by_code()["C50-C50"], by_code()["C50"]
    assert (block.kind, category.kind) == ("block", "category")
    assert category.parent == "C50-C50"
    assert block.description != category.description


def test_splits_share_no_category_and_no_term():
    train, test = icd10cm.split_pairs("train"), icd10cm.split_pairs("test")
    assert 12_380 < len(train) + len(test) < 12_403  # terms of both sides left out
    assert 0.15 < len(test) / 12_403 < 0.2
    sides = [{c.category for _, c in side if c.category} for side in (train, test)]
    assert sides[0]
    assert sides[0].isdisjoint(sides[1])
    terms = [{term.lower() for term, _ in side} for side in (train, test)]
    assert terms[0].isdisjoint(terms[1])
    pairs = [*train, *test]
    assert len({(term.lower(), code.code) for term, code in pairs}) == len(pairs)
    names_a_code = [t for t, _ in pairs if re.search(r"\b[A-Z]\d[0-9A-Z]\b", t)]
    assert len(names_a_code) == 3  # genes and vitamins, no cross-references
    with pytest.raises(ValueError, match="'train' or 'test'"):
        icd10cm.split_pairs("dev")


def test_a_small_task_is_drawn_from_the_whole_one():
    whole = icd10cm.retrieval_task()
    assert len(whole.corpus_codes) == 15_708
    assert whole.queries == tuple(term for term, _ in icd10cm.split_pairs("test"))
    assert icd10cm.retrieval_task("test", 10**6, 10**6, seed=3) == whole
    task, other = (icd10cm.retrieval_task("test", 50, 300, seed) for seed in (7, 8))
    assert len(task.queries) == len(task.relevant) == 50
    assert len(set(task.corpus_codes)) == len(task.corpus_codes) == 300
    assert set(task.relevant) <= set(task.corpus_codes)
    assert task == icd10cm.retrieval_task("test", queries=50, codes=300, seed=7)
    assert set(task.queries) != set(other.queries)
    known = list(zip(whole.queries, whole.relevant, strict=True))
    places = [
        known.index(each) for each in zip(task.queries, task.relevant, strict=True)
    ]
    assert places == sorted(set(places)) != list(range(50))
    where = {code: place for place, code in enumerate(whole.corpus_codes)}
    rows = [where[code] for code in task.corpus_codes]
    assert rows == sorted(rows)
    assert task.corpus_texts == tuple(whole.corpus_texts[row] for row in rows)
    some = {code.code for code in icd10cm.sample(50, seed=3)}
    in_order = tuple(code for code in icd10cm.load() if code.code in some)
    assert icd10cm.sample(50, seed=3) == in_order
    fewest = icd10cm.retrieval_task("test", 60, 1)
    assert set(fewest.corpus_codes) == set(fewest.relevant)
