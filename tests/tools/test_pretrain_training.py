"""The model's beginning, the plan, training, resuming, and checkpoints."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_pretraining import PLAN, fresh, prepared, statics
from torch.nn import functional as F

from tools.pretraining.batches import load_streams
from tools.pretraining.checkpoints import (
    State,
    drop_checkpoints,
    keep_checkpoint,
    latest_checkpoint,
    save_checkpoint,
)
from tools.pretraining.heldout import evaluate, held_out_batches
from tools.pretraining.model import check_vocabulary
from tools.pretraining.plan import (
    Plan,
    cooldown_plan,
    learning_rate,
    load_plan,
    save_plan,
)
from tools.pretraining.training import resume, train, train_step

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("training"))


def test_learning_rate_phases():
    plan = Plan(peak=1.0, warmup=10, hold=100, total=1000, cooldown=0)
    assert learning_rate(4, plan) == 0.5
    assert learning_rate(50, plan) == 1.0
    assert learning_rate(400, plan) == 0.5
    cooled = replace(plan, cooldown=200)
    assert learning_rate(800, cooled) == learning_rate(800, plan)
    assert learning_rate(900, cooled) == 0.5 * math.sqrt(100 / 900)
    assert learning_rate(1000, cooled) == 0.0
    branch = cooldown_plan(plan, 400, 30 * plan.tokens_per_step)
    assert (branch.total, branch.cooldown) == (430, 30)


def test_a_plan_is_read_as_it_was_written(tmp_path):
    plan = replace(PLAN, snapshots=(1e3, 2e3))
    save_plan(plan, tmp_path)
    assert load_plan(tmp_path) == plan
    assert [t for t in range(128, 3000, 128) if plan.is_snapshot(t)] == [1024, 2048]


def test_model_starts_from_vectors_and_frequencies(data):
    state = torch.get_rng_state()
    model = fresh(data).model
    assert torch.equal(state, torch.get_rng_state())
    arrays = statics(data)
    table = model.bert.embeddings.word_embeddings.weight.detach().numpy()[:, :16]
    vectors = arrays["vectors"].astype(np.float32)
    known = np.linalg.norm(vectors, axis=1) > 0.1
    known[:5] = False
    table, vectors = table[known], vectors[known]
    lengths = np.linalg.norm(table, axis=1)
    assert np.allclose(lengths, 0.04 * math.sqrt(16), atol=1e-4)
    cosine = (table * vectors).sum(1) / (lengths * np.linalg.norm(vectors, axis=1))
    assert (cosine > 0.999).all()
    waves = model.bert.embeddings.position_embeddings.weight.detach()
    nearness = F.cosine_similarity(waves[10:11], waves[8:13])
    assert nearness.argmax() == 2
    assert torch.allclose(nearness, nearness.flip(0), atol=1e-4)
    decoder = model.cls.predictions.decoder.weight
    assert decoder is model.bert.embeddings.word_embeddings.weight
    bias = model.cls.predictions.bias.detach().numpy()
    assert np.allclose(bias, np.log(arrays["frequency"] + 1e-7), atol=1e-5)


def run_training(data, run, *stops):
    """Train in pieces that end at the given steps, each from the last checkpoint."""
    streams = load_streams(data, "train")
    held = held_out_batches(load_streams(data, "heldout"), 2, 16, 2)
    for stop in stops:
        plan = replace(PLAN, total=stop)
        checkpoint = latest_checkpoint(run)
        learner = resume(checkpoint, plan, CPU) if checkpoint else fresh(data)
        learner.model.set_attn_implementation("eager")
        state = train(learner, streams, held, data, run, plan)
        assert state.step == stop
        assert state.tokens == stop * plan.tokens_per_step
    checkpoint = latest_checkpoint(run)
    moments = load_file(checkpoint / "optimizer.safetensors")
    return load_file(checkpoint / "model.safetensors") | moments


def test_resuming_is_bit_equal(data, tmp_path):
    whole = run_training(data, tmp_path / "whole", 8)
    halves = run_training(data, tmp_path / "halves", 4, 8)
    assert whole.keys() == halves.keys()
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_a_run_that_is_told_to_stop_leaves_a_checkpoint(data, tmp_path):
    streams = load_streams(data, "train")
    state = train(fresh(data), streams, [], data, tmp_path, PLAN, stop=[True])
    assert state.step == 0
    assert latest_checkpoint(tmp_path).name == "step-0000000"


def test_training_learns_and_beats_the_unigram_guess(data):
    streams = load_streams(data, "train")
    held = held_out_batches(streams, 8, 16, 8, seed=9)
    frequency = statics(data)["frequency"]
    learner = fresh(data)
    plan = replace(PLAN, rows=16, peak=5e-3, warmup=20, hold=1000)
    before = evaluate(learner.model, held, frequency)
    for step in range(150):
        train_step(learner.model, learner.optimizer, streams, plan, step)
    after = evaluate(learner.model, held, frequency)
    assert after.masked == before.masked > 20
    assert after.loss < 0.8 * before.loss
    assert after.loss < after.unigram_loss
    assert after.accuracy > after.unigram_accuracy
    assert after == evaluate(learner.model, held, frequency)


def test_vocabularies_must_agree(data, tmp_path):
    (tmp_path / "vocab.txt").write_text("other\n")
    with pytest.raises(ValueError, match="different vocabularies"):
        check_vocabulary(tmp_path, data)


def test_only_the_latest_and_the_kept_checkpoints_stay(data, tmp_path):
    learner = fresh(data)
    for step in (1, 2, 3):
        state = State(step=step)
        folder = save_checkpoint(tmp_path, learner.model, learner.optimizer, state)
        if step == 1:
            keep_checkpoint(tmp_path, folder)
    drop_checkpoints(tmp_path)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-0000001", "step-0000003"]
