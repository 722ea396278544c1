"""Half the steps, a stop, and the other half are all the steps, to the bit."""

import shutil

import pytest
import torch
from tiny_training import (
    BEST,
    WIDTH,
    Scripted,
    StopAt,
    classed,
    load,
    logged,
    made,
    make_folder,
    pairs,
    plain_texts,
    sentences,
    train,
    unequal,
    weights,
)
from transformers import EarlyStoppingCallback

from sbert_lab.losses import (
    CachedMultipleNegativesRankingLoss,
    DenoisingAutoEncoderLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
)
from sbert_lab.training import TrainingData
from sbert_lab.training.trainer import last_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tiny") / "model")


def head(encoder):
    return SoftmaxLoss(WIDTH, generator=torch.Generator().manual_seed(3))


KINDS = {
    "softmax": (lambda: classed(12), head),
    "cached": (
        lambda: pairs(12),
        lambda encoder: CachedMultipleNegativesRankingLoss(tokens=40),
    ),
    "tsdae": (lambda: plain_texts(12), DenoisingAutoEncoderLoss),
}

#: Kind, options, and the step of the stop; all have 3 batches an epoch.
SIX, TWO = {"max_steps": 6}, {"max_steps": 4, "gradient_accumulation_steps": 2}
CASES = {
    "in an epoch": ("softmax", SIX, 2),
    "at its end": ("softmax", SIX, 3),
    "by epochs": ("softmax", {"num_train_epochs": 2, "save_strategy": "epoch"}, 3),
    "accumulating": ("cached", TWO, 3),
    "a decoder": ("tsdae", SIX, 4),
    "bfloat16": ("softmax", SIX | {"bf16": True}, 2),
}


def run(folder, out, kind, options, resume=None):
    make_data, make_objective = KINDS[kind]
    encoder = load(folder, 0.2)
    objective = make_objective(encoder)
    trainer = train(encoder, out, make_data(), objective, resume, **options)
    return weights(encoder, objective), logged(trainer, "loss")


@pytest.mark.parametrize("case", CASES)
def test_stopped_and_resumed_equals_not_stopped(folder, tmp_path, case):
    kind, options, stop = CASES[case]
    expected, losses = run(folder, tmp_path / "whole", kind, options)
    saving = {"save_strategy": "steps", "save_steps": stop} | options
    part = saving | {"callbacks": [StopAt(stop)]}
    half, _ = run(folder, tmp_path / "part", kind, part)
    assert unequal(expected, half)
    torch.rand(5)  # what is drawn in between does not matter
    found, found_losses = run(folder, tmp_path / "part", kind, saving, resume=True)
    assert unequal(expected, found) == []
    assert found_losses == losses


def save_some(folder, out, **options):
    saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}
    return again(folder, out, None, **saving | options)


def again(folder, out, resume=True, data=None, objective=None, dropout=0.1, **options):
    objective = objective or MultipleNegativesRankingLoss()
    return train(
        load(folder, dropout), out, data or pairs(16), objective, resume, **options
    )


def test_the_last_whole_checkpoint_is_found_and_the_others_told(
    folder, tmp_path, caplog
):
    save_some(folder, tmp_path, objective=head(None), data=classed(16))
    last = tmp_path / "checkpoint-3"
    names = "model.safetensors objective.safetensors plan.json scheduler.pt"
    for name in [*names.split(), "optimizer.pt", "rng_state.pth", "trainer_state.json"]:
        whole = (last / name).read_bytes()
        for part in (None, whole[: len(whole) // 2], bytes(len(whole))):
            (last / name).unlink() if part is None else (last / name).write_bytes(part)
            assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
            assert f"passed over: {last / name} is missing or" in caplog.text
            caplog.clear()
            (last / name).write_bytes(whole)
    assert last_checkpoint(tmp_path) == last
    assert not caplog.text
    (last / "trainer_state.json").unlink()
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        again(folder, tmp_path, resume=str(last))
    for number in (1, 2):
        shutil.rmtree(tmp_path / f"checkpoint-{number}")
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        again(folder, tmp_path)


def test_a_checkpoint_named_is_the_one_resumed_from(folder, tmp_path):
    save_some(folder, tmp_path, max_steps=10)
    path = tmp_path / "checkpoint-2"
    trainer = again(folder, tmp_path, resume=path, max_steps=4)
    assert trainer.state.global_step == 4
    trainer = again(folder, tmp_path, max_steps=12)  # from 10, not from 9
    assert logged(trainer, "step")[-3:-1] == [11, 12]


def other_rows():
    texts = sentences(32)
    return TrainingData({"anchor": texts[15::-1], "positive": texts[:15:-1]})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": other_rows()}, "data"),
        ({"seed": 1, "per_device_train_batch_size": 5}, "seed, per_device_train_batch"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps"),
        ({"learning_rate": 2e-3}, "learning_rate"),
        ({"objective": CachedMultipleNegativesRankingLoss()}, "objective"),
        ({"objective": MultipleNegativesRankingLoss(0.1)}, "objective"),
        ({"dropout": 0.3}, "encoder"),
        ({"warmup_steps": 2, "weight_decay": 0.1}, "warmup_steps, weight_decay"),
        ({"lr_scheduler_type": "constant"}, "lr_scheduler_type"),
    ],
)
def test_what_has_changed_is_named(folder, tmp_path, change, named):
    save_some(folder, tmp_path, max_steps=1)
    with pytest.raises(ValueError, match=f"changed since are {named}"):
        again(folder, tmp_path, **change)


def test_what_may_change_is_told(folder, tmp_path, caplog):
    save_some(folder, tmp_path, max_steps=1)
    encoder = load(folder)
    with torch.no_grad():
        next(encoder.parameters()).mul_(2)
    train(encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(), True)
    assert "changed since are steps, weights;" in caplog.text


@pytest.mark.parametrize(
    "options", [{"max_steps": 3}, {"max_steps": 4}, {"num_train_epochs": 0.5}]
)
def test_a_training_that_is_done_goes_no_further(folder, tmp_path, options, caplog):
    """In the middle of an epoch transformers would take one step more each time."""
    options = options | {"save_strategy": "steps", "save_steps": 1}
    ranking = MultipleNegativesRankingLoss()
    done = train(load(folder), tmp_path, pairs(16), ranking, **options)
    encoder = load(folder)
    trainer = made(encoder, tmp_path, pairs(16), ranking, **options)
    assert trainer.train(True).global_step == done.state.global_step
    assert unequal(weights(encoder), weights(done.encoder)) == []
    assert not encoder.training
    assert "nothing is left to do" in caplog.text


SCORES = [0.9, 0.1, 0.2, 0.3]


def stopping(folder, out, resume=None, patience=2, done=0, stop=0):
    """Train for 4 steps, but stop early; return what is left, and the evaluations."""
    told, encoder = Scripted("told", SCORES[done:]), load(folder)
    early = [EarlyStoppingCallback(patience)] if patience else []
    trainer = train(
        encoder, out, pairs(16), MultipleNegativesRankingLoss(), resume,
        evaluators=[told], callbacks=[*early, StopAt(stop)], **BEST,
    )  # fmt: skip
    state, scores = trainer.state, logged(trainer, "eval_told_score")
    ended = state.global_step, state.best_global_step, state.best_metric, scores
    return weights(encoder), ended, len(told.seen)


@pytest.fixture(scope="module")
def stopped(folder, tmp_path_factory):
    return stopping(folder, tmp_path_factory.mktemp("early"))


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_early_stopping_goes_on_counting(folder, tmp_path, caplog, stopped, stop):
    assert stopped[1] == (3, 1, 0.9, SCORES[:3])
    stopping(folder, tmp_path / "part", stop=stop)
    moved = (tmp_path / "part").rename(tmp_path / "moved")
    found, ended, evaluations = stopping(folder, moved, True, done=stop)
    assert ended == stopped[1]
    assert unequal(found, stopped[0]) == []
    assert evaluations == 3 - stop
    assert ("nothing is left to do" in caplog.text) == (stop == 3)


@pytest.mark.parametrize(("before", "after", "end"), [(2, 3, 4), (0, 1, 3)])
def test_callbacks_may_change_and_that_is_told(
    folder, tmp_path, caplog, before, after, end
):
    stopping(folder, tmp_path, patience=before, stop=2)
    _, ended, _ = stopping(folder, tmp_path, True, after, done=2)
    assert ended[0] == end
    assert "changed since are callbacks;" in caplog.text


def test_the_best_so_far_is_remembered(folder, tmp_path):
    first = Scripted("told", [0.1, 0.9])
    train(
        load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        evaluators=[first], callbacks=[StopAt(2)], **BEST,
    )  # fmt: skip
    for values in ([0.2, 0.3], []):  # the second time nothing is left to do
        encoder, told = load(folder), Scripted("told", values)
        trainer = train(
            encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(), True,
            evaluators=[told], **BEST,
        )  # fmt: skip
        assert trainer.state.best_metric == 0.9
        assert unequal(first.seen[1], weights(encoder)) == []
        assert len(told.seen) == len(values)
