"""A cross-encoder learns, the same from the same seed, and goes on where it stopped."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from conftest import states, tiny_encoder
from tiny_cross_encoder import WORDS, tiny_cross_encoder
from torch.nn import functional as F

from sbert_lab.datasets.pairs import DataError
from sbert_lab.losses import MultipleNegativesRankingLoss
from sbert_lab.losses.pair_scores import (
    BinaryCrossEntropy,
    ListwiseCrossEntropy,
    listwise_cross_entropy_loss,
)
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.training import SentenceTrainer, SentenceTrainingArguments, TrainingData
from sbert_lab.training.batch_samplers import BatchSampler, random_batches
from sbert_lab.training.cross_encoder import CrossEncoderTrainer, train_cross_encoder

pytestmark = pytest.mark.usefixtures("one_thread")


GREEN, RED = WORDS[:10], WORDS[10:20]


def texts(count, words, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, rng.integers(1, 6))) for _ in range(count)]


def labelled(count=64, seed=0):
    """Return pairs whose label is that of the second text; the first misleads."""
    rng = np.random.default_rng(seed)
    sides = rng.integers(0, 2, (count, 2))
    first, second = (
        [texts(1, (GREEN, RED)[side], rng)[0] for side in column] for column in sides.T
    )
    label = sides[:, 1].astype(float)
    return TrainingData({"anchor": first, "text": second, "label": label})


def listed(count=24, seed=0, most=3):
    """Return rows of one positive and 1 to `most` negatives, of other words."""
    rng = np.random.default_rng(seed)
    negative = [texts(rng.integers(1, most + 1), RED, rng) for _ in range(count)]
    columns = {
        "anchor": texts(count, GREEN, rng),
        "positive": texts(count, GREEN, rng),
        "negative": negative,
    }
    if most == 1:
        columns["label"] = rng.uniform(1, 3, count).round(2)
    return TrainingData(columns)


DATA = {
    "binary": labelled,
    "listwise": listed,
}


def train(encoder, data, objective, **options):
    options = {
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "logging_steps": 1,
    } | options
    return train_cross_encoder(encoder, data, objective=objective, **options)


def weights(encoder):
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def mean_loss(encoder, data, objective):
    """Work the loss of all rows out from `predict`, row by row."""
    everything = TrainingData.__getitems__
    data.tokenize(encoder)
    batch = everything(data, range(len(data)))
    total = 0.0
    for row in range(len(data)):
        one = batch.only(row)
        anchor = one.texts["anchor"][0]

        def scores(found, anchor=anchor):
            return encoder.predict([anchor] * len(found), found, activation=None)

        if objective == "binary":
            probability = 1 / (1 + math.exp(-float(scores(one.texts["text"])[0])))
            y = float(one.label[0])
            total -= y * math.log(probability) + (1 - y) * math.log(1 - probability)
        elif objective == "listwise":
            own = scores([*one.texts["positive"], *one.texts["negative"]])
            total -= math.log(math.exp(own[0]) / sum(map(math.exp, own)))
        else:
            positive, negative = scores(
                [*one.texts["positive"], *one.texts["negative"]]
            )
            total += (float(positive - negative) - float(one.label[0])) ** 2
    return total / len(data)


# -- losses ---------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_listwise_loss_is_the_loop(temperature):
    generator = torch.Generator().manual_seed(0)
    counts = [2, 0, 5, 1]
    positive = torch.randn(4, generator=generator, dtype=torch.float64)
    negative = torch.randn(8, generator=generator, dtype=torch.float64)
    owner = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    total, start = 0.0, 0
    for row, count in enumerate(counts):
        row_scores = [positive[row], *negative[start : start + count]]
        start += count
        powers = [math.exp(float(score) / temperature) for score in row_scores]
        total -= math.log(powers[0] / sum(powers)) / 4
    found = listwise_cross_entropy_loss(
        positive, negative, owner, temperature=temperature
    )
    assert float(found) == pytest.approx(total, abs=1e-12)


def test_listwise_loss_has_its_gradient():
    generator = torch.Generator().manual_seed(1)
    owner = torch.tensor([0, 0, 2])
    positive, negative = (
        torch.randn(3, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    assert torch.autograd.gradcheck(
        lambda p, n: listwise_cross_entropy_loss(p, n, owner), (positive, negative)
    )


@pytest.mark.parametrize("objective", DATA)
def test_loss_of_a_batch_is_the_loop(objective, tmp_path):
    encoder, data = tiny_cross_encoder(), DATA[objective]()
    wanted = mean_loss(encoder, data, objective)
    trainer = CrossEncoderTrainer(
        encoder,
        SentenceTrainingArguments(
            str(tmp_path), use_cpu=True, per_device_eval_batch_size=7, report_to="none"
        ),
        data,
        {
            "binary": BinaryCrossEntropy,
            "listwise": ListwiseCrossEntropy,
        }[objective](),
        evaluation_data=data,
        overlap="warn",
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(wanted, abs=1e-5)


def told(objective, columns, scores):
    data = TrainingData(columns)
    data.tokenize(tiny_cross_encoder())
    batch = data.__getitems__(range(len(data)))
    return objective.score_loss(torch.tensor(scores), batch)


def test_what_is_told_beside_the_loss():
    anchor = {"anchor": WORDS[:4]}
    binary = anchor | {"text": WORDS[4:8], "label": [1, 0.4, 0, 1]}
    found = told(BinaryCrossEntropy(), binary, [0.2, 0.7, -1.0, -2.0])
    assert found.diagnostics["accuracy"] == 0.5  # the first and the third
    negative = [[WORDS[8], WORDS[9]], [WORDS[10]], [WORDS[11]], [WORDS[12]]]
    rows = anchor | {"positive": WORDS[4:8], "negative": negative}
    scores = [1.0, 2.0, 0.0, 3.0, 0.5, 1.0, 1.9, -1.0, 4.0]
    found = told(ListwiseCrossEntropy(), rows, scores)
    assert found.diagnostics["accuracy"] == 0.5  # a draw is lost, and the last one


def test_one_step_is_the_step_by_hand():
    """One step of SGD: transformers' own pass, padded, and PyTorch's own loss."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    encoder, other = (tiny_cross_encoder(**still) for _ in range(2))
    data = labelled(12)
    options = {"optim": "sgd", "learning_rate": 0.1, "warmup_steps": 0, "max_steps": 1}
    train(encoder, data, "binary", batch_size=5, seed=3, **options)
    rows = BatchSampler(
        [lambda rng: random_batches(12, 5, rng)], [0], seed=3, least_rows=[1]
    )
    columns = {role: column[0] for role, column in data._columns.items()}
    batch = next(iter(rows))
    first, second = (
        [data.texts[columns[role][row]] for row in batch] for role in ("anchor", "text")
    )
    tokens = other.tokenizer(first, second, return_tensors="pt", padding=True)
    logits = other.transformer(**tokens).logits[:, 0]
    label = torch.tensor(data.label[batch], dtype=torch.float32)
    F.binary_cross_entropy_with_logits(logits, label).backward()
    before = weights(other)
    with torch.no_grad():
        norm = torch.nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        for parameter in other.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    assert norm > 0
    found, wanted = weights(encoder), weights(other)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-6)
    assert not same(before, wanted)


# -- learning -------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["listwise"])
def test_it_learns(objective):
    encoder, data = tiny_cross_encoder(initializer_range=0.2), DATA[objective]()
    before = mean_loss(encoder, data, objective)
    found = train(encoder, data, objective, epochs=12)
    assert found.global_step == 12 * math.ceil(len(data) / 8)
    assert not encoder.training
    assert mean_loss(encoder, data, objective) < 0.3 * before


def test_a_fresh_head_is_trained(tmp_path):
    tiny_encoder().save(tmp_path / "base")
    encoder = CrossEncoder.from_pretrained(
        tmp_path / "base", head_seed=0, device="cpu", allow_hub=False
    )
    columns = {"anchor": ["cat", "dog"] * 8, "text": ["cat", "cat"] * 8}
    data = TrainingData(columns | {"label": [1, 0] * 8})
    train(encoder, data, "binary", epochs=40, learning_rate=1e-2)
    yes, no = encoder.predict(["cat", "dog"], ["cat", "cat"])
    assert yes > 0.8
    assert no < 0.2


@pytest.mark.parametrize("objective", DATA)
def test_a_seed_gives_the_same_weights(objective):
    found = []
    for seed in (1, 1, 2):
        encoder = tiny_cross_encoder()
        before = states()
        train(encoder, DATA[objective](), objective, epochs=1, seed=seed)
        assert states() == before
        found.append(weights(encoder))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_half_precision_stays_near():
    found = {}
    for bf16 in (False, True):
        encoder = tiny_cross_encoder()
        train(encoder, labelled(), "binary", bf16=bf16)
        assert {p.dtype for p in encoder.parameters()} == {torch.float32}
        found[bf16] = weights(encoder)
    assert not same(found[False], found[True])
    name = "transformer.classifier.weight"
    assert (found[False][name] - found[True][name]).abs().max() < 0.05


def test_loss_of_held_out_rows_is_measured(tmp_path):
    encoder, held_out = tiny_cross_encoder(), labelled(20, seed=5)
    options = {"evaluation_data": held_out, "folder": tmp_path / "run", "epochs": 2}
    train(encoder, labelled(), "binary", **options)
    state = tmp_path / "run" / "checkpoint-16" / "trainer_state.json"
    history = json.loads(state.read_text())["log_history"]
    found = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert len(found) == 2
    assert found[-1] == pytest.approx(mean_loss(encoder, held_out, "binary"), abs=1e-5)


# -- stopping and going on ------------------------------------------------------------


@pytest.mark.parametrize("objective", DATA)
def test_resumed_is_uninterrupted(objective, tmp_path):
    whole, first, second = (tiny_cross_encoder() for _ in range(3))
    data = DATA[objective]
    train(whole, data(), objective, folder=tmp_path / "whole", epochs=3)
    train(first, data(), objective, folder=tmp_path / "part", epochs=3)
    checkpoints = sorted(
        (tmp_path / "part").glob("checkpoint-*"), key=lambda p: int(p.name[11:])
    )
    assert len(checkpoints) == 2  # of the second and the third epoch
    shutil.rmtree(checkpoints[-1])
    found = train(
        second, data(), objective, folder=tmp_path / "part", epochs=3, resume=True
    )
    assert found.global_step == 3 * math.ceil(len(data()) / 8)
    assert same(weights(whole), weights(second))


def test_a_checkpoint_is_a_cross_encoder(tmp_path):
    encoder, data = tiny_cross_encoder(activation="identity"), labelled()
    train(encoder, data, "binary", folder=tmp_path, epochs=1)
    saved = CrossEncoder.from_pretrained(tmp_path / "checkpoint-8", allow_hub=False)
    assert saved.activation == "identity"
    assert same(weights(encoder), weights(saved.cpu()))


def test_resume_begins_where_there_is_nothing(tmp_path):
    one, other = tiny_cross_encoder(), tiny_cross_encoder()
    train(one, labelled(), "binary", folder=tmp_path / "new", resume=True)
    train(other, labelled(), "binary")
    assert same(weights(one), weights(other))


def test_another_plan_is_not_resumed(tmp_path):
    train(tiny_cross_encoder(), labelled(), "binary", folder=tmp_path)
    with pytest.raises(ValueError, match="changed since are seed"):
        train(
            tiny_cross_encoder(),
            labelled(),
            "binary",
            folder=tmp_path,
            seed=4,
            resume=True,
        )


# -- refusals -------------------------------------------------------------------------


def test_bad_data_is_refused():
    encoder = tiny_cross_encoder()
    label = {"anchor": ["a", "b"], "text": ["c", "d"], "label": [1, 2]}
    with pytest.raises(DataError, match="row 1, column 'label': 2; BinaryCrossEntropy"):
        train(encoder, TrainingData(label), "binary")
    with pytest.raises(DataError, match="needs a column 'negative'"):
        train(encoder, TrainingData({"anchor": ["a"], "positive": ["b"]}), "listwise")
    columns = {"anchor": ["a", "b"], "positive": ["c", "d"]}
    rows = columns | {"negative": [["e"], ["f", "g"]], "label": [1, 1]}
    with pytest.raises(DataError, match="reads no label"):
        train(encoder, TrainingData(rows), "listwise")


def test_bad_options_are_refused(tmp_path):
    encoder, data = tiny_cross_encoder(), labelled(8)
    with pytest.raises(ValueError, match="objective='triplet': one of binary"):
        train(encoder, data, "triplet")
    with pytest.raises(ValueError, match="needs the folder"):
        train(encoder, data, "binary", resume=True)
    with pytest.raises(ValueError, match="temperature=0"):
        ListwiseCrossEntropy(0)
    args = SentenceTrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(TypeError, match="MultipleNegativesRankingLoss compares vec"):
        CrossEncoderTrainer(encoder, args, data, MultipleNegativesRankingLoss())
    with pytest.raises(TypeError, match="not a CrossEncoder"):
        CrossEncoderTrainer(tiny_encoder(), args, data, BinaryCrossEntropy())
    with pytest.raises(TypeError, match="trains a CrossEncoder"):
        SentenceTrainer(tiny_encoder(), args, data, BinaryCrossEntropy())
    with pytest.raises(ValueError, match="no prompts"):
        CrossEncoderTrainer(encoder, args, data, BinaryCrossEntropy(), prompts="q: ")


def test_long_pairs_are_counted(caplog):
    encoder = tiny_cross_encoder(max_seq_length=10)
    columns = {
        "anchor": [WORDS[0], " ".join(WORDS[:5])],
        "positive": [" ".join(WORDS[:6]), " ".join(WORDS[:3])],
        "negative": [[" ".join(WORDS[:7]), WORDS[3]], [WORDS[2]]],
    }
    train(encoder, TrainingData(columns), "listwise", epochs=1)
    assert "2 of 5 pairs are longer than 10 tokens" in caplog.text


def test_a_loss_that_is_no_number_names_the_row():
    encoder = tiny_cross_encoder()
    table = encoder.transformer.bert.embeddings.word_embeddings.weight
    with torch.no_grad():  # numbers, but too large to normalise
        table[encoder.tokenizer.convert_tokens_to_ids(WORDS[100]), ::2] = 3e38
        table[encoder.tokenizer.convert_tokens_to_ids(WORDS[100]), 1::2] = -3e38
    columns = {"anchor": WORDS[:3], "text": [WORDS[5], WORDS[100], WORDS[6]]}
    data = TrainingData(columns | {"label": [1, 0, 1]}, source="made-up pairs")
    message = f"made-up pairs, row 1. The first of them: .*{WORDS[100]}"
    with pytest.raises(FloatingPointError, match=message):
        train(encoder, data, "binary")
