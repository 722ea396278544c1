"""What one machine bears, and where the choice changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_recommend import LARGE, QUICK, ROWS, SURVEY

from sbert_lab.selection.capacity import capacity, decisions
from sbert_lab.selection.recommend import Constraints


def test_by_hand():
    """60 MB and 2 ms are the model's; an entry takes 1,536 bytes and 0.1 µs."""
    found = capacity(QUICK, mb=1_060, ms=52)
    assert found.entries_in_memory == 651_041  # 1e9 / 1,536
    assert found.entries_in_time == 500_000  # 50 ms / 0.1 µs
    assert found.entries == 500_000
    assert found.queries_a_day == pytest.approx(86_400_000 / 12.5, abs=1)
    assert found.documents_a_day == 86_400 * 50
    assert capacity(QUICK, mb=1_060, ms=52, corpus=500_001).queries_a_day == 0


@given(st.sampled_from(ROWS), st.floats(1, 1e5), st.floats(0.01, 1e4))
def test_what_fits_fits_and_no_more(row, mb, ms):
    entries = capacity(row, mb=mb, ms=ms).entries
    if entries:
        assert row.mb(entries) <= mb * (1 + 1e-9)
        assert row.ms(entries) <= ms * (1 + 1e-9)
    over = entries + 2
    assert row.mb(over) > mb or row.ms(over) > ms


def test_a_model_larger_than_the_machine_serves_nobody():
    found = capacity(LARGE, mb=100, ms=1_000)
    assert (found.entries, found.queries_a_day) == (0, 0)


def test_nonsense_is_refused():
    for wrong in ({"mb": 0, "ms": 1}, {"mb": 1, "ms": float("nan")}):
        with pytest.raises(ValueError, match="over 0"):
            capacity(QUICK, **wrong)


def test_the_choice_changes_with_the_corpus():
    limits = Constraints(max_mb=1_000, max_ms=60)
    found = dict(decisions(SURVEY, limits, [1_000, 400_000, 10**6, 10**8]))
    assert found == {1_000: "large", 400_000: "quick", 10**6: "words", 10**8: None}
