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
from sbert_lab.index.fusion import convex_combination
from sbert_lab.index.passages import TRIED, Cited, Passages, Weights, cited
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


class Placed(Counting):
    """It places a text by the digit in it, near to like digits, whatever its words."""

    def encode(self, texts):
        self.seen += texts
        turns = np.array([int(re.search(r"\d", text)[0]) / 9 for text in texts])
        return np.stack([np.cos(turns), np.sin(turns), *[0 * turns] * 14], 1)

    encode_document = encode_query = encode


class Judge:
    """It likes a text that begins with the query's first word."""

    def predict(self, queries, texts, activation):
        assert activation is None
        firsts = [[text.split()[0] for text in side] for side in (queries, texts)]
        return np.equal(*firsts).astype(np.float32)


def filled(**options):
    found = Passages(Counting(), **options)
    found.add_all(DOCUMENTS)
    return found


def as_pairs(found):
    return [(one.document, one.text) for one in found]


def test_it_is_the_pieces_one_after_the_other():
    """By hand: cut, encode each text once, compare, mix with BM25 and a judge."""
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

    counts = Bm25(texts).scores([query])[0]
    by_words = [i for i in np.argsort(-counts, kind="stable")[:5] if counts[i] > 0]
    sides = [(scores, dense), (counts[None, by_words], [by_words])]
    scores, both = convex_combination(sides, (0.6, 0.4), floors=(None, 0), k=5)
    assert sorted(both[0]) != sorted(dense[0])  # words find others
    options |= {"hybrid": True, "weights": Weights(words=0.4)}
    found = filled(**options).search(query, 3, candidates=5)
    assert [one.text for one in found] == [texts[i] for i in both[0, :3]]
    np.testing.assert_allclose([one.score for one in found], scores[0, :3], atol=1e-5)

    candidates = [texts[i] for i in both[0]]
    judged = judge.predict([query] * 5, candidates, activation=None)[None]
    for share in (0, 0.5, 1):
        sides = [(scores, both), (judged, both)]
        order = convex_combination(sides, (1 - share, share))[1][0, :3].tolist()
        options["weights"] = Weights(words=0.4, cross_encoder=share)
        found = filled(cross_encoder=judge, **options).search(query, 3, candidates=5)
        assert [one.text for one in found] == [texts[i] for i in order]
    alone = [both[0, i] for i in judge.rerank(query, candidates, 3)[0]]
    assert order == alone != both[0, :3].tolist()
    for one in found:
        assert DOCUMENTS[one.document][one.start : one.end] == one.text


def test_the_same_text_is_encoded_and_found_once():
    memory = filled(max_tokens=8)
    both = "The cat sat on a mat."
    found = as_pairs(memory.search(both, 50))
    assert found[0] == ("pets", both)
    assert sorted(text for _, text in found) == sorted(memory.encoder.seen)
    memory.encoder.seen.clear()
    memory.add("again", DOCUMENTS["pets"])
    memory.add("pets", DOCUMENTS["pets"] + " The red bird sat.")
    assert memory.encoder.seen == ["The red bird sat."]
    for name in ("copy", "again", "pets"):  # the order in which they came
        assert as_pairs(memory.search(both, 1)) == [(name, both)]
        memory.remove(name)
    assert both not in [text for _, text in as_pairs(memory.search(both, 50))]


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
    assert memory.search("the cat") == []


def test_words_weigh_nothing_where_none_is_known_or_their_weight_is_0():
    dense, both = (filled(max_tokens=8, hybrid=hybrid) for hybrid in (False, True))
    for words, query in ((1, "Who wrote this?"), (0.5, "Who wrote this?"), (0, "cat")):
        both.weights = Weights(words=words)
        found, wanted = (one.search(query, candidates=5) for one in (both, dense))
        assert as_pairs(found) == as_pairs(wanted)
    both.weights = Weights(words=1)
    alone = [text for _, text in as_pairs(both.search("cat", 50))]
    assert sorted(alone) == sorted(text for text in both.encoder.seen if "cat" in text)


@pytest.mark.parametrize("stage", ["words", "cross_encoder"])
def test_a_weight_is_tuned_to_what_helps(stage):
    queries = ["dog 0", "bird 0", "cat 9"]  # the nearest are a, a and c
    options = {"hybrid": True} if stage == "words" else {"cross_encoder": Judge()}
    memory = Passages(Placed(), weights=Weights(0.2, 0.2), **options)
    memory.add_all({"a": "cat 0", "b": "dog 5", "c": "bird 9"})
    tried = memory.tune(queries, [["b"], {"c"}, ("a",)])
    assert tried[stage][0] == pytest.approx((1 / 2 + 1 / 3 + 1 / 3) / 3)
    assert tried[stage][0.5] < tried[stage][0.6] == 1  # at 0.5 a and c are equal
    assert memory.weights == Weights(**{"words": 0.2, "cross_encoder": 0.2, stage: 0.6})
    assert memory.search("bird 0", 1)[0].document == "c"
    answers = [["cat 0"], ["cat  0", "no"], ["bird\n9"]]
    assert memory.tune(queries, answers, by="text")[stage][0] == 1
    assert getattr(memory.weights, stage) == 0
    memory.cross_encoder = memory.cross_encoder and object()  # it is not asked
    assert memory.search("bird 0", 1)[0].document == "a"


@pytest.mark.parametrize("seed", range(4))
def test_what_was_tried_is_what_searches_give(seed):
    """MRR@10 of every weight by hand, for queries and answers by chance."""
    rng = np.random.default_rng(seed)
    memory = filled(max_tokens=3, hybrid=True)
    queries = [" ".join(rng.choice(WORDS, 3)) for _ in range(12)]
    wanted = rng.choice(memory.encoder.seen, (12, 2)).tolist()
    tried = memory.tune(queries, wanted, by="text")["words"]
    assert tried[memory.weights.words] == max(tried.values()) >= tried[0]
    for share in TRIED:
        memory.weights, total = Weights(words=share), 0
        for query, own in zip(queries, wanted, strict=True):
            found = [one.text for one in memory.search(query, 10)]
            right = [n for n, t in enumerate(found, 1) if any(o in t for o in own)]
            total += 1 / right[0] if right else 0
        assert tried[share] == pytest.approx(total / 12)


def test_where_filters_before_the_search(tmp_path):
    memory = Passages(Placed(), hybrid=True)
    texts = {f"d{i}": f"cat {i}" for i in range(10)}
    memory.add_all(texts, {f"d{i}": {"old": i > 5, "year": i % 2} for i in range(10)})
    memory.add("copy", "cat 0", language="de")
    memory.add("last", "dog 9", language="de", year=1)

    def names(**where):
        found = memory.search("cat 0", 3, candidates=3, where=where)
        return [one.document for one in found]

    for _ in range(2):
        assert names() == ["d0", "d1", "d2"]
        assert names(old=True) == ["d6", "d7", "d8"]
        assert names(old=True, year=1) == ["d7", "d9"]
        assert names(language="de") == ["copy", "last"]
        assert names(language="fr") == []
        with pytest.raises(ValueError, match="has size; .* language, old, year"):
            names(size=3)
        memory.save(tmp_path / "memory")
        memory = Passages.load(tmp_path / "memory", Placed())
    memory.add("copy", "cat 0", language="fr")  # the same text
    assert names(language="fr") == ["copy"]
    memory.add("last", "dog 9")  # without any now
    memory.remove("copy")
    with pytest.raises(ValueError, match="no document has language"):
        names(language="de")


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
    monkeypatch.setattr(memory.encoder, "encode_document", None)
    with pytest.raises(TypeError, match="not callable"):
        memory.add("pets", "A zebra.")
    assert memory.search("the cat", 50) == before
    assert memory.documents == DOCUMENTS


def test_saved_and_loaded_it_is_the_same(tmp_path):
    weights = Weights(words=0.3, cross_encoder=1)
    memory = filled(max_tokens=8, overlap=2, hybrid=True, weights=weights)
    memory.remove("pets")  # a hole in the index
    memory.save(tmp_path / "memory")
    encoder, judge = Counting(), tiny_cross_encoder()
    again = Passages.load(tmp_path / "memory", encoder)
    about = tmp_path / "memory" / "passages.json"
    content = about.read_bytes()
    about.write_text(json.dumps(json.loads(content) | {"format": 3}))
    with pytest.raises(ValueError, match="another version: format 3, not 4: add anew"):
        Passages.load(tmp_path / "memory", encoder)
    about.write_bytes(content)
    assert again.documents == memory.documents
    assert encoder.seen == []
    for query in ("the cat", "a brown fox", "zebra"):
        assert again.search(query, 50) == memory.search(query, 50)
    for one in (again, memory):
        one.add("pets", DOCUMENTS["pets"] + " Three zebras.")
    assert again.search("zebras", 50) == memory.search("zebras", 50)
    assert (again.max_tokens, again.overlap, again.weights) == (8, 2, weights)
    again.save(tmp_path / "memory")  # over the old one
    judged = Passages.load(tmp_path / "memory", encoder, cross_encoder=judge)
    found = [one.text for one in judged.search("zebras", 50)]
    assert judge.rerank("zebras", found)[0].tolist() == [*range(len(found))]


def test_another_encoder_is_refused(tmp_path):
    memory = Passages(tiny_encoder())
    memory.add("one", "the cat")
    memory.save(tmp_path)
    others = [{"seed": 1}, {"pooling": ("cls",)}, {"similarity": "dot"}]
    for other in (*others, {"prompts": {"document": "passage : "}}):
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
    names = "documents.json ids.npy index.faiss index.json passages.json removed.npy"
    assert {path.name for path in kept} == set(names.split())  # nothing is pickled
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
def test_texts_are_encoded_and_compared_as_the_model_says(metric):
    prompts = {"query": "a red query : ", "document": "the passage : "}
    encoder = tiny_encoder(max_seq_length=24, prompts=prompts, similarity=metric)
    memory = Passages(encoder)
    memory.add_all({word: word for word in WORDS})
    kept = encoder.encode_document(WORDS)
    scores, rows = exact_search(encoder.encode_query(["cat"]), kept, 40, metric)
    found = memory.search("cat", 40)
    assert [one.text for one in found] == [WORDS[i] for i in rows[0]]
    np.testing.assert_allclose([one.score for one in found], scores[0], atol=1e-5)
    other = exact_search(encoder.encode_document(["cat"]), kept, 40, metric)[0]
    assert np.abs(other - scores).max() > 1e-3
    with pytest.raises(ValueError, match="similarity_fn_name"):
        Passages(tiny_encoder(similarity="manhattan"))


def test_words_decide_where_the_tokenizer_knows_none():
    memory = Passages(tiny_encoder(), hybrid=True, weights=Weights(words=0.9))
    texts = "東京の天気 大阪の料理 学校で勉強 हिन्दी_में ภาษาไทย vitamin_D".split()
    memory.add_all({text: text.replace("_", " ") for text in texts})
    for query, text in zip("天気 料理 勉強 हिन्दी ไทย D".split(), texts, strict=True):
        assert memory.search(query, 1)[0].document == text


def test_what_is_wrong_is_said():
    memory = Passages(tiny_encoder())
    memory.add("one", "the cat")
    add, tune, nan = memory.add, memory.tune, float("nan")
    for message, call in [
        ("query is empty", lambda: memory.search(" ")),
        ("k=101: a whole number, 1 to 100", lambda: memory.search("a", 101)),
        ("name of a document is printable", lambda: add("two\nlines", "the cat")),
        ("name of a document is printable", lambda: add(3, "the cat")),
        ("the 30 tokens", lambda: Passages(tiny_encoder(), max_tokens=31)),
        ("words=1.5: a weight is from 0 to 1", lambda: Weights(words=1.5)),
        ("cross_encoder=nan: a weight is", lambda: Weights(cross_encoder=nan)),
        ("are text, numbers or bools: ", lambda: add("two", "a dog", a={1})),
        ("are text, numbers or bools: ", lambda: add("two", "a dog", a=nan)),
        ("are text, numbers or bools: ", lambda: add("two", "a dog", a="\ud800")),
        ("by added document", lambda: memory.add_all({}, {"two": {"a": 1}})),
        ("keyed by text", lambda: memory.add_all({"two": "a"}, {"two": {3: 1}})),
        ("0 queries, 0 answers", lambda: tune([], [])),
        ("1 queries, 2 answers.* one list of", lambda: tune(["a"], [["one"]] * 2)),
        ("one list of names or texts for each", lambda: tune(["a"], ["one"])),
        ("one list of names or texts for each", lambda: tune(["a"], [[""]], by="text")),
        ("by 'document' or 'text'", lambda: tune(["a"], [["one"]], by="texts")),
        ("named 'a cat'; is it by='text'", lambda: tune(["a"], [["a cat"]])),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    assert memory.documents == {"one": "the cat"}


def test_a_passage_is_cited_with_its_neighbours_and_none_twice():
    text = ". ".join(WORDS[:12]) + "."
    memory = Passages(tiny_encoder(), max_tokens=2)
    memory.add("words", text)
    alone = memory.search("cat", 12)
    cut = sorted(alone, key=lambda one: one.start)
    wide = memory.search("cat", 12, neighbours=2)
    covered = set()
    for one in alone:  # by hand: best first, unless a wider one holds it already
        at = cut.index(one)
        if at not in covered:
            near = range(max(at - 2, 0), min(at + 3, len(cut)))
            covered |= set(near)
            own = wide.pop(0)
            assert (own.start, own.end) == (cut[near[0]].start, cut[near[-1]].end)
            assert (own.text, own.score) == (text[own.start : own.end], one.score)
    assert not wide
    assert len(covered) == len(cut) > 6
    with pytest.raises(ValueError, match="neighbours"):
        memory.search("cat", neighbours=-1)


def test_the_example_holds():
    assert doctest.testmod(passages) == (0, 6)
