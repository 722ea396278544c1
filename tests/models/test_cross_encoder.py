"""A cross-encoder against transformers, pair by pair, and sentence-transformers."""

import logging
import shutil

import numpy as np
import pytest
import torch
from conftest import edit, states, tiny_encoder
from safetensors.torch import load_file, save_file
from tiny_cross_encoder import WORDS, pair_tokenizer, tiny_cross_encoder

from sbert_lab.models import batching, cross_encoder
from sbert_lab.models.batching import pad_right
from sbert_lab.models.checkpoint import CheckpointError
from sbert_lab.models.cross_encoder import CrossEncoder

pytestmark = pytest.mark.usefixtures("one_thread")

RNG = np.random.default_rng(0)
FIRST = [" ".join(RNG.choice(WORDS, RNG.integers(1, 8))) for _ in range(30)]
SECOND = [" ".join(RNG.choice(WORDS, RNG.integers(1, 12))) for _ in range(30)]
LONG = " ".join(WORDS[:40])


@pytest.fixture(params=["packed", "padded"])
def way(request, monkeypatch):
    """Both ways of reading, in batches of a few pairs and chunks of a few batches."""
    monkeypatch.setattr(cross_encoder, "CHUNK", 13)
    if request.param == "padded":
        monkeypatch.setattr(batching, "is_supported", lambda _: False)


def one_by_one(encoder, first, second, segments=True):
    """Return transformers' own scores, float32 ``[n]``, each pair alone."""
    found = []
    for pair in zip(first, second, strict=True):
        tokens = encoder.tokenizer(
            *pair,
            return_tensors="pt",
            truncation="longest_first",
            max_length=encoder.max_seq_length,
        )
        if not segments:
            tokens["token_type_ids"].zero_()
        with torch.no_grad():
            found.append(encoder.transformer(**tokens).logits[0, 0])
    return torch.stack(found).numpy()


def peer_of(folder):
    from sentence_transformers import CrossEncoder as Peer

    return Peer(str(folder), device="cpu", local_files_only=True)


def assert_close(found, wanted, atol=1e-5):  # what float32 is promised to keep
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


def assert_same_model(found, wanted):
    """Weights to the bit; elsewhere in memory they may be summed in another order."""
    weights, others = found.state_dict(), wanted.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in others)
    scores = (one.predict(FIRST, SECOND, activation=None) for one in (found, wanted))
    assert_close(*scores)


def test_scores_are_the_models_own(way):
    encoder = tiny_cross_encoder()
    wanted = one_by_one(encoder, FIRST, SECOND)
    assert wanted.std() > 0.3
    found = encoder.predict(FIRST, SECOND, activation=None, token_budget=40)
    assert found.dtype == np.float32
    assert found.shape == (30,)
    assert_close(found, wanted)
    pairs = pad_right(encoder.pair_ids(FIRST, SECOND), 0)
    with torch.no_grad():  # as a training calls it
        scores = encoder(*map(torch.from_numpy, pairs))
    assert_close(scores[:, 0].numpy(), wanted)
    without = one_by_one(encoder, FIRST, SECOND, segments=False)
    assert np.abs(found - without).max() > 1e-2
    swapped = encoder.predict(SECOND, FIRST, activation=None)
    assert np.abs(found - swapped).max() > 1e-2


def test_activations():
    encoder = tiny_cross_encoder(activation="identity")
    raw = one_by_one(encoder, FIRST, SECOND)
    assert_close(encoder.predict(FIRST, SECOND), raw)
    before = encoder.fingerprint()
    encoder.activation = "sigmoid"
    assert encoder.fingerprint() != before
    assert_close(encoder.predict(FIRST, SECOND), 1 / (1 + np.exp(-raw)))
    assert_close(encoder.predict(FIRST, SECOND, activation=None), raw)


def test_longer_text_is_cut_and_counted(way, caplog):
    encoder = tiny_cross_encoder(max_seq_length=12)
    first, second = [LONG, WORDS[0], WORDS[1]], [WORDS[0], LONG, WORDS[2]]
    with caplog.at_level(logging.WARNING):
        found = encoder.predict(first, second, activation=None)
    assert encoder.last_truncated == 2
    assert "2 of 3 pairs are longer than 12 tokens" in caplog.text
    with pytest.raises(ValueError, match="a whole number, 4 "):
        encoder.max_seq_length = 3  # special tokens alone
    eight = " ".join(WORDS[:8])  # with one word and three special tokens, 12
    whole = encoder.predict(
        [eight, WORDS[0], WORDS[1]], [WORDS[0], eight, WORDS[2]], activation=None
    )
    assert encoder.last_truncated == 0
    assert_close(found, whole)


def test_a_score_that_is_no_number_is_refused(way):
    encoder = tiny_cross_encoder()
    with torch.no_grad():
        encoder.transformer.classifier.bias.fill_(np.nan)
    with pytest.raises(ValueError, match="results of 30 pairs are not finite"):
        encoder.predict(FIRST, SECOND)


def others(kind):
    """Return a random transformer that does not tell the texts of a pair apart."""
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=pair_tokenizer().backend_tokenizer,
        model_max_length=32,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="[PAD]",
    )
    shape = {  # transformers gives a DistilBERT's settings these names too
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
        "initializer_range": 0.3,
        "num_labels": 1,
        "pad_token_id": 0,
        "type_vocab_size": 1,
    }
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), **shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a saved cross-encoder; copy it to change it."""
    path = tmp_path_factory.mktemp("cross") / "model"
    tiny_cross_encoder(activation="identity", max_seq_length=20).save(path)
    return path


@pytest.fixture
def changed(folder, tmp_path):
    """Return a copy of that folder without its checksums."""
    path = shutil.copytree(folder, tmp_path / "copy")
    (path / "sbert_lab.json").unlink()
    return path


def load(folder, **options):
    options = {"device": "cpu", "allow_hub": False} | options
    return CrossEncoder.from_pretrained(folder, **options)


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh"])
def test_folders_go_both_ways_in_both_spellings(tmp_path, activation):
    """Ours is a plain transformers folder, the peer's a pipeline of one module."""
    encoder = tiny_cross_encoder(activation=activation, max_seq_length=16)
    encoder.save(tmp_path / "ours")
    first, second = [*FIRST, LONG, WORDS[0]], [*SECOND, WORDS[0], LONG]
    wanted = encoder.predict(first, second)
    again = load(tmp_path / "ours")
    assert not again.training
    assert_same_model(again, encoder)
    peer = peer_of(tmp_path / "ours")
    assert_close(peer.predict(list(zip(first, second, strict=True))), wanted)
    peer.save_pretrained(str(tmp_path / "theirs"))
    assert (tmp_path / "theirs" / "modules.json").is_file()
    found = load(tmp_path / "theirs")
    assert (found.activation, found.max_seq_length) == (activation, 16)
    assert_close(found.predict(first, second), wanted)


@pytest.mark.parametrize("kind", ["Roberta", "DistilBert"])
def test_transformers_without_segments(tmp_path, kind):
    model, tokenizer = others(kind)
    encoder = CrossEncoder(model, tokenizer, max_seq_length=20)
    wanted = one_by_one(encoder, FIRST, SECOND)
    assert wanted.std() > 1e-2
    found = encoder.predict(FIRST, SECOND, activation=None, token_budget=50)
    assert_close(found, wanted)
    encoder.save(tmp_path / "ours")
    theirs = peer_of(tmp_path / "ours").predict(list(zip(FIRST, SECOND, strict=True)))
    assert_close(encoder.predict(FIRST, SECOND), theirs)
    # A tokenizer may name segments that the model does not take.
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    assert_close(CrossEncoder(model, tokenizer).predict(FIRST, SECOND), theirs)


@pytest.mark.parametrize("kind", ["Roberta", "GPT2"])
def test_places_and_padding_as_the_model_counts_them(tmp_path, kind):
    """Of a tokenizer that has no limit, and another padding than the model or none."""
    model, tokenizer = others(kind)
    model.config.pad_token_id = 9  # by which a GPT-2 finds the last token
    model.save_pretrained(tmp_path)
    tokenizer.model_max_length, tokenizer.pad_token = 10**9, None
    tokenizer.save_pretrained(tmp_path)
    encoder = load(tmp_path)
    assert encoder.max_seq_length == {"Roberta": 30, "GPT2": 40}[kind]
    first, second = [*FIRST, LONG], [*SECOND, LONG]
    found = encoder.predict(first, second, activation=None)
    assert_close(found, one_by_one(encoder, first, second))
    edit(tmp_path / "config.json", pad_token_id=None)
    if kind == "GPT2":
        with pytest.raises(CheckpointError, match="no padding token"):
            load(tmp_path)


def test_older_spellings_of_the_activation(changed):
    name, path = "sbert_ce_default_activation_function", "torch.nn.modules"
    config = changed / "config.json"
    edit(config, sentence_transformers=None, **{name: f"{path}.activation.Tanh"})
    assert load(changed).activation == "tanh"
    edit(config, sentence_transformers={"activation_fn": f"{path}.linear.Identity"})
    assert load(changed).activation == "identity"
    edit(config, sentence_transformers=None, **{name: None})
    assert load(changed).activation == "sigmoid"


@pytest.fixture(scope="module")
def headless(tmp_path_factory):
    """Return the folder of a sentence encoder."""
    path = tmp_path_factory.mktemp("encoder") / "model"
    tiny_encoder(max_seq_length=24).save(path)
    return path


def test_a_head_is_drawn_from_its_seed(headless, tmp_path):
    before = states()
    one, same, other = (load(headless, head_seed=seed) for seed in (1, 1, 2))
    assert states() == before
    assert one.max_seq_length == 24
    weights, again, others_ = (e.state_dict() for e in (one, same, other))
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    changed = {
        name for name in weights if not torch.equal(weights[name], others_[name])
    }
    assert changed == {"transformer.classifier.weight"}
    base = tiny_encoder().transformer.state_dict()
    assert all(torch.equal(weights[f"transformer.bert.{n}"], base[n]) for n in base)
    assert 0.01 < weights["transformer.classifier.weight"].std() < 0.04
    assert not weights["transformer.classifier.bias"].any()
    encoder = tiny_encoder()
    encoder.transformer.pooler = None  # then it is drawn too
    encoder.save(tmp_path / "encoder")
    one, other = (load(tmp_path / "encoder", head_seed=seed) for seed in (1, 2))
    drawn = "transformer.bert.pooler.dense.weight"
    assert not torch.equal(one.state_dict()[drawn], other.state_dict()[drawn])
    one.save(tmp_path / "cross")
    assert_same_model(load(tmp_path / "cross"), one)


def test_weights_of_another_model_are_refused(changed, headless, tmp_path):
    weights = load_file(changed / "model.safetensors")
    name = "classifier.weight"
    wide = weights | {name: torch.zeros(1, 8)}
    save_file(wide, changed / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="mismatch"):
        load(changed)
    del weights[name]
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="1 tensors missing.*classifier.weight"):
        load(changed, head_seed=0)
    with pytest.raises(CheckpointError, match="no head .*head_seed=0"):
        load(headless)
    with pytest.raises(CheckpointError, match="gives 2 scores a pair"):
        tiny_cross_encoder(num_labels=2)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config_sentence_transformers", {"activation_fn": "os.system"}, "'os.system'"),
        ("config_sentence_transformers", {"activation_fn": "torch.nn.Softmax"}, "not"),
        ("config_sentence_transformers", {"default_prompt_name": "q"}, "a default"),
        ("sentence_bert_config", {"processing_kwargs": {"text": {"a": 7}}}, "or proc"),
        ("sentence_bert_config", {"transformer_task": "text"}, "the task must be"),
    ],
)
def test_what_would_run_code_or_be_left_out_is_refused(
    folder, tmp_path, file, change, message
):
    peer_of(folder).save_pretrained(str(tmp_path))
    assert load(tmp_path).activation == "identity"
    edit(tmp_path / f"{file}.json", **change)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


def test_rerank_sorts_by_score():
    encoder = tiny_cross_encoder()
    scores = encoder.predict([FIRST[0]] * 30, SECOND)
    wanted = sorted(range(30), key=lambda i: -scores[i])
    order, sorted_scores = encoder.rerank(FIRST[0], SECOND)
    assert order.tolist() == wanted
    assert_close(sorted_scores, scores[wanted])
    five, raw = encoder.rerank(FIRST[0], SECOND, 5, activation=None)
    assert five.tolist() == wanted[:5]
    assert_close(1 / (1 + np.exp(-raw)), scores[wanted[:5]])
    same, _ = encoder.rerank(FIRST[0], [SECOND[0]] * 20)
    assert same.tolist() == list(range(20))


def test_bad_pairs_and_options_are_refused():
    encoder = tiny_cross_encoder()
    with pytest.raises(ValueError, match="2 first texts and 1 second"):
        encoder.predict(["a", "b"], ["c"])
    with pytest.raises(TypeError, match=r"second\[0\] is 7, not a string"):
        encoder.predict(["a"], [7])
