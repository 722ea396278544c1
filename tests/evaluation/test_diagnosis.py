import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.diagnosis import (
    by_stratum,
    gold_strata,
    length_strata,
    misses,
    negation_strata,
    number_strata,
    overlap_strata,
    rank_errors,
    shown,
    worst_pairs,
)
from sbert_lab.evaluation.statistics import bootstrap_mean


def of(*texts, score=None, group=()):
    """Return pairs from ``"first | second"``."""
    first, second = zip(*(text.split(" | ") for text in texts), strict=True)
    return ScoredPairs(
        first, second, tuple(score or map(float, range(len(texts)))), group
    )


def made(n=90, seed=0):
    rng = np.random.default_rng(seed)
    score = tuple(rng.integers(0, 6, n).astype(float))
    pairs = ScoredPairs(tuple(f"a {i}" for i in range(n)), ("b",) * n, score)
    return pairs, np.array(score) + rng.normal(size=n)


def naive_rank(values, i):
    below = sum(v < values[i] for v in values)
    return below + (sum(v == values[i] for v in values) + 1) / 2


def test_errors_are_the_loop():
    pairs, cosines = made(25)
    naive = [
        (naive_rank(cosines, i) - naive_rank(pairs.score, i)) / 24 for i in range(25)
    ]
    assert rank_errors(pairs.score, cosines) == pytest.approx(naive, abs=1e-12)


def test_errors_by_hand():
    """The pair people put first comes last, and all others move up by a place."""
    assert rank_errors([0, 1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4, 0.0]) == pytest.approx(
        [0.25, 0.25, 0.25, 0.25, -1]
    )
    assert rank_errors([1, 2], [5, 9]) == pytest.approx([0, 0])


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-1, 1)), min_size=2))
def test_errors_sum_to_nothing_and_stay_in_range(rows):
    gold, cosines = zip(*rows, strict=True)
    errors = rank_errors(gold, cosines)
    assert errors.sum() == pytest.approx(0, abs=1e-9)
    assert np.abs(errors).max() <= 1
    assert rank_errors(cosines, gold) == pytest.approx(-errors)


@pytest.mark.parametrize(
    ("gold", "cosines"),
    [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [1.0, np.nan]), (1.0, 1.0)],
)
def test_errors_refuse_nonsense(gold, cosines):
    with pytest.raises(ValueError, match=r"two or more pairs|not finite"):
        rank_errors(gold, cosines)


def test_lengths_fall_in_thirds():
    pairs = of(
        "a | b",
        "a b | c",
        "a b, c | d",
        "a b c | d e",
        "a b c d | e f",
        "a " * 9 + "| b",
    )
    assert length_strata(pairs) == [
        *["short (2 to 3)"] * 2,
        *["middle (4 to 5)"] * 2,
        *["long (6 to 10)"] * 2,
    ]
    assert length_strata(pairs, [7] * 6) == ["short (7 to 7)"] * 6
    assert length_strata(pairs, range(6))[5] == "long (4 to 5)"
    with pytest.raises(ValueError, match="for 6 pairs"):
        length_strata(pairs, [1, 2])


def test_overlap_falls_in_quarters():
    pairs = of(
        "a dog sleeps | two cats purr",
        "a dog bites | a dog sleeps now",  # 1 of 4: dog; bites, sleeps, now
        "dog bites | dog",
        "red dog bites man | man bites dog",
        "the dog bites | a dog bites",
        "red dog bites | dog sleeps here now",  # 1 of 6
        "old red dog | red dog bites man",  # 2 of 5
    )
    assert overlap_strata(pairs) == [
        "below 0.25",
        "0.25 to 0.5",
        "0.5 to 0.75",
        "0.75 or more",
        "0.75 or more",
        "below 0.25",
        "0.25 to 0.5",
    ]


def test_gold_falls_in_parts_of_the_scale():
    pairs = of(*["a | b"] * 6, score=[0, 0.99, 1, 2.5, 4.999, 5])
    assert gold_strata(pairs) == [
        "0 to 1",
        "0 to 1",
        "1 to 2",
        "2 to 3",
        "4 to 5",
        "4 to 5",
    ]
    assert set(gold_strata(of(*["a | b"] * 3, score=[1, 3, 5]), 1)) == {"1 to 5"}
    assert len(set(gold_strata(of("a | b", "c | d", score=[2, 2])))) == 1
    with pytest.raises(ValueError, match="parts=0"):
        gold_strata(pairs, 0)


@pytest.mark.parametrize(
    ("pair", "kind"),
    [
        ("A man plays | A man is not playing", "one side negates"),
        ("He doesn't sing | He does sing", "one side negates"),
        ("He doesn’t sing | Nobody sings", "both sides negate"),
        ("Another note, nothin | The knot", "neither side negates"),
        ("NO dog | a Nordic dog", "one side negates"),
    ],
)
def test_negation_is_found(pair, kind):
    assert negation_strata(of(pair)) == [kind]


@pytest.mark.parametrize(
    ("pair", "kind"),
    [
        ("Two men sit | 2 men sit", "the same numbers"),
        ("Two men sit | Three men sit", "different numbers"),
        ("1,200 of 7 | 7 of 1200", "the same numbers"),
        ("3 of 3 | 3", "different numbers"),
        ("One man sits | A man sits", "no number"),
        ("up 3.5 percent | up 3.4 percent", "different numbers"),
        ("often | tense", "no number"),
    ],
)
def test_numbers_are_compared(pair, kind):
    assert number_strata(of(pair)) == [kind]


def test_strata_are_the_loop():
    pairs, cosines = made()
    strata = np.array(["short (1)", "long (9)", "middle (5)"])[np.arange(90) % 3]
    errors = rank_errors(pairs.score, cosines)
    rows = by_stratum(pairs, cosines, strata.tolist(), draws=300)
    assert [row.name for row in rows] == ["short (1)", "middle (5)", "long (9)"]
    for row in rows:
        own = [i for i in range(90) if strata[i] == row.name]
        gold = [pairs.score[i] for i in own]
        assert row.n == 30
        assert row.error == pytest.approx(sum(errors[i] for i in own) / 30)
        assert row.distance == bootstrap_mean(np.abs(errors[own]), draws=300)
        rho = stats.spearmanr(cosines[own], gold).statistic
        assert row.correlation == pytest.approx(rho, abs=1e-12)
    assert sum(row.error * row.n for row in rows) == pytest.approx(0, abs=1e-9)


def test_a_model_that_overlooks_negation_is_seen():
    rng = np.random.default_rng(1)
    texts = ["a man plays | a man does not play", "a man plays | a man sings"] * 40
    gold = rng.uniform(0, 5, 80)
    pairs = of(*texts, score=gold.tolist())
    cosines = gold + 2.0 * (np.arange(80) % 2 == 0)
    neither, one = by_stratum(pairs, cosines, negation_strata(pairs))
    assert one.name == "one side negates"
    assert one.error > 0.1 > 0 > neither.error
    assert one.correlation == neither.correlation == pytest.approx(1)


def test_intervals_draw_groups_and_need_two():
    pairs, cosines = made(40)
    grouped = ScoredPairs(
        pairs.first, pairs.second, pairs.score, tuple(str(i // 10) for i in range(40))
    )
    kinds = ["no number"] * 30 + ["the same numbers"] * 9 + ["different numbers"]
    plain = {row.name: row for row in by_stratum(pairs, cosines, kinds)}
    whole = {row.name: row for row in by_stratum(grouped, cosines, kinds)}
    assert plain["no number"].distance.mean == whole["no number"].distance.mean
    assert plain["no number"].distance != whole["no number"].distance
    assert plain["the same numbers"].distance is not None
    assert whole["the same numbers"].distance is None  # nine pairs, one group
    single = plain["different numbers"]
    assert single.distance is None
    assert math.isnan(single.correlation)
    assert single.row() == {
        "pairs": "different numbers",
        "n": 1,
        "mean error": single.error,
        "mean absolute error": "",
        "Spearman": "",
    }
    with pytest.raises(ValueError, match="for 40 pairs"):
        by_stratum(pairs, cosines, ["a"])


def test_kinds_stand_in_a_readers_order():
    pairs, cosines = made(6)
    names = ["10 to 20", "2 to 10", "-3 to 2", "both sides", "one side", "neither side"]
    rows = by_stratum(pairs, cosines, names)
    assert [row.name for row in rows] == [*names[:2:-1], *names[2::-1]]


def test_worst_pairs_come_in_order():
    pairs, cosines = made()
    errors = rank_errors(pairs.score, cosines)
    worst = worst_pairs(pairs, cosines, 12)
    sizes = [abs(each.error) for each in worst]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes == pytest.approx(sorted(np.abs(errors))[::-1][:12])
    for each in worst:
        assert each.first == pairs.first[each.number]
        assert each.error == errors[each.number]
        assert each.cosine == cosines[each.number]
        assert each.gold == pairs.score[each.number]
    high = worst_pairs(pairs, cosines, 999, side="too similar")
    low = worst_pairs(pairs, cosines, 999, side="too different")
    assert {each.number for each in high} == set(np.flatnonzero(errors > 0).tolist())
    assert {each.number for each in low} == set(np.flatnonzero(errors < 0).tolist())
    assert low[0].error == errors.min()
    assert worst_pairs(pairs, pairs.score) == []
    with pytest.raises(ValueError, match="side='up'"):
        worst_pairs(pairs, cosines, side="up")


def test_misses_by_hand():
    queries = ["right", "second", "nowhere", "unanswerable", "third of two", "empty"]
    found = [["a", "b"], ["a", "b"], ["a", "b"], ["a"], ["x", "y", "b", "a"], []]
    relevant = [{"a"}, ["b"], {"z"}, set(), ("a", "b"), {"a"}]
    got = misses(queries, found, relevant)
    assert [(m.query, m.rank, m.first) for m in got] == [
        ("nowhere", None, "a"),
        ("empty", None, None),
        ("third of two", 3, "x"),
        ("second", 2, "a"),
    ]
    assert [m.query for m in misses(queries, found, relevant, k=2)] == [
        "nowhere",
        "empty",
        "third of two",
    ]
    assert got[2].wanted == ("a", "b")
    assert got[2].number == 4
    with pytest.raises(ValueError, match="k=0"):
        misses(queries, found, relevant, k=0)


def test_misses_are_those_without_a_right_answer_on_top():
    rng = np.random.default_rng(2)
    found = [rng.permutation(30)[:20].tolist() for _ in range(200)]
    relevant = [rng.choice(30, 2, replace=False).tolist() for _ in range(200)]
    got = {m.number: m.rank for m in misses(["q"] * 200, found, relevant, k=5)}
    for number in range(200):
        right = [key in relevant[number] for key in found[number]]
        if any(right[:5]):
            assert number not in got
        else:
            assert got[number] == (right.index(True) + 1 if any(right) else None)


def test_a_miss_is_shown_with_its_texts():
    miss, empty = misses(["q", "r"], [[7, 8], []], [{8}, {9}])[::-1]
    assert shown(miss, {7: "seven", 8: "eight"}) == {
        "query": "q",
        "wanted": "eight",
        "its rank": 2,
        "came first": "seven",
    }
    row = shown(empty, {})
    assert (row["wanted"], row["its rank"], row["came first"]) == ("9", "not found", "")
