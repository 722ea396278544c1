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


def test_hash_depends_on_every_text():
    texts = tasks.chapter_clusters(16)
    changed = type(texts)((*texts.texts[:-1], "other"), texts.labels, texts.group)
    assert tasks.content_hash(changed) != tasks.content_hash(texts)
    with pytest.raises(TypeError, match="dataclass"):
        tasks.content_hash({"a": object()})


def test_everything_tested_is_of_the_test_split(whole):
    for kind in ("STS", "Clustering", "PairClassification"):
        assert {split_of(c) for c in whole[kind].group} == {"test"}
    for task in (whole["Retrieval"], whole["Reranking"].task):
        codes = [by_code()[name] for name in task.relevant]
        assert {split_of(code.category) for code in codes} == {"test"}
    sides = whole["Classification"]
    assert {split_of(c) for c in sides["train"].group} == {"train"}
    assert {split_of(c) for c in sides["test"].group} == {"test"}
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
        for code in icd10cm.retrieval_corpus()
    ]
    monkeypatch.setattr(tasks, "retrieval_corpus", lambda: codes)
    tasks._groups.cache_clear()
    after = tasks.chapter_classes(16)
    tasks._groups.cache_clear()
    assert after["train"].texts.count(asked.upper()) == 1
    assert asked not in after["test"].texts


def test_chapters_are_balanced_and_large_enough(whole):
    sides = whole["Classification"]
    for split, most in (
        ("train", tasks.TRAIN_PER_CHAPTER),
        ("test", tasks.TEST_PER_CHAPTER),
    ):
        sizes = Counter(sides[split].labels)
        assert len(sizes) == 21  # all but "Codes for special purposes"
        assert "Codes for special purposes" not in " ".join(sizes)
        assert most / 2 <= min(sizes.values()) <= max(sizes.values()) <= most
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
    texts = whole["Clustering"]
    by_text = {code.description: code for code in icd10cm.retrieval_corpus()}
    for text, label in list(zip(texts.texts, texts.labels, strict=True))[::50]:
        assert by_code()[by_text[text].chapter].description == label


def up_to(code, kind):
    return next(c for c in (code, *ancestors(code)) if c.kind == kind).code


def stands(anchor, code, score):
    """Return whether a code stands where the score says, read off the book anew."""
    if score >= 2 and not code.category:
        return False
    same = [up_to(anchor, k) == up_to(code, k) for k in ("chapter", "block")]
    return {
        4: ancestors(anchor)[0] == code,
        3: code != anchor and ancestors(code)[0] == ancestors(anchor)[0],
        2: same == [True, True] and code.category != anchor.category,
        1: same == [True, False],
        0: same == [False, False],
    }[score]


@pytest.mark.parametrize(("split", "anchors"), [("test", None), ("train", 200)])
def test_every_grade_is_true(split, anchors):
    by_text = {}
    for code in icd10cm.load():
        by_text.setdefault(code.description, []).append(code)
    pairs = tasks.graded_hierarchy(anchors, split)
    assert pairs.score == (5, 4, 3, 2, 1, 0) * (len(pairs) // 6)
    assert {split_of(category) for category in pairs.group} == {split}
    assert len(pairs) > 3_000 or len(pairs) == 6 * 200
    for at in range(0, len(pairs), 6):
        (anchor,), (group,) = (
            set(pairs.first[at : at + 6]),
            set(pairs.group[at : at + 6]),
        )
        partners = pairs.second[at : at + 6]
        assert anchor.lower() not in {text.lower() for text in partners}
        anchors_meant = [
            code
            for code in by_text[anchor]
            if code.kind == "subcategory"
            and code.category == group
            and partners[0] in code.inclusion_terms
        ]
        assert any(
            all(
                any(
                    stands(code, other, 4 - place)
                    for other in by_text[partner]
                    if split_of(other.category) == split
                )
                for place, partner in enumerate(partners[1:])
            )
            for code in anchors_meant
        ), anchor


def test_graded_draws_are_seeded_and_vary():
    first = tasks.graded_hierarchy(10, seed=3)
    assert len(first) == 60
    assert first == tasks.graded_hierarchy(10, seed=3)
    assert first != tasks.graded_hierarchy(10, seed=4)
    assert first.second == tasks.graded_hierarchy(12, seed=3).second[:60]
    other_chapter = tasks.graded_hierarchy(100).second[5::6]
    assert Counter(other_chapter).most_common(1)[0][1] < 10


def test_a_negative_is_a_sibling_without_the_term(whole):
    pairs = whole["PairClassification"]
    assert len(pairs) > 3000
    assert pairs.score == (1.0, 0.0) * (len(pairs) // 2)
    assert pairs.first[::2] == pairs.first[1::2]
    families = {}
    for code in icd10cm.retrieval_corpus():
        families.setdefault(code.parent, []).append(code)
    described = {}
    for code in icd10cm.retrieval_corpus():
        described.setdefault((code.description, code.category), []).append(code)
    for row in range(0, len(pairs), 2):
        term, (right, wrong) = pairs.first[row], pairs.second[row : row + 2]
        assert len({right.lower(), wrong.lower(), term.lower()}) == 3
        own = [c for c in described[right, pairs.group[row]] if carries(c, term)]
        siblings = [other for code in own for other in families[code.parent]]
        others = [code for code in siblings if code.description == wrong]
        assert own
        assert others
        assert not any(carries(code, term) for code in others)


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


def test_candidates_are_near_and_alike(whole):
    """Siblings are among them where there are any, and so is the best word match."""
    task, candidates = whole["Reranking"].task, whole["Reranking"].candidates
    corpus = [c for c in icd10cm.retrieval_corpus() if c.category]
    words = [tasks._words(code.description) for code in corpus]
    for row in range(0, len(candidates), 97):
        term, code = task.queries[row], by_code()[task.relevant[row]]
        siblings = {
            c.description.lower()
            for c in corpus
            if c.parent == code.parent and tasks._is_wrong(c, term, code)
        }
        texts = {by_code()[c].description.lower() for c in candidates[row]}
        assert len(siblings & texts) >= min(len(siblings), tasks.NEAR)
        asked = tasks._words(term)
        share = [len(asked & own) / len(asked | own) for own in words]
        order = sorted(range(len(corpus)), key=lambda i: -share[i])
        naive = [corpus[i] for i in order if share[i]]
        assert tasks._most_alike(term) == naive
        alike = [c for c in naive if tasks._is_wrong(c, term, code)]
        assert not alike or alike[0].description.lower() in texts


def test_a_small_edition_is_part_of_the_whole_one(whole):
    pairs, small = whole["PairClassification"], tasks.synonym_pairs(16)
    rows = set(zip(pairs.first, pairs.second, pairs.score, strict=True))
    assert set(zip(small.first, small.second, small.score, strict=True)) <= rows
    assert len(small) <= 32
    with pytest.raises(ValueError, match="16 or more"):
        tasks.chapter_classes(8)
