import multiprocessing

import numpy as np
import pytest

from sbert_lab.models.embedding_cache import EmbeddingCache

HASH = "a" * 64


def test_unknown_texts_are_marked(tmp_path):
    cache = EmbeddingCache(tmp_path)
    vectors, known = cache.get(HASH, ["x", "y"], 3)
    assert vectors.shape == (2, 3)
    assert not known.any()
    cache.put(HASH, ["y", "\ud800"], np.ones((2, 3), np.float32))
    vectors, known = cache.get(HASH, ["x", "y", "\ud800"], 3)
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


def test_a_file_that_is_no_cache_is_named(tmp_path):
    cache = EmbeddingCache(tmp_path)
    cache.path(HASH).write_bytes(b"not a database, but long enough to look at" * 9)
    with pytest.raises(OSError, match="delete the file"):
        cache.get(HASH, ["x"], 3)
