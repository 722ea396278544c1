"""Chunks: against a plain loop over words, and what holds for every text."""

import doctest
from dataclasses import replace
from itertools import pairwise

import pytest
from conftest import WORDS, tiny_encoder, tiny_parts, word_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from sbert_lab.index import chunking as chunks
from sbert_lab.index.chunking import WITHOUT_LIMIT, chunk, token_limit, tokenizer_of
from sbert_lab.models.static import StaticEncoder


def word_pieces():
    """BERT's: drops control characters, letters of unknown words are tokens."""
    return tokenizer_of(word_tokenizer(WORDS, 32))


def one_a_word():
    """A token is what stands between spaces."""
    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return words


def byte_pairs():
    """GPT-2's, without merges: each byte is a token, a space is its word's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(alphabet)}
    words = Tokenizer(models.BPE(vocabulary, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return words


def sentence_pieces():
    """SentencePiece's: a token can begin with a space, and NFKC widens characters."""
    pieces = ["?", "▁", "▁the", "▁cat", "the", "▁the▁cat", "c", "a", "t", "…", "."]
    words = Tokenizer(
        models.Unigram([(p, -float(i + 1)) for i, p in enumerate(pieces)], 0, False)
    )
    words.normalizer = normalizers.NFKC()
    words.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    return words


TOKENIZERS = {f.__name__: f() for f in (word_pieces, byte_pairs, sentence_pieces)}

PARTS = st.sampled_from(
    'the|cat|quick|zebra|Z|a.b|é|e\u0301|İ|ﬁ|日本|語。|「は」|😀|👩‍👩‍👧|\u200b|\x07|.|?!|…|."|)|'
    " |  |\n|\r\n|\n\n|\u2003|\u3000|\t\n \n|. The|! an".split("|")
)
TEXTS = st.lists(PARTS | st.text(max_size=5), max_size=50).map("".join)


def count(tokenizer, text):
    return len(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=TEXTS, limit=st.integers(18, 40), data=st.data())
def test_what_holds_for_every_text(name, text, limit, data):
    tokenizer = TOKENIZERS[name]
    if name == "word_pieces":  # no character of PARTS is more than two tokens
        limit -= 15
    overlap = data.draw(st.integers(0, limit // 2))
    found = chunk(text, tokenizer, limit, overlap=overlap, document="it")
    covered = set()
    for part in found:
        assert part.document == "it"
        assert text[part.start : part.end] == part.text == part.text.strip() != ""
        assert count(tokenizer, part.text) <= limit
        covered |= set(range(part.start, part.end))
    assert {i for i, c in enumerate(text) if not c.isspace()} <= covered
    for one, next_one in pairwise(found):
        assert one.start < next_one.start
        assert one.end < next_one.end
        if not overlap:
            assert one.end <= next_one.start
        repeated = text[next_one.start : one.end]
        if name == "word_pieces":
            assert count(tokenizer, repeated) <= overlap


def naive(words, gaps, limit, overlap):
    """Say which words go into which chunk; `gaps[i]` is what follows word i."""

    def level(place):  # how good it is to begin a chunk at this word
        gap, before = gaps[place - 1], words[place - 1]
        if gap.count("\n") > 1:
            return 3
        if before.endswith((".", '."')) and not words[place][0].islower():
            return 2
        return 1 if "\n" in gap else 0

    found, start, end = [], 0, 0
    while end < len(words):
        if len(words) - start <= limit:
            stop = len(words)
        else:
            half = end + (limit - overlap + 1) // 2
            stop = max(range(half, start + limit + 1), key=lambda p: (level(p), p))
        found.append(words[start:stop])
        again = range(max(stop - overlap, start + 1), stop)
        start, end = stop, stop
        if again and stop < len(words):
            start = max(again, key=lambda p: (min(level(p), 2), -p))
    return found


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["the", "cat", "Bird", "end.", 'so."', "é", "x,"]),
            st.sampled_from([" ", " ", " ", "  ", "\n", "\n\n", " \n\t\n"]),
        ),
        max_size=60,
    ),
    st.integers(1, 12),
    st.integers(0, 6),
)
def test_it_cuts_where_the_loop_cuts(pairs, limit, overlap):
    overlap = min(overlap, limit // 2)
    words, gaps = [word for word, _ in pairs], [gap for _, gap in pairs]
    text = "".join(map("".join, pairs))
    found = chunk(text, one_a_word(), limit, overlap=overlap)
    assert [part.text.split() for part in found] == naive(words, gaps, limit, overlap)


def texts(*arguments, **options):
    return [part.text for part in chunk(*arguments, **options)]


def test_the_best_end_in_reach_is_taken():
    one = one_a_word()
    assert texts("a b c. D e f\n\ng h i", one, 8) == ["a b c. D e f", "g h i"]
    assert texts("a b c\n\nd. E f g h i", one, 8) == ["a b c\n\nd.", "E f g h i"]
    assert texts("a b c. D e\nf g h i", one, 8) == ["a b c. D e", "f g h i"]
    assert texts("a b c d e. F\ng h i", one, 8) == ["a b c d e.", "F\ng h i"]
    assert texts("a b c d e.g. f g h i", one, 8) == ["a b c d e.g. f g h", "i"]
    assert texts('a b c d "E?" F g h i', one, 8) == ['a b c d "E?"', "F g h i"]
    assert texts("a b c d e\n\nf", one, 8) == ["a b c d e\n\nf"]  # it fits


def test_overlap_begins_with_a_sentence():
    text = "a b c d. E f. G h i. J k l m n"
    found = texts(text, one_a_word(), 10, overlap=5)
    assert found == ["a b c d. E f. G h i.", "E f. G h i. J k l m n"]
    assert texts(text, one_a_word(), 10, overlap=4)[1] == "G h i. J k l m n"
    assert texts(text, one_a_word(), 10, overlap=2)[1] == "h i. J k l m n"


def test_a_word_is_cut_only_if_no_chunk_holds_it():
    words = word_pieces()
    assert count(words, "acts") == 4  # a, and three letters
    assert texts("the acts cat", words, 4) == ["the", "acts", "cat"]
    assert texts("the cat acts", words, 4, overlap=2) == ["the cat", "acts"]
    assert texts("the actions cat", words, 4) == ["the", "acti", "ons cat"]


def test_a_script_without_spaces_is_cut_between_words_and_repeated():
    text = "日本語の文です。次の文。とても長い文がここにあります"
    found = texts(text, byte_pairs(), 36, overlap=12)
    assert found[:2] == ["日本語の文です。", "文です。次の文。"]
    for one, next_one in pairwise(found):
        assert one[-4:].endswith(next_one[:3]) or next_one[:4] in one


def test_what_the_tokenizer_drops_is_kept():
    words = word_pieces()
    assert texts(" \u200b\x07 ", words, 5) == ["\u200b\x07"]
    assert texts("\u200b the cat\x07", words, 1) == ["\u200b the", "cat\x07"]


def test_white_space_at_the_end_is_no_chunk():
    """Here it is three tokens, and the chunk before is full."""
    text = "the cat the cat\t\n \n"
    found = texts(text, byte_pairs(), 16, overlap=4)
    assert found == ["the cat the cat"]
    assert count(byte_pairs(), text) == 20


@pytest.mark.parametrize("text", ["", " \n\n\t\u3000 "])
def test_an_empty_document_has_no_chunk(text):
    assert chunk(text, word_pieces(), 5) == []


@pytest.mark.parametrize(
    "text",
    ["a ", "a. ", "A\n\n", "日", "。", "z", "the cat ", " ", "." * 9 + "a", "😀"],
)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_work_grows_with_the_length(name, text, monkeypatch):
    """Counted in characters that are tokenised, however the text is made."""
    seen, encoded = [0], chunks._Cuts._encoded

    def counted(self, text):
        seen[0] += len(text)
        return encoded(self, text)

    monkeypatch.setattr(chunks._Cuts, "_encoded", counted)
    chunk(text * 3000, TOKENIZERS[name], 20, overlap=10)
    assert seen[0] <= 8 * len(text) * 3000


@pytest.mark.parametrize("prompts", [{}, {"document": "a red passage : "}])
def test_the_default_is_what_the_encoder_reads(prompts):
    encoder = tiny_encoder(max_seq_length=12, prompts=prompts)
    limit = token_limit(encoder)
    assert limit == 10 - 4 * bool(prompts)
    text = "the quick brown fox jumps over a lazy dog " * 9
    found = texts(text, encoder)
    encoder.encode_document(found)
    assert encoder.last_truncated == 0
    assert max(count(word_pieces(), part) for part in found) == limit
    one_more = texts(text, word_pieces(), limit + 1)
    encoder.encode_document(one_more)
    assert encoder.last_truncated == len(one_more) - 1  # all but the last are full
    with pytest.raises(ValueError, match=f"reads {limit} tokens"):
        chunk(text, encoder, limit + 1)


def test_a_default_prompt_takes_its_place_too():
    encoder = tiny_encoder(prompts={"own": "a red"}, default_prompt="own")
    assert token_limit(encoder) == 32 - 2 - 2


def test_minilm_reads_a_real_document_whole(minilm):
    from sbert_lab._utils import project_root

    text = (project_root() / "LICENSE").read_text(encoding="utf-8")
    found = texts(text, minilm, overlap=50)
    assert len(found) > 8
    minilm.token_ids(found)
    assert minilm.last_truncated == 0
    lengths = [len(ids) for ids in minilm.token_ids(found)]
    assert sum(lengths) / len(lengths) > 256 / 2


def test_a_tokenizer_comes_from_where_it_is():
    model, tokenizer = tiny_parts()
    plain = tokenizer_of(tokenizer)
    assert tokenizer_of(plain) is plain
    cutting = Tokenizer.from_str(plain.to_str())
    cutting.enable_truncation(2)
    cutting.enable_padding(length=9)
    assert texts("the cat sat on", cutting, 3) == ["the cat sat", "on"]
    assert cutting.truncation["max_length"] == 2  # the caller's stays as it was
    static = StaticEncoder(model.get_input_embeddings().weight.detach().numpy(), plain)
    assert tokenizer_of(static) is static.tokenizer
    assert token_limit(static) == WITHOUT_LIMIT
    assert len(chunk("cat " * (WITHOUT_LIMIT + 1), static)) == 2


def test_lower_case_counts_as_the_encoder_reads():
    words = word_tokenizer(WORDS, 32)
    words.backend_tokenizer.normalizer = normalizers.NFC()
    encoder = tiny_encoder()
    encoder.tokenizer = words
    assert texts("Aha Aha", encoder, 4) == ["Aha Aha"]  # two unknown words
    encoder.layout = replace(encoder.layout, do_lower_case=True)
    assert texts("Aha Aha", encoder, 4) == ["Aha", "Aha"]  # a, and two letters, twice


class Bare:
    dimension = 3

    def encode(self, texts):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((None, word_pieces(), 4), {}, TypeError, "the text is a NoneType"),
        (("a", Bare(), 4), {}, TypeError, "Bare carries no fast tokenizer"),
        (("a", word_pieces()), {}, ValueError, "pass max_tokens="),
        (("a", tiny_parts()[1]), {}, ValueError, "pass max_tokens="),
        (("a", word_pieces(), 0), {}, ValueError, "max_tokens=0"),
        (("a", word_pieces(), 9), {"overlap": 5}, ValueError, "most half of them"),
        (("a", word_pieces(), 9), {"overlap": -1}, ValueError, "overlap=-1"),
        (("ab \ud800", word_pieces(), 9), {}, ValueError, "character 3 of the text is"),
        (
            ("ab 😀", byte_pairs(), 3),
            {},
            ValueError,
            "'😀', character 3 of the text, takes 5 tokens and cannot be cut",
        ),
    ],
)
def test_what_is_wrong_is_said(arguments, options, error, message):
    with pytest.raises(error, match=message):
        chunk(*arguments, **options)


def test_the_example_holds(minilm):
    found = doctest.testmod(chunks)
    assert found.attempted == 4
    assert not found.failed
