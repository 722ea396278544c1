"""`python -m sbert_lab compare`: numbers against a loop, each verdict, what it says."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from sbert_lab.__main__ import main
from sbert_lab._utils import project_root
from sbert_lab.datasets.pairs import PairSearch
from sbert_lab.selection.candidates import Candidate
from sbert_lab.selection.compare import compare_on_pairs

EXAMPLE = project_root() / "data" / "authored" / "example_pairs.csv"


class Places:
    """Finds the answer of query i, which is text i, at a given place; 1 is the best."""

    def __init__(self, places):
        self.places = places

    def encode(self, texts):
        return np.eye(len(texts), dtype=np.float32)

    def encode_query(self, texts):
        liked = self.encode(texts)
        for row, place in enumerate(self.places):
            liked[row, (row + np.arange(1, place)) % len(texts)] = 2
        return liked


def compared(places, group=None, margin=0.01, swap=False):
    """Compare two models by the places, ours and theirs, at which they find answers."""
    rows, (ours, theirs) = range(len(places)), zip(*places, strict=True)
    queries, texts = ([f"{kind} {i}" for i in rows] for kind in ("query", "text"))
    group = np.array(rows if group is None else group)
    search = PairSearch(queries, texts, [(i,) for i in rows], group)
    one = Candidate("ours", "", lambda _: Places(ours))
    two = Candidate("theirs", "", lambda _: Places(theirs))
    return compare_on_pairs(*((two, one) if swap else (one, two)), search, margin)


def drawn(count):
    return np.random.default_rng(0).integers(1, 6, (count, 2)).tolist()


def test_numbers_equal_a_loop():
    places = drawn(200)
    gaps = [1 / math.log2(1 + a) - 1 / math.log2(1 + b) for a, b in places]
    found, mean = compared(places), sum(gaps) / 200
    error = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / 199 / 200)
    gap, (ours, theirs) = found.difference, found.scores.values()
    assert (gap.mean, ours.mean - theirs.mean) == pytest.approx((mean, mean))
    assert gap.high - gap.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found.won == sum(a < b for a, b in places)
    assert found.lost == sum(a > b for a, b in places)
    assert found.shown == pytest.approx((1.95996 + 0.84162) * error, rel=1e-4)
    assert found.needed == pytest.approx(200 * (found.shown / 0.01) ** 2, abs=1)


def test_queries_of_a_group_count_once():
    """Each query twice says as much as each once, and takes twice as many."""
    places = drawn(40)
    once, twice = compared(places), compared(places * 2, [*range(40)] * 2)
    assert str(twice.difference) == str(once.difference)
    assert (twice.p, twice.shown) == pytest.approx((once.p, once.shown))
    assert twice.needed == 2 * once.needed
    with pytest.raises(ValueError, match="40 queries in 19 groups .*20 groups or more"):
        compared(places, [i % 19 for i in range(40)])


@settings(max_examples=30)
@given(some.lists(some.tuples(*[some.integers(1, 12)] * 2), min_size=20, max_size=40))
def test_swapped_models_swap_the_sign_and_not_the_verdict(places):
    one, other = compared(places), compared(places, swap=True)
    low, high = other.difference.low, other.difference.high
    assert (one.difference.low, one.difference.high) == pytest.approx((-high, -low))
    assert (one.won, one.lost, one.p) == (other.lost, other.won, other.p)
    assert one.shown == pytest.approx(other.shown)
    assert one.verdict == other.verdict


@pytest.mark.parametrize(
    ("places", "margin", "told", "lines"),
    [
        ([(1, 2), (2, 4)], 0.01, "ours is better on your queries.", 5),
        ([(1, 2), (2, 4)], 0.9, "ours is better on your queries, by less than 0.9", 5),
        ([(3, 1)], 0.01, "theirs is better on your queries.", 4),
        ([(1, 2), (2, 1)], 0.5, "as good as each other: they differ by less than 0", 5),
        ([(1, 2), (2, 1)], 0.01, "not decided: 60 queries are too few to tell.", 5),
        ([(1, 1), (2, 2)], 0.01, "the same on every query: one", 4),
    ],
)
def test_each_verdict(places, margin, told, lines):
    """What so many queries show is told where something varies."""
    shown = str(compared(places * 30, margin=margin)).splitlines()
    assert shown[3].startswith(f"Verdict: {told}")
    assert len(shown) == lines


PRINTED = r"""example_pairs.csv: 60 queries, 60 documents searched
  bert-mini  nDCG@10 0.\d{3} \[.*\]
  bm25       nDCG@10 0.\d{3} \[.*\]
difference \+0.\d{3} \[.*\], p = 0.\d+; won \d+, lost \d+, tied \d+
Verdict: .*.
60 queries show differences of 0.\d{3} and more; 0.01 would take about \d,\d{3}.
"""


def test_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    command = ["compare", "bert-mini", "bm25", "--pairs", str(EXAMPLE)]
    assert main(command) == 0
    assert re.fullmatch(PRINTED, capsys.readouterr().out)
    more = tmp_path / "more.csv"
    more.write_text("body\nBOOKS go back after four  weeks.\nA new one.\nA second.\n")
    assert main([*command, "--corpus", str(more), "--text=body", "--margin=0.9"]) == 0
    told = capsys.readouterr().out
    assert "60 queries, 62 documents searched" in told
    assert "would take" not in told  # so many show the margin


def test_what_is_wrong_is_told_with_its_cure(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("question,positive\na,b\nc,d\n")
    both, named = ("bm25", "bert-mini"), "--anchor=question"
    for told, *arguments in (
        ("bm25 twice: name two different models", "bm25", "bm25"),
        ("no candidate 'bm26': give a folder", "bm25", "bm26"),
        ("column 'anchor' is missing; the file has 'question'", *both),
        ("2 queries in 2 groups", *both, named),
        ("column 'text' is missing", *both, named, f"--corpus={own}"),
        ("2", *both, "--margin=-1"),
        ("--margin 5: less than 1", *both, "--margin=5"),
    ):
        with pytest.raises(SystemExit, match=told):
            main(["compare", *arguments, f"--pairs={own}"])
