"""The words of the verdict follow from the intervals, in every case."""

import itertools

import pytest

from sbert_lab.adaptation.outcome import Comparison, Outcome
from sbert_lab.adaptation.verdict import change, signed, verdict
from sbert_lab.evaluation.statistics import Interval

GAPS = {
    "rose": (0.001, 0.02, 0.04),
    "inconclusive": (-0.004, 0.01, 0.03),
    "fell": (-0.03, -0.02, -0.001),
}


def compared(name, gap, items=100):
    low, mean, high = gap
    score = Interval(0.5, 0.4, 0.6, items)
    return Comparison(
        name, "nDCG@10", items, score, score, Interval(mean, low, high, items)
    )


def judged(domain, *general):
    return verdict(
        Outcome(
            "base",
            "1",
            "2",
            "pairs",
            {},
            {},
            domain=(compared("your pairs", domain),) if domain else (),
            general=tuple(compared(f"test {i}", gap) for i, gap in enumerate(general)),
        )
    )


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0.001, 0.1, "rose"),
        (0.0, 0.1, "inconclusive"),
        (-0.1, 0.1, "inconclusive"),
        (-0.1, 0.0, "inconclusive"),
        (0.0, 0.0, "inconclusive"),
        (-0.1, -0.001, "fell"),
    ],
)
def test_only_an_interval_beside_0_is_a_change(low, high, found):
    assert change(Interval((low + high) / 2, low, high, 9)) == found


CASES = list(
    itertools.product(
        [None, *GAPS], [(), *((one,) for one in GAPS), *itertools.product(GAPS, GAPS)]
    )
)


@pytest.mark.parametrize(("domain", "general"), CASES)
def test_every_case_has_its_words(domain, general):
    found = judged(GAPS.get(domain), *(GAPS[one] for one in general))
    said = str(found)
    assert found.domain == domain
    assert said.endswith(".")
    assert ". " not in said  # one sentence
    # What it gained.
    assert found.headline.startswith(
        {
            "rose": "Better",
            "inconclusive": "No clear difference",
            "fell": "Worse",
            None: "Not measured",
        }[domain]
    )
    assert ("rose by" in found.gain) == (domain == "rose")
    assert ("fell by" in found.gain) == (domain == "fell")
    assert ("is open" in found.gain) == (domain == "inconclusive")
    # What it cost: every test that fell is named, and no other.
    if "fell" in general:
        assert "general similarity fell" in found.cost
        for number, one in enumerate(general):
            assert (f"on test {number}" in found.cost) == (one == "fell")
    elif not general:
        assert "not measured" in found.cost
    elif set(general) == {"rose"}:
        assert "rose too" in found.cost
    else:
        assert "no loss of general similarity was found" in found.cost
        assert "up to 0.004 is not ruled out" in found.cost
    # Which to use.
    assert (found.use == "adapted") == (domain == "rose")
    assert ("use the adapted model" in said) == (domain == "rose")
    assert ("keep the base model" in said) == (domain != "rose")
    if domain == "rose":
        assert ("the base model for others" in said) == ("fell" in general)
        assert ("compare both" in said) == (not general)
    assert bool(found.advice) == (domain == "inconclusive")


def test_numbers_stand_in_the_sentence():
    assert str(judged((0.07, 0.085, 0.1), (-0.01, -0.006, -0.002))) == (
        "nDCG@10 on your pairs rose by 0.085 (95 % interval 0.070 to 0.100); general "
        "similarity fell, by 0.006 (0.002 to 0.010) on test 0: use the adapted model "
        "for texts like these, and the base model for others."
    )
    assert "fell by 0.020 (95 % interval 0.001 to 0.030)" in str(judged(GAPS["fell"]))
    assert "+0.010, 95 % interval −0.004 to +0.030" in judged(GAPS["inconclusive"]).gain


def test_a_loss_that_is_not_ruled_out_is_no_licence_for_everything():
    assert "compare both" in judged(GAPS["rose"], (-0.011, 0.0, 0.011)).choice
    assert judged(GAPS["rose"], (-0.009, 0.0, 0.009)).choice == "use the adapted model"
    assert (
        "up to 0.011" in judged(GAPS["rose"], (-0.002, 0, 0.1), (-0.011, 0, 0.1)).cost
    )


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        ((-0.01, 0.01, 0.03), "about 400 would settle it"),  # (0.02 / 0.01)² of 100
        ((-0.03, -0.01, 0.01), "about 400 would settle it"),
        ((0.0, 0.01, 0.02), "about 110 would settle it"),  # two digits, upwards
        ((-0.1, 0.001, 0.1), "close to none"),
        ((-0.1, 0.0, 0.1), "close to none"),
    ],
)
def test_how_many_items_would_do(gap, words):
    assert words in judged(gap).advice


def test_signs():
    assert (signed(0.0126), signed(-0.002)) == ("+0.013", "−0.002")
