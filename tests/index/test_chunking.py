"""Chunks: what holds for every text, and where the cuts are."""

import doctest
from itertools import pairwise

import numpy as np
import pytest
from conftest import WORDS, tiny_encoder, word_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from sbert_lab.index import chunking
from sbert_lab.index.chunking import WITHOUT_LIMIT, chunk, splitter
from sbert_lab.models.static import StaticEncoder


class Bare:
    """An encoder of which nothing but its tokenizer is asked."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer


def byte_pairs():
    """GPT-2's, without merges: each byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return words


ENCODERS = {
    "word pieces": Bare(word_tokenizer(WORDS, 32)),
    "bytes": Bare(byte_pairs()),
}

PARTS = st.sampled_from(
    'the|cat|quick|zebra|Z|a.b|é|e\u0301|İ|ﬁ|日本|語。|「は」|😀|\u200b|\x07|.|?!|…|."|)|'
    " |  |\n|\r\n|\n\n|\u2003|\u3000|\t\n \n|. The|! an".split("|")
)
# Python counts these four as space, Unicode and the splitter do not.
LETTERS = st.characters(exclude_characters="\x1c\x1d\x1e\x1f", codec="utf-8")
TEXTS = st.lists(PARTS | st.text(LETTERS, max_size=5), max_size=40).map("".join)


def count(encoder, text):
    words = getattr(encoder.tokenizer, "backend_tokenizer", encoder.tokenizer)
    return len(words.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=40)
@given(text=TEXTS, limit=st.integers(20, 40), data=st.data())
def test_what_holds_for_every_text(name, text, limit, data):
    encoder = ENCODERS[name]
    overlap = data.draw(st.integers(0, limit // 2))
    found = chunk(text, splitter(encoder, limit, overlap), "it")
    covered = set()
    for part in found:
        assert part.document == "it"
        assert text[part.start : part.end] == part.text == part.text.strip() != ""
        assert count(encoder, part.text) <= limit
        covered |= set(range(part.start, part.end))
    assert {i for i, c in enumerate(text) if not c.isspace()} <= covered
    for one, next_one in pairwise(found):
        assert one.start < next_one.start
        assert one.end < next_one.end
        if not overlap:
            assert one.end <= next_one.start


def test_the_best_end_in_reach_is_taken():
    def texts(text, limit, overlap=0):
        cut = splitter(ENCODERS["word pieces"], limit, overlap)
        return [part.text for part in chunk(text, cut)]

    assert texts("the cat sat.\n\nA dog ran. A fox", 8) == [
        "the cat sat.",
        "A dog ran. A fox",
    ]
    assert texts("the cat sat on. A dog ran", 7) == ["the cat sat on.", "A dog ran"]
    assert texts("the cat sat", 2) == ["the cat", "sat"]
    assert texts("the quick acts cat", 4) == ["the quick", "acts", "cat"]
    assert texts("the actions cat", 4)[0] == "the"  # a word that no chunk holds
    repeated = texts("the cat. A dog. A fox. A hill.", 7, 4)
    assert repeated == ["the cat. A dog.", "A dog. A fox.", "A fox. A hill."]
    assert texts(" \n\n\t\u3000 ", 5) == texts("", 5) == []


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"prompts": {"document": "a red passage : "}},
        {"prompts": {"document": "a red passage : "}, "default_prompt": "query"},
    ],
)
def test_the_default_is_what_the_encoder_reads(layout):
    encoder = tiny_encoder(max_seq_length=12, **layout)
    limit = 10 - 4 * bool(layout)
    text = "the quick brown fox jumps over a lazy dog " * 9
    found = [part.text for part in chunk(text, splitter(encoder))]
    encoder.encode_document(found)
    assert encoder.last_truncated == 0
    assert max(count(encoder, part) for part in found) == limit
    with pytest.raises(ValueError, match=f"at most the {limit} tokens"):
        splitter(encoder, limit + 1)


def test_an_encoder_without_a_limit_has_one_here():
    words = byte_pairs()
    table = np.ones((words.get_vocab_size(), 4), np.float32)
    static = StaticEncoder(table, words)
    found = chunk("abc " * 100, splitter(static))
    assert max(count(ENCODERS["bytes"], part.text) for part in found) <= WITHOUT_LIMIT
    assert len(found) == 2


def test_what_is_wrong_is_said():
    with pytest.raises(TypeError, match="Bare carries no fast tokenizer"):
        splitter(Bare(None), 4)
    for limit, overlap in ((0, 0), (9, 9), (9, -1)):
        with pytest.raises(ValueError, match=f"max_tokens={limit}, overlap={overlap}"):
            splitter(ENCODERS["bytes"], limit, overlap)


def test_the_example_holds():
    assert doctest.testmod(chunking) == (0, 4)
