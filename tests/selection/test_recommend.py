"""The choice among recorded rows: it follows the constraints, and says why."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbert_lab._utils import committed_results
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.selection.command import RECORDED
from sbert_lab.selection.recommend import (
    COSTS,
    Constraints,
    NothingFits,
    Row,
    Survey,
    pareto_front,
    read_survey,
    recommend,
    write_survey,
)


def row(
    name: str,
    score: float,
    ms: float,
    mb: float,
    *,
    dimension: int = 384,
    search_ms: float = 100.0,
    lexical: bool = False,
    task: str = "Retrieval",
) -> Row:
    return Row(
        name=name,
        dimension=dimension,
        bytes_per_entry=40.0 if lexical else 4.0 * dimension,
        quality={task: Interval(score, score - 0.02, score + 0.02, 500)},
        metrics={task: "ndcg_at_10"},
        cost={"query_ms_p95": ms, "resident_mb": mb, "search_ms": search_ms},
        lexical=lexical,
    )


WORDS = row("words", 0.30, 0.1, 5, dimension=9_000, search_ms=20, lexical=True)
STATIC = row("static", 0.40, 0.2, 40, dimension=256)
SMALL = row("small", 0.50, 5, 120)
QUICK = row("quick", 0.49, 2, 60)
LARGE = row("large", 0.60, 40, 450, dimension=768)
ROWS = (WORDS, STATIC, SMALL, QUICK, LARGE)


def gap(first: Row, second: Row, half: float = 0.015) -> Interval:
    mean = first.quality["Retrieval"].mean - second.quality["Retrieval"].mean
    return Interval(mean, mean - half, mean + half, 500)


SURVEY = Survey(
    ROWS,
    {
        "Retrieval": {
            a.name: {b.name: gap(a, b) for b in ROWS[i + 1 :]}
            for i, a in enumerate(ROWS)
        }
    },
    {"machine": "two cores", "quality on": "toys"},
)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, "large"),
        ({"max_ms": 30}, "quick"),  # small is not shown to be better, and is slower
        ({"max_ms": 30, "min_quality": 0.495}, "small"),
        ({"max_ms": 11}, "static"),
        ({"max_mb": 300}, "quick"),
        ({"max_mb": 150}, "static"),  # 100,000 entries take 154 MB at 384 dimensions
        ({"max_mb": 150, "corpus": 1_000}, "quick"),
        ({"max_dimensions": 300}, "static"),
        ({"max_dimensions": 100}, "words"),  # words have no dimensions to limit
        ({"corpus": 1_000_000, "max_mb": 1_000}, "words"),
        ({"corpus": 1_000_000, "max_mb": 4_000}, "large"),
        ({"corpus": 10_000_000, "max_ms": 500}, "words"),  # the scan grows with it
    ],
)
def test_follows_the_constraints(limits, expected):
    found, reasons = recommend(SURVEY, Constraints(**limits))
    assert found.name == expected
    assert reasons[0].startswith(f"{expected}: Retrieval ndcg_at_10")


def test_says_which_constraint_each_one_breaks():
    limits = Constraints(max_ms=13, max_dimensions=400, max_mb=500, min_quality=0.45)
    assert {row.name: limits.broken_by(row) for row in ROWS} == {
        "words": {"quality 0.300, below 0.45": pytest.approx(0.45 / 0.30)},
        "static": {"quality 0.400, below 0.45": pytest.approx(0.45 / 0.40)},
        "small": {"15 ms a query, over 13": pytest.approx(15 / 13)},
        "quick": {},
        "large": {
            "50 ms a query, over 13": pytest.approx(50 / 13),
            "757 MB, over 500": pytest.approx(757.2 / 500),
            "768 dimensions, over 400": 768 / 400,
        },
    }


def test_a_difference_that_may_be_chance_does_not_pay():
    _, reasons = recommend(SURVEY, Constraints(max_ms=30))
    assert "small has the highest score that fits" in reasons[1]
    assert "+0.010 [-0.005, +0.025] may be chance" in reasons[1]
    known = SURVEY.differences["Retrieval"]
    surer = known | {"small": known["small"] | {"quick": gap(SMALL, QUICK, 0.005)}}
    again, reasons = recommend(
        dataclasses.replace(SURVEY, differences={"Retrieval": surer}),
        Constraints(max_ms=30),
    )
    assert again.name == "small"
    assert reasons[1] == "The next one that fits is quick: +0.010 [+0.005, +0.015]."


def test_a_difference_turned_round():
    there = SURVEY.difference("Retrieval", "small", "large")
    back = SURVEY.difference("Retrieval", "large", "small")
    assert (back.mean, back.low, back.high) == (-there.mean, -there.high, -there.low)
    assert back.low == pytest.approx(0.1 - 0.015)


@pytest.mark.parametrize(
    ("limits", "nearest"),
    [
        ({"max_ms": 0.0001}, "words: 2.1 ms a query, over 0.0001"),
        ({"min_quality": 0.9}, "large: quality"),
        ({"min_quality": 0.55, "max_ms": 20}, "small: quality 0.500, below 0.55"),
        ({"min_quality": 0.501, "max_ms": 14.9}, "small: quality.*; 15 ms"),
    ],
)
def test_nothing_fits(limits, nearest):
    """Nearest is what is fewest times over its constraints, all taken together."""
    told = f"No candidate keeps every constraint. Nearest is {nearest}"
    with pytest.raises(NothingFits, match=told):
        recommend(SURVEY, Constraints(**limits))


def test_a_row_without_the_task_is_left_out():
    survey = dataclasses.replace(SURVEY, rows=(*ROWS, row("odd", 1, 1, 1, task="STS")))
    assert recommend(survey, Constraints())[0] is LARGE
    assert pareto_front(survey, "Retrieval", 1)[0] is LARGE
    with pytest.raises(ValueError, match="'Other': one of Retrieval"):
        recommend(survey, Constraints(task="Other"))


def test_the_front_holds_what_nothing_beats():
    """Beaten is what another equals in all and excels in one."""
    same = dataclasses.replace(SMALL, name="twin")
    others = [
        row("worse", 0.49, 5, 120),
        row("slower", 0.50, 5.1, 120),
        row("larger", 0.50, 5, 121),
    ]
    survey = dataclasses.replace(SURVEY, rows=(*ROWS, same, *others))
    front = [one.name for one in pareto_front(survey, "Retrieval", 1_000)]
    assert front == ["large", "small", "twin", "quick", "static", "words"]


@given(st.floats(0.1, 1_000), st.floats(1, 5_000), st.integers(1, 10**7))
def test_what_is_recommended_keeps_the_constraints(ms, mb, corpus):
    limits = Constraints(max_ms=ms, max_mb=mb, corpus=corpus)
    try:
        found = recommend(SURVEY, limits)[0]
    except NothingFits:
        assert all(r.ms(corpus) > ms or r.mb(corpus) > mb for r in ROWS)
        return
    assert found.ms(corpus) <= ms
    assert found.mb(corpus) <= mb


def test_a_survey_survives_its_file(tmp_path):
    path = tmp_path / "survey.json"
    write_survey(path, SURVEY)
    assert read_survey(path) == dataclasses.replace(SURVEY, rows=list(ROWS))


def test_a_missing_or_damaged_file_says_what_to_do(tmp_path):
    path = tmp_path / "survey.json"
    with pytest.raises(ValueError, match="select --measure"):
        read_survey(path)
    for damaged in ("{", '{"rows": [{"name": "x"}]}', '{"rows": []}'):
        path.write_text(damaged)
        with pytest.raises(ValueError, match="no survey of this release"):
            read_survey(path)


def test_every_recorded_row_is_complete():
    """`select` chooses from the committed rows unless told to measure."""
    recorded = read_survey(committed_results("laptop") / RECORDED)
    assert len(recorded.rows) >= 8
    for one in recorded.rows:
        assert len(one.quality) >= 3
        assert one.cost.keys() == COSTS.keys()
    for task in recorded.differences:
        rows = [one for one in recorded.rows if task in one.quality]
        for one, other in itertools.combinations(rows, 2):
            gap = recorded.difference(task, one.name, other.name)
            between = one.quality[task].mean - other.quality[task].mean
            assert gap.mean == pytest.approx(between, abs=1e-9)
