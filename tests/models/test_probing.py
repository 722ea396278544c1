"""Every pooling and two texts read together, against transformers, one at a time."""

import numpy as np
import pytest
import torch
from conftest import WORDS, states, tiny_encoder

from sbert_lab.models import batching
from sbert_lab.models.probing import (
    POOLINGS,
    encode_all_poolings,
    encode_pairs_cls,
    first_token_attention,
    untrained_bert,
)

TEXTS = [" ".join(WORDS[i : i + 1 + i % 8]) for i in range(20)]
SECOND = [" ".join(WORDS[25 - i : 27 - i + i % 5]) for i in range(20)]


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
        "first-last": sum((layers[1] + last) / 2) / len(last),
        "pooler": found.pooler_output[0].numpy(),
    }


def test_every_pooling_is_the_naive_one():
    encoder = tiny_encoder()
    expected = [naive(encoder, text) for text in TEXTS]
    found = encode_all_poolings(encoder, TEXTS)
    assert list(found) == [*POOLINGS, "pooler"]
    for pooling, vectors in found.items():
        assert vectors.dtype == np.float32
        wanted = np.stack([vector[pooling] for vector in expected])
        np.testing.assert_allclose(vectors, wanted, atol=2e-6)


def test_a_pooler_is_drawn_for_models_without():
    encoder = tiny_encoder()
    own = encode_all_poolings(encoder, TEXTS)["pooler"]
    same = encode_all_poolings(encoder, TEXTS, pooler_seed=0)["pooler"]
    np.testing.assert_array_equal(same, own)
    encoder.transformer.pooler = None
    assert "pooler" not in encode_all_poolings(encoder, TEXTS)
    found = encode_all_poolings(encoder, TEXTS, pooler_seed=3)
    weight = torch.empty(16, 16)
    weight.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(3))
    wanted = np.tanh(found["cls"] @ weight.numpy().T)
    np.testing.assert_allclose(found["pooler"], wanted, atol=1e-6)


def test_untrained_bert_is_drawn_from_its_seed_alone():
    config = tiny_encoder().transformer.config
    before = states()
    one, same, other = (untrained_bert(config, seed) for seed in (0, 0, 1))
    assert states() == before
    weight = "embeddings.word_embeddings.weight"
    assert torch.equal(one.get_parameter(weight), same.get_parameter(weight))
    assert not torch.equal(one.get_parameter(weight), other.get_parameter(weight))
    assert one.config.hidden_dropout_prob == 0


def one_by_one(encoder, first, second, segments=True):
    found = []
    for pair in zip(first, second, strict=True):
        tokens = encoder.tokenizer(*pair, return_tensors="pt")
        if not segments:
            tokens["token_type_ids"].zero_()
        with torch.no_grad():
            found.append(encoder.transformer(**tokens).last_hidden_state[0, 0])
    return torch.stack(found).numpy()


def test_pairs_are_the_models_own_pass():
    encoder = tiny_encoder().train()  # with dropout, were it on
    found = encode_pairs_cls(encoder, TEXTS, SECOND)
    assert found.dtype == np.float32
    assert {module.training for module in encoder.modules()} == {True}
    encoder.eval()
    wanted = one_by_one(encoder, TEXTS, SECOND)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)
    without = one_by_one(encoder, TEXTS, SECOND, segments=False)
    assert np.abs(found - without).max(1).min() > 1e-3
    encoder.max_seq_length = 12  # the longer text of a pair is cut
    long, short, cut = " ".join(WORDS[:20]), "the cat", " ".join(WORDS[:7])
    found = encode_pairs_cls(encoder, [long, short], [short, long])
    expected = encode_pairs_cls(encoder, [cut, short], [short, cut])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


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
