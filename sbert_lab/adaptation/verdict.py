"""The verdict on an adaptation, in words that follow from the intervals.

A model is called better only where the interval of the paired difference lies wholly
above 0. A loss that was not found is not called none: the words say how large it may
still be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sbert_lab.adaptation.outcome import Comparison, Outcome
from sbert_lab.evaluation.statistics import Interval

#: Where the interval of a difference lies: above 0, around it, or below.
Change = Literal["rose", "inconclusive", "fell"]

#: A loss of general similarity up to which one model may serve everything: one point.
_SMALL = 0.01
_FAR = 20  # times as many test items, beyond which asking for them helps nobody

_HEADLINES: dict[Change, str] = {
    "rose": "Better on {name}",
    "inconclusive": "No clear difference on {name}",
    "fell": "Worse on {name}",
}


@dataclass(frozen=True)
class Verdict:
    """What an adaptation gained, what it cost, and which model to use.

    Parameters
    ----------
    domain
        What became of the domain's score; None if none was measured.
    headline
        The outcome in a few words.
    gain, cost, choice
        The three parts of the sentence.
    use
        The model that is recommended for texts of the domain.
    advice
        What would make an inconclusive test conclusive; empty for the others.
    """

    domain: Change | None
    headline: str
    gain: str
    cost: str
    choice: str
    use: Literal["adapted", "base"]
    advice: str = ""

    def __str__(self) -> str:
        """Show as one sentence."""
        return f"{self.gain}; {self.cost}: {self.choice}."


def change(difference: Interval) -> Change:
    """Return whether the interval of a paired difference is above 0, around or below.

    An end that is exactly 0 decides nothing.
    """
    if difference.low > 0:
        return "rose"
    return "fell" if difference.high < 0 else "inconclusive"


def verdict(outcome: Outcome) -> Verdict:
    """Return the verdict by the first of the domain's scores and all general ones."""
    cost = _cost(outcome.general)
    if not outcome.domain:
        return Verdict(
            domain=None,
            headline="Not measured on texts of the domain",
            gain="Nothing was measured on texts of the domain",
            cost=cost,
            choice="keep the base model until pairs to test with are there",
            use="base",
        )
    first = outcome.domain[0]
    found = change(first.difference)
    return Verdict(
        domain=found,
        headline=_HEADLINES[found].format(name=first.name),
        gain=_gain(first, found),
        cost=cost,
        choice=_choice(outcome.general) if found == "rose" else "keep the base model",
        use="adapted" if found == "rose" else "base",
        advice=_advice(first) if found == "inconclusive" else "",
    )


def signed(number: float) -> str:
    """Show a difference with its sign, to three digits: ``+0.013``, ``−0.002``."""
    return f"{number:+.3f}".replace("-", "−")


def _gain(score: Comparison, found: Change) -> str:
    what, gap = f"{score.metric} on {score.name}", score.difference
    if found == "inconclusive":
        return (
            f"Whether {what} changed is open: {signed(gap.mean)}, 95 % interval "
            f"{signed(gap.low)} to {signed(gap.high)}"
        )
    return f"{what} {found} by {_amount(gap, '95 % interval ')}"


def _cost(general: Sequence[Comparison]) -> str:
    if not general:
        return "what it costs on general similarity was not measured"
    fell = [one for one in general if change(one.difference) == "fell"]
    if fell:
        parts = [f"{_amount(one.difference)} on {one.name}" for one in fell]
        return f"general similarity fell, by {_listed(parts)}"
    if all(change(one.difference) == "rose" for one in general):
        parts = [f"{_amount(one.difference)} on {one.name}" for one in general]
        return f"general similarity rose too, by {_listed(parts)}"
    return (
        "no loss of general similarity was found, but one of up to "
        f"{_possible_loss(general):.3f} is not ruled out "
        f"({_listed([one.name for one in general])})"
    )


def _choice(general: Sequence[Comparison]) -> str:
    """Say what a domain model that got better is to be used for."""
    use = "use the adapted model"
    if any(change(one.difference) == "fell" for one in general):
        return f"{use} for texts like these, and the base model for others"
    if not general or _possible_loss(general) > _SMALL:
        return f"{use} for texts like these, and compare both before using it on others"
    return use


def _advice(score: Comparison) -> str:
    """Estimate how many items would do: an interval narrows by the root of them."""
    gap = score.difference
    sentence = f"The test has {score.items:,} items, too few for this difference"
    reach = gap.mean - gap.low if gap.mean > 0 else gap.high - gap.mean
    if not gap.mean or (factor := (reach / gap.mean) ** 2) > _FAR:
        return f"{sentence}, which is close to none."
    needed = max(score.items + 1, math.ceil(score.items * factor))
    digits = 1 - math.floor(math.log10(needed))  # two digits are more than it is worth
    rounded = round(needed + 0.5 * 10**-digits, digits) if digits < 0 else needed
    return f"{sentence}; if it stays as it is, about {rounded:,.0f} would settle it."


def _possible_loss(general: Sequence[Comparison]) -> float:
    return max(0.0, *(-one.difference.low for one in general))


def _amount(gap: Interval, label: str = "") -> str:
    """Show how much it rose or fell, without a sign: ``0.006 (0.002 to 0.010)``."""
    low, high = sorted((abs(gap.low), abs(gap.high)))
    return f"{abs(gap.mean):.3f} ({label}{low:.3f} to {high:.3f})"


def _listed(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
