import numpy as np
import pytest
from scipy import stats

from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.error_analysis import (
    bag_of_words_cosine,
    by_stratum,
    misses,
    rank_errors,
    strata,
    word_overlap,
    worst_pairs,
)
from sbert_lab.evaluation.statistics import bootstrap_mean


def of(*texts, score=None):
    """Return pairs from ``"first | second"``."""
    first, second = zip(*(text.split(" | ") for text in texts), strict=True)
    return ScoredPairs(first, second, tuple(score or map(float, range(len(texts)))))


def made(n=90, seed=0):
    rng = np.random.default_rng(seed)
    score = tuple(rng.integers(0, 6, n).astype(float))
    pairs = ScoredPairs(tuple(f"a {i}" for i in range(n)), ("b",) * n, score)
    return pairs, np.array(score) + rng.normal(size=n)


def test_overlap_is_the_share_of_common_content_words():
    for first, second, share in (
        ("A dog bites a man", "The man bites the dog!", 1),
        ("a dog bites a man", "a dog sleeps", 1 / 4),
        ("it is not", "they were", 0),
        ("", "a cat", 0),
    ):
        assert word_overlap(first, second) == word_overlap(second, first) == share


def test_bag_of_words_is_the_loop():
    rng = np.random.default_rng(0)
    some = "the a cat dog sat on mat 7 and".split()
    counts = rng.integers(0, 3, (2, 30, len(some)))
    counts[:, :, 0] += 1
    first, second = (
        [" ".join(np.repeat(some, row)) for row in side] for side in counts
    )
    naive = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(*counts, strict=True)]
    np.testing.assert_allclose(bag_of_words_cosine(first, second), naive)
    assert bag_of_words_cosine(["…"], ["a cat"]) == [0]


def test_errors_by_hand():
    """The pair people put first comes last, and all others move up by a place."""
    errors = rank_errors([0, 1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4, 0.0])
    assert errors == pytest.approx([0.25, 0.25, 0.25, 0.25, -1])
    assert rank_errors([1, 1, 2], [5, 6, 9]) == pytest.approx([-0.25, 0.25, 0])
    with pytest.raises(ValueError, match="one finite cosine"):
        rank_errors([1.0, 2.0], [1.0, np.nan])


def test_lengths_fall_in_thirds():
    texts = "a | b", "a b | c", "a b, c | d", "a b c | d e", "a b c d | e f"
    found = strata(of(*texts, "a " * 9 + "| b"))["length"]
    kinds = "short (2 to 3)", "middle (4 to 5)", "long (6 to 10)"
    assert found == [kind for kind in kinds for _ in range(2)]


@pytest.mark.parametrize(
    ("by", "pair", "kind"),
    [
        ("overlap", "a dog sleeps | two cats purr", "below 0.25"),
        ("overlap", "a dog bites | a dog sleeps now", "0.25 to 0.5"),
        ("overlap", "dog bites | dog", "0.5 to 0.75"),
        ("overlap", "the dog bites | a dog bites", "0.75 or more"),
        ("negation", "A man plays | A man is not playing", "one side negates"),
        ("negation", "He doesn’t sing | Nobody sings", "both sides negate"),
        ("negation", "Another note, nothin | The knot", "neither side negates"),
        ("numbers", "Two men sit | 2 men sit", "the same numbers"),
        ("numbers", "1,200 of 7 | 7 of 1200", "the same numbers"),
        ("numbers", "3 of 3 | 3", "different numbers"),
        ("numbers", "One man sits, often | A man is tense", "no number"),
    ],
)
def test_kinds_of_pairs(by, pair, kind):
    assert strata(of(pair))[by] == [kind]


def test_strata_are_the_loop():
    pairs, cosines = made()
    kinds = np.array(["short (1)", "long (9)", "middle (5)"])[np.arange(90) % 3]
    errors = rank_errors(pairs.score, cosines)
    rows = by_stratum(pairs, cosines, kinds.tolist())
    assert [row["pairs"] for row in rows] == ["short (1)", "middle (5)", "long (9)"]
    for row in rows:
        own = [i for i in range(90) if kinds[i] == row["pairs"]]
        assert row["n"] == 30
        assert row["mean error"] == pytest.approx(sum(errors[i] for i in own) / 30)
        assert row["mean absolute error"] == str(bootstrap_mean(np.abs(errors[own])))
        rho = stats.spearmanr(cosines[own], [pairs.score[i] for i in own]).statistic
        assert row["Spearman"] == pytest.approx(rho, abs=1e-12)


def test_intervals_of_strata_draw_groups_and_need_two():
    pairs, cosines = made(12)
    group = ("g", "h", "i", "j") * 3
    grouped = ScoredPairs(pairs.first, pairs.second, pairs.score, group)
    one, rest = by_stratum(grouped, cosines, ["no number"] + ["other"] * 11)
    assert one["mean absolute error"] == one["Spearman"] == ""
    errors = np.abs(rank_errors(pairs.score, cosines))[1:]
    expected = bootstrap_mean(errors, groups=group[1:])
    assert rest["mean absolute error"] == str(expected) != str(bootstrap_mean(errors))


def test_worst_pairs_come_in_order():
    pairs, cosines = made()
    errors = rank_errors(pairs.score, cosines)
    high = worst_pairs(pairs, cosines, 999, too_similar=True)
    low = worst_pairs(pairs, cosines, 3, too_similar=False)
    assert [row["error"] for row in high] == sorted(errors[errors > 0])[::-1]
    assert [row["error"] for row in low] == sorted(errors)[:3]
    at = pairs.first.index(low[0]["first"])
    assert (low[0]["score"], low[0]["cosine"]) == (pairs.score[at], cosines[at])


def test_misses_by_hand():
    queries = ["right", "second", "nowhere", "unanswerable", "third of two", "empty"]
    found = [["a", "b"], ["a", "b"], ["a", "b"], ["a"], ["x", "y", "b", "a"], []]
    relevant = [{"a"}, ["b"], {"z"}, set(), ("a", "b"), {"a"}]
    texts = {key: key.upper() for key in "abxyz"}
    got = misses(queries, found, relevant, texts)
    assert [tuple(row.values()) for row in got] == [
        ("nowhere", "Z", "not found", "A"),
        ("empty", "A", "not found", ""),
        ("third of two", "A / B", 3, "X"),
        ("second", "B", 2, "A"),
    ]
