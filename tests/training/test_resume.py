"""Half the steps, a stop, and the other half are all the steps, to the bit."""

import functools
import json
import logging
import os
import shutil

import pytest
import torch
from tiny_training import (
    WIDTH,
    Scripted,
    classed,
    load,
    logged,
    made,
    make_folder,
    pairs,
    plain_texts,
    scored,
    sentences,
    train,
    unequal,
    weights,
)
from transformers import TrainerCallback

from sbert_lab.losses import (
    CachedMultipleNegativesRankingLoss,
    CosineSimilarityLoss,
    DenoisingAutoEncoderLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
)
from sbert_lab.training import TrainingData
from sbert_lab.training.resuming import checkpoint


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tiny") / "model")


class Stop(TrainerCallback):
    """Ends a training as a power cut would, when its checkpoint has been written."""

    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **_):
        control.should_training_stop = state.global_step == self.step


def head(encoder):
    generator = torch.Generator().manual_seed(3)
    return SoftmaxLoss(WIDTH, generator=generator)


def shared_head(encoder):
    found = head(encoder)
    return {"one": found, "two": MultipleNegativesRankingLoss(), "three": found}


KINDS = {
    "softmax": (lambda: classed(12), head),
    "mnrl": (
        lambda: pairs(12),
        lambda encoder: MultipleNegativesRankingLoss(),
    ),
    "cached": (
        lambda: pairs(12),
        lambda encoder: CachedMultipleNegativesRankingLoss(tokens=40),
    ),
    "tsdae": (lambda: plain_texts(12), DenoisingAutoEncoderLoss),
    "several": (
        lambda: {"one": classed(8), "two": pairs(8), "three": classed(4, 1)},
        shared_head,
    ),
}

#: Options, and the step of the stop; all have 3 batches an epoch but "several" with 5.
SIX = {"max_steps": 6}
TWO_A_STEP = {"max_steps": 4, "gradient_accumulation_steps": 2}  # then one, each epoch
WAYS = {
    "in the middle of an epoch": (SIX, 2),
    "at the end of an epoch": (SIX, 3),
    "in the middle of the second epoch": (SIX, 4),
    "by epochs": ({"num_train_epochs": 2}, 3),
    "accumulating, in the middle": (TWO_A_STEP, 3),
    "accumulating, at the end": (TWO_A_STEP, 2),
    "no duplicates": (SIX | {"batching": "no_duplicates"}, 2),
    "by tokens": (SIX | {"batching": "tokens", "batch_tokens": 70}, 2),
    "bfloat16": (SIX | {"bf16": True}, 2),
    "activations again": (SIX | {"activation_checkpointing": True}, 2),
}
CASES = [
    *(("softmax", way) for way in WAYS),
    *((kind, "in the middle of the second epoch") for kind in KINDS),
    *((kind, "accumulating, in the middle") for kind in ("cached", "several")),
    ("tsdae", "at the end of an epoch"),
]


def run(folder, out, kind, options, resume=None):
    make_data, make_objective = KINDS[kind]
    encoder = load(folder, 0.2)
    objective = make_objective(encoder)
    parts = objective.values() if isinstance(objective, dict) else [objective]
    trainer = train(encoder, out, make_data(), objective, resume, **options)
    return weights(encoder, *parts), logged(trainer, "loss"), trainer.state.global_step


@pytest.fixture(scope="module")
def at_once(folder, tmp_path_factory):
    """Train without a stop, once for all that have the same plan."""
    return functools.cache(
        lambda kind, options: run(
            folder, tmp_path_factory.mktemp("whole"), kind, dict(options)
        )
    )


@pytest.mark.parametrize(("kind", "way"), list(dict.fromkeys(CASES)))
def test_stopped_and_resumed_equals_not_stopped(folder, tmp_path, at_once, kind, way):
    options, stop = WAYS[way]
    expected, losses, steps = at_once(kind, tuple(options.items()))
    saving = options | {
        "save_strategy": "epoch" if way == "by epochs" else "steps",
        "save_steps": stop,
    }
    half, _, stopped = run(folder, tmp_path, kind, saving | {"callbacks": [Stop(stop)]})
    assert stopped == stop < steps
    assert unequal(expected, half)
    torch.rand(5)  # what is drawn in between does not matter
    found, found_losses, end = run(folder, tmp_path, kind, saving, resume=True)
    assert end == steps
    assert unequal(expected, found) == []
    assert found_losses == losses


def save_some(folder, out, data=None, objective=None, **options):
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3} | options
    return train(
        load(folder), out, data or pairs(16),
        objective or MultipleNegativesRankingLoss(), **options,
    )  # fmt: skip


def again(folder, out, resume=True, data=None, objective=None, **options):
    return train(
        load(folder), out, data or pairs(16),
        objective or MultipleNegativesRankingLoss(), resume, **options,
    )  # fmt: skip


def damage(folder, how):
    state = folder / "trainer_state.json"
    if how == "cut short":
        state.write_text(state.read_text()[:200])
    elif how == "empty":
        state.write_text("")
    else:
        (folder / how).unlink()


@pytest.mark.parametrize(
    "how",
    [
        "trainer_state.json",
        "cut short",
        "empty",
        "optimizer.pt",
        "scheduler.pt",
        "objectives.safetensors",
        "plan.json",
    ],
)
def test_a_half_written_checkpoint_is_passed_over(folder, tmp_path, how, caplog):
    save_some(folder, tmp_path)
    damage(tmp_path / "checkpoint-3", how)
    assert checkpoint(True, tmp_path).name == "checkpoint-2"
    assert "checkpoint-3 is incomplete and passed over" in caplog.text
    if how == "cut short":
        trainer = again(folder, tmp_path)
        assert len(logged(trainer, "loss")) == 4
    with pytest.raises(FileNotFoundError, match="checkpoint-3 is not a complete check"):
        again(folder, tmp_path, resume=str(tmp_path / "checkpoint-3"))


def test_a_checkpoint_being_written_is_not_one(folder, tmp_path, monkeypatch):
    """A stop in the middle of writing, at each file that is written."""
    save_some(folder, tmp_path, max_steps=2)
    real, count = torch.save, 0

    def cut(*args, **options):
        nonlocal count
        count += 1
        if count == stop:
            raise KeyboardInterrupt
        real(*args, **options)

    for number in (1, 2, 3):  # optimiser, schedule, random state
        stop, count = number, 0
        monkeypatch.setattr(torch, "save", cut)
        trainer = made(
            load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
            save_strategy="steps", save_steps=3,
        )  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            trainer.train(True)
        assert (tmp_path / "checkpoint-3").is_dir()
        assert checkpoint(True, tmp_path).name == "checkpoint-2"
        monkeypatch.undo()
    again(folder, tmp_path, save_strategy="steps", save_steps=3)
    assert checkpoint(True, tmp_path).name == "checkpoint-4"
    assert checkpoint(str(tmp_path / "checkpoint-3"), tmp_path)


def test_checkpoints_are_counted_not_spelt(tmp_path, folder):
    save_some(folder, tmp_path, max_steps=10, save_steps=9)
    last = tmp_path / "checkpoint-10"
    for other in ("checkpoint-best", "checkpoint-11.previous", "checkpoint-", "x"):
        shutil.copytree(last, tmp_path / other)
    assert checkpoint(True, tmp_path) == last


def test_no_checkpoint_is_said_to_be(folder, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="has no complete checkpoint; train wit"
    ):
        again(folder, tmp_path / "nowhere")
    save_some(folder, tmp_path, max_steps=1)
    (tmp_path / "checkpoint-1" / "trainer_state.json").unlink()
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        again(folder, tmp_path)
    with pytest.raises(FileNotFoundError, match="not a complete checkpoint"):
        again(folder, tmp_path, resume=str(tmp_path / "other"))


def test_a_checkpoint_without_the_optimiser_is_no_place_to_go_on(folder, tmp_path):
    save_some(folder, tmp_path, save_only_model=True)
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        again(folder, tmp_path)


def test_a_checkpoint_named_is_the_one_resumed_from(folder, tmp_path):
    save_some(folder, tmp_path)
    for name in (str(tmp_path / "checkpoint-2"), tmp_path / "checkpoint-2"):
        trainer = again(folder, tmp_path, resume=name, max_steps=3)
        assert trainer.state.global_step == 3
        assert logged(trainer, "step") == [1, 2, 3, 3]


def other_rows():
    texts = sentences(32)
    texts[20] += " balan"
    return TrainingData({"anchor": texts[:16], "positive": texts[16:]})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": other_rows()}, "data"),
        ({"seed": 1}, "seed"),
        ({"data_seed": 1}, "data_seed"),
        ({"per_device_train_batch_size": 5}, "per_device_train_batch_size"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps"),
        ({"batching": "no_duplicates"}, "batching"),
        ({"dataloader_drop_last": True}, "dataloader_drop_last"),
        ({"learning_rate": 2e-3}, "learning_rate"),
        ({"optim": "sgd"}, "optim"),
        ({"prompts": "query "}, "prompts"),
        ({"objective": CachedMultipleNegativesRankingLoss()}, "objective"),
        ({"objective": MultipleNegativesRankingLoss(0.1)}, "objective"),
        (
            {"batching": "tokens", "batch_tokens": 100, "seed": 2},
            "seed, batching, batch_tokens",
        ),
    ],
)
def test_what_has_changed_is_named(folder, tmp_path, change, named):
    save_some(folder, tmp_path, max_steps=1)
    with pytest.raises(ValueError, match=f"changed since are {named}\\. Take back"):
        again(folder, tmp_path, **change)


def test_rows_in_another_order_are_other_data(folder, tmp_path):
    save_some(folder, tmp_path, max_steps=1)
    texts = sentences(32)
    columns = {"anchor": texts[15::-1], "positive": texts[:15:-1]}
    with pytest.raises(ValueError, match="changed since are data"):
        again(folder, tmp_path, data=TrainingData(columns))


def test_an_objective_of_another_kind_is_refused(folder, tmp_path):
    """Even where neither has weights, and the columns are the same."""

    class Other(CosineSimilarityLoss):
        pass

    save_some(folder, tmp_path, scored(16), CosineSimilarityLoss(), max_steps=1)
    with pytest.raises(ValueError, match="changed since are objective"):
        again(folder, tmp_path, data=scored(16), objective=Other())


def test_an_objective_with_other_weights_is_refused(folder, tmp_path):
    save_some(folder, tmp_path / "head", classed(16), SoftmaxLoss(WIDTH), max_steps=1)
    with pytest.raises(ValueError, match="was saved with another objective"):
        again(
            folder, tmp_path / "head", data=classed(16),
            objective=SoftmaxLoss(WIDTH, labels=4),
        )  # fmt: skip


def test_more_steps_may_be_asked_for(folder, tmp_path):
    save_some(folder, tmp_path)
    assert again(folder, tmp_path, max_steps=5).state.global_step == 5


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"max_steps": 3}, {"max_steps": 3}),
        ({"max_steps": 3}, {"max_steps": 2}),
        ({"max_steps": 4}, {"max_steps": 4}),
        ({"num_train_epochs": 1.5}, {"num_train_epochs": 1.5}),
        (
            {"num_train_epochs": 0.5, "gradient_accumulation_steps": 3},
            {"num_train_epochs": 0.5, "gradient_accumulation_steps": 3},
        ),
    ],
)
def test_a_training_that_is_done_goes_no_further(folder, tmp_path, first, then):
    """In the middle of an epoch transformers would take one step more each time."""
    saving = {"save_strategy": "steps", "save_steps": 1}
    done = train(
        load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        **first, **saving,
    )  # fmt: skip
    for _ in range(2):
        encoder = load(folder)
        trainer = made(
            encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(),
            **then, **saving,
        )  # fmt: skip
        found = trainer.train(True)
        assert found.global_step == trainer.state.global_step == done.state.global_step
        assert unequal(weights(encoder), weights(done.encoder)) == []
        assert not encoder.training


def test_the_best_so_far_is_remembered(folder, tmp_path):
    options = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "told_score",
        "save_strategy": "steps",
        "save_steps": 1,
    }
    first = Scripted("told", [0.1, 0.9])
    train(
        load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        evaluators=[first], callbacks=[Stop(2)], **options,
    )  # fmt: skip
    for values in ([0.2, 0.3], []):  # the second time nothing is left to do
        encoder, told = load(folder), Scripted("told", values)
        trainer = train(
            encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(), True,
            evaluators=[told], **options,
        )  # fmt: skip
        assert trainer.state.best_metric == 0.9
        assert unequal(first.seen[1], weights(encoder)) == []
        assert len(told.seen) == len(values)


def test_the_plan_is_plain_json(folder, tmp_path):
    save_some(
        folder, tmp_path, {"one": classed(8), "two": classed(8, 1)},
        SoftmaxLoss(WIDTH), max_steps=1,
    )  # fmt: skip
    plan = json.loads((tmp_path / "checkpoint-1" / "plan.json").read_text())
    assert plan["seed"] == 42
    (kind, settings), *others = plan["objective"]["one"]
    assert (kind, others) == ("SoftmaxLoss", [])
    assert settings["parts"] == ["u", "v", "|u-v|"]
    assert plan["objective"]["two"] == plan["objective"]["one"]
    assert {len(value) for value in plan["data"].values()} == {64}
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_resuming_says_nothing_more(folder, tmp_path, caplog):
    save_some(folder, tmp_path, max_steps=2)
    caplog.clear()
    caplog.set_level(logging.WARNING)
    again(folder, tmp_path, max_steps=3, save_strategy="steps", save_steps=1)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("sbert")] == []
