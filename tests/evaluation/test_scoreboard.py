"""The benchmark item by item equals mteb's number, and compares models in pairs."""

import pytest
from conftest import tiny_encoder

from sbert_lab.evaluation import icd10cm_tasks, mteb_bridge
from sbert_lab.evaluation.scoreboard import compare, interval, measure, p_value

KINDS = (
    "Retrieval",
    "STS",
    "Classification",
    "Clustering",
    "PairClassification",
    "Reranking",
)
SIZE = 16


@pytest.fixture(scope="module")
def models():
    return {seed: tiny_encoder(seed, max_seq_length=24) for seed in (0, 1)}


@pytest.fixture(scope="module")
def found(models):
    return {seed: measure(model.encode, SIZE) for seed, model in models.items()}


def test_main_scores_are_mtebs_to_the_last_digit(models, found):
    tasks = icd10cm_tasks.benchmark(SIZE).tasks
    for score in mteb_bridge.evaluate(models[0], tasks):
        ours = found[0][score.kind].result.main_score
        rounded = score.kind in ("Retrieval", "Reranking")  # mteb rounds to 5 digits
        assert (round(ours, 5) if rounded else ours) == score.score, score.kind


def test_there_is_one_of_each_kind(found):
    assert tuple(found[0]) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_an_interval_is_of_the_score(found, kind):
    one = found[0][kind]
    got = interval(one)
    assert got.mean == pytest.approx(one.score)
    assert got.low <= got.mean <= got.high
    same = interval(one, one)
    assert (same.mean, same.low, same.high) == pytest.approx((0, 0, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_difference_is_that_of_the_scores(found, kind):
    a, b = found[0][kind], found[1][kind]
    assert interval(a, b).mean == pytest.approx(a.score - b.score)
    assert p_value(a, a, draws=50) == 1
    assert p_value(a, b, draws=50) == p_value(b, a, draws=50)


def test_what_a_perfect_model_gains_is_found(found):
    """A model whose cosines are the gold scores beats a random one beyond chance."""
    from dataclasses import replace

    one = found[0]["STS"]
    perfect = replace(one, items=one.gold)
    assert p_value(perfect, one, draws=200) < 0.02
    assert interval(perfect, one).low > 0


def test_all_pairs_are_compared_the_better_one_first(found):
    rows = compare({str(seed): each for seed, each in found.items()})
    assert [row[0] for row in rows] == list(KINDS)
    assert all(row[3].mean >= 0 for row in rows)
    assert all(0 < row[4] <= 1 for row in rows)


def test_other_items_are_refused(found):
    with pytest.raises(ValueError, match="compared in pairs"):
        interval(found[0]["STS"], found[0]["Retrieval"])
