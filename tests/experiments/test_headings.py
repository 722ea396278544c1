"""Headings by hand and by the book; the rule that sets them back by a loop."""

from dataclasses import replace

import numpy as np
import pytest
from test_two_stages import CORPUS, DEEP, QUERIES, drawn

from sbert_lab.datasets.icd10cm import ancestors, retrieval_corpus
from sbert_lab.experiments.headings import PENALTIES, best_penalty, headings, set_back


def test_headings_by_hand():
    codes = ["A00", "A00.0", "A01", "A02.1", "A00-A09", "1", "B20"]
    # A02 itself is not among them; the block and the chapter have parts that are.
    assert headings(codes).tolist() == [True, False, False, False, True, True, False]
    assert headings(["A00"]).tolist() == [False]  # its parts are not searched


def test_headings_of_the_collection_have_a_finer_entry():
    book = retrieval_corpus()[:400]
    codes = [code.code for code in book]
    by_hand = [
        any(one in {up.code for up in ancestors(other)} for other in book)
        for one in codes
    ]
    found = headings(codes)
    assert found.tolist() == by_hand
    assert 0 < found.sum() < len(found)


def test_an_unknown_code_is_named():
    with pytest.raises(ValueError, match=r"'A000' is no code of ICD-10-CM \(1 such\)"):
        headings(["A00", "A000"])


@pytest.mark.parametrize("penalty", [0.0, 0.1, 3.0])
def test_the_rule_is_that_of_a_loop(penalty):
    found = drawn()
    heading = np.random.default_rng(4).random(CORPUS) < 0.4
    ruled = set_back(found, heading, penalty)
    assert (np.diff(ruled.first) <= 0).all()
    for query in range(QUERIES):
        lowered = [
            found.first[query, i] - np.float32(penalty * heading[found.rows[query, i]])
            for i in range(DEEP)
        ]
        order = sorted(range(DEEP), key=lambda i: -lowered[i])
        assert ruled.order()[query].tolist() == found.rows[query, order].tolist()
        assert ruled.second[query].tolist() == found.second[query, order].tolist()
    if not penalty:
        assert np.array_equal(ruled.rows, found.rows)


def test_whoever_read_some_must_read_all():
    found, nobody = drawn(), np.zeros(CORPUS, dtype=bool)
    some = replace(found, second=found.second[:, :3])
    with pytest.raises(ValueError, match=f"3 of {DEEP} candidates"):
        set_back(some, nobody, 0.1)
    none = set_back(replace(found, second=found.second[:, :0]), ~nobody, 0.1)
    assert none.second.shape == (QUERIES, 0)
    assert np.array_equal(none.rows, found.rows)  # all lowered alike


def test_the_penalty_is_chosen_by_the_score():
    found = drawn()
    codes = found.task.corpus_codes
    wrong = np.array([code not in found.task.relevant for code in codes])
    # Where only wrong entries are headings, the highest penalty is the best of all.
    assert best_penalty(found, wrong, (0.0, 0.01, 5.0)) == 5.0
    assert best_penalty(found, ~wrong) == PENALTIES[0] == 0.0
    nobody = np.zeros(CORPUS, dtype=bool)
    assert best_penalty(found, nobody, (0.3, 0.1)) == 0.3  # of equal ones
