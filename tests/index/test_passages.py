"""Passages: what is found, cited, kept and refused, on tiny models."""

import doctest
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import WORDS, tiny_encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cross_encoder import tiny_cross_encoder

from sbert_lab import exact_search
from sbert_lab.index import passages
from sbert_lab.index.chunking import chunk, splitter
from sbert_lab.index.fusion import reciprocal_rank_fusion
from sbert_lab.index.passages import Cited, Passages, cited
from sbert_lab.models.lexical import Bm25

pytestmark = pytest.mark.usefixtures("one_thread")

DOCUMENTS = {
    "pets": "The cat sat on a mat. A dog ran over the hill. The lazy bird flew.",
    "colours": "One red fox.\n\nTwo green birds, three blue dogs and a brown cat.",
    "empty": " \n",
    "copy": "The cat sat on a mat. The quick brown fox jumps.",
}


class Counting:
    """An encoder that notes what it encodes."""

    def __init__(self, **layout):
        self.inner, self.seen = tiny_encoder(max_seq_length=12, **layout), []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def encode(self, texts):
        self.seen += texts
        return self.inner.encode(texts)

    encode_document = encode

    def encode_query(self, texts):
        return self.inner.encode(texts)


def filled(**options):
    found = Passages(Counting(), **options)
    found.add_all(DOCUMENTS)
    return found


def as_pairs(found):
    return [(one.document, one.text) for one in found]


def test_it_is_the_pieces_one_after_the_other():
    """By hand: cut, encode each text once, compare, merge with BM25, judge."""
    encoder, judge = tiny_encoder(max_seq_length=12), tiny_cross_encoder()
    texts = []
    for text in DOCUMENTS.values():
        texts += [part.text for part in chunk(text, splitter(encoder, 8, 2))]
    assert len(set(texts)) == len(texts) - 1  # one is in two documents
    texts = list(dict.fromkeys(texts))
    query = "a brown cat on the hill"
    vectors = encoder.encode(texts)
    scores, dense = exact_search(encoder.encode([query]), vectors, 5)
    options = {"max_tokens": 8, "overlap": 2}
    found = filled(**options).search(query, 3, candidates=5)
    assert [one.text for one in found] == [texts[i] for i in dense[0, :3]]
    np.testing.assert_allclose([one.score for one in found], scores[0, :3], atol=1e-6)

    weights = Bm25(texts).scores([query])[0]
    by_words = [i for i in np.argsort(-weights, kind="stable")[:5] if weights[i] > 0]
    scores, both = reciprocal_rank_fusion([dense, [by_words]], k=5)
    assert sorted(both[0]) != sorted(dense[0])  # words find others
    found = filled(hybrid=True, **options).search(query, 3, candidates=5)
    assert [one.text for one in found] == [texts[i] for i in both[0, :3]]
    assert [one.score for one in found] == scores[0, :3].tolist()

    candidates = [texts[i] for i in both[0]]
    order, judged = judge.rerank(query, candidates)
    found = filled(hybrid=True, cross_encoder=judge, **options)
    found = found.search(query, 3, candidates=5)
    assert [one.text for one in found] == [candidates[i] for i in order[:3]]
    assert [one.score for one in found] == judged[:3].tolist()
    for one in found:
        assert DOCUMENTS[one.document][one.start : one.end] == one.text
    assert order[:3].tolist() != [0, 1, 2]


def test_each_side_has_its_prompt():
    prompts = {"query": "a red query : ", "document": "the passage : "}
    encoder = tiny_encoder(max_seq_length=24, prompts=prompts)
    memory = Passages(encoder)
    memory.add_all({str(i): text for i, text in enumerate(WORDS[:20])})
    asked = encoder.encode_query(["cat"])
    scores, rows = exact_search(asked, encoder.encode_document(WORDS[:20]), 20)
    found = memory.search("cat", 20)
    assert [one.text for one in found] == [WORDS[i] for i in rows[0]]
    np.testing.assert_allclose([one.score for one in found], scores[0], atol=1e-6)
    other = encoder.encode_document(["cat"]) @ encoder.encode_document(WORDS[:20]).T
    assert np.abs(np.sort(other[0])[::-1] - scores[0]).max() > 1e-3


def test_the_same_text_is_encoded_and_found_once():
    memory = filled(max_tokens=8)
    both = "The cat sat on a mat."
    assert memory.encoder.seen.count(both) == 1
    pairs = as_pairs(memory.search(both, 50))
    assert pairs[0] == ("pets", both)
    texts = [text for _, text in pairs]
    assert sorted(texts) == sorted(memory.encoder.seen)
    memory.remove("pets")
    assert as_pairs(memory.search(both, 1)) == [("copy", both)]
    memory.remove("copy")
    assert both not in [text for _, text in as_pairs(memory.search(both, 50))]


def test_growing_encodes_only_what_is_new():
    memory = filled(max_tokens=8)
    memory.encoder.seen.clear()
    memory.add("pets", DOCUMENTS["pets"])
    memory.add("again", DOCUMENTS["pets"])
    assert memory.encoder.seen == []
    memory.add("pets", DOCUMENTS["pets"] + " The red bird sat.")
    assert memory.encoder.seen == ["The lazy bird flew. The red bird sat."[20:]]


def test_replacing_and_removing():
    memory = filled(max_tokens=8, hybrid=True)
    memory.add("pets", "A zebra. The quick brown fox jumps over.")
    pairs = as_pairs(memory.search("zebra", 50))
    assert ("copy", "The cat sat on a mat.") in pairs
    assert "A dog ran over the hill." not in [text for _, text in pairs]
    assert any(name == "pets" and "zebra" in text for name, text in pairs)
    fresh = Passages(memory.encoder, max_tokens=8, hybrid=True)
    fresh.add_all(memory.documents)
    for query in ("zebra", "the brown fox", "cat"):
        again = fresh.search(query, 50)
        assert sorted(as_pairs(again)) == sorted(as_pairs(memory.search(query, 50)))
    with pytest.raises(KeyError, match="'nobody'"):
        memory.remove("nobody")
    for name in DOCUMENTS:
        memory.remove(name)
    assert memory.documents == {}
    assert memory.search("the cat") == []
    memory.add_all(DOCUMENTS)
    assert memory.search("the cat", 1) != []


def test_the_document_that_is_cited_stays_the_same_when_loaded(tmp_path):
    memory = filled(max_tokens=8)
    memory.add("pets", DOCUMENTS["pets"] + " The red bird sat.")  # now the later one
    memory.save(tmp_path)
    for one in (memory, Passages.load(tmp_path, Counting())):
        assert one.search("The cat sat on a mat.", 1)[0].document == "copy"


def test_a_query_of_unknown_words_is_left_to_the_vectors():
    dense, both = (filled(max_tokens=8, hybrid=hybrid) for hybrid in (False, True))
    query = "Who wrote this?"
    assert as_pairs(both.search(query, 50)) == as_pairs(dense.search(query, 50))
    assert as_pairs(both.search("cat", 50)) != as_pairs(dense.search("cat", 50))


def test_a_hybrid_search_without_any_word():
    memory = Passages(tiny_encoder(), hybrid=True)
    memory.add("dots", "...")
    assert as_pairs(memory.search("?!")) == [("dots", "...")]
    memory.add_all({f"d{i}": f"the {word} sat" for i, word in enumerate("xyz")})
    memory.add("it", "zebra one two")
    memory.search("zebra")  # fits BM25, which must not outlive a change
    memory.remove("it")
    assert len(memory.search("zebra")) == 4


def test_adding_is_all_or_nothing(monkeypatch):
    memory = filled(max_tokens=8)
    before = memory.search("the cat", 50)
    with pytest.raises(ValueError, match="half a character"):
        memory.add_all({"pets": "A zebra.", "bad": "\ud800"})
    with pytest.raises(TypeError):
        memory.add_all({"new": "A zebra.", "bad": None})

    def fails(texts):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(memory.encoder, "encode_document", fails)
    with pytest.raises(RuntimeError):
        memory.add("pets", "A zebra.")
    assert memory.search("the cat", 50) == before
    assert memory.documents == DOCUMENTS


def test_saved_and_loaded_it_is_the_same(tmp_path):
    memory = filled(max_tokens=8, overlap=2, hybrid=True)
    memory.remove("pets")  # a hole in the index
    memory.save(tmp_path / "memory")
    encoder, judge = Counting(), tiny_cross_encoder()
    again = Passages.load(tmp_path / "memory", encoder)
    about = tmp_path / "memory" / "passages.json"
    content = about.read_bytes()
    old = json.loads(content)
    old |= {"format": 2, "sha256": old["sha256"]["documents.json"]}
    about.write_text(json.dumps(old))  # as another version wrote it
    before = Passages.load(tmp_path / "memory", encoder)
    about.write_bytes(content)
    assert before.documents == again.documents == memory.documents
    assert encoder.seen == []
    for query in ("the cat", "a brown fox", "zebra"):
        assert again.search(query, 50) == memory.search(query, 50)
    for one in (again, memory):
        one.add("pets", DOCUMENTS["pets"] + " Three zebras.")
    assert again.search("zebras", 50) == memory.search("zebras", 50)
    assert (again.max_tokens, again.overlap) == (8, 2)
    again.save(tmp_path / "memory")  # over the old one
    judged = Passages.load(tmp_path / "memory", encoder, cross_encoder=judge)
    found = judged.search("zebras", 50)
    wanted = judge.predict(["zebras"] * len(found), [one.text for one in found])
    np.testing.assert_allclose([one.score for one in found], wanted, atol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"pooling": ("cls",)},
        {"similarity": "dot"},
        {"prompts": {"document": "passage : "}},
    ],
    ids=str,
)
def test_another_encoder_is_refused(tmp_path, other):
    memory = Passages(tiny_encoder())
    memory.add("one", "the cat")
    memory.save(tmp_path)
    with pytest.raises(ValueError, match="mean nothing"):
        Passages.load(tmp_path, tiny_encoder(**other))
    with torch.no_grad():
        next(memory.encoder.parameters()).mul_(1.01)
    with pytest.raises(ValueError, match="the encoder has changed"):
        memory.save(tmp_path)
    assert Passages.load(tmp_path, tiny_encoder()).documents == {"one": "the cat"}


def test_damage_is_noticed(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no passages"):
        Passages.load(tmp_path, tiny_encoder())
    filled(max_tokens=8).save(tmp_path)
    kept = {p: p.read_bytes() for p in Path(tmp_path).rglob("*") if p.is_file()}
    assert len(kept) == 6
    for path, content in kept.items():
        damages = [content[:-9], content.replace(b"c", b"d", 1) + b" ", None]
        if path.name == "passages.json":
            damages = [b"{", b"[]", content.replace(b'"options"', b'"last"')]
        for damage in damages:
            path.write_bytes(damage) if damage is not None else path.unlink()
            with pytest.raises((ValueError, FileNotFoundError), match="damaged|holds"):
                Passages.load(tmp_path, Counting())
        path.write_bytes(content)
    Passages.load(tmp_path, Counting())


def test_nothing_is_pickled(tmp_path):
    filled(max_tokens=8).save(tmp_path / "m")
    names = {p.name for p in (tmp_path / "m").rglob("*") if p.is_file()}
    assert names == {
        "passages.json", "documents.json",
        "index.json", "index.faiss", "ids.npy", "removed.npy",
    }  # fmt: skip


def test_citations_are_numbered_and_can_be_looked_up():
    found = filled(max_tokens=8).search("the cat", 3)
    blocks = cited(found).split("\n\n")
    for number, (block, one) in enumerate(zip(blocks, found, strict=True), 1):
        head, text = block.split("\n", 1)
        match = re.fullmatch(r"\[(\d)\] (\w+), characters (\d+)–(\d+):", head)
        where, name, start, end = match.groups()
        assert int(where) == number
        assert DOCUMENTS[name][int(start) : int(end)] == text == one.text
    assert cited([]) == ""


HEAD = re.compile(r"^([\W_]*?)(\\*)(?=[\[［]\s*\d+\s*[\]］])")
LINE = st.text("[［2٢]］ \\_-x\n\r\u2028\u200b\x85")


@settings(max_examples=60)
@given(st.lists(st.tuples(LINE, LINE), max_size=4))
def test_no_text_passes_for_a_citation(texts):
    found = [
        Cited("".join(filter(str.isprintable, name)), 0, 9, text, 0.5)
        for name, text in texts
    ]
    heads = [HEAD.match(line) for line in cited(found).splitlines()]
    assert sum(head is not None and not head[2] for head in heads) == len(found)
    for one in found:  # a backslash less, and it is the text again
        block = cited([one]).split(", characters 0–9:\n")[-1].splitlines(keepends=True)
        undone = [HEAD.sub(lambda m: m[1] + m[2][1:], line) for line in block]
        assert "".join(undone) == one.text
    assert cited([Cited("[2] x", 0, 9, "[3] y", 0.5)]) == (
        "[1] \\[2] x, characters 0–9:\n\\[3] y"
    )


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_vectors_are_compared_as_the_model_says(metric):
    encoder = tiny_encoder(similarity=metric)
    memory = Passages(encoder)
    memory.add_all({word: word for word in WORDS})
    scores, rows = exact_search(
        encoder.encode(["cat"]), encoder.encode(WORDS), 40, metric
    )
    found = memory.search("cat", 40)
    assert [one.text for one in found] == [WORDS[i] for i in rows[0]]
    np.testing.assert_allclose([one.score for one in found], scores[0], atol=1e-5)
    with pytest.raises(ValueError, match="similarity_fn_name"):
        Passages(tiny_encoder(similarity="manhattan"))


def test_words_decide_where_the_tokenizer_knows_none():
    memory = Passages(tiny_encoder(), hybrid=True)
    texts = [
        "東京の天気",
        "大阪の料理",
        "学校で勉強",
        "हिन्दी में",
        "ภาษาไทย",
        "vitamin D",
    ]
    memory.add_all(dict(zip("abcdef", texts, strict=True)))
    for query, name in zip(
        ("天気", "料理", "勉強", "हिन्दी", "ไทย", "D"), "abcdef", strict=True
    ):
        assert memory.search(query, 1)[0].document == name


def test_what_is_wrong_is_said():
    memory = Passages(tiny_encoder())
    with pytest.raises(ValueError, match="query is empty"):
        memory.search(" ")
    for k in (0, 101):
        with pytest.raises(ValueError, match=f"k={k}: a whole number, 1 to 100"):
            memory.search("a", k)
    for name in ("  ", "two\nlines", 3):
        with pytest.raises(ValueError, match="name of a document"):
            memory.add(name, "the cat")
    with pytest.raises(ValueError, match="the 30 tokens"):
        Passages(tiny_encoder(), max_tokens=31)


def test_the_example_holds():
    assert doctest.testmod(passages) == (0, 6)
