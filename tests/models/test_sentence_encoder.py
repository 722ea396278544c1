"""The encoder: equal to the peer, indifferent to how the work is cut up."""

import itertools
import logging
import random

import numpy as np
import pytest
import torch
from conftest import WORDS, tiny_encoder, tiny_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cross_encoder import tiny_cross_encoder
from tokenizers.processors import TemplateProcessing

from sbert_lab import EmbeddingCache, SentenceEncoder
from sbert_lab.datasets import icd10cm
from sbert_lab.index.passages import Passages
from sbert_lab.models import sentence_encoder as encoder_module
from sbert_lab.models.checkpoint import Layout
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.pooling import POOLING
from sbert_lab.models.static import StaticEncoder
from sbert_lab.training.data import TrainingData

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
        *[
            (
                ValueError,
                "token_budget=.* a whole number, 1 ",
                ["a"],
                {"token_budget": n},
            )
            for n in (0, -1, "2", 2.5, True, np.array([2]))
        ],
        (ValueError, "truncate_dim='2': .* 1 to 16", ["a"], {"truncate_dim": "2"}),
        (TypeError, r"prompt\[0\] is 5, not", ["a"], {"prompt": 5}),
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


EVERY = {"pooling": tuple(POOLING), "include_prompt": False, "max_seq_length": 12}
PROMPTS = [
    {},
    {"query": "query : ", "document": ""},
    {"query": "", "passage": "passage : "},
    {"query": "query : ", "document": "passage : ", "corpus": "red "},
    {"own": "blue "},
    {"query": None, "own": ""},
]


@pytest.fixture
def theirs(tmp_path):
    """The peer with the weights and words of `tiny_encoder`, pooling in every way."""
    from sentence_transformers import SentenceTransformer

    tiny_encoder(**EVERY).save(tmp_path / "m")
    return SentenceTransformer(str(tmp_path / "m"), device="cpu")


def test_prompts_are_chosen_as_sentence_transformers_does(theirs):
    names = (None, "query", "document", "passage", "own")
    for prompts, default in itertools.product(PROMPTS, names):
        if default in {None, "query", "document", *prompts}:
            given = {"prompts": dict(prompts), "default_prompt_name": default}
            peer = type(theirs)(modules=list(theirs), **given)
            ours = tiny_encoder(**EVERY, prompts=prompts, default_prompt=default)
            for name in ("encode", "encode_query", "encode_document"):
                got, wanted = (getattr(e, name)("cat") for e in (ours, peer))
                np.testing.assert_allclose(got, wanted, atol=1e-5, err_msg=str(given))


def test_a_prompt_that_is_given_comes_first(caplog):
    encoder = tiny_encoder(prompts={"passage": "passage : "})
    assert 'if it should be, set prompts["document"]' in caplog.text
    encoder.prompts["document"] = encoder.prompts["passage"]
    for options in ({}, {"prompt_name": None, "prompt": None}):
        found = encoder.encode_document(["cat"], **options)
        np.testing.assert_array_equal(found, encoder.encode(["passage : cat"]))
    for options in ({"prompt": ""}, {"prompt_name": "query"}):
        found = encoder.encode_document(["cat"], **options)
        np.testing.assert_array_equal(found, encoder.encode(["cat"]))


def test_prompt_left_out_of_pooling_equals_sentence_transformers(theirs):
    """Special tokens stand where a template has them; the prompt may be anything."""
    both, front, behind = "[CLS] $A [SEP]", "[CLS] $A", "$A [SEP]"
    long = "the quick brown fox jumps over a lazy dog and the cat "
    texts = ["the cat", "a quick fox ran over the hill", "", "y"]
    for template in (both, front, behind, "$A", behind + " [SEP]", "[SEP] " + front):
        known = [("[CLS]", 2), ("[SEP]", 3)]
        frame = TemplateProcessing(single=template, special_tokens=known)
        model, tokenizer = tiny_parts()
        for one in (tokenizer, theirs.tokenizer):
            one.backend_tokenizer.post_processor = frame
        theirs[0]._prompt_length_mapping.clear()
        encoder = SentenceEncoder(model, tokenizer, Layout(16, **EVERY))
        for prompt in ("query : ", "red [SEP]", "🙂", "the quer", long, "mat"):
            got = encoder.encode(texts, prompt=prompt)
            wanted = theirs.encode(texts, prompt=prompt)
            # The maximum of nothing is -inf there, which is no use as a vector.
            wanted[np.isneginf(wanted)] = 0
            np.testing.assert_allclose(got, wanted, atol=1e-5, err_msg=template)


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
    for wanted in (-1, 0, 1, 2, "8", 8.5, True):
        with pytest.raises(ValueError, match="a whole number, 3 "):
            tiny.max_seq_length = wanted
    assert tiny.max_seq_length == 32


def test_texts_unknown_to_the_tokenizer_are_told_once(caplog, monkeypatch):
    monkeypatch.setattr(encoder_module, "CHUNK", 2)
    texts = ["the cat", "ภาษาไทย", "the สวัสดี", "กข [SEP] ค", "", "the cat 🙂 dog"]
    for encoder in (tiny_encoder(max_seq_length=24), static()):
        caplog.clear()
        encoder.encode(texts)
        (message,) = caplog.messages
        assert message.startswith("2 of 6 texts are mostly unknown to the tokenizer")
    caplog.clear()
    # The words of a prompt are not the text's.
    tiny_encoder().encode(["ภาษาไทย", "cat"], prompt="query : a red passage : ")
    TrainingData({"text": ["ภาษาไทย", "cat"]}).tokenize(tiny_encoder())
    assert "1 of 2 texts are mostly unknown" in caplog.messages[0]
    assert "1 of 2 training texts are mostly unknown" in caplog.messages[1]


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


FOUR = ["the cat sat on the mat", "a dog ran", "quick brown fox", "the lazy dog"]


def test_queries_and_documents_get_their_own_prompt():
    marks = {"query": "query: ", "document": "passage: "}
    encoder = tiny_encoder(max_seq_length=24, prompts=marks)
    ways = {"query": encoder.encode_query, "document": encoder.encode_document}
    for side, encode in ways.items():
        expected = encoder.encode([marks[side] + text for text in FOUR])
        np.testing.assert_allclose(encode(FOUR), expected, atol=1e-6)
    memory = Passages(static())  # it has one way for both
    memory.add_all(dict(zip("abcd", FOUR, strict=True)))
    assert [memory.search(text)[0].text for text in FOUR] == FOUR


def passages():
    made = Passages(tiny_encoder())
    made.add("a", "the cat")
    return made


#: Whatever takes texts, two of them.
DOORS = {
    "encode": lambda texts, _: tiny_encoder().encode(texts),
    "token_ids": lambda texts, _: tiny_encoder().token_ids(texts),
    "pair_ids": lambda texts, _: tiny_encoder().pair_ids(FOUR[:2], texts),
    "first": lambda texts, _: tiny_cross_encoder().predict(texts, FOUR[:2]),
    "second": lambda texts, _: tiny_cross_encoder().predict(FOUR[:2], texts),
    "rerank": lambda texts, _: tiny_cross_encoder().rerank("a", texts),
    "static": lambda texts, _: static().encode(texts),
    "bm25 corpus": lambda texts, _: Bm25(texts),
    "bm25 scores": lambda texts, _: Bm25(FOUR).scores(texts),
    "bm25 search": lambda texts, _: Bm25(FOUR).search(texts, 1),
    "cache get": lambda texts, folder: EmbeddingCache(folder).get("a", texts, 3),
    "cache put": lambda texts, folder: EmbeddingCache(folder).put("a", texts, [1, 2]),
    "training": lambda texts, _: TrainingData({"text": texts}),
    "document": lambda texts, _: passages().add_all({"a": list(texts)[1]}),
    "query": lambda texts, _: passages().search(list(texts)[1]),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_checks_texts(door, tmp_path):
    with pytest.raises(ValueError, match=r"half a character, '\\ud800' at 4"):
        DOORS[door](["cat", "dog \ud800"], tmp_path)
    if door not in ("document", "query"):
        with pytest.raises(TypeError, match="must be a list of strings, not set"):
            DOORS[door]({"cat", "dog"}, tmp_path)
