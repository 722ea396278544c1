"""SimCSE and TSDAE: they learn, the same from a seed, and go on where they stopped."""

import math
import shutil

import numpy as np
import pytest
import torch
from conftest import states, tiny_encoder
from hypothesis import given
from hypothesis import strategies as st
from unlabelled_cases import domain, encoder, same, weights

from sbert_lab import SentenceEncoder
from sbert_lab.adaptation.pseudo_labels import similarity_judge
from sbert_lab.adaptation.unlabelled import different_texts, simcse, tsdae
from sbert_lab.adaptation.without_pairs import METHODS, adapt_without_pairs
from sbert_lab.datasets.pairs import DataError, plain
from sbert_lab.losses import DenoisingAutoEncoderLoss, SimCSELoss
from sbert_lab.training import (
    SentenceTrainer,
    SentenceTrainingArguments,
    TrainingData,
    set_dropout,
)

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = {"epochs": 3, "batch_size": 8, "rate": 2e-3}
OWN = {
    "simcse": {},
    "tsdae": {},
    "pseudo-labels": {"judge": similarity_judge(encoder(7)), "per_text": 1},
}


def adapt(model, method, texts=None, **options):
    texts = domain() if texts is None else texts
    return adapt_without_pairs(method, model, texts, **QUICK | OWN[method] | options)


# -- texts ----------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["a", "A", " a", "b", "b  c", "B c", "ﬁ", "fi"])))
def test_texts_that_repeat_are_left_out(texts):
    wanted = []
    for text in texts:
        if not any(plain(text) == plain(other) for other in wanted):
            wanted.append(text)
    assert different_texts(texts, least=0) == wanted


def test_what_is_left_out_is_counted(caplog):
    texts = domain()
    found = adapt(encoder(), "simcse", [*texts, texts[3].upper(), f" {texts[0]}"])
    assert (found.texts, found.duplicates, found.rows) == (48, 2, 48)
    assert "2 of 50 texts repeat another one" in caplog.text


@pytest.mark.parametrize("method", METHODS)
def test_bad_texts_are_refused(method):
    model = encoder()
    before = weights(model)
    with pytest.raises(DataError, match="row 1: empty, not a text; take that row out"):
        adapt(model, method, ["a cat", " ", "a dog"])
    with pytest.raises(DataError, match="row 0: int, not a text"):
        adapt(model, method, [7, "a dog"])
    with pytest.raises(DataError, match="one text, not a list"):
        adapt(model, method, "a cat")
    with pytest.raises(ValueError, match="1 different texts among 3, and at least"):
        adapt(model, method, ["a cat", "A cat", "a  cat"])
    with pytest.raises(ValueError, match="1 different texts among 2, and at least 2"):
        adapt(model, method, ["a cat", "A cat"], batch_size=1)
    assert same(before, weights(model))


@pytest.mark.parametrize("method", ["simcse", "tsdae"])
def test_a_batch_must_be_full(method):
    with pytest.raises(ValueError, match="7 different .* at least 8 .* lower batch_si"):
        adapt(encoder(), method, domain(7))
    adapt(encoder(), method, domain(7), batch_size=7, epochs=1)


# -- what they do ---------------------------------------------------------------------


@pytest.mark.parametrize("method", ["simcse", "tsdae"])
def test_it_is_the_trainer_with_this_objective(method, tmp_path):
    """All that is asked for reaches the trainer: the same weights, to the bit."""
    one, other = encoder(), encoder()
    options = {"simcse": {"temperature": 0.2, "dropout": 0.3}, "tsdae": {"ratio": 0.3}}
    adapt(one, method, **options[method], seed=5)
    objective = SimCSELoss(0.2)
    if method == "simcse":
        set_dropout(other, 0.3)
    else:
        objective = DenoisingAutoEncoderLoss(other, 0.3, seed=5)
    args = SentenceTrainingArguments(
        str(tmp_path),
        num_train_epochs=3,
        per_device_train_batch_size=8,
        learning_rate=2e-3,
        warmup_steps=0.1,
        seed=5,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
    )
    SentenceTrainer(other, args, TrainingData({"text": domain()}), objective).train()
    assert same(weights(one), weights(other))


def simcse_loss(model, texts, temperature=0.05):
    """Work the loss out by hand, of vectors without dropout."""
    vectors = model.encode(texts, normalize=True).astype(np.float64)
    total = 0.0
    for own in vectors:
        powers = [math.exp(float(own @ other) / temperature) for other in vectors]
        total -= math.log(math.exp(float(own @ own) / temperature) / sum(powers))
    return total / len(texts)


def test_simcse_spreads_texts_it_has_not_seen():
    model, others = encoder(), domain(40, seed=9)
    before = simcse_loss(model, others)
    found = adapt(model, "simcse", epochs=10)
    assert found.steps == 60
    assert simcse_loss(model, others) < 0.5 * before
    first, last = found.curve[0][1], found.curve[-1][1]
    assert last < 0.5 * first


def test_tsdae_learns_to_write_the_texts_again():
    model = encoder()
    found = adapt(model, "tsdae", epochs=25, rate=5e-3)
    first, last = found.curve[0][1], found.curve[-1][1]
    assert first == pytest.approx(math.log(len(model.tokenizer)), abs=0.3)  # by chance
    assert last < 0.75 * first
    assert not model.training


def test_a_seed_gives_the_same_weights():
    for method in METHODS:
        found = []
        for seed in (1, 1, 2):
            model = encoder()
            before = states()
            adapt(model, method, seed=seed, epochs=1)
            assert states() == before
            found.append(weights(model))
        assert same(found[0], found[1])
        assert not same(found[0], found[2])


def test_dropout_is_set_back():
    def dropouts(model):
        config = model.transformer.config
        layers = [p.p for p in model.modules() if isinstance(p, torch.nn.Dropout)]
        layers += [getattr(p, "attention_dropout", None) for p in model.modules()]
        return (
            layers,
            config.hidden_dropout_prob,
            config.attention_probs_dropout_prob,
        )

    found = {}
    for dropout in (0.1, 0.3, None):
        model = encoder()
        set_dropout(model, 0.2)
        model.transformer.encoder.layer[0].output.dropout.p = 0.15
        # Where MPNet keeps that of attention.
        model.transformer.encoder.layer[1].attention.self.attention_dropout = 0.25
        before = dropouts(model)
        assert {0.15, 0.25} < {*before[0]}
        adapt(model, "simcse", dropout=dropout, epochs=1)
        assert dropouts(model) == before
        found[dropout] = weights(model)
        with pytest.raises(TypeError, match="warmth"):
            simcse(model, domain(), batch_size=8, dropout=dropout, warmth=3)
        assert dropouts(model) == before
    assert not same(found[0.1], found[0.3])
    assert not same(found[0.1], found[None])


def test_half_precision_stays_near():
    for method in METHODS:
        found = {}
        for bf16 in (False, True):
            model = encoder()
            adapt(model, method, bf16=bf16, epochs=1)
            assert {p.dtype for p in model.parameters()} == {torch.float32}
            found[bf16] = weights(model)
        assert not same(found[False], found[True])
        name = "transformer.encoder.layer.1.output.dense.weight"
        assert (found[False][name] - found[True][name]).abs().max() < 0.05


# -- stopping and going on ------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_resumed_is_uninterrupted(method, tmp_path):
    whole, first, second = encoder(), encoder(), encoder()
    wanted = adapt(whole, method, folder=tmp_path / "whole")
    adapt(first, method, folder=tmp_path / "part")
    checkpoints = sorted(
        (tmp_path / "part").glob("checkpoint-*"), key=lambda path: int(path.name[11:])
    )
    assert len(checkpoints) == 2
    saved = SentenceEncoder.from_pretrained(checkpoints[-1], device="cpu")
    assert same(weights(saved), weights(whole))
    shutil.rmtree(checkpoints[-1])
    found = adapt(second, method, folder=tmp_path / "part", resume=True)
    assert found == wanted
    assert same(weights(whole), weights(second))
    assert not same(weights(whole), weights(encoder()))


def test_resume_needs_its_folder():
    for method in METHODS:
        with pytest.raises(ValueError, match="needs the folder"):
            adapt(encoder(), method, resume=True)


def test_other_texts_are_not_resumed(tmp_path):
    adapt(encoder(), "simcse", folder=tmp_path)
    with pytest.raises(ValueError, match="changed since are data"):
        adapt(encoder(), "simcse", domain(seed=1), folder=tmp_path, resume=True)


# -- the entry ------------------------------------------------------------------------


def test_what_a_method_usually_takes():
    one, other = encoder(), encoder()
    found = adapt_without_pairs("tsdae", one, domain(16))
    direct = tsdae(other, domain(16))
    assert found == direct
    assert same(weights(one), weights(other))
    assert found.recipe == {
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 3e-5,
        "seed": 0,
        "bf16": False,
        "ratio": 0.6,
    }
    assert (found.method, found.steps, found.mined) == ("tsdae", 2, {})


def test_the_entry_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="one of simcse, .*; did you mean 'simcse'"):
        adapt_without_pairs("simsce", encoder(), domain())
    with pytest.raises(ValueError, match="with pairs, call adapt"):
        adapt_without_pairs("pairs", encoder(), domain())
    with pytest.raises(ValueError, match="tsdae has no option 'temperature': epochs, "):
        adapt_without_pairs("tsdae", encoder(), domain(), temperature=1)


def test_bad_numbers_are_refused():
    model = encoder()
    before = weights(model)
    for options, message in (
        ({"epochs": 0}, "epochs=0: above 0"),
        ({"rate": -1.0}, "learning_rate=-1.0: above 0"),
        ({"batch_size": 0}, "batch_size=0: one or more"),
        ({"temperature": 0}, "temperature=0"),
        ({"dropout": 0}, "by dropout alone"),
        ({"dropout": 1.5}, "from 0 to below 1"),
    ):
        with pytest.raises(ValueError, match=message):
            adapt(model, "simcse", **options)
    with pytest.raises(ValueError, match="ratio=1"):
        adapt(model, "tsdae", ratio=1)
    set_dropout(model, 0)
    with pytest.raises(ValueError, match="needs dropout"):
        adapt(model, "simcse", dropout=None)
    assert same(before, weights(model))


def test_an_encoder_that_no_decoder_fits_is_refused():
    model = tiny_encoder(pooling=("mean", "max"), max_seq_length=24)
    with pytest.raises(ValueError, match="TSDAE needs them equal"):
        adapt(model, "tsdae")
