"""The indexes: against exact search, FAISS used directly, each other, and damage."""

import resource
from typing import get_args

import faiss
import numpy as np
import pytest
import torch

from sbert_lab import VectorIndex, exact_search
from sbert_lab.index import vector_index
from sbert_lab.index.exact import normalized

KINDS = get_args(vector_index.Kind)


def clustered(count=3_000, width=32, seed=0, spread=0.35):
    """Return vectors in clusters, of various lengths, as text embeddings are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(60, width))
    rows = centres[rng.integers(60, size=count)] + spread * rng.normal(
        size=(count, width)
    )
    return (rows * rng.uniform(0.5, 2, size=(count, 1))).astype(np.float32)


CORPUS, QUERIES = clustered(), clustered(300, seed=1)


def same(hits, scores, positions):
    """Compare answers; positions may differ where two scores differ in a last digit."""
    np.testing.assert_allclose(hits.scores, scores, rtol=1e-4, atol=1e-4)
    differs = hits.ids != positions
    assert differs.mean() < 0.001
    assert np.abs(hits.scores - scores)[differs].max(initial=0) < 1e-4


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("kind", ["flat", "hnsw", "hnsw-int8", "ivfpq", "int8"])
def test_it_is_what_faiss_says(kind, metric):
    """FAISS used directly, over vectors that are scaled by hand for cosine."""
    corpus, queries = CORPUS, QUERIES
    if metric == "cosine":
        corpus, queries = (
            x / np.linalg.norm(x, axis=1, keepdims=True) for x in (CORPUS, QUERIES)
        )
    inner, settings = faiss.METRIC_INNER_PRODUCT, {}
    eight = faiss.ScalarQuantizer.QT_8bit
    if kind.startswith("hnsw"):
        settings = {"M": 8, "ef_construction": 40, "ef_search": 50}
        peer = faiss.IndexHNSWFlat(32, 8, inner)
        if kind == "hnsw-int8":
            peer = faiss.IndexHNSWSQ(32, eight, 8, inner)
        peer.hnsw.efConstruction, peer.hnsw.efSearch = 40, 50
    elif kind == "ivfpq":
        settings = {"nlist": 40, "m": 8, "nprobe": 5}
        peer = faiss.IndexIVFPQ(faiss.IndexFlatIP(32), 32, 40, 8, 8, inner)
        peer.nprobe = 5
        for learner in (peer, peer.pq):
            learner.cp.seed, learner.cp.min_points_per_centroid = 3, 1
    elif kind == "int8":
        peer = faiss.IndexScalarQuantizer(32, eight, inner)
    else:
        peer = faiss.IndexFlatIP(32)
    peer.train(corpus)
    peer.add(corpus)
    scores, positions = peer.search(queries, 10)
    index = VectorIndex.build(CORPUS, kind=kind, metric=metric, seed=3, **settings)
    same(index.search(QUERIES, 10), scores, positions)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("again", ["flat", "int8"])
def test_the_best_by_codes_are_scored_again(again, metric):
    settings = {"metric": metric, "nprobe": 40, "nlist": 40, "m": 4}
    index = VectorIndex.build(CORPUS, kind=f"ivfpq+{again}", **settings)
    by_codes = VectorIndex.build(CORPUS, kind="ivfpq", **settings)
    best = by_codes.search(QUERIES, 100).ids  # ten times as many as are asked for
    scores = VectorIndex.build(CORPUS, kind=again, metric=metric).search(QUERIES, 3000)
    exact = np.take_along_axis(scores.scores, scores.ids.argsort(1), 1)
    wanted = -np.sort(-np.take_along_axis(exact, best, 1))[:, :10]
    np.testing.assert_allclose(index.search(QUERIES, 10).scores, wanted, rtol=1e-4)
    rough = by_codes.recall_against_exact(QUERIES, vectors=CORPUS).mean()
    assert index.recall_against_exact(QUERIES, vectors=CORPUS).mean() > rough + 0.1
    index.tune(QUERIES, 0.9, vectors=CORPUS)
    assert index.settings["nprobe"] < 40


def test_equal_scores_are_in_order_of_rows():
    corpus = np.tile(np.eye(32, dtype=np.float32)[:2], (1_000, 1))
    for count in (2, 60):  # FAISS goes another way for many
        found = VectorIndex.build(corpus).search(corpus[:count], 5).ids
        np.testing.assert_array_equal(found, exact_search(corpus[:count], corpus, 5)[1])
    with pytest.raises(ValueError, match="k=0: a whole number"):
        VectorIndex.build(corpus).search(corpus, 0)


def test_an_index_of_another_kind_is_not_loaded(tmp_path):
    VectorIndex.build(CORPUS[:9]).save(tmp_path)
    about = tmp_path / "index.json"
    about.write_text(about.read_text().replace('"flat"', '"binary"'))
    with pytest.raises(ValueError, match="kind='binary': one of flat, "):
        VectorIndex.load(tmp_path)


def test_an_index_of_another_metric_is_not_loaded(tmp_path):
    VectorIndex.build(CORPUS[:9], metric="dot").save(tmp_path)
    about = tmp_path / "index.json"
    about.write_text(about.read_text().replace('"dot"', '"l2"'))
    with pytest.raises(ValueError, match="metric='l2': one of cosine, dot"):
        VectorIndex.load(tmp_path)


def test_bits_are_rescored_by_int8_codes():
    """Brute force: the nearest bits, then the products with what int8 stands for."""
    both = VectorIndex.build(CORPUS, kind="binary+int8", candidates=6)
    fine = VectorIndex.build(CORPUS, kind="int8").reconstruct()
    found = both.search(QUERIES[:40], 5)
    asked = normalized(QUERIES[:40])
    for query, ids, scores in zip(asked, found.ids, found.scores, strict=True):
        different = ((CORPUS > 0) != (query > 0)).sum(1)
        limit = np.sort(different)[29]
        assert (different[ids] <= limit).all()
        np.testing.assert_allclose(scores, fine[ids] @ query, atol=1e-5)
        nearer = np.flatnonzero(different < limit)  # candidates whatever the ties
        assert scores[-1] >= np.sort(fine[nearer] @ query)[-5] - 1e-5


def test_int8_moves_a_value_by_half_a_step_at_most():
    index = VectorIndex.build(CORPUS, kind="int8", metric="dot")
    step = (CORPUS.max(0) - CORPUS.min(0)) / 255
    assert (np.abs(index.reconstruct() - CORPUS) <= step / 2 * 1.001).all()


def test_hnsw_tuned_reaches_its_target_on_held_out_queries():
    index = VectorIndex.build(CORPUS, kind="hnsw", M=8, ef_construction=40)
    tried = index.tune(clustered(300, seed=2), 0.98)
    assert tried[-1]["low"] >= 0.98
    assert index.settings["ef_search"] == tried[-1]["ef_search"]
    assert index.recall_against_exact(QUERIES).mean() >= 0.98
    # Not vacuous: the least effort does not reach it.
    assert tried[0]["low"] < 0.98


def test_ivfpq_tunes_within_what_its_codes_can_hold():
    index = VectorIndex.build(CORPUS, kind="ivfpq", nlist=40, m=32)
    tried = index.tune(QUERIES[:150], 0.5, vectors=CORPUS)
    assert index.recall_against_exact(QUERIES[150:], vectors=CORPUS).mean() > 0.45
    nprobe = index.settings["nprobe"]
    with pytest.raises(ValueError, match="not reached"):
        index.tune(QUERIES, 0.9999, vectors=CORPUS)
    assert index.settings["nprobe"] == nprobe == tried[-1]["nprobe"]
    with pytest.raises(ValueError, match="vectors="):
        index.tune(QUERIES, 0.5)


def test_what_is_learnt_depends_on_the_seed_alone():
    first, again, other = (
        VectorIndex.build(CORPUS, kind="ivfpq", seed=seed).search(QUERIES).scores
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_recall_is_by_distance_not_by_id():
    twice = np.concatenate([CORPUS, CORPUS])  # every vector under two ids
    index = VectorIndex.build(twice, kind="hnsw", ef_search=512)
    assert index.recall_against_exact(QUERIES, 5).mean() > 0.99
    poor = VectorIndex.build(CORPUS, kind="ivfpq", nprobe=1)
    found = poor.search(QUERIES, 5).ids
    wanted = exact_search(QUERIES, CORPUS, 5)[1]
    pairs = zip(found, wanted, strict=True)
    by_hand = [len(set(a) & set(b)) / 5 for a, b in pairs]
    recall = poor.recall_against_exact(QUERIES, 5, vectors=CORPUS)
    np.testing.assert_allclose(recall, by_hand)


REMOVABLE = [kind for kind in KINDS if "binary" not in kind]


@pytest.mark.parametrize("kind", REMOVABLE)
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
    with pytest.raises(KeyError, match="nothing was done"):
        index.remove([names[0], gone[0]])
    assert len(index) == 2997
    index.add(CORPUS[2700:2701], [gone[0]])  # an id is free again after removal
    assert gone[0] in index.search(CORPUS[2700], 5).ids


def test_removed_vectors_leave_the_truth_too():
    index = VectorIndex.build(CORPUS, kind="hnsw", ef_search=600)
    index.remove(np.arange(0, 3000, 2))
    assert index.recall_against_exact(QUERIES).mean() > 0.97


@pytest.mark.parametrize("kind", REMOVABLE)
def test_among_some_ids_it_is_exact_search(kind):
    """Far from the queries, where no graph or cluster leads."""
    index = VectorIndex.build(CORPUS, np.arange(3000) * 7, kind)
    index.remove(np.arange(0, 3000, 3) * 7)
    far = np.argsort(CORPUS @ QUERIES[0])
    far = np.sort(far[far % 3 > 0][:45])  # less than k times what is scored again
    held = index.reconstruct()[far]
    scores, rows = exact_search(normalized(QUERIES), held, 5, "dot")
    same(index.search(QUERIES, 5, among=far * 7), scores, far[rows] * 7)
    assert index.search(QUERIES, 99, among=far * 7).ids.shape == (300, 45)
    assert index.search(QUERIES, among=[]).ids.shape == (300, 0)
    for gone in (21, 1):
        with pytest.raises(KeyError, match=f"no vector has id {gone}"):
            index.search(QUERIES, among=[7, gone])


@pytest.mark.parametrize("kind", KINDS)
def test_saved_index_answers_the_same(tmp_path, kind):
    numbers = np.arange(len(CORPUS)) * 7
    names = numbers if kind == "hnsw" else numbers.astype(str)
    index = VectorIndex.build(CORPUS, names, kind, metric="dot", model_hash="abc")
    if kind in REMOVABLE:
        index.remove(names[:100])
    index.save(tmp_path / "index")
    again = VectorIndex.load(tmp_path / "index", model_hash="abc")
    first, second = index.search(QUERIES, 7), again.search(QUERIES, 7)
    np.testing.assert_array_equal(first.ids, second.ids)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert (again.kind, again.metric, again.model_hash) == (kind, "dot", "abc")
    assert again.settings == index.settings
    assert len(again) == len(index)
    with pytest.raises(ValueError, match="is in the index"):
        again.add(CORPUS[:1], names[200:201])


def test_another_models_vectors_are_refused(tmp_path):
    index = VectorIndex.build(CORPUS, model_hash="a" * 64)
    index.save(tmp_path / "index")
    with pytest.raises(ValueError, match="mean nothing"):
        index.search(QUERIES, model_hash="b" * 64)
    with pytest.raises(ValueError, match="mean nothing"):
        VectorIndex.load(tmp_path / "index", model_hash="b" * 64)
    with pytest.raises(ValueError, match="the index has 32 dimensions"):
        index.search(QUERIES[:, :16])


@pytest.mark.parametrize("name", ["index.faiss", "ids.npy", "index.json"])
@pytest.mark.parametrize("damage", ["cut in half", "missing"])
def test_damaged_index_says_what_to_do(tmp_path, name, damage):
    VectorIndex.build(CORPUS[:500], kind="hnsw").save(tmp_path / "index")
    path = tmp_path / "index" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut in half":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises((ValueError, FileNotFoundError), match="build it"):
        VectorIndex.load(tmp_path / "index")


def test_a_disk_that_is_full_at_a_files_end_is_told(tmp_path):
    """C's last write of a file fails when it is closed, which nobody looks at."""
    index = VectorIndex.build(CORPUS[:300], kind="int8")
    index.save(tmp_path / "index")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(OSError, match="is not saved"):
            VectorIndex.build(CORPUS[300:600], kind="int8").save(tmp_path / "index")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    loaded = VectorIndex.load(tmp_path / "index")
    np.testing.assert_array_equal(loaded.reconstruct(), index.reconstruct())


def test_an_index_that_is_saved_while_it_is_read_is_never_mixed(tmp_path, monkeypatch):
    first, other = VectorIndex.build(CORPUS[:9]), VectorIndex.build(CORPUS[9:18])
    first.save(tmp_path)
    real = faiss.read_index
    monkeypatch.setattr(faiss, "read_index", lambda p: other.save(tmp_path) or real(p))
    with pytest.raises(ValueError, match="being saved: load it again"):
        VectorIndex.load(tmp_path)


BROKEN = np.where(np.arange(300)[:, None] == 7, np.float32("nan"), CORPUS[:300])


@pytest.mark.parametrize(
    ("message", "vectors", "ids", "kind", "settings"),
    [
        ("row 7 is not finite", BROKEN, None, "flat", {}),
        ("row 7 is not finite", BROKEN, None, "ivfpq", {"nlist": 4}),
        (r"\[n, d\]", CORPUS[0], None, "flat", {}),
        ("kind='annoy'", CORPUS, None, "annoy", {}),
        ("metric='l2'", CORPUS, None, "flat", {"metric": "l2"}),
        ("hnsw has M", CORPUS, None, "hnsw", {"nprobe": 3}),
        ("more than 100 vectors", CORPUS[:100], None, "ivfpq", {}),
        ("3 different", CORPUS[:3], ["a", "b", "a"], "flat", {}),
        ("3 different", CORPUS[:3], [1, 2, 3, 4], "flat", {}),
        ("3 different.*a set of 3", CORPUS[:3], {1, 2, 3}, "flat", {}),
    ],
)
def test_bad_input_is_refused(message, vectors, ids, kind, settings):
    with pytest.raises((ValueError, RuntimeError), match=message):
        VectorIndex.build(vectors, ids, kind, **settings)


@pytest.mark.parametrize(
    "ids",
    [
        [0, 2**63 + 5], [0, -(2**63) - 1], np.array([2**63], np.uint64), [0, -1],
        ["a", ""], ["a", "b\0"], ["a", 1], [2, True], [1.0, 2.0], [b"a"], [None],
        [[1], [2]],
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_id_is_refused(ids):
    with pytest.raises(ValueError, match="are no ids: give integers of 64 bits"):
        VectorIndex.build(CORPUS[: len(ids)], ids)
    with pytest.raises(ValueError, match="are no ids: give integers of 64 bits"):
        VectorIndex.build(CORPUS[:1]).remove(ids)


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        ([2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
        (np.array([3, 4], np.uint64), [3, 4]),
        ([np.int8(3), torch.tensor(4)], [3, 4]),
        (iter("ab"), ["a", "b"]),
        (["\ud800", "a\0b"], ["\ud800", "a\0b"]),
        (["x" * 10_000, np.str_("é")], ["x" * 10_000, "é"]),
    ],
)
def test_ids_come_back_as_they_were_given(tmp_path, ids, wanted):
    VectorIndex.build(CORPUS[:2], ids).save(tmp_path)
    index = VectorIndex.load(tmp_path)
    assert index.search(CORPUS[:2], 1).ids[:, 0].tolist() == wanted
    index.add(CORPUS[:0], [])  # nothing, of no kind
    index.remove(set(wanted[:1]))
    index.remove(wanted[1])
    assert len(index) == 0


def test_bad_changes_are_refused():
    index = VectorIndex.build(CORPUS[:3])
    with pytest.raises(ValueError, match="ids are"):
        index.add(CORPUS[:1], ["a"])
    with pytest.raises(ValueError, match="build anew"):
        VectorIndex.build(CORPUS, kind="binary+int8").remove([1])
    with pytest.raises(ValueError, match="build anew"):
        VectorIndex.build(CORPUS, kind="binary+int8").search(QUERIES, among=[1])


def test_small_and_emptied_indexes():
    for kind in ("flat", "hnsw", "int8", "binary+int8"):
        names = np.array(["a", "b", "c"], object)  # as in a column of a data frame
        index = VectorIndex.build(CORPUS[:3], names, kind)
        assert index.search(CORPUS[:1], 10).ids.shape == (1, 3)
    index = VectorIndex.build(CORPUS[:3], names)
    assert index.search(CORPUS[1], 1).ids == [["b"]]
    index.remove(["a", "b", "c"])
    assert len(index) == 0
    assert index.search(CORPUS[:1], 10).ids.shape == (1, 0)


def test_interrupted_add_leaves_the_index_as_it_was(monkeypatch):
    monkeypatch.setattr(vector_index, "_ADD_AT_ONCE", 100)
    index = VectorIndex.build(CORPUS[:500], [f"a{i}" for i in range(500)], "flat")
    before = index.search(QUERIES)
    real, calls = index._index, []

    class Interrupted:
        ntotal = property(lambda _: real.ntotal)

        def add(self, block):
            calls.append(len(block))
            if len(calls) == 3:
                raise KeyboardInterrupt
            real.add(block)

    index._index = Interrupted()
    new = [f"b{i}" for i in range(1000)]
    with pytest.raises(KeyboardInterrupt):
        index.add(CORPUS[500:1500], new)
    index._index = real
    assert len(index) == 500
    np.testing.assert_array_equal(index.search(QUERIES).ids, before.ids)
    index.add(CORPUS[500:1500], new)  # the same ids are still free
    assert index.search(CORPUS[700], 1).ids.tolist() == [["b200"]]


def test_odd_dimensions():
    rng = np.random.default_rng(0)
    for width in (31, 100):
        vectors = rng.normal(size=(300, width)).astype(np.float32)
        assert len(VectorIndex.build(vectors, kind="ivfpq")) == 300
