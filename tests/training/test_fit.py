"""Training in one call: its schedule, its checkpoints, and its curve."""

from contextlib import contextmanager

import pytest
from conftest import tiny_encoder
from transformers import TrainerCallback

from sbert_lab.losses import SimCSELoss
from sbert_lab.training import TrainingData, fit, trainer

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = "cat dog bird fox hill mat red green".split()


class Kept(TrainerCallback):
    """Keeps the arguments and what was logged."""

    def on_train_end(self, args, state, control, **_):
        self.args, self.history = args, state.log_history


def train(**options):
    encoder = tiny_encoder(head=("normalize",), max_seq_length=24)
    data = TrainingData({"text": [f"{a} {b}" for a in WORDS for b in WORDS]})
    options = {"batch_size": 8, "learning_rate": 1e-3, "epochs": 5} | options
    return fit(encoder, data, SimCSELoss(), **options)


def test_the_curve_is_the_mean_loss_between_its_steps():
    fine = train(logging_steps=1)
    assert [step for step, _ in fine] == [*range(1, 41)]
    found = train()
    assert [step for step, _ in found] == [*range(2, 41, 2)]
    losses = [loss for _, loss in fine]
    for step, loss in found:
        assert loss == pytest.approx(sum(losses[step - 2 : step]) / 2, abs=1e-6)


def test_the_rate_rises_for_a_tenth_and_falls_to_nothing():
    kept = Kept()
    train(logging_steps=1, callbacks=[kept])
    rates = [entry["learning_rate"] for entry in kept.history if "loss" in entry]
    wanted = [min(step / 4, (40 - step) / 36) * 1e-3 for step in range(40)]
    assert rates == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("strategy", ["epoch", "steps"])
def test_a_resumed_curve_is_whole(tmp_path, strategy):
    options = {"logging_steps": 5, "save_strategy": strategy, "save_steps": 9}
    whole = train(folder=tmp_path, **options)
    found = sorted(path.name for path in tmp_path.iterdir())
    last = "checkpoint-40"
    assert found == ["checkpoint-32" if strategy == "epoch" else "checkpoint-36", last]
    (tmp_path / last / "trainer_state.json").unlink()
    for _ in range(2):  # the second time nothing is left to do
        assert train(folder=tmp_path, **options) == whole


def test_a_bar_counts_the_steps_of_earlier_runs_too(tmp_path, monkeypatch):
    seen = []

    @contextmanager
    def noted(total, what, **options):
        moves = []
        seen.append((total, moves))
        yield moves.append

    monkeypatch.setattr(trainer, "progress", noted)
    train(folder=tmp_path, epochs=2)
    (tmp_path / "checkpoint-16" / "trainer_state.json").unlink()
    train(folder=tmp_path, epochs=2)
    assert seen == [(16, [1] * 16), (16, [9, *[1] * 7])]
