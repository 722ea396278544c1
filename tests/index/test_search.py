"""Exact search and the indexes: against naive loops, each other, and damage."""

import json

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from sbert_lab import VectorIndex, exact_search
from sbert_lab.index import exact
from sbert_lab.index.exact import normalized

KINDS = ["exact", "flat", "hnsw", "ivfpq"]


def clustered(count=3_000, width=32, seed=0, spread=0.35):
    """Return vectors in clusters, of various lengths, as text embeddings are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(60, width))
    rows = centres[rng.integers(60, size=count)] + spread * rng.normal(
        size=(count, width)
    )
    return (rows * rng.uniform(0.5, 2, size=(count, 1))).astype(np.float32)


CORPUS, QUERIES = clustered(), clustered(300, seed=1)


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


def test_exact_reads_a_memory_map(tmp_path):
    np.save(tmp_path / "v.npy", CORPUS)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    expected = exact_search(QUERIES, CORPUS, 5)[1]
    np.testing.assert_array_equal(exact_search(QUERIES, mapped, 5)[1], expected)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("kind", ["exact", "flat"])
def test_flat_equals_exact(kind, metric):
    scores, positions = exact_search(QUERIES, CORPUS, 10, metric)
    hits = VectorIndex.build(CORPUS, kind=kind, metric=metric).search(QUERIES, 10)
    np.testing.assert_allclose(hits.scores, scores, rtol=1e-5, atol=1e-5)
    differs = hits.ids != positions  # only where two scores differ in the last digit
    assert differs.mean() < 0.001
    assert np.abs(hits.scores - scores)[differs].max(initial=0) < 1e-5


def test_metrics_differ_and_cosine_is_the_scaled_one():
    cosine = VectorIndex.build(CORPUS, metric="cosine").search(QUERIES, 10)
    dot = VectorIndex.build(CORPUS, metric="dot").search(QUERIES, 10)
    scaled = VectorIndex.build(normalized(CORPUS), metric="dot").search(
        normalized(QUERIES), 10
    )
    assert (cosine.ids != dot.ids).mean() > 0.3
    assert (cosine.ids == scaled.ids).mean() > 0.999
    assert cosine.scores.max() <= 1 + 1e-5


def test_hnsw_tuned_reaches_its_target_on_held_out_queries():
    index = VectorIndex.build(CORPUS, kind="hnsw", links=8, build_effort=40)
    tried = index.tune(clustered(300, seed=2), 0.98)
    assert tried[-1]["low"] >= 0.98
    assert index.settings["effort"] == tried[-1]["effort"]
    assert index.recall_against_exact(QUERIES).mean() >= 0.98
    # Not vacuous: the least effort does not reach it.
    assert tried[0]["low"] < 0.98


def test_ivfpq_tunes_within_what_its_codes_can_hold():
    index = VectorIndex.build(CORPUS, kind="ivfpq", lists=40, code_bytes=32)
    tried = index.tune(QUERIES[:150], 0.5, vectors=CORPUS)
    assert index.recall_against_exact(QUERIES[150:], vectors=CORPUS).mean() > 0.45
    effort = index.settings["effort"]
    with pytest.raises(ValueError, match="code_bytes"):
        index.tune(QUERIES, 0.9999, vectors=CORPUS)
    assert index.settings["effort"] == effort == tried[-1]["effort"]
    with pytest.raises(ValueError, match="vectors="):
        index.tune(QUERIES, 0.5)


def test_ivfpq_is_the_same_for_the_same_seed():
    first, second = (
        VectorIndex.build(CORPUS, kind="ivfpq", lists=40, seed=3).search(QUERIES)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.ids, second.ids)


def test_recall_is_by_distance_not_by_id():
    twice = np.concatenate([CORPUS, CORPUS])  # every vector under two ids
    index = VectorIndex.build(twice, kind="hnsw")
    index.settings["effort"] = 512
    assert index.recall_against_exact(QUERIES, 5).mean() > 0.99
    flat = VectorIndex.build(CORPUS, kind="flat")
    np.testing.assert_array_equal(flat.recall_against_exact(QUERIES), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_add_and_remove(kind):
    names = np.array([f"code {i}" for i in range(len(CORPUS))])
    index = VectorIndex.build(CORPUS[:2500], names[:2500], kind)
    index.add(CORPUS[2500:], names[2500:])
    assert len(index) == 3000
    target = names[2700]
    assert target in index.search(CORPUS[2700], 10).ids
    gone = index.search(CORPUS[2700], 3).ids[0].tolist()
    index.remove(gone)
    assert len(index) == 2997
    later = index.search(CORPUS[2700], 10).ids[0].tolist()
    assert not set(gone) & set(later)
    assert len(set(later)) == 10
    with pytest.raises(KeyError, match="nothing was removed"):
        index.remove([names[0], gone[0]])
    assert len(index) == 2997
    index.add(CORPUS[2700:2701], [gone[0]])  # an id is free again after removal
    assert gone[0] in index.search(CORPUS[2700], 5).ids


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_removed_vectors_leave_the_truth_too(kind):
    index = VectorIndex.build(CORPUS, kind=kind)
    index.settings = index.settings | {"effort": 600}
    index.remove(np.arange(0, 3000, 2))
    assert index.recall_against_exact(QUERIES).mean() > 0.97
    left = exact_search(QUERIES, CORPUS[1::2], 10)[0]
    np.testing.assert_allclose(
        index.search(QUERIES).scores.mean(), left.mean(), rtol=0.01
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ids", ["numbers", "strings"])
def test_saved_index_answers_the_same(tmp_path, kind, ids):
    numbers = np.arange(len(CORPUS)) * 7
    names = numbers if ids == "numbers" else numbers.astype(str)
    index = VectorIndex.build(CORPUS, names, kind, metric="dot", model_hash="abc")
    index.remove(names[:100])
    index.save(tmp_path / "index")
    again = VectorIndex.load(tmp_path / "index", model_hash="abc")
    first, second = index.search(QUERIES, 7), again.search(QUERIES, 7)
    np.testing.assert_array_equal(first.ids, second.ids)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert (again.kind, again.metric, again.model_hash) == (kind, "dot", "abc")
    assert again.settings == index.settings
    assert len(again) == 2900


def test_another_models_vectors_are_refused(tmp_path):
    index = VectorIndex.build(CORPUS, model_hash="a" * 64)
    index.save(tmp_path / "index")
    with pytest.raises(ValueError, match="distances between them mean nothing"):
        index.search(QUERIES, model_hash="b" * 64)
    with pytest.raises(ValueError, match="mean nothing"):
        index.add(CORPUS[:1], [9999], model_hash="b" * 64)
    with pytest.raises(ValueError, match="mean nothing"):
        VectorIndex.load(tmp_path / "index", model_hash="b" * 64)
    with pytest.raises(ValueError, match="the index has 32 dimensions"):
        index.search(QUERIES[:, :16])


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("flat", "index.faiss"),
        ("hnsw", "index.faiss"),
        ("exact", "vectors.npy"),
        ("flat", "ids.npy"),
        ("flat", "index.json"),
    ],
)
@pytest.mark.parametrize("damage", ["cut in half", "missing"])
def test_damaged_index_says_what_to_do(tmp_path, kind, name, damage):
    VectorIndex.build(CORPUS[:500], kind=kind).save(tmp_path / "index")
    path = tmp_path / "index" / name
    half(path) if damage == "cut in half" else path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match="build it"):
        VectorIndex.load(tmp_path / "index")


def test_an_l2_index_cannot_slip_in(tmp_path):
    folder = tmp_path / "index"
    VectorIndex.build(CORPUS[:500], kind="hnsw").save(folder)
    faiss.write_index(faiss.IndexHNSWFlat(32, 8), str(folder / "index.faiss"))
    about = json.loads((folder / "index.json").read_text())
    about["sha256"].pop("index.faiss")
    (folder / "index.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="measures L2"):
        VectorIndex.load(folder)


def test_failed_save_keeps_the_old_index(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    VectorIndex.build(CORPUS[:500], kind="flat").save(folder)
    other = VectorIndex.build(CORPUS, kind="flat")
    monkeypatch.setattr(faiss, "write_index", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        other.save(folder)
    assert len(VectorIndex.load(folder)) == 500


def test_bad_input_is_refused():
    build = VectorIndex.build
    broken = CORPUS[:300].copy()
    broken[7, 3] = np.nan
    with pytest.raises(ValueError, match="row 7 is not finite"):
        build(broken)
    with pytest.raises(ValueError, match=r"\[n, d\]"):
        build(CORPUS[0])
    with pytest.raises(ValueError, match="kinds are exact"):
        build(CORPUS, kind="annoy")
    with pytest.raises(ValueError, match="metrics are cosine"):
        build(CORPUS, metric="l2")
    with pytest.raises(ValueError, match="hnsw has no setting 'nprobe'"):
        build(CORPUS, kind="hnsw", nprobe=3)
    with pytest.raises(ValueError, match="too few"):
        build(CORPUS[:100], kind="ivfpq")
    with pytest.raises(ValueError, match="divisor"):
        build(CORPUS, kind="ivfpq", code_bytes=7)
    with pytest.raises(ValueError, match="occurs twice"):
        build(CORPUS[:3], ["a", "b", "a"])
    with pytest.raises(ValueError, match="3 vectors, but 2 ids"):
        build(CORPUS[:3], ["a", "b"])
    with pytest.raises(ValueError, match="all integers or all strings, not float"):
        build(CORPUS[:2], [0.5, 1.5])
    with pytest.raises(ValueError, match="not int, str"):
        build(CORPUS[:2], [1, "a"])
    with pytest.raises(ValueError, match="use one type"):
        build(CORPUS[:3]).add(CORPUS[:1], ["a"])
    with pytest.raises(ValueError, match="is in the index"):
        build(CORPUS[:3]).add(CORPUS[:1], [2])
    with pytest.raises(ValueError, match="nothing to tune"):
        build(CORPUS).tune(QUERIES, 0.9)
    for k in (0, -1):
        with pytest.raises(ValueError, match="at least one"):
            build(CORPUS).search(QUERIES, k)
        with pytest.raises(ValueError, match="at least one"):
            exact_search(QUERIES, CORPUS, k)
    with pytest.raises(ValueError, match="same number of columns"):
        exact_search(QUERIES[:, :5], CORPUS, 3)
    with pytest.raises(ValueError, match="cosine, dot"):
        exact_search(QUERIES, CORPUS, 3, "l2")


def test_small_and_emptied_indexes():
    for kind in ("exact", "flat", "hnsw"):
        index = VectorIndex.build(CORPUS[:3], ["a", "b", "c"], kind)
        assert index.search(CORPUS[:1], 10).ids.shape == (1, 3)
        index.remove(["a", "b", "c"])
        assert len(index) == 0
        assert index.search(CORPUS[:1], 10).ids.shape == (1, 0)


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """Search 150 MB of vectors, read from disk, in far less memory than that."""
    import subprocess
    import sys

    count, width = 600_000, 64
    script = f"""
import resource
import numpy as np
from sbert_lab import exact_search
from numpy.lib.format import open_memmap
path = {str(tmp_path / "big.npy")!r}
big = open_memmap(path, "w+", np.float32, ({count}, {width}))
rng = np.random.default_rng(0)
for start in range(0, {count}, 50_000):
    big[start : start + 50_000] = rng.normal(size=(50_000, {width}))
queries = np.array(big[:20])
big.flush()
del big
mapped = np.load(path, mmap_mode="r")
exact_search(queries, mapped[:20_000], 10)
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return [int(x.split()[1]) for x in lines if x.startswith("RssAnon")][0]
before = anonymous()
scores, positions = exact_search(queries, mapped, 10)
assert (positions[:, 0] == np.arange(20)).all()
print(anonymous() - before)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 40_000  # kB


def test_interrupted_add_leaves_the_index_as_it_was(monkeypatch):
    from sbert_lab.index import vector_index as search

    monkeypatch.setattr(search, "_ADD_AT_ONCE", 100)
    index = VectorIndex.build(CORPUS[:500], [f"a{i}" for i in range(500)], "flat")
    before = index.search(QUERIES)
    add, calls = index._store.add, []

    def interrupted(block):
        calls.append(len(block))
        if len(calls) == 3:
            raise KeyboardInterrupt
        add(block)

    index._store.add = interrupted
    new = [f"b{i}" for i in range(1000)]
    with pytest.raises(KeyboardInterrupt):
        index.add(CORPUS[500:1500], new)
    index._store.add = add
    assert len(index) == 500
    np.testing.assert_array_equal(index.search(QUERIES).ids, before.ids)
    index.add(CORPUS[500:1500], new)  # the same ids are still free
    assert index.search(CORPUS[700], 1).ids.tolist() == [["b200"]]


def test_files_of_two_indexes_do_not_mix(tmp_path):
    folder = tmp_path / "index"
    VectorIndex.build(CORPUS[:500]).save(folder)
    about = json.loads((folder / "index.json").read_text())
    np.save(folder / "ids.npy", np.arange(400))
    about["sha256"].pop("ids.npy")
    (folder / "index.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="different numbers of rows"):
        VectorIndex.load(folder)


def test_odd_dimensions_and_object_ids():
    rng = np.random.default_rng(0)
    for width in (100, 300, 31, 7):
        vectors = rng.normal(size=(600, width)).astype(np.float32)
        assert len(VectorIndex.build(vectors, kind="ivfpq", lists=8)) == 600
    names = np.array(["x", "y", "z"], dtype=object)  # a column of a data frame
    assert VectorIndex.build(CORPUS[:3], names).search(CORPUS[1], 1).ids == [["y"]]
