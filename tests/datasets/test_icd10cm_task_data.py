"""The data of the six tasks: deterministic, balanced, and with no way to cheat."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from importlib.metadata import version

import pytest

from sbert_lab.datasets import icd10cm_tasks as tasks
from sbert_lab.datasets.icd10cm import ancestors, by_code, split_of

BUILDERS = {
    "retrieval": tasks.term_retrieval,
    "hierarchy": tasks.graded_hierarchy,
    "classification": tasks.chapter_classes,
    "clustering": tasks.chapter_clusters,
    "pairs": tasks.synonym_pairs,
    "reranking": tasks.candidate_reranking,
}

#: sha256 of the small editions, as this process makes them.
SMALL = {name: tasks.content_hash(make(16)) for name, make in BUILDERS.items()}

#: The start of the sha256 of the whole benchmark: what every score so far was measured
#: on. Another one is another benchmark, and must be meant.
EDITION = {
    "retrieval": "088af7f3385c7467",
    "hierarchy": "d0639424bdca227c",
    "classification": "ee77681530596c48",
    "clustering": "ce5bbb6a9ac0ab1d",
    "pairs": "f46e4928012137cf",
    "reranking": "43f327f9a8295c42",
}


@pytest.fixture(scope="module")
def reranking():
    return tasks.candidate_reranking()


def carries(code, term):
    return term.lower() in {t.lower() for t in code.inclusion_terms}


def test_another_process_makes_the_same_data():
    """Hash randomisation of str must not reach the data."""
    script = (
        "from sbert_lab.datasets import icd10cm_tasks as t;"
        "print(*[t.content_hash(f(16)) for f in (t.term_retrieval, t.graded_hierarchy,"
        "t.chapter_classes, t.chapter_clusters, t.synonym_pairs,"
        "t.candidate_reranking)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == list(SMALL.values())


@pytest.mark.parametrize("name", BUILDERS)
def test_the_benchmark_is_the_one_that_scores_are_of(name):
    if version("simple-icd-10-cm") != "1.5.0":
        pytest.skip("another edition of ICD-10-CM is installed")
    assert tasks.content_hash(BUILDERS[name]()).startswith(EDITION[name])


def test_hash_depends_on_every_text():
    texts = tasks.chapter_clusters(16)
    changed = type(texts)((*texts.texts[:-1], "other"), texts.labels, texts.group)
    assert tasks.content_hash(texts) == SMALL["clustering"]
    assert tasks.content_hash(changed) != SMALL["clustering"]
    with pytest.raises(TypeError, match="no data of a task"):
        tasks.content_hash({"a": object()})


def test_no_category_is_on_both_sides():
    sides = tasks.chapter_classes()
    assert {split_of(c) for c in sides["train"].group} == {"train"}
    assert {split_of(c) for c in sides["test"].group} == {"test"}
    assert not set(sides["train"].group) & set(sides["test"].group)
    train = {text.lower() for text in sides["train"].texts}
    assert not train & {text.lower() for text in sides["test"].texts}


def test_no_description_comes_twice(monkeypatch):
    """Today's codes have none: two of training get the words of one of the test."""
    before = tasks.chapter_classes(16)
    train, asked = before["train"], before["test"].texts[0]
    changed = set(list(zip(train.texts, train.group, strict=True))[:2])
    codes = [
        replace(code, description=asked.upper())
        if (code.description, code.category) in changed
        else code
        for code in tasks.retrieval_corpus()
    ]
    monkeypatch.setattr(tasks, "retrieval_corpus", lambda: codes)
    after = tasks.chapter_classes(16)
    assert after["train"].texts.count(asked.upper()) == 1
    assert asked not in after["test"].texts


def test_everything_tested_is_of_the_test_split(reranking):
    assert {split_of(c) for c in tasks.synonym_pairs().group} == {"test"}
    assert {split_of(c) for c in tasks.graded_hierarchy().group} == {"test"}
    assert {split_of(c) for c in tasks.chapter_clusters().group} == {"test"}
    for task in (tasks.term_retrieval(), reranking.task):
        codes = [by_code()[name] for name in task.relevant]
        assert {split_of(code.category) for code in codes} == {"test"}


def test_chapters_are_balanced_and_large_enough():
    sides = tasks.chapter_classes()
    for split, most in (
        ("train", tasks.TRAIN_PER_CHAPTER),
        ("test", tasks.TEST_PER_CHAPTER),
    ):
        sizes = Counter(sides[split].labels)
        assert len(sizes) == 21  # all but "Codes for special purposes"
        assert "Codes for special purposes" not in " ".join(sizes)
        assert max(sizes.values()) <= most
        assert max(sizes.values()) <= 2 * min(sizes.values())
    # A chapter with more codes than places gives them to all of its categories first.
    of_category = Counter(
        category
        for category, label in zip(
            sides["test"].group, sides["test"].labels, strict=True
        )
        if label.startswith("External causes")
    )
    assert len(of_category) == 50
    assert max(of_category.values()) <= 2


def test_labels_are_the_chapters_of_the_descriptions():
    texts = tasks.chapter_clusters()
    for text, label, group in list(
        zip(texts.texts, texts.labels, texts.group, strict=True)
    )[::50]:
        category = by_code()[group]
        assert by_code()[category.chapter].description == label
        under = [c for c in by_code().values() if c.category == group]
        assert text in {code.description for code in under}


def test_synonym_pairs_differ_only_in_the_code():
    pairs = tasks.synonym_pairs()
    assert len(pairs) > 3000
    assert pairs.score[::2] == (1.0,) * (len(pairs) // 2)
    assert pairs.score[1::2] == (0.0,) * (len(pairs) // 2)
    assert pairs.first[::2] == pairs.first[1::2]
    for right, wrong, term in zip(
        pairs.second[::2], pairs.second[1::2], pairs.first[::2], strict=True
    ):
        assert len({right.lower(), wrong.lower(), term.lower()}) == 3


def test_a_negative_is_a_sibling_without_the_term():
    pairs = tasks.synonym_pairs(100)
    for row in range(0, len(pairs), 2):
        term, category = pairs.first[row], pairs.group[row]
        family = [c for c in by_code().values() if c.category == category]
        right = [
            c for c in family if c.description == pairs.second[row] and carries(c, term)
        ]
        parents = {code.parent for code in right}
        wrong = [
            c
            for c in by_code().values()
            if c.description == pairs.second[row + 1] and c.parent in parents
        ]
        assert right
        assert wrong
        assert not any(carries(code, term) for code in wrong)


def test_reranking_has_one_right_answer_among_twenty(reranking):
    task = reranking.task
    texts = dict(zip(task.corpus_codes, task.corpus_texts, strict=True))
    assert len(task.queries) == len(reranking.candidates) > 2000
    named = {code for codes in reranking.candidates for code in codes}
    assert named == set(texts)
    for term, right, codes in zip(
        task.queries, task.relevant, reranking.candidates, strict=True
    ):
        assert len(codes) == len(set(codes)) == tasks.CANDIDATES
        assert list(codes) == sorted(codes)
        assert right in codes
        assert len({texts[code].lower() for code in codes}) == tasks.CANDIDATES
        above = ancestors(by_code()[right])
        for code in map(by_code().get, codes):
            if code.code != right:
                assert not carries(code, term)
                assert code.description.lower() != term.lower()
                assert code not in above
                assert by_code()[right] not in ancestors(code)


def test_candidates_are_near_and_alike(reranking):
    """Siblings are among them where there are any, and so is the best word match."""
    search = tasks._WordIndex([c for c in tasks.retrieval_corpus() if c.category])
    for row in range(0, len(reranking.candidates), 97):
        term, right = reranking.task.queries[row], reranking.task.relevant[row]
        code = by_code()[right]
        siblings = {
            c.description.lower()
            for c in tasks._children()[code.parent]
            if tasks._is_wrong(c, term, code)
        }
        texts = {by_code()[c].description.lower() for c in reranking.candidates[row]}
        assert len(siblings & texts) >= min(len(siblings), tasks.NEAR)
        alike = [c for c in search.alike(term) if tasks._is_wrong(c, term, code)]
        assert not alike or alike[0].description.lower() in texts


def test_word_index_against_a_naive_ranking():
    codes = tasks.retrieval_corpus()[::40]
    words = {code.code: tasks._words(code.description) for code in codes}
    index = tasks._WordIndex(codes)
    for text in ("Acute pain in the left knee", "Poisoning by laxatives, accidental"):
        asked = tasks._words(text)

        def jaccard(code, asked=asked):
            both = words[code.code]
            return len(asked & both) / len(asked | both)

        expected = [c for c in sorted(codes, key=lambda c: -jaccard(c)) if jaccard(c)]
        assert index.alike(text) == expected
        assert expected


def test_a_small_edition_is_part_of_the_whole_one():
    whole, small = tasks.synonym_pairs(), tasks.synonym_pairs(16)
    rows = set(zip(whole.first, whole.second, whole.score, strict=True))
    assert set(zip(small.first, small.second, small.score, strict=True)) <= rows
    with pytest.raises(ValueError, match="16 or more"):
        tasks.chapter_classes(8)
