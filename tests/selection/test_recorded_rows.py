"""The committed rows, which `select` chooses from unless told to measure."""

import itertools

import pytest

from sbert_lab._utils import committed_results
from sbert_lab.selection.command import RECORDED
from sbert_lab.selection.recommend import (
    Constraints,
    NothingFits,
    pareto_front,
    recommend,
)
from sbert_lab.selection.rows import COSTS, read_survey


@pytest.fixture(scope="module")
def survey():
    return read_survey(committed_results("laptop") / RECORDED)


def test_every_row_is_complete(survey):
    assert len(survey.rows) >= 8
    for row in survey.rows:
        assert len(row.quality) >= 3
        assert row.cost.keys() == COSTS.keys()
        for score in row.quality.values():
            assert score.low < score.mean < score.high
        for cost in row.cost.values():
            assert 0 < cost.minimum <= cost.median <= cost.maximum
    names = {row.name for row in survey.rows}
    assert {"bm25", "tfidf-lsa", "wordllama-256", "all-MiniLM-L6-v2"} <= names


def test_every_two_were_compared_on_the_same_items(survey):
    for task in survey.tasks():
        rows = [row for row in survey.rows if task in row.quality]
        for one, other in itertools.combinations(rows, 2):
            gap = survey.difference(task, one.name, other.name)
            between = one.quality[task].mean - other.quality[task].mean
            assert gap.mean == pytest.approx(between, abs=1e-9)


def test_what_is_recommended_is_allowed_and_nobody_allowed_is_clearly_better(survey):
    chosen = set()
    for task, ms, mb, width, corpus in itertools.product(
        survey.tasks(), (1, 15, 40, None), (50, 200, 5_000, None), (256, None),
        (1_000, 100_000, 3_000_000),
    ):  # fmt: skip
        limits = Constraints(task, None, ms, mb, width, corpus)

        def fits(row, task=task, ms=ms, mb=mb, width=width, corpus=corpus):
            return (
                task in row.quality
                and (ms is None or row.ms(corpus) <= ms)
                and (mb is None or row.mb(corpus) <= mb)
                and (width is None or row.lexical or row.dimension <= width)
            )

        allowed = [row for row in survey.rows if fits(row)]
        if not allowed:
            with pytest.raises(NothingFits):
                recommend(survey, limits)
            continue
        found = recommend(survey, limits).row
        assert found in allowed
        best = max(allowed, key=lambda row: row.quality[task].mean)
        if found is not best:
            assert survey.difference(task, best.name, found.name).low <= 0
            assert found.ms(corpus) <= best.ms(corpus)
        chosen.add(found.name)
    assert len(chosen) >= 4


def test_less_time_never_buys_more_quality(survey):
    """Tighter by steps; the choice may stay or fall, but for ties that are cheaper."""
    best = []
    for ms in (1_000, 100, 30, 15, 5, 1):
        allowed = [row for row in survey.rows if row.ms(100_000) <= ms]
        best.append(max((r.quality["Retrieval"].mean for r in allowed), default=0))
    assert best == sorted(best, reverse=True)
    assert best[0] > best[-1]


def test_the_front_holds_the_best_and_the_fastest(survey):
    front = pareto_front(survey.rows, "Retrieval", 100_000)
    best = max(survey.rows, key=lambda row: row.quality["Retrieval"].mean)
    fastest = min(survey.rows, key=lambda row: row.ms(100_000))
    assert front[0] is best
    assert fastest in front


def test_refuses_what_nobody_keeps(survey):
    with pytest.raises(NothingFits, match="no candidate keeps every constraint"):
        recommend(survey, Constraints(min_quality=0.99))
    with pytest.raises(NothingFits, match="ms a query, over 1e-06"):
        recommend(survey, Constraints(max_ms=1e-6))
