"""Graded pairs: every relation holds in the book itself."""

from collections import Counter

import pytest

from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.hierarchy import RELATIONS, graded_pairs, scored_pairs
from sbert_lab.datasets.icd10cm import ancestors, split_of


@pytest.fixture(scope="module", params=["test", "train"])
def split(request):
    return request.param


@pytest.fixture(scope="module")
def pairs(split):
    return graded_pairs(split, anchors=None if split == "test" else 300)


@pytest.fixture(scope="module")
def by_text():
    """Codes by description; a description may belong to several."""
    found = {}
    for code in icd10cm.load():
        found.setdefault(code.description, []).append(code)
    return found


def sixes(pairs):
    return [pairs[i : i + 6] for i in range(0, len(pairs), 6)]


def test_scores_are_balanced(pairs):
    assert [p.score for p in pairs] == [5, 4, 3, 2, 1, 0] * (len(pairs) // 6)
    assert all(p.relation == RELATIONS[p.score] for p in pairs)
    for six in sixes(pairs):
        assert len({(p.anchor, p.category) for p in six}) == 1


def test_test_split_is_large_and_wide(split, pairs):
    if split == "test":
        assert len(pairs) > 3_000
        chapters = {icd10cm.by_code()[p.category].chapter for p in pairs}
        assert len(chapters) >= 15


def test_no_pair_has_equal_texts(pairs):
    assert not [p for p in pairs if p.anchor.lower() == p.partner.lower()]


def up_to(code, kind):
    return next(c for c in (code, *ancestors(code)) if c.kind == kind).code


def stands(anchor, code, score):
    """Return whether a code stands where the score says, read off the book anew."""
    above, other = ({c.code for c in ancestors(x)} for x in (anchor, code))
    same = [up_to(anchor, k) == up_to(code, k) for k in ("chapter", "block")]
    if score >= 2 and code.kind not in ("category", "subcategory"):
        return False
    return {
        4: ancestors(anchor)[0] == code,
        3: code != anchor and ancestors(code)[0] == ancestors(anchor)[0],
        2: same == [True, True] and code.category != anchor.category,
        1: same == [True, False] and bool(above & other),
        0: same == [False, False] and not above & other,
    }[score]


def test_every_relation_is_true(split, pairs, by_text):
    for six in sixes(pairs):
        synonym, *others = six
        anchors = [
            code
            for code in by_text[synonym.anchor]
            if code.kind == "subcategory"
            and code.category == synonym.category
            and synonym.partner in code.inclusion_terms
        ]
        assert any(
            all(
                any(
                    stands(anchor, code, pair.score)
                    for code in by_text[pair.partner]
                    if split_of(code.category) == split
                )
                for pair in others
            )
            for anchor in anchors
        ), six


def test_no_anchor_is_of_the_other_split(split, pairs):
    assert {split_of(pair.category) for pair in pairs} == {split}


def test_partners_vary(pairs):
    for score in (0, 1):
        most = Counter(p.partner for p in pairs if p.score == score).most_common(1)
        assert most[0][1] < len(pairs) / 60


def test_draw_is_seeded():
    first = graded_pairs(anchors=10, seed=3)
    assert len(first) == 60
    assert first == graded_pairs(anchors=10, seed=3) != graded_pairs(anchors=10, seed=4)
    assert first == graded_pairs(anchors=12, seed=3)[:60]


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="'train' or 'test'"):
        graded_pairs("dev")


def test_scored_pairs_are_grouped_by_category():
    graded, scored = graded_pairs(anchors=5), scored_pairs(anchors=5)
    assert scored.first == tuple(p.anchor for p in graded)
    assert scored.second == tuple(p.partner for p in graded)
    assert scored.score == (5, 4, 3, 2, 1, 0) * 5
    assert scored.group == tuple(p.category for p in graded)
