"""Every encoder is an `Encoder`, and what it adds to that is used."""

import numpy as np
import pytest
from conftest import tiny_encoder, tiny_parts

from sbert_lab.models.lexical import Bm25Encoder, LsaEncoder
from sbert_lab.models.sentence_encoder import (
    Encoder,
    encode_documents,
    encode_queries,
    metric_of,
)
from sbert_lab.models.static import StaticEncoder

TEXTS = ["the cat sat on the mat", "a dog ran", "quick brown fox", "the lazy dog"]


def static():
    _, tokenizer = tiny_parts()
    vectors = np.random.default_rng(0).normal(size=(len(tokenizer), 8))
    return StaticEncoder(vectors.astype(np.float32), tokenizer.backend_tokenizer)


ENCODERS = {
    "sentence": lambda: tiny_encoder(max_seq_length=24),
    "static": static,
    "bm25": lambda: Bm25Encoder.fit(TEXTS),
    "lsa": lambda: LsaEncoder.fit(TEXTS, dimension=3),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_fulfils_it(name):
    encoder = ENCODERS[name]()
    assert isinstance(encoder, Encoder)
    for encode in (encoder.encode, lambda t: encode_queries(encoder, t)):
        found = encode(TEXTS)
        assert found.dtype == np.float32
        assert found.shape == (len(TEXTS), encoder.dimension)
    assert metric_of(encoder) == ("dot" if name == "bm25" else "cosine")


def test_what_lacks_a_part_is_none():
    class OnlyEncode:
        def encode(self, texts):
            return np.zeros((len(texts), 2), np.float32)

    assert not isinstance(OnlyEncode(), Encoder)


def test_queries_and_documents_get_their_own_prompt():
    encoder = tiny_encoder(
        max_seq_length=24, prompts={"query": "query: ", "passage": "passage: "}
    )
    for encode, prompt in (
        (encode_queries, "query: "),
        (encode_documents, "passage: "),
    ):
        expected = encoder.encode([prompt + text for text in TEXTS])
        np.testing.assert_allclose(encode(encoder, TEXTS), expected, atol=1e-6)
        assert np.abs(expected - encoder.encode(TEXTS)).max() > 1e-3


def test_without_them_both_are_encode():
    encoder = static()
    for encode in (encode_queries, encode_documents):
        np.testing.assert_array_equal(encode(encoder, TEXTS), encoder.encode(TEXTS))


def test_an_unknown_measure_is_refused():
    encoder = static()
    encoder.metric = "l2"
    with pytest.raises(ValueError, match=r"StaticEncoder.metric is 'l2', not"):
        metric_of(encoder)
