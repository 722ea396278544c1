"""Graded pairs: every relation holds in the book itself."""

from collections import Counter

import numpy as np
import pytest

from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.hierarchy import RELATIONS, graded_pairs, scored_pairs
from sbert_lab.datasets.icd10cm import ancestors, split_of
from sbert_lab.datasets.relatives import hierarchy_guard


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


def test_guard_is_the_book():
    """Every pair of a thousand codes, near and far, against their ancestors."""
    rng = np.random.default_rng(0)
    codes = list(icd10cm.load())
    start = next(i for i, code in enumerate(codes) if code.code == "B15-B19")
    near = codes[start : start + 90]  # holds a block and a category of one name
    far = [codes[i] for i in rng.choice(len(codes), 60, replace=False)]
    some = [*near, *far, *{a.code: a for c in far for a in ancestors(c)}.values()]
    assert {"B20", "B20-B20"} <= {code.code for code in some}
    guard = hierarchy_guard([c.code for c in some[::-1]], [c.code for c in some])
    first, second = (rows.ravel() for rows in np.indices((len(some), len(some))))
    above = [{a.code for a in ancestors(code)} for code in some]
    expected = [
        some[a] is some[b] or some[a].code in above[b] or some[b].code in above[a]
        for a, b in zip(len(some) - 1 - first, second, strict=True)
    ]
    np.testing.assert_array_equal(guard(first, second), expected)
    assert 500 < sum(expected) < len(expected) / 2


def test_guard_compares_positives_without_a_corpus():
    guard = hierarchy_guard(["A00", "A00.0", "A01", "A00-A09"])
    rows = np.arange(4)
    assert guard(rows, rows[::-1]).tolist() == [True, False, False, True]
    assert guard(rows, (rows + 2) % 4).tolist() == [False, True, False, True]


def test_guard_has_a_name_and_refuses_unknown_codes():
    one, other = hierarchy_guard(["A00"], ["A01"]), hierarchy_guard(["A00"], ["A02"])
    assert one.fingerprint() == hierarchy_guard(["A00"], ["A01"]).fingerprint()
    assert one.fingerprint() != other.fingerprint()
    with pytest.raises(ValueError, match="corpus_codes: 'A000' is no code"):
        hierarchy_guard(["A00"], ["A000"])
