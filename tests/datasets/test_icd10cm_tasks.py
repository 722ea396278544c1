"""The data of the six tasks: deterministic, balanced, and with no way to cheat."""

from collections import Counter
from dataclasses import replace
from importlib.metadata import version

import pytest

from sbert_lab.datasets import icd10cm
from sbert_lab.datasets import icd10cm_tasks as tasks
from sbert_lab.datasets.icd10cm import ancestors, by_code, split_of

#: The start of the sha256 of the whole benchmark: what every score so far was measured
#: on. Another one is another benchmark, and must be meant. Each run of the tests is
#: another process, so hash randomisation of str does not reach the data either.
EDITION = {
    "Retrieval": "088af7f3385c7467",
    "STS": "d0639424bdca227c",
    "Classification": "ee77681530596c48",
    "Clustering": "ce5bbb6a9ac0ab1d",
    "PairClassification": "f46e4928012137cf",
    "Reranking": "43f327f9a8295c42",
}


@pytest.fixture(scope="module")
def whole():
    return {task.kind: task.make(None) for task in tasks.TASKS}


def carries(code, term):
    return term.lower() in {t.lower() for t in code.inclusion_terms}


def test_the_benchmark_is_the_one_that_scores_are_of(whole):
    if version("simple-icd-10-cm") != "1.5.0":
        pytest.skip("another edition of ICD-10-CM is installed")
    found = {kind: tasks.content_hash(data)[:16] for kind, data in whole.items()}
    assert found == EDITION
    assert tuple(found) == tasks.KINDS


def test_everything_tested_is_of_the_test_split(whole):
    for kind in ("STS", "Clustering", "PairClassification"):
        assert {split_of(c) for c in whole[kind].group} == {"test"}
    for task in (whole["Retrieval"], whole["Reranking"].task):
        codes = [by_code()[name] for name in task.relevant]
        assert {split_of(code.category) for code in codes} == {"test"}
    sides = whole["Classification"]
    assert {split_of(c) for c in sides["train"].group} == {"train"}
    assert {split_of(c) for c in sides["test"].group} == {"test"}
    assert set(sides["train"].texts).isdisjoint(sides["test"].texts)
    for split, most in (("train", 128), ("test", 64)):
        sizes = Counter(sides[split].labels)
        assert len(sizes) == 21  # all but "Codes for special purposes"
        assert most / 2 <= min(sizes.values()) <= max(sizes.values()) <= most


def test_no_description_comes_twice(monkeypatch):
    """Today's codes have none: two of training get the words of one of the test."""
    before = tasks.chapter_classes(16)
    train, asked = before["train"], before["test"].texts[0]
    changed = set(list(zip(train.texts, train.group, strict=True))[:2])
    codes = [
        replace(code, description=asked.upper())
        if (code.description, code.category) in changed
        else code
        for code in icd10cm.retrieval_corpus()
    ]
    monkeypatch.setattr(tasks, "retrieval_corpus", lambda: codes)
    tasks._groups.cache_clear()
    after = tasks.chapter_classes(16)
    tasks._groups.cache_clear()
    assert after["train"].texts.count(asked.upper()) == 1
    assert asked not in after["test"].texts


def test_reranking_has_one_right_answer_among_twenty(whole):
    task, candidates = whole["Reranking"].task, whole["Reranking"].candidates
    texts = dict(zip(task.corpus_codes, task.corpus_texts, strict=True))
    assert len(task.queries) == len(candidates) > 2000
    assert {code for codes in candidates for code in codes} == set(texts)
    for term, right, codes in zip(task.queries, task.relevant, candidates, strict=True):
        assert right in codes
        assert list(codes) == sorted(set(codes))
        assert len({texts[code].lower() for code in codes}) == tasks.CANDIDATES
        above = ancestors(by_code()[right])
        for code in map(by_code().get, codes):
            if code.code != right:
                assert not carries(code, term)
                assert code.description.lower() != term.lower()
                assert code not in above
                assert by_code()[right] not in ancestors(code)
