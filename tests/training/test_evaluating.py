"""Evaluation while training: names, metrics, the best model, stopping early."""

import logging
import math

import numpy as np
import pytest
import torch
from tiny_training import (
    WIDTH,
    Scripted,
    Told,
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
from transformers import EarlyStoppingCallback

from sbert_lab.datasets.pairs import DataError
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.evaluators import RetrievalEvaluator, SimilarityEvaluator
from sbert_lab.losses import (
    CosineSimilarityLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
    TripletLoss,
)
from sbert_lab.training import TrainingData

EVERY = {"eval_strategy": "steps", "eval_steps": 1}
BEST = EVERY | {
    "save_strategy": "steps",
    "save_steps": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "told_score",
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tiny") / "model")


def similarity(name="likeness", seed=9):
    texts = sentences(20, seed)
    score = np.random.default_rng(0).uniform(0, 5, 10).tolist()
    return SimilarityEvaluator(name, ScoredPairs(texts[:10], texts[10:], score))


def retrieval(name="search", seed=9):
    texts = sentences(20, seed)
    corpus = {f"d{i}": text for i, text in enumerate(texts[5:])}
    return RetrievalEvaluator(name, texts[:5], corpus, [{f"d{i}"} for i in range(5)])


def test_metrics_have_the_evaluators_names(folder, tmp_path):
    evaluators = [similarity(), retrieval(), similarity("again")]
    trainer = train(
        load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        evaluators=evaluators, evaluation_data=pairs(8, seed=5), **EVERY,
    )  # fmt: skip
    for name in (
        "eval_likeness_spearman",
        "eval_search_ndcg_at_10",
        "eval_search_recall_at_10",
        "eval_again_spearman",
        "eval_loss",
    ):
        assert len(logged(trainer, name)) == 4
    found = trainer.evaluate()
    assert found["eval_likeness_spearman"] == evaluators[0](trainer.encoder)["spearman"]
    assert (
        logged(trainer, "eval_likeness_spearman")[-1]
        == (found["eval_likeness_spearman"])
    )
    assert trainer.evaluate(metric_key_prefix="test").keys() >= {"test_loss"}


def test_evaluation_changes_nothing(folder, tmp_path):
    """Neither weights nor dropout's draws, nor what is logged of the training."""
    found = []
    for options in ({}, EVERY | {"evaluators": [similarity(), retrieval()]}):
        encoder = load(folder)
        data = {"evaluation_data": pairs(8, seed=5)} if options else {}
        trainer = train(
            encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(),
            **options, **data,
        )  # fmt: skip
        found.append((weights(encoder), logged(trainer, "accuracy")))
    assert unequal(found[0][0], found[1][0]) == []
    assert found[0][1] == found[1][1]


def test_evaluators_see_the_encoder_in_training(folder, tmp_path):
    told = Scripted("told", [0, 0, 0, 0])
    encoder = load(folder)
    train(
        encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        evaluators=[told], **EVERY,
    )  # fmt: skip
    assert told.training == [True] * 4  # encode itself switches dropout off
    assert unequal(told.seen[-1], weights(encoder)) == []
    assert unequal(told.seen[0], told.seen[1])


def test_loss_of_evaluation_data_is_without_dropout_and_by_rows(folder, tmp_path):
    encoder, data = load(folder, 0.3), scored(7, seed=5)
    trainer = made(
        encoder, tmp_path, scored(16), CosineSimilarityLoss(), evaluation_data=data,
        per_device_eval_batch_size=3,
    )  # fmt: skip
    encoder.train()
    found = trainer.evaluate()["eval_loss"]
    assert encoder.training
    texts = [data.row_texts(row) for row in range(7)]
    u, v = (encoder.encode([pair[i] for pair in texts]) for i in (0, 1))
    norms = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
    cosine = (u * v).sum(1) / norms
    assert found == pytest.approx(float(((cosine - data.label) ** 2).mean()), abs=1e-6)


def test_other_data_can_be_evaluated(folder, tmp_path):
    trainer = made(load(folder), tmp_path, {"mine": scored(16)}, CosineSimilarityLoss())
    data = scored(8, seed=5)
    found = trainer.evaluate(data)["eval_loss"]
    same = made(
        load(folder), tmp_path, {"mine": scored(16)}, CosineSimilarityLoss(),
        evaluation_data=data,
    )  # fmt: skip
    assert same.evaluate()["eval_loss"] == found
    with pytest.raises(DataError, match="does not read the column 'anchor'"):
        trainer.evaluate(pairs(8))


def test_evaluation_rows_too_few_to_compare_are_left_out(folder, tmp_path):
    def loss(count):
        trainer = made(
            load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
            evaluation_data=pairs(count, seed=5), per_device_eval_batch_size=4,
        )  # fmt: skip
        return trainer.evaluate()["eval_loss"]

    assert math.isfinite(loss(5))
    assert math.isnan(loss(1))


# The best model


def test_the_best_weights_are_kept_and_loaded(folder, tmp_path):
    told, head = Scripted("told", [0.1, 0.9, 0.2, 0.3]), SoftmaxLoss(WIDTH)
    heads, encoder = [], load(folder)
    judge = told.__call__

    class Both(Scripted):
        def __call__(self, encoder):
            heads.append(weights(head))
            return judge(encoder)

    trainer = train(
        encoder, tmp_path, classed(16), head, evaluators=[Both("told")], **BEST
    )
    assert trainer.state.best_metric == 0.9
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-2")
    assert unequal(told.seen[1], weights(encoder)) == []
    assert unequal(heads[1], weights(head)) == []
    assert unequal(told.seen[3], weights(encoder))
    assert not encoder.training


def test_a_loss_is_best_where_it_is_least(folder, tmp_path):
    encoder = load(folder)
    trainer = train(
        encoder, tmp_path, scored(16), CosineSimilarityLoss(),
        evaluation_data=scored(8, seed=5), learning_rate=0.05,
        **BEST | {"metric_for_best_model": None},
    )  # fmt: skip
    found = logged(trainer, "eval_loss")
    assert trainer.state.best_metric == min(found)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(found), abs=1e-7)


def test_only_some_checkpoints_are_kept_and_the_best_among_them(folder, tmp_path):
    told, encoder = Scripted("told", [0.1, 0.9, 0.2, 0.3]), load(folder)
    train(
        encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        evaluators=[told], save_total_limit=1, **BEST,
    )  # fmt: skip
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    assert unequal(told.seen[1], weights(encoder)) == []


def test_a_best_checkpoint_that_is_gone_is_said_to_be(folder, tmp_path):
    import shutil

    class Removing(Scripted):
        def __call__(self, encoder):
            found = super().__call__(encoder)
            if len(self.seen) == 4:
                shutil.rmtree(tmp_path / "checkpoint-1")
            return found

    with pytest.raises(FileNotFoundError, match="checkpoint-1, is gone"):
        train(
            load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
            evaluators=[Removing("told", [9, 1, 2, 3])], **BEST,
        )  # fmt: skip


def test_training_stops_early(folder, tmp_path):
    told, encoder = Scripted("told", [0.1, 0.9, 0.2, 0.3, 0.95]), load(folder)
    trainer = train(
        encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        evaluators=[told], max_steps=9,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)], **BEST,
    )  # fmt: skip
    assert trainer.state.global_step == 4
    assert len(told.seen) == 4
    assert unequal(told.seen[1], weights(encoder)) == []


@pytest.mark.parametrize("best", ["tolt_score", "score", "eval_score", "loss", None])
def test_a_metric_of_no_evaluator_is_refused_before_training(folder, tmp_path, best):
    with pytest.raises(
        ValueError, match=r"metric_for_best_model=.*: measured are told_"
    ):
        made(
            load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
            evaluators=[Scripted("told")], **BEST | {"metric_for_best_model": best},
        )  # fmt: skip


def test_a_metric_that_the_evaluator_lacks_is_refused_when_it_has_run(folder, tmp_path):
    trainer = made(
        load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        evaluators=[Scripted("told", [0])], evaluation_data=pairs(4, seed=5),
        **BEST | {"metric_for_best_model": "eval_told_scare"},
    )  # fmt: skip
    with pytest.raises(ValueError, match="measured are eval_told_score, eval_loss"):
        trainer.train()


@pytest.mark.parametrize("best", ["told_score", "eval_told_score", "eval_loss"])
def test_metrics_that_are_measured_pass(folder, tmp_path, best):
    made(
        load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        evaluators=[Scripted("told")], evaluation_data=pairs(4, seed=5),
        **BEST | {"metric_for_best_model": best},
    )  # fmt: skip


# What is refused


def test_names_are_unique(folder, tmp_path):
    with pytest.raises(ValueError, match="two evaluators are called 'likeness'"):
        made(
            load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
            evaluators=[similarity(), similarity(seed=8)],
        )  # fmt: skip


def test_evaluations_of_nothing_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="give evaluators="):
        made(load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(), **EVERY)


def test_evaluation_data_goes_with_one_data_set(folder, tmp_path):
    with pytest.raises(ValueError, match="one data set, not several"):
        made(
            load(folder), tmp_path, {"one": pairs(8), "two": pairs(8, 1)},
            MultipleNegativesRankingLoss(), evaluation_data=pairs(8, seed=5),
        )  # fmt: skip


def test_evaluation_data_are_checked_like_training_data(folder, tmp_path):
    with pytest.raises(DataError, match="does not read the column 'first'"):
        made(
            load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
            evaluation_data=scored(4, seed=5),
        )  # fmt: skip


def leaking(kind):
    data = pairs(16)
    anchor, positive = data.row_texts(3)
    if kind == "evaluator":
        item = (f" {positive.upper()}", anchor)
        return data, {"evaluators": [Scripted("told", [0] * 9, [item])]}
    columns = {"anchor": [anchor, "x y"], "positive": [positive, "z"]}
    return data, {"evaluation_data": TrainingData(columns, source="the rest")}


@pytest.mark.parametrize(
    ("kind", "name"), [("evaluator", "told"), ("data", "the rest")]
)
def test_leaks_are_refused_before_the_first_step(folder, tmp_path, kind, name, caplog):
    data, options = leaking(kind)
    said = rf"{name}: .* is also in made-up pairs, row 3"
    with pytest.raises(DataError, match=said):
        made(load(folder), tmp_path, data, MultipleNegativesRankingLoss(), **options)
    caplog.set_level(logging.WARNING)
    train(
        load(folder), tmp_path, data, MultipleNegativesRankingLoss(),
        overlap="warn", **options, **EVERY,
    )  # fmt: skip
    assert "1 items are also trained on" in caplog.text
    with pytest.raises(ValueError, match="overlap='ignore': 'refuse' or 'warn'"):
        made(
            load(folder), tmp_path, data, MultipleNegativesRankingLoss(),
            overlap="ignore", **options,
        )  # fmt: skip


def test_a_pair_has_leaked_whatever_its_negatives(folder, tmp_path):
    texts = sentences(12)
    rows = {"anchor": texts[:4], "positive": texts[4:8], "negative": texts[8:]}
    held_out = {"anchor": texts[:1], "positive": texts[4:5], "negative": ["other"]}
    with pytest.raises(DataError, match="row 0"):
        made(
            load(folder), tmp_path, TrainingData(rows), TripletLoss(),
            evaluation_data=TrainingData(held_out),
        )  # fmt: skip
    shared = {"anchor": texts[:1], "positive": ["new"], "negative": texts[8:9]}
    made(
        load(folder), tmp_path, TrainingData(rows), TripletLoss(),
        evaluation_data=TrainingData(shared),
    )  # fmt: skip


def test_leaks_are_looked_for_in_every_data_set(folder, tmp_path):
    data = {"one": plain_texts(4, seed=1), "two": plain_texts(4)}
    told = Scripted("told", texts=[(data["two"].texts[2],)])

    with pytest.raises(DataError, match="row 2"):
        made(load(folder), tmp_path, data, Told("x", []), evaluators=[told])


def test_an_evaluation_before_the_first_step(folder, tmp_path):
    told = Scripted("told", [0.5] * 5)
    before = load(folder)
    trainer = train(
        load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        evaluators=[told], eval_on_start=True, **EVERY,
    )  # fmt: skip
    assert len(told.seen) == 5
    assert unequal(told.seen[0], weights(before)) == []
    assert torch.is_grad_enabled()
    assert len(logged(trainer, "eval_told_score")) == 5
