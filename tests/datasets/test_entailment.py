"""Entailment from ICD-10-CM: the rules, checked again from the book itself."""

from collections import Counter

import numpy as np
import pytest

from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.entailment import icd10cm_entailment
from sbert_lab.datasets.nli import LABELS


@pytest.fixture(scope="module")
def train():
    return icd10cm_entailment("train")


@pytest.fixture(scope="module")
def test():
    return icd10cm_entailment("test")


def marked(pairs, label):
    words = {"right", "left", "with", "without"}
    texts = [set(p.hypothesis.lower().replace(",", " ").split()) for p in pairs]
    return np.mean(
        [bool(t & words) for t, p in zip(texts, pairs, strict=True) if p.label == label]
    )


def test_labels_are_balanced(train, test):
    assert len(train) > 60_000
    for pairs in (train, test):
        assert set(Counter(p.label for p in pairs).values()) == {len(pairs) // 3}
        shares = [marked(pairs, label) for label in LABELS]
        assert max(shares) - min(shares) < 0.02  # words in brackets are not split here


def test_no_pair_has_two_labels_or_equal_texts(train):
    texts = [(p.premise, p.hypothesis) for p in train]
    assert len(set(texts)) == len(texts)
    assert all(a.lower() != b.lower() for a, b in texts)


def test_splits_share_no_category(train, test):
    sides = [
        {icd10cm.by_code()[p.premise_id].category for p in s} for s in (train, test)
    ]
    assert not sides[0] & sides[1]
    assert {icd10cm.split_of(c) for c in sides[0]} == {"train"}
    assert {icd10cm.split_of(c) for c in sides[1]} == {"test"}


def test_what_is_entailed_stands_above(test):
    for pair in test:
        code = icd10cm.by_code()[pair.premise_id]
        assert pair.premise == code.description
        above = {a.description for a in icd10cm.ancestors(code) if a.category}
        assert (pair.label == "entailment") == (pair.hypothesis in above)


def opposite(a, b):
    """Return whether two texts differ in exactly one kind of opposite words."""
    one, two = (text.lower().replace(",", " ,").split() for text in (a, b))
    pairs = {(x, y) for x, y in zip(one, two, strict=False) if x != y}
    sides = ({("right", "left")}, {("left", "right")})
    doubt = ({("with", "without")}, {("without", "with")})
    return len(one) == len(two) and pairs in (*sides, *doubt)


def test_contradictions_are_opposites_or_excluded(test):
    import simple_icd_10_cm as icd

    kinds = Counter()
    for pair in test:
        if pair.label != "contradiction":
            continue
        code = icd10cm.by_code()[pair.premise_id]
        line = [code, *(a for a in icd10cm.ancestors(code) if a.category)]
        if any(opposite(entry.description, pair.hypothesis) for entry in line):
            kinds["opposite"] += 1
        else:
            notes = icd.get_excludes1(code.code)
            kinds["note" if any(pair.hypothesis in n for n in notes) else "?"] += 1
    assert kinds["opposite"] > 1_000
    assert kinds["note"] > 50
    assert kinds["?"] < 0.02 * kinds["opposite"]  # texts with brackets round the words


def test_hypothesis_alone_says_little(train, test):
    """Chance is a third; without balancing the telling words it was two thirds."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    seen, other = train[:9_000], test[:3_000]
    words = CountVectorizer(min_df=2)
    model = LogisticRegression(max_iter=300).fit(
        words.fit_transform([p.hypothesis for p in seen]), [p.label for p in seen]
    )
    right = model.score(
        words.transform([p.hypothesis for p in other]), [p.label for p in other]
    )
    assert right < 0.55


def test_is_seeded(test):
    assert icd10cm_entailment("test") == test
    some = icd10cm_entailment("test", per_label=50, seed=1)
    assert len(some) == 150
    assert some != icd10cm_entailment("test", per_label=50, seed=2)


def test_refuses_more_than_there_is():
    with pytest.raises(ValueError, match="of each label"):
        icd10cm_entailment("test", per_label=10**6)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        icd10cm_entailment("dev")
