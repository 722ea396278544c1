"""The picture that grows: what it holds, when it is drawn, and where."""

import itertools
import sys
from types import SimpleNamespace

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from tiny_raw_bert import make_raw, tiny_profile

from sbert_lab.datasets.nli import authored
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.evaluators import SimilarityEvaluator
from sbert_lab.experiments import live, trials
from sbert_lab.experiments.live import LivePicture


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by one that is set by hand."""
    now = SimpleNamespace(seconds=1_000.0)
    now.monotonic = lambda: now.seconds
    monkeypatch.setattr(live, "time", now)
    return now


class Kernel:
    """Stands for a notebook: keeps what is displayed and what it is changed to."""

    def __init__(self):
        self.shown, self.updates = [], []

    def display(self, picture, *, display_id=None):
        assert display_id is True
        self.shown.append(picture)
        return self

    def update(self, picture):
        self.updates.append(picture)

    @property
    def drawn(self):
        return len(self.shown) + len(self.updates)


@pytest.fixture
def kernel(monkeypatch, clock):
    found = Kernel()
    monkeypatch.setattr(live, "_in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", found.display)
    return found


def log(picture, at, **values):
    picture.on_log(None, SimpleNamespace(global_step=at), None, logs=values)


def lines(axes):
    return {
        line.get_label(): list(zip(*line.get_data(), strict=True))
        for line in axes.lines
    }


def test_figure_holds_what_was_logged(clock):
    picture = LivePicture("ranking")
    log(picture, 0, eval_ladder_spearman=0.25)
    log(picture, 5, loss=2.0, accuracy=0.5)
    log(picture, 10, loss=1.5, accuracy=0.75, eval_loss=1.25)
    log(picture, 10, eval_ladder_spearman=0.5)
    left, right = picture.figure().axes
    assert lines(left) == {"loss": [(5, 2.0), (10, 1.5)], "eval_loss": [(10, 1.25)]}
    assert lines(right) == {
        "eval_ladder_spearman": [(0, 0.25), (10, 0.5)],
        "accuracy": [(5, 0.5), (10, 0.75)],
    }
    assert left.get_title() == "ranking: loss"
    assert [axes.get_xlabel() for axes in (left, right)] == ["step", "step"]
    for axes in (left, right):
        written = [text.get_text() for text in axes.get_legend().get_texts()]
        assert written == list(lines(axes))
        for line in axes.lines:  # evaluations are few: one point must be seen
            evaluated = line.get_label().startswith("eval_")
            assert (line.get_marker() == "o") == evaluated


def test_what_is_no_curve_is_not_drawn(clock):
    picture = LivePicture("x")
    log(
        picture, 3, loss=1.0, epoch=0.5, step=3, grad_norm=2.0, learning_rate=1e-3,
        total_flos=1e9, train_runtime=3.0, train_loss=1.0, note="three", missing=None,
    )  # fmt: skip
    assert list(picture.curves) == ["loss"]
    picture.on_log(None, SimpleNamespace(global_step=4), None)
    picture.on_log(None, SimpleNamespace(global_step=4), None, logs={})
    assert picture.curves == {"loss": [(3, 1.0)]}


def test_nothing_logged_is_two_empty_axes(clock):
    figure = LivePicture("x").figure()
    FigureCanvasAgg(figure).draw()
    assert [len(axes.lines) for axes in figure.axes] == [0, 0]
    assert [axes.get_legend() for axes in figure.axes] == [None, None]


def test_first_picture_is_displayed_and_the_others_take_its_place(kernel, clock):
    picture = LivePicture("ranking", seconds=2.0)
    for step in range(1, 5):
        clock.seconds += 3
        log(picture, step, loss=1 / step)
    assert (len(kernel.shown), len(kernel.updates)) == (1, 3)
    picture.on_train_end(None, None, None)
    assert (len(kernel.shown), len(kernel.updates)) == (1, 4)
    pictures = [*kernel.shown, *kernel.updates]
    assert all(one.data.startswith(b"\x89PNG") for one in pictures)
    assert len({one.data for one in pictures[:4]}) == 4  # it grows
    assert pictures[3].data == pictures[4].data
    assert all(len(one.data) < 150_000 for one in pictures)


@pytest.mark.parametrize("seconds", [2.0, 5.0])
def test_it_is_redrawn_no_more_often_than_asked(kernel, clock, monkeypatch, seconds):
    picture = LivePicture("x", seconds)
    monkeypatch.setattr(live.figures, "png", lambda figure: b"\x89PNG")
    drawn_at = []
    for tick in range(24):
        before = kernel.drawn
        log(picture, tick, loss=1.0)
        if kernel.drawn > before:
            drawn_at.append(clock.seconds)
        clock.seconds += 0.5
    gaps = [b - a for a, b in itertools.pairwise(drawn_at)]
    assert drawn_at[0] == 1_000  # the first at once
    assert set(gaps) == {seconds + 0.5}
    assert len(picture.curves["loss"]) == 24  # what is not drawn at once is not lost
    picture.on_train_end(None, None, None)
    assert kernel.drawn == len(drawn_at) + 1  # the last whenever it comes


def test_default_is_two_seconds():
    assert LivePicture("x").seconds == 2.0


def test_the_picture_says_what_it_shows(kernel):
    picture = LivePicture("triplet training")
    log(picture, 1, loss=1.0, nearer=0.5, eval_ladder_spearman=0.1, eval_loss=2.0)
    alt = kernel.shown[0]._repr_png_()[1]["alt"]
    assert alt == (
        "Two line plots against training steps, triplet training: the loss, and "
        "nearer, eval_ladder_spearman."
    )
    assert kernel.shown[0].metadata == {"alt": alt}
    assert kernel.shown[0].format == "png"


def test_the_text_is_whole_while_there_is_only_a_loss(kernel):
    log(LivePicture("x"), 1, loss=1.0)
    assert kernel.shown[0].metadata["alt"].endswith("the loss, and nothing beside it.")


def test_no_empty_picture_is_shown(kernel):
    picture = LivePicture("x")
    log(picture, 1, epoch=0.5)
    picture.on_train_end(None, None, None)
    assert kernel.drawn == 0


def test_each_picture_has_a_place_of_its_own(kernel):
    for title in ("a", "b"):
        log(LivePicture(title), 1, loss=1.0)
    assert (len(kernel.shown), len(kernel.updates)) == (2, 0)


# Outside a notebook


@pytest.fixture
def displayed(monkeypatch):
    found = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **_: found.append(a))
    return found


@pytest.mark.parametrize(
    "shell", [None, SimpleNamespace(), SimpleNamespace(kernel=None)]
)
def test_silent_without_a_kernel(displayed, clock, monkeypatch, capsys, shell):
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    picture = LivePicture("x")
    log(picture, 1, loss=1.0)
    picture.on_train_end(None, None, None)
    assert displayed == []
    assert capsys.readouterr() == ("", "")
    assert picture.curves == {"loss": [(1, 1.0)]}  # yet it can be asked for


def test_silent_without_ipython(clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert not live._in_notebook()
    picture = LivePicture("x")
    log(picture, 1, loss=1.0)
    picture.on_train_end(None, None, None)


def test_a_kernel_is_known_by_its_shell(displayed, clock, monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=object()))
    log(LivePicture("x"), 1, loss=1.0)
    assert len(displayed) == 1


# In a training


def test_a_training_draws_its_loss_and_its_metrics(kernel, tmp_path):
    pairs = authored()
    judged = pairs[300:330]
    watched = SimilarityEvaluator(
        "own",
        ScoredPairs(
            tuple(p.premise for p in judged),
            tuple(p.hypothesis for p in judged),
            tuple(float(i % 6) for i in range(30)),
        ),
    )
    picture = LivePicture("softmax")
    found = trials.train(
        tiny_profile(make_raw(tmp_path / "raw")),
        trials.labelled(pairs[:48]),
        trials.softmax,
        evaluators=[watched],
        evaluations=2,
        callbacks=[picture],
    )
    assert set(picture.curves) == {"loss", "accuracy", "cosine", "eval_own_spearman"}
    for name, points in picture.curves.items():
        assert points == trials.curve(found.history, name)
    assert (len(kernel.shown), len(kernel.updates)) == (1, 1)  # the first, the last
