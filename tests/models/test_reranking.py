"""Two texts read together, against transformers' own pass, pair by pair."""

import numpy as np
import pytest
import torch
from conftest import WORDS, tiny_encoder

from sbert_lab.models import reranking
from sbert_lab.models.reranking import read_together

FIRST = [" ".join(WORDS[i : i + 1 + i % 7]) for i in range(20)]
SECOND = [" ".join(WORDS[25 - i : 27 - i + i % 5]) for i in range(20)]


@pytest.fixture(params=["packed", "padded"], autouse=True)
def way(request, monkeypatch):
    """Every test is of both ways, in batches of a few pairs."""
    monkeypatch.setattr(reranking, "TOKEN_BUDGET", {"cpu": 40})
    if request.param == "padded":
        monkeypatch.setattr(reranking, "is_supported", lambda _: False)


def one_by_one(encoder, first, second, segments=True):
    found = []
    for pair in zip(first, second, strict=True):
        tokens = encoder.tokenizer(*pair, return_tensors="pt")
        if not segments:
            tokens["token_type_ids"].zero_()
        with torch.no_grad():
            found.append(encoder.transformer(**tokens).last_hidden_state[0, 0])
    return torch.stack(found).numpy()


def test_is_the_models_own_pass():
    encoder = tiny_encoder()
    found = read_together(encoder, FIRST, SECOND)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, one_by_one(encoder, FIRST, SECOND), rtol=0, atol=2e-6
    )
    without = one_by_one(encoder, FIRST, SECOND, segments=False)
    assert np.abs(found - without).max(1).min() > 1e-3


def test_order_is_kept():
    encoder = tiny_encoder()
    order = np.random.default_rng(0).permutation(len(FIRST))
    shuffled = [[texts[i] for i in order] for texts in (FIRST, SECOND)]
    np.testing.assert_allclose(
        read_together(encoder, *shuffled),
        read_together(encoder, FIRST, SECOND)[order],
        rtol=0,
        atol=2e-6,
    )


def test_which_comes_first_matters():
    found = read_together(tiny_encoder(), ["the cat", "a dog"], ["a dog", "the cat"])
    assert np.abs(found[0] - found[1]).max() > 1e-4


def test_the_longer_text_is_cut_to_the_limit():
    encoder = tiny_encoder(max_seq_length=12)
    long, short, pair = " ".join(WORDS[:20]), "the cat", " ".join(WORDS[:7])
    found = read_together(encoder, [long, short], [short, long])
    cut = read_together(encoder, [pair, short], [short, pair])
    np.testing.assert_allclose(found, cut, rtol=0, atol=2e-6)


def test_no_pairs():
    assert read_together(tiny_encoder(), [], []).shape == (0, 16)


def test_every_text_needs_its_partner():
    with pytest.raises(ValueError, match="2 first texts and 1 second"):
        read_together(tiny_encoder(), ["a", "b"], ["c"])


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_stays(training):
    encoder = tiny_encoder().train(training)
    found = read_together(encoder, FIRST, SECOND)
    np.testing.assert_array_equal(found, read_together(tiny_encoder(), FIRST, SECOND))
    assert {module.training for module in encoder.modules()} == {training}
