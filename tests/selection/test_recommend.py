"""The choice among recorded rows: it follows the constraints, and says why."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbert_lab._utils import committed_results
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.selection.command import RECORDED
from sbert_lab.selection.recommend import (
    FORMATS,
    Constraints,
    IndexCost,
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
        cost={
            "query_ms_p50": ms,
            "process_mb": mb,
            "search_ms": search_ms,
            "short_texts": 1e4 / ms,
        },
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
        ({"max_ms": 30}, "quick"),  # small scores a hundredth more, and is slower
        ({"max_ms": 30, "tolerance": 0.009}, "small"),
        ({"tolerance": 0.3}, "words"),
        ({"max_ms": 30, "tolerance": -1.0}, "small"),  # as none
        ({"max_ms": 30, "min_quality": 0.495}, "small"),
        ({"max_ms": 11}, "static"),
        ({"max_mb": 300}, "quick"),
        ({"max_mb": 150}, "static"),  # 100,000 entries take 154 MB at 384 dimensions
        ({"max_mb": 150, "corpus": 1_000}, "quick"),
        ({"corpus": 1_000_000, "max_mb": 1_000}, "words"),
        ({"corpus": 1_000_000, "max_mb": 4_000}, "large"),
        ({"corpus": 10_000_000, "max_ms": 500}, "words"),  # the scan grows with it
    ],
)
def test_follows_the_constraints(limits, expected):
    found, reasons = recommend(SURVEY, Constraints(**limits))
    assert found.row.name == expected
    assert reasons[0].startswith(f"{found.name}: Retrieval ndcg_at_10")


def test_says_which_constraint_each_one_breaks():
    limits = Constraints(max_ms=13, max_mb=500, min_quality=0.45)
    options = SURVEY.options("Retrieval")
    assert {one.row.name: limits.broken_by(one) for one in options} == {
        "words": {"quality 0.300, below 0.45": pytest.approx(0.45 / 0.30)},
        "static": {"quality 0.400, below 0.45": pytest.approx(0.45 / 0.40)},
        "small": {"15 ms a query, over 13": pytest.approx(15 / 13)},
        "quick": {},
        "large": {
            "50 ms a query, over 13": pytest.approx(50 / 13),
            "757 MB, over 500": pytest.approx(757.2 / 500),
        },
    }


def test_what_is_given_up_is_told():
    _, reasons = recommend(SURVEY, Constraints(max_ms=30))
    assert "small (float32, exact) scores most of all that fits, 0.500" in reasons[2]
    assert "+0.010 [-0.005, +0.025]), in 15 ms" in reasons[2]
    assert len(recommend(SURVEY, Constraints())[1]) == 2


def test_a_difference_turned_round():
    there = SURVEY.difference("Retrieval", "small", "large")
    back = SURVEY.difference("Retrieval", "large", "small")
    assert (back.mean, back.low, back.high) == (-there.mean, -there.high, -there.low)
    assert back.low == pytest.approx(0.1 - 0.015)


@pytest.mark.parametrize(
    ("limits", "nearest"),
    [
        ({"max_ms": 0.0001}, "words .words, exact.: 2.1 ms a query, over 0.0001"),
        ({"min_quality": 0.9}, "large .float32, exact.: quality"),
        ({"min_quality": 0.55, "max_ms": 20}, "small .*: quality 0.500, below 0.55"),
        ({"min_quality": 0.501, "max_ms": 14.9}, "small .*: quality.*; 15 ms"),
    ],
)
def test_nothing_fits(limits, nearest):
    """Nearest is what is fewest times over its constraints, all taken together."""
    told = f"No candidate keeps every constraint. Nearest is {nearest}"
    with pytest.raises(NothingFits, match=told):
        recommend(SURVEY, Constraints(**limits))


def test_a_row_without_the_task_is_left_out():
    survey = replace(SURVEY, rows=(*ROWS, row("odd", 1, 1, 1, task="STS")))
    assert recommend(survey, Constraints())[0].row is LARGE
    assert pareto_front(survey.options("Retrieval"), 1)[0].row is LARGE
    with pytest.raises(ValueError, match="'Other': one of Retrieval"):
        recommend(survey, Constraints(task="Other"))


def test_the_front_holds_what_nothing_beats():
    """Beaten is what another equals in all and excels in one."""
    same = replace(SMALL, name="twin")
    others = [
        row("worse", 0.49, 5, 120),
        row("slower", 0.50, 5.1, 120),
        row("larger", 0.50, 5, 121),
    ]
    survey = replace(SURVEY, rows=(*ROWS, same, *others))
    options = survey.options("Retrieval")
    front = [one.row.name for one in pareto_front(options, 1_000)]
    assert front == ["large", "small", "twin", "quick", "static", "words"]


@given(st.floats(0.1, 1_000), st.floats(1, 5_000), st.integers(1, 10**7))
def test_what_is_recommended_keeps_the_constraints(ms, mb, corpus):
    limits = Constraints(max_ms=ms, max_mb=mb, corpus=corpus)
    try:
        found = recommend(SURVEY, limits)[0]
    except NothingFits:
        options = SURVEY.options("Retrieval")
        assert all(o.ms(corpus).mean > ms or o.mb(corpus) > mb for o in options)
        return
    assert found.ms(corpus).mean <= ms
    assert found.mb(corpus) <= mb


SIZES = [1_000, 10_000, 100_000, 1_000_000]


def index(kind, ms, each, *, lost=0.0):
    """An index of 384 dimensions: milliseconds, bytes a vector, share lost."""
    kept = Interval(1 - lost, 1 - lost - 0.002, 1 - lost + 0.002, 500)
    mb = [each * size / 1e6 for size in SIZES]
    return IndexCost(kind, 384, SIZES, ms, mb, 0.98, kept)


INDEXES = [
    replace(index("flat", [0.1, 1, 10, 100], 1536), kept=Interval(1.0, 1.0, 1.0, 500)),
    index("hnsw", [0.1, 0.2, 0.4, 0.8], 1800, lost=0.001),
    index("hnsw-int8", [0.1, 0.2, 0.4, 0.8], 660, lost=0.001),
    index("ivfpq", [0.1, 0.2, 0.6, 2.0], 60, lost=0.2),
]


def test_between_sizes_and_beyond_them():
    exact, graph, lists = INDEXES[0], INDEXES[1], INDEXES[3]
    at = exact.ms_at(31_623, 384)
    assert (at.mean, at.low) == (pytest.approx(10**0.5, rel=1e-4), at.mean)
    assert exact.ms_at(10_000, 768).mean == pytest.approx(2)  # twice the width
    assert exact.mb_at(1_000_000, 768) == pytest.approx(3072)
    assert graph.mb_at(1_000_000, 768) == pytest.approx(1800 + 4 * 384)
    # Tenfold more: the line goes on, and may be off by a fifth.
    found = graph.ms_at(10_000_000, 384)
    assert found.mean == pytest.approx(1.6)
    assert (found.low, found.high) == (pytest.approx(1.6 / 1.2), pytest.approx(1.92))
    # The step before was threefold, the last one 3.33: that misses by less than 1.2.
    found = replace(lists, ms=[0.1, 0.2, 0.4, 2.0]).ms_at(100_000_000, 384)
    assert found.mean == pytest.approx(50)
    assert found.high / found.mean == pytest.approx(2.5**2)  # fivefold after twofold


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"corpus": 1_000}, ("large", "flat")),
        ({"corpus": 1_000_000}, ("large", "hnsw-int8")),
        ({"corpus": 1_000_000, "max_ms": 10, "max_mb": 1_000}, ("quick", "hnsw-int8")),
        ({"corpus": 10**8, "max_ms": 10, "max_mb": 2_000}, None),
        ({"corpus": 10**8, "max_ms": 20, "max_mb": 60_000}, ("static", "hnsw-int8")),
    ],
)
def test_model_and_index_are_chosen_together(limits, expected):
    survey = replace(SURVEY, indexes=INDEXES)
    if expected is None:
        with pytest.raises(NothingFits, match="Nearest is"):
            recommend(survey, Constraints(**limits))
        return
    found, reasons = recommend(survey, Constraints(**limits))
    assert (found.row.name, found.index.kind) == expected
    assert ("about" in reasons[0]) == (limits["corpus"] > SIZES[-1])


def test_the_clock_of_the_rows_sets_the_pace_of_the_indexes():
    """Exact search of these rows is twice as slow as where the indexes were timed."""
    slow = row("slow", 0.5, 5, 100, search_ms=200)
    survey = replace(SURVEY, rows=[slow], indexes=INDEXES)
    graph = survey.options("Retrieval")[1]
    assert graph.ms(1_000_000).mean == pytest.approx(5 + 2 * 0.8)
    assert graph.quality.mean == pytest.approx(0.5 * 0.999)


def test_dollars():
    (option,) = replace(SURVEY, rows=[SMALL]).options("Retrieval")
    documents, queries = option.dollars(1_000_000, 0.36)
    assert documents == pytest.approx(0.36 * 500 / 3_600)  # at 2,000 a second
    assert queries == pytest.approx(0.36 * 1e6 * (0.005 + 0.1) / 3_600)


def test_a_survey_survives_its_file(tmp_path):
    path = tmp_path / "survey.json"
    survey = replace(SURVEY, rows=list(ROWS), indexes=INDEXES)
    write_survey(path, survey)
    assert read_survey(path) == survey


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
    recorded = read_survey(committed_results("full") / RECORDED)
    assert len(recorded.rows) >= 8
    assert [one.kind for one in recorded.indexes] == list(FORMATS)
    assert len({frozenset(one.cost) for one in recorded.rows}) == 1
    for one in recorded.rows:
        assert "Retrieval" in one.quality
    for task in recorded.differences:
        rows = [one for one in recorded.rows if task in one.quality]
        for one, other in itertools.combinations(rows, 2):
            gap = recorded.difference(task, one.name, other.name)
            between = one.quality[task].mean - other.quality[task].mean
            assert gap.mean == pytest.approx(between, abs=1e-9)
