"""Every pooling and the attention, against transformers, one text at a time."""

import numpy as np
import pytest
import torch
from conftest import WORDS, states, tiny_encoder

from sbert_lab.models import batching
from sbert_lab.models.probing import (
    POOLINGS,
    encode_all_poolings,
    first_token_attention,
    untrained_bert,
)

TEXTS = [" ".join(WORDS[i : i + 1 + i % 8]) for i in range(20)]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(batching, "TOKEN_BUDGET", {"cpu": 40})


def naive(encoder, text):
    """Return the vector of each pooling for one text: no padding, no mask."""
    tokens = encoder.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        found = encoder.transformer(**tokens, output_hidden_states=True)
    layers = [state[0].numpy() for state in found.hidden_states]
    last = layers[-1]
    return {
        "cls": last[0],
        "mean": sum(last) / len(last),
        "max": last.max(0),
        "first_last": sum((layers[1] + last) / 2) / len(last),
    }


def test_every_pooling_is_the_naive_one():
    encoder = tiny_encoder()
    expected = [naive(encoder, text) for text in TEXTS]
    found = encode_all_poolings(encoder, TEXTS)
    assert list(found) == list(POOLINGS)
    for pooling, vectors in found.items():
        assert vectors.dtype == np.float32
        wanted = np.stack([vector[pooling] for vector in expected])
        np.testing.assert_allclose(vectors, wanted, atol=2e-6)


def test_untrained_bert_is_drawn_from_its_seed_alone():
    config = tiny_encoder().transformer.config
    before = states()
    one, same, other = (untrained_bert(config, seed) for seed in (0, 0, 1))
    assert states() == before
    weight = "embeddings.word_embeddings.weight"
    assert torch.equal(one.get_parameter(weight), same.get_parameter(weight))
    assert not torch.equal(one.get_parameter(weight), other.get_parameter(weight))
    assert one.config.hidden_dropout_prob == 0


def test_first_token_attention_is_the_models_own():
    encoder = tiny_encoder()
    used = encoder.transformer.config._attn_implementation
    found = first_token_attention(encoder, TEXTS)
    assert encoder.transformer.config._attn_implementation == used
    total = found["itself"] + found["end"] + found["words"]
    np.testing.assert_allclose(total, 1, atol=1e-6)
    encoder.transformer.set_attn_implementation("eager")
    for row, text in enumerate(TEXTS):
        batch = encoder.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            heads = encoder.transformer(**batch, output_attentions=True).attentions[-1]
        looks = heads[0, :, 0].mean(0).numpy()  # [L]
        assert found["itself"][row] == pytest.approx(looks[0], abs=1e-6)
        words = looks[1:-1] / looks[1:-1].sum()
        spread = 2 ** -(words * np.log2(words)).sum() / len(words)
        assert found["evenness"][row] == pytest.approx(spread, abs=1e-6)
