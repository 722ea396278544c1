import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert_lab.models.pooling import (
    POOLING,
    Pooling,
    last_token_pooling,
    max_pooling,
    mean_pooling,
)

MODES = list(POOLING)


def naive(mode: str, rows: np.ndarray) -> np.ndarray:
    """Pool the real tokens [n, D] of one text, one number at a time."""
    n, width = rows.shape
    out = np.zeros(width)
    for d in range(width):
        column = [float(rows[i, d]) for i in range(n)]
        out[d] = {
            "cls": column[0],
            "max": max(column),
            "mean": sum(column) / n,
            "mean_sqrt_len_tokens": sum(column) / n**0.5,
            "weightedmean": sum((i + 1) * v for i, v in enumerate(column))
            / sum(range(1, n + 1)),
            "lasttoken": column[-1],
        }[mode]
    return out


def padded(texts: list[np.ndarray], left: bool, extra: int):
    longest = max(map(len, texts)) + extra
    width = texts[0].shape[1]
    tokens = torch.full((len(texts), longest, width), 7.5)  # padding is not zero
    mask = torch.zeros(len(texts), longest, dtype=torch.long)
    for row, text in enumerate(texts):
        where = slice(longest - len(text), None) if left else slice(len(text))
        tokens[row, where] = torch.from_numpy(text)
        mask[row, where] = 1
    return tokens, mask


@st.composite
def batches(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    return [rng.normal(size=(n, 5)).astype(np.float32) for n in lengths]


@pytest.mark.parametrize("mode", MODES)
@given(texts=batches(), left=st.booleans(), extra=st.integers(0, 4))
@settings(deadline=None, max_examples=20)
def test_equals_naive_whatever_the_padding(mode, texts, left, extra):
    got = Pooling(5, mode)(*padded(texts, left, extra))
    for row, text in enumerate(texts):
        np.testing.assert_allclose(got[row], naive(mode, text), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("skipped", [0, 1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_equals_sentence_transformers(mode, skipped, left):
    """Without a prompt's tokens too, on whichever side the padding is."""
    from sentence_transformers import models

    rng = np.random.default_rng(3)
    texts = [rng.normal(size=(n, 6)).astype(np.float32) for n in (4, 5, 7)]
    tokens, mask = padded(texts, left, extra=2)
    theirs = models.Pooling(6, pooling_mode=mode, include_prompt=False)(
        {"token_embeddings": tokens, "attention_mask": mask, "prompt_length": skipped}
    )["sentence_embedding"]
    torch.testing.assert_close(Pooling(6, mode)(tokens, mask, skipped), theirs)


def test_concatenation_keeps_the_stated_order():
    rng = np.random.default_rng(0)
    tokens, mask = padded([rng.normal(size=(3, 4)).astype(np.float32)], False, 1)
    both = Pooling(4, ["max", "cls"])
    assert both.out_dimension == 8
    expected = torch.cat(
        [Pooling(4, mode)(tokens, mask) for mode in ("max", "cls")], -1
    )
    torch.testing.assert_close(both(tokens, mask), expected)


def test_half_precision_accumulates_in_float32():
    # 4,096 tokens of 1 + 2^-8: a bfloat16 sum would stall at 256.
    tokens = torch.full((1, 4096, 1), 1 + 2**-7, dtype=torch.bfloat16)
    got = mean_pooling(tokens, torch.ones(1, 4096))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(1 + 2**-7, abs=1e-6)


@pytest.mark.parametrize("modes", [["average"], []])
def test_refuses_modes_when_built(modes):
    with pytest.raises(ValueError, match="weightedmean"):
        Pooling(4, modes)


def test_text_without_tokens_gives_zeros():
    tokens, mask = torch.randn(1, 3, 4), torch.zeros(1, 3)
    assert torch.equal(mean_pooling(tokens, mask), torch.zeros(1, 4))
    assert torch.equal(max_pooling(tokens, mask), torch.zeros(1, 4))
    assert torch.equal(last_token_pooling(tokens, mask), torch.zeros(1, 4))
