"""Training equals what it should be worked out by hand, and leaves no traces."""

import logging
import random

import numpy as np
import pytest
import torch
from conftest import states
from tiny_training import (
    BEST,
    WIDTH,
    AfterStep,
    Scripted,
    arguments,
    classed,
    farthest,
    load,
    logged,
    made,
    make_folder,
    pairs,
    scored,
    sentences,
    train,
    unequal,
    weights,
)
from torch.nn import functional as F

from sbert_lab import SentenceEncoder
from sbert_lab.datasets.pairs import DataError
from sbert_lab.evaluation.evaluators import RetrievalEvaluator
from sbert_lab.losses import (
    CachedMultipleNegativesRankingLoss,
    CosineSimilarityLoss,
    MultipleNegativesRankingLoss,
    SimCSELoss,
    SoftmaxLoss,
    TripletLoss,
)
from sbert_lab.training import TrainingData
from sbert_lab.training.batch_samplers import BatchSampler
from sbert_lab.training.trainer import last_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tiny") / "model")


# Steps


def by_hand(encoder, texts, steps, size, seed):
    """Train with MNRL in a plain loop; return the weights after each step."""
    rows = BatchSampler(len(texts[0]), size, seed=seed, least_rows=2)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-3, weight_decay=0)
    done, found = 0, []
    while done < steps:
        rows.set_epoch(done // len(rows))
        for batch in rows:
            if done == steps:
                break
            vectors = []
            for column in texts:
                given = encoder.tokenizer(
                    [column[row] for row in batch], padding=True, return_tensors="pt"
                )
                vectors.append(encoder(given["input_ids"], given["attention_mask"]))
            a, p = (F.normalize(part, dim=-1) for part in vectors)
            F.cross_entropy(a @ p.T / 0.05, torch.arange(len(a))).backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            for group in optimiser.param_groups:
                warm = min(1, done / 2)  # two steps of warming up
                group["lr"] = 1e-3 * min(warm, (steps - done) / (steps - 2))
            optimiser.step()
            optimiser.zero_grad()
            done += 1
            found.append(weights(encoder))
    return found


def test_every_step_equals_a_loop_by_hand(folder, tmp_path):
    texts = sentences(28)
    columns = {"anchor": texts[:14], "positive": texts[14:]}
    expected = by_hand(
        load(folder, 0, double=True), (texts[:14], texts[14:]), 9, 4, seed=7
    )
    encoder, found = load(folder, 0, double=True), []
    train(
        encoder,
        tmp_path,
        TrainingData(columns),
        MultipleNegativesRankingLoss(),
        callbacks=[AfterStep(lambda: found.append(weights(encoder)))],
        max_steps=9,
        warmup_steps=2,
        seed=7,
    )
    assert len(found) == len(expected) == 9  # more than two epochs of 4, 4, 4 and 2
    for ours, theirs in zip(found, expected, strict=True):
        assert farthest(ours, theirs) < 1e-6
    assert farthest(expected[0], expected[-1]) > 1e-3


def test_gradients_accumulate_to_those_of_the_whole_batch(folder, tmp_path):
    found = []
    for size, parts in ((8, 1), (2, 4)):
        encoder = load(folder, 0, double=True)
        trainer = train(
            encoder,
            tmp_path,
            scored(20),  # the last batch of an epoch is a half
            CosineSimilarityLoss(),
            num_train_epochs=2,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=parts,
        )
        assert trainer.state.global_step == 6
        found.append((weights(encoder), logged(trainer, "loss")))
    assert farthest(found[0][0], found[1][0]) < 1e-6
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-6)


def test_small_batches_are_left_out(folder, tmp_path):
    def steps(data, objective, **options):
        made_now = made(
            load(folder), tmp_path, data, objective, num_train_epochs=2, **options
        )
        return made_now.last_step()

    ranking = MultipleNegativesRankingLoss()
    assert steps(pairs(9), ranking) == 4  # 4 and 4 rows, and one with no wrong answer
    assert steps(scored(9), CosineSimilarityLoss()) == 6
    assert steps(scored(9), CosineSimilarityLoss(), dataloader_drop_last=True) == 4
    assert steps(scored(9), CosineSimilarityLoss(), gradient_accumulation_steps=2) == 4


ANSWERS = {"anchor": sentences(12), "positive": ["yes", "no", "perhaps"] * 4}


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (pairs(9), {}, "1 of 9 rows are in no batch"),
        (pairs(9), {"max_steps": 1}, "5 of 9 rows are in no batch"),
        (
            TrainingData(ANSWERS),
            {"per_device_train_batch_size": 2},
            "6 of 12 rows are in batches of one positive",
        ),
    ],
)
def test_rows_that_teach_nothing_are_told(
    folder, tmp_path, caplog, data, options, said
):
    options = {"num_train_epochs": 1} | options
    objective = CachedMultipleNegativesRankingLoss()
    made(load(folder), tmp_path, data, objective, **options)
    assert said in caplog.text


@pytest.mark.parametrize(
    ("columns", "objective"),
    [
        (ANSWERS | {"positive": ["yes"] * 12}, MultipleNegativesRankingLoss()),
        ({"text": ["one"] * 4}, SimCSELoss()),
    ],
)
def test_data_in_which_nothing_differs_are_refused(
    folder, tmp_path, columns, objective
):
    with pytest.raises(DataError, match="are in batches of one"):
        made(load(folder), tmp_path, TrainingData(columns), objective)


def test_set_dropout(folder, tmp_path):
    encoder = load(folder, 0.25)
    drops = [m.p for m in encoder.modules() if isinstance(m, torch.nn.Dropout)]
    assert set(drops) == {0.25}
    encoder.save(tmp_path / "saved")
    saved = SentenceEncoder.from_pretrained(tmp_path / "saved", device="cpu")
    config = saved.transformer.config
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.25


# What is left behind


def test_seed_decides_and_nothing_else(folder, tmp_path):
    found = []
    for seed, world in ((5, 1), (5, 2), (6, 1)):
        random.seed(world)
        np.random.seed(world)  # noqa: NPY002
        torch.manual_seed(world)
        encoder = load(folder)
        before = states()
        train(encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(), seed=seed)
        assert states() == before
        found.append(weights(encoder))
    assert unequal(found[0], found[1]) == []
    assert unequal(found[0], found[2])


def test_encoder_is_left_as_it_was_by_a_training_that_fails(folder, tmp_path):
    encoder, seen, state = load(folder), [], states()

    def look():
        seen.append((encoder.training, encoder.transformer.config._attn_implementation))
        raise KeyError("on purpose")

    trainer = made(
        encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        callbacks=[AfterStep(look)],
    )  # fmt: skip
    with pytest.raises(KeyError, match="on purpose"):
        trainer.train()
    assert set(seen) == {(True, "eager")}
    assert not any(module.training for module in encoder.modules())
    assert encoder.transformer.config._attn_implementation == "sdpa"
    assert states() == state


def test_two_trainers_with_the_same_data_do_not_meet(folder, tmp_path):
    data, alone = pairs(16), load(folder)
    train(alone, tmp_path, data, MultipleNegativesRankingLoss())
    encoder, other = load(folder), load(folder)
    other.max_seq_length = 4
    one = made(encoder, tmp_path, data, MultipleNegativesRankingLoss())
    made(other, tmp_path, data, MultipleNegativesRankingLoss()).train()
    one.train()
    assert unequal(weights(encoder), weights(alone)) == []


def test_reports_are_lines_of_the_log(folder, tmp_path, caplog, capsys):
    caplog.set_level(logging.INFO, logger="sbert_lab")
    train(
        load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        disable_tqdm=False,
    )  # fmt: skip
    lines = [r.getMessage() for r in caplog.records if "{'loss'" in r.getMessage()]
    assert [line.split(":")[0] for line in lines] == [
        f"step {n} of 4" for n in (1, 2, 3, 4)
    ]
    said = capsys.readouterr()
    assert said.out == said.err == ""


def test_a_checkpoint_is_a_model_and_saving_never_removes_one(folder, tmp_path):
    from sentence_transformers import SentenceTransformer

    encoder = load(folder)
    trainer = train(
        encoder, tmp_path, classed(16), SoftmaxLoss(WIDTH),
        save_strategy="steps", save_steps=4,
    )  # fmt: skip
    texts = sentences(9, seed=3)
    expected = encoder.encode(texts)
    trainer.save_model(str(tmp_path / "model"))
    for saved in (tmp_path / "checkpoint-4", tmp_path / "model"):
        ours = SentenceEncoder.from_pretrained(saved, device="cpu")
        assert ours.fingerprint() == encoder.fingerprint()
        theirs = SentenceTransformer(str(saved), device="cpu")
        np.testing.assert_allclose(theirs.encode(texts), expected, rtol=0, atol=1e-6)
    trainer.save_model()  # where the checkpoints are
    load(tmp_path)
    assert (tmp_path / "checkpoint-4" / "trainer_state.json").is_file()
    (tmp_path / "plan.json").write_text("mine")
    with pytest.raises(FileExistsError, match=r"plan\.json is not of an earlier save"):
        trainer.save_model()


def test_checkpoints_of_others_are_kept(folder, tmp_path, caplog):
    options = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    (tmp_path / "checkpoint-best").mkdir(parents=True)
    trainer = train(load(folder), tmp_path, classed(16), SoftmaxLoss(WIDTH), **options)
    assert "save_total_limit is off" in caplog.text
    found = {f"checkpoint-{name}" for name in (1, 2, 3, 4, "best")}
    assert {path.name for path in tmp_path.iterdir()} == found
    (tmp_path / "checkpoint-4" / "plan.json").unlink()
    for resume in (None, True, tmp_path / "checkpoint-4"):
        with pytest.raises(FileExistsError, match="checkpoint-4 is no checkpoint of"):
            trainer.train(resume)


def test_a_checkpoint_that_is_written_anew_is_none_until_it_is_whole(folder, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4}
    first = train(load(folder), tmp_path, classed(16), SoftmaxLoss(WIDTH), **options)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    first.save_model(str(tmp_path / "checkpoint-4"))
    assert last_checkpoint(tmp_path) is None


# A loss that is not finite


def test_a_loss_that_is_not_finite_stops_the_run_with_its_rows(folder, tmp_path):
    encoder = load(folder)
    with pytest.raises(
        FloatingPointError, match="step 2: .*made-up pairs, rows"
    ) as told:
        train(
            encoder, tmp_path, pairs(8), MultipleNegativesRankingLoss(),
            learning_rate=float("inf"),
        )  # fmt: skip
    rows = [row for row in range(8) if str(row) in str(told.value).split("rows")[1]]
    assert len(rows) == 4
    assert not encoder.training


# Evaluation


def test_evaluators_run_under_their_names_and_change_nothing(folder, tmp_path):
    texts = sentences(20, 9)
    corpus = {f"d{i}": text for i, text in enumerate(texts[5:])}
    relevant = [{f"d{i}"} for i in range(5)]
    search = RetrievalEvaluator("search", texts[:5], corpus, relevant)
    alone, encoder = load(folder), load(folder)
    train(alone, tmp_path, pairs(16), MultipleNegativesRankingLoss())
    trainer = train(
        encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        evaluators=[search], eval_on_start=True, eval_strategy="steps", eval_steps=1,
    )  # fmt: skip
    assert unequal(weights(alone), weights(encoder)) == []
    measured = logged(trainer, "eval_search_ndcg_at_10")
    assert len(measured) == 5
    found = trainer.evaluate(metric_key_prefix="test")
    assert found["test_search_ndcg_at_10"] == search(encoder)["ndcg_at_10"]
    assert measured[-1] == found["test_search_ndcg_at_10"]


def test_the_best_weights_are_kept_and_loaded(folder, tmp_path):
    told, head, heads = Scripted("told", [0.1, 0.9, 0.2, 0.3]), SoftmaxLoss(WIDTH), []

    class Both(Scripted):
        def __call__(self, encoder):
            heads.append(weights(head))
            return told(encoder)

    encoder = load(folder)
    trainer = train(
        encoder, tmp_path, classed(16), head, evaluators=[Both("told")],
        save_total_limit=1, **BEST,
    )  # fmt: skip
    assert trainer.state.best_metric == 0.9
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    assert unequal(told.seen[1], weights(encoder)) == []
    assert unequal(heads[1], weights(head)) == []
    assert unequal(told.seen[3], weights(encoder))
    assert not encoder.training


def leaking(item):
    return [Scripted("told", texts=[("nothing", "at all"), item])]


@pytest.mark.parametrize(
    ("item", "leaks"),
    [
        ((" {1} ", "{0}"), True),
        (("{0}", "{2}"), False),  # both are there, in different rows
        (("{2}",), True),
        (("{0} more",), False),
    ],
)
def test_leaks_are_refused_before_the_first_step(folder, tmp_path, item, leaks):
    data = pairs(16)
    texts = [text.upper() for row in data.row_texts()[3:] for text in row]
    evaluators = leaking(tuple(text.format(*texts) for text in item))
    ranking = MultipleNegativesRankingLoss()
    if not leaks:
        made(load(folder), tmp_path, data, ranking, evaluators=evaluators)
        return
    row = 4 if len(item) == 1 else 3
    with pytest.raises(DataError, match=f"told: .* also in made-up pairs, row {row}"):
        made(load(folder), tmp_path, data, ranking, evaluators=evaluators)


# Refusals


def test_arguments_that_nobody_reads_are_refused(tmp_path):
    unread = {
        "label_smoothing_factor": 0.1,
        "train_sampling_strategy": "group_by_length",
    }
    for name, value in unread.items():
        with pytest.raises(ValueError, match=f"{name}=.*: SentenceTrainer has no use"):
            arguments(tmp_path, **{name: value})


def test_what_cannot_go_well_is_refused(folder, tmp_path):
    encoder, ranking = load(folder), MultipleNegativesRankingLoss()

    def refused(error, said, data=None, objective=ranking, **options):
        with pytest.raises(error, match=said):
            made(encoder, tmp_path, data or pairs(8), objective, **options)

    one = {"per_device_train_batch_size": 1}
    refused(ValueError, "needs 2 or more; .*batch_size is 1", **one)
    refused(ValueError, "made-up pairs has 1", pairs(1))
    refused(ValueError, f"SoftmaxLoss.{WIDTH}", classed(8), SoftmaxLoss(WIDTH + 1))
    refused(DataError, "needs anchor, positive, negative", objective=TripletLoss())
    twice = [Scripted("told"), Scripted("told")]
    refused(ValueError, "a name of its own", evaluators=twice)
    options = BEST | {"evaluators": [Scripted("told", [0])]}
    trainer = made(
        encoder, tmp_path, pairs(8), ranking,
        **options | {"metric_for_best_model": "tolt_score"},
    )  # fmt: skip
    with pytest.raises(KeyError, match="eval_told_score"):
        trainer.train()
