"""Published figures, and the rule that compares ours with them."""

import json

import pytest

from sbert_lab._utils import project_root
from sbert_lab.evaluation import published as sources
from sbert_lab.evaluation.published import reproduced
from sbert_lab.evaluation.statistics import Interval


def published_entries():
    return json.loads((project_root() / "data" / "published.json").read_text("utf-8"))


def test_sources_are_complete():
    published = published_entries()
    known = json.loads((project_root() / "data" / "references.json").read_text("utf-8"))
    for key, entry in published.items():
        value = sources.Published(**entry)
        assert value.source in known, key
        assert value.what, key
        assert value.place, key
        assert isinstance(value.unit, str), key
        assert isinstance(value.value, int | float | str), key
        assert value.unit or isinstance(value.value, str), key
        if value.unit.endswith("× 100"):
            assert -100 < value.value < 100, key
    for key, entry in known.items():
        assert set(entry) == {"authors", "year", "title", "where", "link"}, key
        assert all(entry.values()), key
        assert entry["link"].startswith("https://"), key
    with pytest.raises(KeyError, match="nothing"):
        sources.published("nothing")
    assert sources.published("mteb.all-MiniLM-L6-v2.STS12").value == 72.37


@pytest.mark.parametrize(
    ("family", "rows", "width"),
    [("sbert2019", 9, 7), ("simcse2021", 5, 7), ("mteb", 7, 56)],
)
def test_rows_of_published_tables_have_the_mean_they_state(family, rows, width):
    """A wrong digit in a cell would show: the tables print their means, too."""
    published = published_entries()
    means = [
        key
        for key in published
        if key.startswith(f"{family}.") and key.endswith(".average")
    ]
    assert len(means) == rows
    for key in means:
        row = key.removesuffix("average")
        cells = [
            entry["value"]
            for other, entry in published.items()
            if other.startswith(row) and other != key
        ]
        assert len(cells) == width, key
        mean = sum(cells) / width
        if key == "sbert2019.sbert_nli_base.average":
            # The paper's own slip: its cells, which others copied, give another mean.
            assert published[key]["value"] == 74.89
            assert mean == pytest.approx(74.86)
        else:
            assert round(mean, 2) == published[key]["value"], key


def test_published_speed_is_as_the_paper_sums_it_up():
    """Section 7: smart batching gains 89 % on the CPU and 48 % on the GPU."""
    for device, gain in (("cpu", 0.89), ("gpu", 0.48)):
        plain, smart = (
            sources.published(f"sbert2019.speed.{name}.{device}").value
            for name in ("sbert_base", "sbert_base_smart_batching")
        )
        assert smart / plain - 1 == pytest.approx(gain, abs=0.005)


@pytest.mark.parametrize(
    ("theirs", "low", "high", "verdict"),
    [
        (0.3, 0.2, 0.4, "reproduced"),
        (0.3, -0.1, 0.4, "undecided"),
        (0.3, 0.1, 0.2, "direction only"),
        (0.3, -0.1, 0.2, "not reproduced"),
        (-0.3, -0.2, -0.1, "direction only"),
        (-0.3, 0.1, 0.2, "not reproduced"),
    ],
)
def test_what_was_published_is_compared_by_rule(theirs, low, high, verdict):
    assert reproduced(theirs, Interval((low + high) / 2, low, high, 9)) == verdict
