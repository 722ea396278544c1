import multiprocessing
import re
import resource
import shutil
import sqlite3
from contextlib import ExitStack, closing
from functools import partial

import numpy as np
import pytest

from sbert_lab.models import embedding_cache
from sbert_lab.models.embedding_cache import EmbeddingCache

HASH = "a" * 64


def test_unknown_texts_are_marked(tmp_path):
    cache = EmbeddingCache(tmp_path)
    vectors, known = cache.get(HASH, ["x", "y"], 3)
    assert vectors.shape == (2, 3)
    assert not known.any()
    cache.put(HASH, ["y", "é"], np.ones((2, 3), np.float32))
    vectors, known = cache.get(HASH, ["x", "y", "é"], 3)
    assert known.tolist() == [False, True, True]
    assert vectors.sum(1).tolist() == [0, 3, 3]
    assert not cache.get(HASH, ["y"], 4)[1].any()  # of another width


def test_more_texts_than_one_query_takes(tmp_path):
    cache = EmbeddingCache(tmp_path)
    texts = [str(i) for i in range(25_000)]
    stored = np.arange(25_000, dtype=np.float32)[:, None]
    cache.put(HASH, texts, stored)
    vectors, known = cache.get(HASH, texts[::-1], 1)
    assert known.all()
    np.testing.assert_array_equal(vectors, stored[::-1])


def write(folder, first):
    """Write 2,000 vectors, 20 at a time, of texts from `first` on."""
    cache = EmbeddingCache(folder)
    for start in range(first, first + 2000, 20):
        numbers = range(start, start + 20)
        rows = np.array([[n, -n] for n in numbers], np.float32)
        cache.put(HASH, [str(n) for n in numbers], rows)


def test_two_processes_write_at_once(tmp_path):
    # The second overlaps the first by half: both write those texts.
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=write, args=(tmp_path, n)) for n in (0, 1000)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    vectors, known = EmbeddingCache(tmp_path).get(
        HASH, [str(n) for n in range(3000)], 2
    )
    assert known.all()
    expected = np.array([[n, -n] for n in range(3000)], np.float32)
    np.testing.assert_array_equal(vectors, expected)


def damaged(path, *_):
    path.write_bytes(b"not a database, but long enough to look at" * 9)


def locked(path, patch, stack):
    other = stack.enter_context(closing(sqlite3.connect(path)))
    other.execute("BEGIN EXCLUSIVE")
    patch.setattr(embedding_cache, "_WAIT", 0.01)


def full(_, patch, stack):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))


def read_only(path, patch, _):
    connect = partial(sqlite3.connect, f"file:{path}?mode=ro", uri=True)
    patch.setattr(sqlite3, "connect", lambda _, timeout: connect())


@pytest.mark.parametrize(
    ("fault", "hits", "cure"),
    [
        (damaged, 0, "delete the file"),
        (locked, 0, "is locked.*SBERT_LAB_CACHE to another folder"),
        (full, 2, "make room"),
        (read_only, 2, "readonly.*SBERT_LAB_CACHE to another folder"),
    ],
)
def test_no_encoding_is_lost_to_a_cache_that_fails(
    tmp_path, tiny, monkeypatch, caplog, fault, hits, cure
):
    cache, texts = EmbeddingCache(tmp_path), ["the cat", "a dog"]
    wanted = tiny.encode(texts)
    tiny.encode(["the cat"], cache=cache)
    with ExitStack() as stack:
        fault(cache.path(tiny.fingerprint()), monkeypatch, stack)
        for _ in range(2):
            found = tiny.encode(texts, cache=cache)
            np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert re.search(cure, "; ".join(caplog.messages))
    assert (len(caplog.messages), cache.hits) == (1, hits)


def test_changed_and_swapped_files_give_no_vectors(tmp_path):
    cache = EmbeddingCache(tmp_path)
    cache.put(HASH, ["x", "y"], np.ones((2, 3), np.float32))
    shutil.copy(cache.path(HASH), cache.path("b" * 64))
    assert not cache.get("b" * 64, ["x", "y"], 3)[1].any()
    content = cache.path(HASH).read_bytes()
    one = np.ones(3, "<f4").tobytes()
    cache.path(HASH).write_bytes(content.replace(one, b"\1" + one[1:], 1))
    assert cache.get(HASH, ["x", "y"], 3)[1].sum() == 1
