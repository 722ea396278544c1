"""The mean of two models' weights, against arithmetic on their arrays."""

import numpy as np
import pytest
import torch
from conftest import tiny_encoder, tiny_parts, word_tokenizer

from sbert_lab import SentenceEncoder
from sbert_lab.models.averaging import average
from sbert_lab.models.checkpoint import Layout


def arrays(encoder):
    return {name: p.detach().numpy().copy() for name, p in encoder.named_parameters()}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_it_is_the_mean_weight_by_weight(share):
    first, second = tiny_encoder(0), tiny_encoder(1)
    before = arrays(first), arrays(second)
    mixed = arrays(average(first, second, share))
    assert mixed.keys() == before[0].keys()
    for name, found in mixed.items():
        a, b = (side[name].astype(np.float64) for side in before)
        expected = (share * a + (1 - share) * b).astype(np.float32)
        np.testing.assert_array_equal(found, expected, err_msg=name)
    for encoder, old in zip((first, second), before, strict=True):
        assert all((array == old[n]).all() for n, array in arrays(encoder).items())


def test_the_result_is_a_model_of_its_own(tmp_path):
    first, second = tiny_encoder(0), tiny_encoder(1)
    second.fingerprint()  # which remembers; the copy must not
    second.train()
    mixed = average(first, second, 0.5)
    assert not any(part.training for part in mixed.modules())
    assert mixed.fingerprint() not in {first.fingerprint(), second.fingerprint()}
    mixed.save(tmp_path / "model")
    again = SentenceEncoder.from_pretrained(tmp_path / "model", device="cpu")
    assert again.fingerprint() == mixed.fingerprint()
    texts = ["the cat", "a quick brown fox"]
    np.testing.assert_allclose(again.encode(texts), mixed.encode(texts), atol=1e-6)
    with torch.no_grad():
        next(mixed.parameters()).add_(1)
    assert average(first, second, 0.5).fingerprint() == again.fingerprint()


def test_strangers_are_refused():
    with pytest.raises(ValueError, match="different.*layouts"):
        average(tiny_encoder(), tiny_encoder(pooling=("cls",)), 0.5)
    with pytest.raises(ValueError, match="different.*layouts"):
        average(tiny_encoder(), tiny_encoder(head=("normalize",)), 0.5)
    model, tokenizer = tiny_parts(hidden=32)
    wider = SentenceEncoder(model, tokenizer, Layout(dimension=32))
    with pytest.raises(ValueError, match="different.*weights"):
        average(tiny_encoder(), wider, 0.5)
    words = word_tokenizer([f"word{i}" for i in range(len(tokenizer) - 31)], 32)
    other = SentenceEncoder(tiny_parts()[0], words, Layout(dimension=16))
    with pytest.raises(ValueError, match="different.*vocabularies"):
        average(tiny_encoder(), other, 0.5)
