"""The encoder: equal to the peer, indifferent to how the work is cut up."""

import logging
import random

import numpy as np
import pytest
import torch
from conftest import WORDS, tiny_encoder, tiny_parts
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert_lab import EmbeddingCache, SentenceEncoder
from sbert_lab.datasets import icd10cm
from sbert_lab.models import sentence_encoder as encoder_module
from sbert_lab.models.lexical import LsaEncoder
from sbert_lab.models.sentence_encoder import (
    Encoder,
    encode_documents,
    encode_queries,
    metric_of,
)
from sbert_lab.models.static import StaticEncoder

sentences = st.lists(st.sampled_from(WORDS), min_size=0, max_size=12).map(" ".join)
SHARED = tiny_encoder(head=("normalize",), max_seq_length=24)


def strange_texts() -> list[str]:
    """Emoji, control characters, right-to-left script, very long and empty strings."""
    rng = random.Random(7)
    kinds = [
        lambda: "".join(chr(rng.randint(0x1F300, 0x1FAFF)) for _ in range(8)),
        lambda: "".join(chr(rng.randint(0, 31)) for _ in range(6)) + "tab\tline\nend",
        lambda: "".join(chr(rng.randint(0x5D0, 0x5EA)) for _ in range(12)) + " שלום",
        lambda: "".join(chr(rng.randint(0x627, 0x64A)) for _ in range(12)) + " مرحبا",
        lambda: " " * rng.randint(1, 9),
        lambda: "e\u0301 ﬁ Ⅷ ½ \u200b\ufeff zero\u200dwidth",
        lambda: f"Mixed CASE text number {rng.random()}",
    ]
    long = "".join(chr(rng.randint(33, 0x2FFF)) for _ in range(10_000))
    long = [long, "fracture of the wrist " * 454 + "end"]
    return [*long, "", *(kind() for kind in kinds for _ in range(9))]


def test_strange_and_plain_texts_equal_sentence_transformers(minilm, peer):
    texts = strange_texts()
    texts += [code.description for code in icd10cm.sample(60, seed=1)]
    got, theirs = minilm.encode(texts), peer.encode(texts, batch_size=8)
    assert got.shape == (len(texts), 384)
    assert np.abs(got - theirs).max() <= 1e-5


@given(st.lists(sentences, min_size=1, max_size=12), st.integers(1, 200))
@settings(deadline=None, max_examples=15)
def test_order_duplicates_budget_and_chunks_do_not_matter(texts, budget):
    plain = SHARED.encode(texts)
    order = np.random.default_rng(len(texts)).permutation(len(texts))
    doubled = [texts[i] for i in order] + texts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_module, "CHUNK", 7)
        other = SHARED.encode(doubled, token_budget=budget)
    np.testing.assert_allclose(other[: len(texts)], plain[order], atol=2e-6)
    np.testing.assert_allclose(other[len(texts) :], plain, atol=2e-6)


def test_equal_texts_are_encoded_once(tiny, monkeypatch):
    rows = []
    vectors_of = SentenceEncoder.encode_token_ids
    monkeypatch.setattr(
        SentenceEncoder,
        "encode_token_ids",
        lambda self, ids, **rest: (
            rows.append(len(ids)) or vectors_of(self, ids, **rest)
        ),
    )
    vectors = tiny.encode(["the cat", "a dog", "the cat", "The  Cat"] * 5)
    assert rows == [2]
    np.testing.assert_array_equal(vectors[0], vectors[3])


def test_shapes(tiny):
    assert tiny.encode([]).shape == (0, 16)
    assert tiny.encode("the cat").shape == (16,)
    assert tiny.encode(("the cat", "a dog")).shape == (2, 16)
    assert tiny.encode(["the cat"]).dtype == np.float32
    whole = tiny.encode(["the cat"])[:, :4]
    np.testing.assert_array_equal(tiny.encode(["the cat"], truncate_dim=4), whole)
    cut = tiny.encode(["the cat"], truncate_dim=4, normalize=True)
    np.testing.assert_allclose(cut, whole / np.linalg.norm(whole), atol=1e-6)


@pytest.mark.parametrize(
    ("error", "message", "texts", "options"),
    [
        (TypeError, r"texts\[1\] is None, not a string", ["fine", None], {}),
        (TypeError, r"texts\[0\] is b'bytes', not", [b"bytes"], {}),
        (TypeError, "list of strings, not 5", 5, {}),
        (ValueError, "1 to 16", ["a"], {"truncate_dim": 17}),
        (ValueError, "no prompt named 'web'", ["a"], {"prompt_name": "web"}),
    ],
)
def test_what_is_wrong_is_said(tiny, error, message, texts, options):
    with pytest.raises(error, match=message):
        tiny.encode(texts, **options)
    with pytest.raises(ValueError, match="wordllama-256 is static word vectors"):
        SentenceEncoder.from_pretrained("wordllama-256")


def test_damaged_weights_are_noticed(tiny):
    with torch.no_grad():
        tiny.transformer.embeddings.word_embeddings.weight[7] = float("nan")
    with pytest.raises(ValueError, match="not finite.*load the model again"):
        tiny.encode(["dog", " ".join(WORDS)])


def test_truncation_is_counted_and_reported_once(tiny, caplog):
    long = " ".join(["cat"] * 40)
    with caplog.at_level(logging.WARNING):
        vectors = tiny.encode([long, "the cat", long + " dog"])
    assert tiny.last_truncated == 2
    assert caplog.text.count("cut there") == 1
    assert "2 of 3 texts are longer than 24 tokens" in caplog.text
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_prompts():
    prompts = {"query": "query : ", "passage": "passage : "}
    encoder = tiny_encoder(prompts=prompts)
    default = tiny_encoder(prompts=prompts, default_prompt="query")
    same = np.testing.assert_array_equal
    same(encoder.encode_query(["cat"]), encoder.encode(["query : cat"]))
    # A model that calls its documents "passage" is not asked for "document".
    same(encoder.encode_document(["cat"]), encoder.encode(["passage : cat"]))
    for encode in (encoder.encode, encoder.encode_query):
        same(encode(["cat"], prompt="red "), encoder.encode(["red cat"]))
    same(tiny_encoder().encode_query(["cat"]), tiny_encoder().encode(["cat"]))
    same(default.encode(["cat"]), encoder.encode(["query : cat"]))
    same(default.encode(["cat"], prompt=""), encoder.encode(["cat"]))


def test_prompt_left_out_of_pooling_equals_sentence_transformers(tmp_path):
    from sentence_transformers import SentenceTransformer

    encoder = tiny_encoder(include_prompt=False, prompts={"query": "query : "})
    encoder.save(tmp_path / "m")
    theirs = SentenceTransformer(str(tmp_path / "m"), device="cpu")
    texts = ["the cat", "a quick fox ran over the hill"]
    got = encoder.encode(texts, prompt_name="query")
    np.testing.assert_allclose(
        got, theirs.encode(texts, prompt_name="query"), atol=1e-5
    )
    included = tiny_encoder(prompts={"query": "query : "})
    assert np.abs(got - included.encode(texts, prompt_name="query")).max() > 1e-3


def test_fingerprint_follows_the_weights(tiny):
    before = tiny.fingerprint()
    assert before == tiny.fingerprint()
    assert before == tiny_encoder(head=("normalize",), max_seq_length=24).fingerprint()
    assert before != tiny_encoder(seed=1, head=("normalize",)).fingerprint()
    assert before != tiny_encoder(head=(), max_seq_length=24).fingerprint()
    assert before != tiny_encoder(head=("normalize",), max_seq_length=9).fingerprint()
    with torch.no_grad():
        next(tiny.parameters()).add_(1e-3)
    assert tiny.fingerprint() not in (before, None)
    before = tiny.fingerprint()
    next(tiny.parameters()).data.mul_(0.5)  # PyTorch's counter does not see this
    assert tiny.fingerprint() != before


def test_length_limit_can_be_set(tiny):
    long = " ".join(WORDS[:20])
    whole = tiny.encode([long])
    tiny.max_seq_length = 6
    cut = tiny.encode([long])
    assert tiny.last_truncated == 1
    np.testing.assert_allclose(cut, tiny.encode([" ".join(WORDS[:4])]), atol=1e-6)
    tiny.max_seq_length = None
    assert tiny.max_seq_length == 32
    np.testing.assert_allclose(tiny.encode([long]), whole, atol=1e-6)
    with pytest.raises(ValueError, match="32 positions"):
        tiny.max_seq_length = 33


def test_cache_gives_the_same_and_encodes_nothing_twice(tiny, tmp_path, monkeypatch):
    texts = ["the cat", "a dog", "a bird"]
    plain = tiny.encode(texts)
    cache = EmbeddingCache(tmp_path)
    np.testing.assert_array_equal(tiny.encode(texts[:2], cache=cache), plain[:2])
    np.testing.assert_allclose(tiny.encode(texts, cache=cache), plain, atol=1e-6)
    assert (cache.hits, cache.misses) == (2, 3)
    monkeypatch.setattr(
        SentenceEncoder, "encode_token_ids", None
    )  # nothing left to encode
    again = tiny.encode(texts, cache=EmbeddingCache(tmp_path))
    np.testing.assert_allclose(again, plain, atol=1e-6)
    cut = tiny.encode(texts, cache=cache, truncate_dim=3, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-6)


def test_cache_keeps_models_prompts_and_pooling_apart(tmp_path):
    cache = EmbeddingCache(tmp_path)
    first, second = tiny_encoder(seed=0), tiny_encoder(seed=1)
    for encoder in (first, second):
        got = encoder.encode(["the cat"], cache=cache)
        np.testing.assert_array_equal(got, encoder.encode(["the cat"]))
    skipping = tiny_encoder(include_prompt=False)
    for prompt in (None, "query : "):
        got = skipping.encode(["the cat"], prompt=prompt, cache=cache)
        np.testing.assert_array_equal(got, skipping.encode(["the cat"], prompt=prompt))
    whole = skipping.encode(["query : the cat"], cache=cache)
    np.testing.assert_array_equal(whole, skipping.encode(["query : the cat"]))


def static():
    _, tokenizer = tiny_parts()
    vectors = np.random.default_rng(0).normal(size=(len(tokenizer), 8))
    return StaticEncoder(vectors.astype(np.float32), tokenizer.backend_tokenizer)


ENCODERS = {
    "sentence": lambda: tiny_encoder(max_seq_length=24),
    "static": static,
    "lsa": lambda: LsaEncoder(FOUR, 3),
}
FOUR = ["the cat sat on the mat", "a dog ran", "quick brown fox", "the lazy dog"]


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_fulfils_the_protocol(name):
    encoder = ENCODERS[name]()
    assert isinstance(encoder, Encoder)
    assert metric_of(encoder) == "cosine"
    for encode in (encoder.encode, lambda t: encode_queries(encoder, t)):
        found = encode(FOUR)
        assert found.dtype == np.float32
        assert found.shape == (4, encoder.dimension)


def test_queries_and_documents_get_their_own_prompt():
    marks = {"query": "query: ", "passage": "passage: "}
    encoder = tiny_encoder(max_seq_length=24, prompts=marks)
    for encode, mark in ((encode_queries, "query"), (encode_documents, "passage")):
        expected = encoder.encode([marks[mark] + text for text in FOUR])
        np.testing.assert_allclose(encode(encoder, FOUR), expected, atol=1e-6)
        np.testing.assert_array_equal(encode(static(), FOUR), static().encode(FOUR))
