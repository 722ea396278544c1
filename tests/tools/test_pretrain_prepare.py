"""Vocabulary, static vectors, and the prepared folder."""

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_pretraining import prepared, sentence
from tokenizers import Tokenizer

from tools.pretraining.corpus import is_held_out, load_documents, load_table
from tools.pretraining.prepare import prepare
from tools.pretraining.static_vectors import cooccurrence, static_vectors
from tools.pretraining.vocabulary import SEP, SPECIAL_TOKENS, train_tokenizer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("prepare"))


def test_equal_texts_make_an_equal_vocabulary():
    texts = [sentence(np.random.default_rng(i)) for i in range(50)]
    first = train_tokenizer(texts, 120).get_vocab()
    assert first == train_tokenizer(texts[::-1], 120).get_vocab()
    assert [first[token] for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]


def test_cooccurrence_weighs_distance_and_skips_special_tokens():
    stream = np.array([5, 6, 7, SEP, 5], dtype=np.int16)
    for block in (2, 100):
        counts = cooccurrence(stream, 8, window=2, block=block)
        assert counts[5, 6] == counts[6, 5] == 1.0
        assert counts[6, 7] == 1.0
        assert counts[5, 7] == 1.0
        assert counts[SEP].sum() == 0


def test_static_vectors_put_interchangeable_words_together():
    random = np.random.default_rng(0)
    groups = ((10, 11), (20, 21))
    pairs = [
        (random.choice(groups[g]), random.choice((30, 31)) + 5 * g)
        for g in (0, 1) * 500
    ]
    stream = np.array([t for pair in pairs for t in (*pair, SEP)], dtype=np.int16)
    vectors = static_vectors(cooccurrence(stream, 40, window=1), 4, seed=0)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    assert unit[10] @ unit[11] > 0.9
    assert abs(unit[10] @ unit[20]) < 0.1


def test_prepared_streams_share_no_document(data):
    tokenizer = Tokenizer.from_file(str(data / "tokenizer.json"))
    train = load_file(data / "train.safetensors")
    held = load_file(data / "heldout.safetensors")

    def documents(stream):
        parts = np.split(stream, np.flatnonzero(stream == SEP) + 1)
        return {tuple(part.tolist()) for part in parts if len(part)}

    for name in ("alpha", "beta"):
        assert documents(train[name]).isdisjoint(documents(held[name]))
        path = data.parent / "corpus" / f"{name}.jsonl"
        count = sum(not is_held_out(name, d.name) for d in load_documents(path))
        assert int((train[name] == SEP).sum()) == count
    assert "garden" in tokenizer.decode(train["alpha"][:500].tolist())
    tokens = {row["source"]: row["tokens"] for row in load_table(data)}
    assert tokens == {name: len(stream) for name, stream in train.items()}


def test_a_kept_tokenizer_makes_the_same_streams(data, tmp_path):
    prepare(data.parent / "corpus", tmp_path, 0, 8, 2, seed=1, keep_tokenizer=data)
    for name in ("vocab.txt", "tokenizer.json", "train.safetensors"):
        assert (tmp_path / name).read_bytes() == (data / name).read_bytes()
