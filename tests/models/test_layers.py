"""Every way to pool, against a naive computation of one text at a time."""

import numpy as np
import pytest
import torch
from conftest import WORDS, tiny_encoder

from sbert_lab.models import layers
from sbert_lab.models.layers import (
    WAYS,
    encode_ways,
    first_token_attention,
    untrained_pooler,
)

TEXTS = [" ".join(WORDS[i : i + 1 + i % 8]) for i in range(20)]


def naive(encoder, text):
    """Return the vector of each way for one text: no padding, no mask."""
    tokens = encoder.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        found = encoder.transformer(**tokens, output_hidden_states=True)
    states = [state[0].numpy() for state in found.hidden_states]
    last = states[-1]
    return {
        "cls": last[0],
        "mean": sum(last) / len(last),
        "max": last.max(0),
        "first-last": sum((states[1] + last) / 2) / len(last),
        "input": sum(states[0]) / len(last),
        "pooler": found.pooler_output[0].numpy(),
    }


def test_every_way_is_the_naive_one():
    encoder = tiny_encoder()
    expected = [naive(encoder, text) for text in TEXTS]
    found = encode_ways(encoder, TEXTS)
    assert set(found) == {*WAYS, "pooler"} == set(expected[0])
    for way, vectors in found.items():
        assert vectors.dtype == np.float32
        wanted = np.stack([vector[way] for vector in expected])
        np.testing.assert_allclose(vectors, wanted, atol=2e-6)


def test_mean_is_what_the_encoder_gives():
    encoder = tiny_encoder()
    np.testing.assert_allclose(
        encode_ways(encoder, TEXTS)["mean"], encoder.encode(TEXTS), atol=2e-6
    )


def test_company_does_not_matter(monkeypatch):
    encoder = tiny_encoder()
    together = encode_ways(encoder, TEXTS)
    monkeypatch.setattr(layers, "TOKEN_BUDGET", {"cpu": 1})
    alone = encode_ways(encoder, TEXTS)
    for way in together:
        np.testing.assert_allclose(together[way], alone[way], atol=2e-6)


def test_long_text_is_cut():
    encoder = tiny_encoder(max_seq_length=8)
    long, short = (encode_ways(encoder, [" ".join(WORDS[:n])]) for n in (20, 6))
    for way in long:
        np.testing.assert_array_equal(long[way], short[way])


def test_no_texts():
    assert {v.shape for v in encode_ways(tiny_encoder(), []).values()} == {(0, 16)}


def test_model_without_a_pooler_gets_the_one_given():
    encoder = tiny_encoder()
    encoder.transformer.pooler = None
    assert "pooler" not in encode_ways(encoder, TEXTS)
    found = encode_ways(encoder, TEXTS, pooler=lambda first: 1 - first)
    np.testing.assert_array_equal(found["pooler"], 1 - found["cls"])


def test_own_pooler_comes_first():
    own = encode_ways(tiny_encoder(), TEXTS)["pooler"]
    found = encode_ways(tiny_encoder(), TEXTS, pooler=torch.zeros_like)["pooler"]
    np.testing.assert_array_equal(found, own)


def test_untrained_pooler_is_drawn_from_its_generator():
    def of(seed, dimension=100):
        generator = torch.Generator().manual_seed(seed)
        return untrained_pooler(dimension, generator)(torch.eye(dimension))

    state = torch.get_rng_state()
    first = of(1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, of(1))
    assert not torch.equal(first, of(2))
    weights = torch.atanh(first)
    assert weights.mean().abs() < 0.001
    assert weights.std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_stays(training):
    expected = encode_ways(tiny_encoder(), TEXTS)
    encoder = tiny_encoder().train(training)
    found = encode_ways(encoder, TEXTS)
    for way in expected:
        np.testing.assert_array_equal(found[way], expected[way])
    assert {module.training for module in encoder.modules()} == {training}


def test_attention_of_the_first_token():
    encoder = tiny_encoder()
    texts = ["the cat sat on the mat", "a dog"]
    before = encoder.transformer.config._attn_implementation
    found = first_token_attention(encoder, texts)
    assert encoder.transformer.config._attn_implementation == before
    total = found["itself"] + found["end"] + found["words"]
    assert total == pytest.approx([1, 1], abs=1e-6)
    encoder.transformer.set_attn_implementation("eager")
    for row, text in enumerate(texts):
        batch = encoder.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            heads = encoder.transformer(**batch, output_attentions=True).attentions[-1]
        looks = heads[0, :, 0].mean(0).numpy()  # [L]
        assert found["itself"][row] == pytest.approx(looks[0], abs=1e-6)
        words = looks[1:-1] / looks[1:-1].sum()
        spread = 2 ** -(words * np.log2(words)).sum() / len(words)
        assert found["evenness"][row] == pytest.approx(spread, abs=1e-6)


def test_even_attention_has_evenness_one():
    encoder = tiny_encoder()
    for layer in encoder.transformer.encoder.layer:
        torch.nn.init.zeros_(layer.attention.self.query.weight)  # no preference at all
        torch.nn.init.zeros_(layer.attention.self.query.bias)
    found = first_token_attention(encoder, ["the cat sat on the mat"])
    assert found["evenness"] == pytest.approx([1.0])
    assert found["itself"] == pytest.approx([1 / 8])
