"""Figures and tables of the notebooks."""

import pytest

from sbert_lab.evaluation import figures
from sbert_lab.evaluation.statistics import Interval


def test_figure_carries_its_alt_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda x, **_: shown.append(x))
    figure, (left, right) = figures.new_figure(2)
    left.plot([1, 2], label="a")
    right.plot([2, 1], label="b")
    alt = "Two line charts: one rises and the other falls."
    figures.show(figure, alt=alt, data=[{"x": 1, "y": 2.34567}])
    picture, table = shown
    assert picture._repr_png_()[1] == {"alt": alt}
    assert picture.data.startswith(b"\x89PNG")
    assert len(picture.data) < 150_000
    assert "<details>" in table.data
    assert "2.346" in table.data
    with pytest.raises(ValueError, match="alt text"):
        figures.show(figure, alt="chart", data=[])


def test_table_escapes_what_it_shows(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda x, **_: shown.append(x.data))
    figures.table([{"a": "<b>", "n": 12345}], caption="x & y")
    assert "&lt;b&gt;" in shown[0]
    assert "x &amp; y" in shown[0]
    assert "12,345" in shown[0]


def test_a_legend_stands_below_what_it_names():
    figure, axes = figures.new_figure(2)
    for ax in axes:
        ax.plot([0, 1], label="loss")
    figures.legend_below(axes[0], columns=3)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["loss"]
    assert legend.get_window_extent().y1 < axes[0].get_window_extent().y0


def test_intervals_are_drawn_in_order():
    _, (ax,) = figures.new_figure()
    values = {name: Interval(x, x - 1, x + 1, 9) for x, name in enumerate("abc", 1)}
    figures.intervals(ax, values, kinds={"odd": {"a", "c"}, "even": {"b"}})
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    dots = [line for line in ax.get_lines() if line.get_marker() in figures.MARKERS[:2]]
    assert [(list(d.get_xdata()), list(d.get_ydata())) for d in dots] == [
        ([1, 3], [0, 2]),
        ([2], [1]),
    ]
    assert ax.yaxis_inverted()
    plain = figures.new_figure()[1][0]
    figures.intervals(plain, values, kinds={"all": set("abc")}, names=False)
    assert not [t for t in plain.get_yticklabels() if t.get_text()]
