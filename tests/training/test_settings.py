"""What the functions that train in one call have in common."""

from contextlib import contextmanager

import pytest
from conftest import tiny_encoder

from sbert_lab.losses import SimCSELoss
from sbert_lab.training import SentenceTrainer, TrainingData, settings
from sbert_lab.training.settings import train_usually

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = "cat dog bird fox hill mat red green".split()


def train(made=None, **options):
    encoder = tiny_encoder(head=("normalize",), max_seq_length=24)
    data = TrainingData({"text": [f"{a} {b}" for a in WORDS for b in WORDS]})

    def make(args):
        trainer = SentenceTrainer(encoder, args, data, SimCSELoss())
        if made is not None:
            made.append(trainer)
        return trainer

    options = {"batch_size": 8, "learning_rate": 1e-3, "epochs": 5} | options
    return train_usually(make, device=encoder.device, **options)


def test_the_curve_is_the_mean_loss_between_its_steps():
    fine = train(arguments={"logging_steps": 1})
    assert [step for step, _ in fine.curve] == [*range(1, 41)]
    found = train()
    assert [step for step, _ in found.curve] == [*range(2, 41, 2)]
    losses = [loss for _, loss in fine.curve]
    for step, loss in found.curve:
        assert loss == pytest.approx(sum(losses[step - 2 : step]) / 2, abs=1e-6)
    assert found.output.global_step == 40
    assert found.output.training_loss == pytest.approx(sum(losses) / 40, abs=1e-6)


def test_the_rate_rises_for_a_tenth_and_falls_to_nothing():
    made = []
    train(made, arguments={"logging_steps": 1})
    history = made[0].state.log_history
    rates = [entry["learning_rate"] for entry in history if "loss" in entry]
    wanted = [min(step / 4, (40 - step) / 36) * 1e-3 for step in range(40)]
    assert rates == pytest.approx(wanted, abs=1e-9)


def test_two_checkpoints_are_kept_where_a_folder_is_given(tmp_path):
    train(folder=tmp_path / "run")
    found = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert found == ["checkpoint-32", "checkpoint-40"]


def test_a_resumed_curve_is_whole(tmp_path):
    every = {"logging_steps": 5}  # epochs end in between
    whole = train(folder=tmp_path, arguments=every)
    assert [step for step, _ in whole.curve][:5] == [5, 8, 10, 15, 16]
    (tmp_path / "checkpoint-40" / "trainer_state.json").unlink()
    for _ in range(2):  # the second time nothing is left to do
        found = train(folder=tmp_path, arguments=every, resume=True)
        assert found.curve == whole.curve


def test_a_bar_counts_the_steps_of_earlier_runs_too(tmp_path, monkeypatch):
    seen = []

    @contextmanager
    def noted(total, what, **options):
        moves = []
        seen.append(((total, what, options), moves))
        yield moves.append

    monkeypatch.setattr(settings, "progress", noted)
    train(folder=tmp_path, epochs=2, show_progress=True)
    (tmp_path / "checkpoint-16" / "trainer_state.json").unlink()
    train(folder=tmp_path, epochs=2, resume=True)
    (first, moves), (again, others) = seen
    assert first == (16, "train", {"show": True, "minimum": 100})
    assert again == (16, "train", {"show": None, "minimum": 100})
    assert moves == [1] * 16
    assert others == [9, *[1] * 7]


def test_what_is_asked_for_reaches_the_trainer():
    made = []
    options = {"seed": 7, "bf16": True, "batch_size": 4, "learning_rate": 3e-4}
    train(made, epochs=1, **options, arguments={"warmup_steps": 3, "max_steps": 2})
    args = made[0].args
    assert (args.seed, args.bf16, args.per_device_train_batch_size) == (7, True, 4)
    assert (args.learning_rate, args.num_train_epochs) == (3e-4, 1)
    assert (args.warmup_steps, args.max_steps) == (3, 2)  # these win
    assert made[0].state.global_step == 2


def test_bad_numbers_are_refused():
    for options, message in (
        ({"epochs": 0}, "epochs=0: above 0"),
        ({"learning_rate": 0}, "learning_rate=0: above 0"),
        ({"batch_size": 0}, "batch_size=0: one or more"),
        ({"resume": True}, "resume=True needs the folder"),
    ):
        with pytest.raises(ValueError, match=message):
            train(**options)
