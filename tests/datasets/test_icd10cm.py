import re

import pytest

from sbert_lab.datasets import icd10cm
from sbert_lab.models import registry as catalogue


def test_all_codes_are_there_and_unique():
    codes = icd10cm.load()
    assert len(codes) == len(icd10cm.by_code()) == 98_505
    assert all(code.description for code in codes)
    kinds = [sum(c.kind == k for c in codes) for k in ("chapter", "block", "category")]
    assert kinds == [22, 297, 1918]


def test_hierarchy_is_a_forest_of_22_chapters():
    seen = set()
    for code in icd10cm.load():
        assert code.parent in seen or not code.parent  # parents come first
        assert bool(code.parent) == (code.kind != "chapter")
        seen.add(code.code)
    eye = icd10cm.by_code()["E11.311"]
    assert [c.code for c in icd10cm.ancestors(eye)] == [
        "E11.31", "E11.3", "E11", "E08-E13", "4",
    ]  # fmt: skip
    assert eye.category == "E11"
    assert eye.chapter == "4"


def test_block_and_category_of_one_name_are_two_entries():
    block, category = (icd10cm.by_code()[c] for c in ("C50-C50", "C50"))
    assert (block.kind, category.kind) == ("block", "category")
    assert category.parent == "C50-C50"
    assert block.description != category.description


def test_retrieval_pairs():
    pairs = icd10cm.retrieval_pairs()
    assert len(pairs) == 12_403
    terms = [term for term, _ in pairs]
    assert "Classical cholera" in terms
    assert not [t for t in terms if "classifiable to C" in t]
    names_a_code = [t for t in terms if re.search(r"\b[A-Z]\d[0-9A-Z]\b", t)]
    assert names_a_code == [  # vitamins and genes, not codes
        "Vitamin B12 deficiency",
        "Anoctamin-5-related LGMD R12",
        "LGMD R22 collagen 6-related",
    ]
    assert len({(t.lower(), c.code) for t, c in pairs}) == len(pairs)


def test_split_shares_no_category_and_no_term():
    train, test = icd10cm.split_pairs("train"), icd10cm.split_pairs("test")
    assert 12_380 < len(train) + len(test) < 12_403  # terms of both sides left out
    assert 0.15 < len(test) / 12_403 < 0.2
    sides = [{c.category for _, c in side if c.category} for side in (train, test)]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]
    assert not {t.lower() for t, _ in train} & {t.lower() for t, _ in test}
    with pytest.raises(ValueError, match="'train' or 'test'"):
        icd10cm.split_pairs("dev")


def test_task_can_be_solved():
    task = icd10cm.retrieval_task()
    assert set(task.relevant) <= set(task.corpus_codes)
    assert len(task.queries) == len(task.relevant)
    assert len(set(task.corpus_codes)) == len(task.corpus_codes) == 15_708


def test_a_small_task_is_drawn_from_the_large_one():
    whole, task = icd10cm.retrieval_task(), icd10cm.retrieval_task("test", 50, 300, 7)
    assert len(task.queries) == len(task.relevant) == 50
    assert len(set(task.corpus_codes)) == len(task.corpus_codes) == 300
    assert set(task.relevant) <= set(task.corpus_codes)
    known = list(zip(whole.queries, whole.relevant, strict=True))
    places = [
        known.index(query) for query in zip(task.queries, task.relevant, strict=True)
    ]
    assert places == sorted(set(places))
    assert places != list(range(50))
    where = {code: place for place, code in enumerate(whole.corpus_codes)}
    rows = [where[code] for code in task.corpus_codes]
    assert rows == sorted(rows)
    assert task.corpus_texts == tuple(whole.corpus_texts[row] for row in rows)


def test_a_small_task_follows_its_seed():
    task = icd10cm.retrieval_task("test", 50, 300, 7)
    assert task == icd10cm.retrieval_task("test", queries=50, codes=300, seed=7)
    other = icd10cm.retrieval_task("test", 50, 300, 8)
    assert set(task.queries) != set(other.queries)
    # The corpus is drawn too, beyond the codes that answer.
    few = [icd10cm.retrieval_task("test", None, 3_000, seed) for seed in (7, 8)]
    assert few[0].queries == few[1].queries
    assert len(few[0].corpus_codes) == len(few[1].corpus_codes) == 3_000
    assert set(few[0].corpus_codes) != set(few[1].corpus_codes)


def test_queries_and_corpus_are_cut_each_alone():
    whole = icd10cm.retrieval_task()
    queries = icd10cm.retrieval_task(queries=20)
    assert len(queries.queries) == 20
    assert queries.corpus_codes == whole.corpus_codes
    codes = icd10cm.retrieval_task(codes=5_000)
    assert (codes.queries, codes.relevant) == (whole.queries, whole.relevant)
    assert len(codes.corpus_codes) == 5_000
    assert set(codes.relevant) <= set(codes.corpus_codes)


@pytest.mark.parametrize("codes", [0, 1, 10])
def test_every_code_that_answers_stays(codes):
    task = icd10cm.retrieval_task("test", 60, codes)
    assert set(task.corpus_codes) == set(task.relevant)


def test_a_corpus_may_be_just_the_answers_or_one_more():
    answers = set(icd10cm.retrieval_task("test", 60, 0).relevant)
    for more in (0, 1):
        task = icd10cm.retrieval_task("test", 60, len(answers) + more)
        assert len(task.corpus_codes) == len(answers) + more
        assert answers <= set(task.corpus_codes)


@pytest.mark.parametrize("split", ["train", "test"])
def test_none_and_too_many_is_the_whole_task(split):
    whole = icd10cm.retrieval_task(split)
    pairs, corpus = icd10cm.split_pairs(split), icd10cm.retrieval_corpus()
    assert whole.queries == tuple(term for term, _ in pairs)
    assert whole.relevant == tuple(code.code for _, code in pairs)
    assert whole.corpus_codes == tuple(code.code for code in corpus)
    assert whole.corpus_texts == tuple(code.description for code in corpus)
    for large in (None, 100_000):
        assert icd10cm.retrieval_task(split, large, large, seed=3) == whole


def test_typed_queries_name_real_categories():
    queries = icd10cm.typed_queries()
    assert len(queries) == 30
    categories = {c.category for c in icd10cm.load()}
    for text, wanted, trap in queries:
        assert text
        assert trap
        assert wanted
        assert wanted <= categories, wanted - categories


def test_sample_is_seeded_and_ordered():
    first, again = icd10cm.sample(50, seed=3), icd10cm.sample(50, seed=3)
    assert first == again != icd10cm.sample(50, seed=4)
    position = {c.code: i for i, c in enumerate(icd10cm.load())}
    places = [position[c.code] for c in first]
    assert places == sorted(places)
    assert icd10cm.sample(None) == icd10cm.load()


def test_missing_package_says_what_to_type(monkeypatch):
    """Past the cache, which others hold entries of: two loads give two of each."""
    monkeypatch.setattr(icd10cm, "locate", lambda entry: None)
    with pytest.raises(FileNotFoundError, match="make setup"):
        icd10cm.load.__wrapped__()
    assert catalogue.BY_NAME["icd10cm"]
