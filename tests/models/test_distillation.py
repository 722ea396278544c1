"""Distillation: a table that says of each token what the encoder says of it alone."""

from collections import Counter

import numpy as np
import pytest
import torch
from conftest import WORDS, states, tiny_encoder, tiny_parts
from tokenizers import normalizers

from sbert_lab import SentenceEncoder
from sbert_lab.models.checkpoint import Layout
from sbert_lab.models.distillation import distil, static_encoder, token_vectors
from sbert_lab.models.static import StaticEncoder

ENCODER = tiny_encoder(head=("normalize",), max_seq_length=24)
TOKENS = token_vectors(ENCODER)
PLAIN = {"dimension": None, "smoothing": None, "whitening": 0}
TEXTS = ["the cat sat on the mat", "The red dog ran", "a bird, zzz"]


def token(text, encoder=ENCODER):
    return encoder.tokenizer.convert_tokens_to_ids(text)


def gram(vectors):
    """Return all inner products, which no turn or mirror changes."""
    return vectors.astype(np.float64) @ vectors.T.astype(np.float64)


def naive_vectors(encoder):
    """Run the transformer on one framed token after the other."""
    rows = []
    for i in range(5, len(encoder.tokenizer)):
        ids = torch.tensor([[token("[CLS]"), i, token("[SEP]")]])
        with torch.no_grad():
            states = encoder.transformer(input_ids=ids).last_hidden_state
        mean = states[0].mean(0).numpy().astype(np.float64)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


def naive_shares(encoder):
    """Zipf's law over tokens of two characters and more; the others share rank 1."""
    shares, rank = [], 0
    for i in range(5, len(encoder.tokenizer)):
        word = encoder.tokenizer.convert_ids_to_tokens(i).replace("##", "")
        if len(word) > 1:
            rank += 1
        shares.append(1 / rank if len(word) > 1 else 1)
    return np.array(shares) / sum(1 / r for r in range(1, rank + 1))


def test_tokens_are_encoded_alone():
    np.testing.assert_allclose(TOKENS.vectors, naive_vectors(ENCODER), atol=1e-6)
    np.testing.assert_array_equal(TOKENS.ids, range(5, len(ENCODER.tokenizer)))
    whole = [word for word in WORDS if word != ":"]
    rows = [token(word) - 5 for word in whole]
    np.testing.assert_allclose(TOKENS.vectors[rows], ENCODER.encode(whole), atol=1e-6)


@pytest.mark.parametrize("whitening", [0, 0.5, 1])
@pytest.mark.parametrize("smoothing", [None, 0.01])
def test_equals_linear_algebra_by_hand(smoothing, whitening):
    vectors = naive_vectors(ENCODER)
    centred = vectors - vectors.mean(0)
    variances, axes = np.linalg.eigh(centred.T @ centred / (len(centred) - 1))
    best = np.argsort(variances)[::-1][:6]
    wanted = centred @ axes[:, best] / variances[best] ** (whitening / 2)
    if smoothing is not None:
        shares = naive_shares(ENCODER)
        wanted *= (smoothing / (smoothing + shares))[:, None]
    made = distil(ENCODER, dimension=6, smoothing=smoothing, whitening=whitening)
    assert made.vectors.dtype == np.float32
    assert made.dimension == 6
    np.testing.assert_allclose(
        gram(made.vectors[5:]), gram(wanted), atol=1e-5 * np.abs(gram(wanted)).max()
    )


def test_all_components_keep_every_distance():
    made = static_encoder(TOKENS, **PLAIN)
    vectors = TOKENS.vectors - TOKENS.vectors.mean(0)
    assert made.dimension == 16
    np.testing.assert_allclose(gram(made.vectors[5:]), gram(vectors), atol=1e-5)
    np.testing.assert_allclose(made.vectors[5:].mean(0), 0, atol=1e-6)


def test_sentence_is_the_mean_of_its_tokens():
    made = distil(ENCODER, dimension=4)
    rows = [token(word) for word in ["the", "cat", "##s"]]
    np.testing.assert_allclose(
        made.encode(["The cats"])[0], made.vectors[rows].mean(0), atol=1e-6
    )
    assert not made.vectors[:5].any()  # special tokens


def test_common_words_count_less():
    made, plain = (distil(ENCODER, dimension=4, smoothing=a) for a in (1e-3, None))
    lengths = [np.linalg.norm(m.vectors[5:], axis=1) for m in (made, plain)]
    ratio = dict(zip(TOKENS.ids.tolist(), lengths[0] / lengths[1], strict=True))
    assert ratio[token("an")] < ratio[token("the")] < ratio[token("passage")]
    assert ratio[token("a")] == pytest.approx(ratio[token("##z")])
    assert ratio[token("a")] == pytest.approx(ratio[token("an")])


def test_counted_shares():
    found = ENCODER.tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    count = Counter(i for ids in found for i in ids if i >= 5)
    shares = np.array([count[i] for i in TOKENS.ids]) / count.total()
    assert count[token("the")] == 3
    made = static_encoder(TOKENS, dimension=4, texts=TEXTS, smoothing=0.1)
    plain = static_encoder(TOKENS, dimension=4, smoothing=None)
    wanted = plain.vectors[5:] * (0.1 / (0.1 + shares))[:, None]
    np.testing.assert_allclose(made.vectors[5:], wanted, rtol=1e-5)


def test_long_texts_are_counted_whole():
    text = "cat " * 600 + "dog " * 600
    made = static_encoder(TOKENS, dimension=4, texts=[text], smoothing=0.1)
    plain = static_encoder(TOKENS, dimension=4, smoothing=None)
    for word in ("cat", "dog"):
        np.testing.assert_allclose(
            made.vectors[token(word)], plain.vectors[token(word)] / 6, rtol=1e-5
        )


def test_unused_tokens_are_left_out():
    model, tokenizer = tiny_parts()
    tokenizer.add_tokens(["[unused7]", "beyond"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    encoder = SentenceEncoder(model, tokenizer, Layout(dimension=16)).eval()
    made = distil(encoder, dimension=4)
    assert len(made.vectors) == len(tokenizer)
    assert not made.vectors[token("[unused7]", encoder)].any()
    assert made.vectors[token("beyond", encoder)].any()


def test_case_and_truncation_are_the_encoders():
    encoder = tiny_encoder(max_seq_length=6, do_lower_case=True, truncate_dim=8)
    as_it_is = normalizers.BertNormalizer(lowercase=False)
    encoder.tokenizer.backend_tokenizer.normalizer = as_it_is
    made = distil(encoder, dimension=None)
    assert made.dimension == 8
    long = "the cat sat on the mat with a dog"
    np.testing.assert_array_equal(made.encode([long]), made.encode([long.upper()]))
    assert not np.allclose(made.encode([long]), made.encode([long[:20]]))


def test_same_every_time_and_nothing_else_changes():
    encoder = tiny_encoder(head=("normalize",)).train()  # with dropout, were it on
    before = states()
    first = distil(encoder, dimension=4)
    again = distil(encoder, dimension=4)
    assert states() == before
    assert encoder.training
    np.testing.assert_array_equal(first.vectors, again.vectors)


def test_components_that_are_not_there_give_zeros():
    """Vectors on a line: what PCA finds beside it is rounding, and is not blown up."""
    line = np.arange(len(TOKENS.ids), dtype=np.float32)[:, None]
    flat = type(TOKENS)(
        line * np.ones((1, 3), np.float32), TOKENS.ids, TOKENS.tokenizer
    )
    made = static_encoder(flat, dimension=3, smoothing=None, whitening=1)
    assert made.vectors[:, 0].std() > 0.9
    np.testing.assert_array_equal(made.vectors[:, 1:], 0)


def test_saves_and_loads(tmp_path):
    made = distil(ENCODER, dimension=4)
    made.save(tmp_path / "static")
    again = StaticEncoder.from_pretrained(tmp_path / "static")
    np.testing.assert_array_equal(again.encode(TEXTS), made.encode(TEXTS))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dimension": 0}, "have 1 to 16 components"),
        ({"dimension": 17}, "62 tokens of 16 dimensions have 1 to 16 components"),
        ({"dimension": 4, "smoothing": 0}, "more than 0, or None"),
        ({"dimension": 4, "whitening": 2}, "from 0, none, to 1"),
        ({"dimension": 4, "texts": []}, "0 texts hold no token"),
        ({"dimension": 4, "texts": ["", "☃"]}, "2 texts hold no token"),
        ({"dimension": 4, "texts": ["a"], "smoothing": None}, "give smoothing="),
    ],
)
def test_settings_out_of_range(settings, says):
    with pytest.raises(ValueError, match=says):
        static_encoder(TOKENS, **settings)
