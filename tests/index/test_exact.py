"""Exact search: against a naive loop, scikit-learn, and what it may take of memory."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from sbert_lab.index import exact
from sbert_lab.index.exact import exact_search

RNG = np.random.default_rng(0)
CORPUS = RNG.normal(size=(3_000, 32)).astype(np.float32)
QUERIES = RNG.normal(size=(300, 32)).astype(np.float32)


def naive_search(queries, corpus, k, metric):
    """Score every pair in float64 and sort; equal scores by position."""
    answers = []
    for q in queries.astype(np.float64):
        scores = []
        for position, d in enumerate(corpus.astype(np.float64)):
            score = float(q @ d)
            if metric == "cosine":
                score /= max(np.sqrt(q @ q) * np.sqrt(d @ d), 1e-12)
            scores.append((-score, position))
        answers.append([position for _, position in sorted(scores)[:k]])
    return np.array(answers)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@given(seed=st.integers(0, 10_000), k=st.integers(1, 12), block=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_exact_equals_naive_whatever_the_blocks(metric, seed, k, block):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(3, 6)).astype(np.float32)
    corpus = rng.normal(size=(30, 6)).astype(np.float32)
    before = exact._ROWS_AT_ONCE, exact._QUERIES_AT_ONCE
    exact._ROWS_AT_ONCE, exact._QUERIES_AT_ONCE = block, 2
    try:
        scores, positions = exact_search(queries, corpus, k, metric)
    finally:
        exact._ROWS_AT_ONCE, exact._QUERIES_AT_ONCE = before
    np.testing.assert_array_equal(positions, naive_search(queries, corpus, k, metric))
    assert (np.diff(scores, axis=1) <= 0).all()


def test_exact_equals_scikit_learn():
    brute = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute")
    theirs, positions = brute.fit(CORPUS).kneighbors(QUERIES)
    ours, ours_at = exact_search(QUERIES, CORPUS, 10, "cosine")
    np.testing.assert_allclose(ours, 1 - theirs, atol=1e-5)
    assert (ours_at == positions).mean() > 0.999  # but for ties in the last digit


def test_equal_vectors_come_in_order_of_position():
    corpus = np.tile(np.eye(3, dtype=np.float32), (4, 1))
    positions = exact_search(np.eye(3, dtype=np.float32)[:1], corpus, 4)[1]
    assert positions.tolist() == [[0, 3, 6, 9]]


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """Search 75 MB of vectors, read from disk, in far less memory than that."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    path = tmp_path / "big.npy"
    big = np.lib.format.open_memmap(path, "w+", np.float32, (300_000, 64))
    for start in range(0, len(big), 50_000):
        big[start : start + 50_000] = RNG.normal(size=(50_000, 64))
    del big
    script = f"""
import numpy as np
from sbert_lab import exact_search

mapped = np.load({str(path)!r}, mmap_mode="r")
queries = np.array(mapped[:20])
exact_search(queries, mapped[:20_000], 10)


def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return [int(x.split()[1]) for x in lines if x.startswith("RssAnon")][0]


before = anonymous()
assert (exact_search(queries, mapped, 10)[1][:, 0] == np.arange(20)).all()
print(anonymous() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 30_000  # kB


def test_bad_input_is_refused():
    broken = CORPUS[:9].copy()
    broken[7, 3] = np.nan
    with pytest.raises(ValueError, match="row 7 is not finite"):
        exact_search(broken, CORPUS, 3)
    with pytest.raises(ValueError, match="at least one"):
        exact_search(QUERIES, CORPUS, 0)
    with pytest.raises(ValueError, match="same number of columns"):
        exact_search(QUERIES[:, :5], CORPUS, 3)
    with pytest.raises(ValueError, match="cosine, dot"):
        exact_search(QUERIES, CORPUS, 3, "l2")
