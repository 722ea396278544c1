"""Search over codes: brute force over what they stand for, the peer, and damage."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util.quantization import semantic_search_faiss

from sbert_lab.index import compressed
from sbert_lab.index.compressed import RESCORE, CompressedIndex
from sbert_lab.index.exact import exact_search, normalized
from sbert_lab.index.quantization import (
    BinaryQuantizer,
    Int8Quantizer,
    ProductQuantizer,
)


def clustered(count, seed, width=36):
    """Return vectors in clusters, of various lengths."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, width))
    rows = centres[rng.integers(40, size=count)] + 0.6 * rng.normal(size=(count, width))
    return (rows * rng.uniform(0.5, 2, size=(count, 1))).astype(np.float32)


CORPUS, QUERIES = clustered(900, 0), clustered(40, 1)
BUILT = {
    "int8": lambda metric: CompressedIndex.build(CORPUS, "int8", metric=metric),
    "pq": lambda metric: CompressedIndex.build(CORPUS, "pq", parts=9, metric=metric),
    "binary": lambda metric: CompressedIndex.build(
        CORPUS, "binary", fine=None, metric=metric
    ),
    "binary + int8": lambda metric: CompressedIndex.build(
        CORPUS, "binary", metric=metric
    ),
}


def brute(queries, stands_for, metric, k, rows=None):
    """Score in float64 and sort; equal scores by position. `rows` limits each query."""
    scores, positions = [], []
    for at, query in enumerate(queries.astype(np.float64)):
        found = []
        for row in range(len(stands_for)) if rows is None else rows[at]:
            vector = stands_for[row].astype(np.float64)
            score = query @ vector
            if metric == "cosine":
                score /= np.linalg.norm(query) * np.linalg.norm(vector)
            found.append((-score, row))
        best = sorted(found)[:k]
        scores.append([-score for score, _ in best])
        positions.append([row for _, row in best])
    return np.array(scores), np.array(positions)


def same(found, expected):
    """Compare scores and positions; positions may differ where scores are equal."""
    scores, positions = found
    assert scores.dtype == np.float32
    assert positions.dtype == np.int64
    np.testing.assert_allclose(scores, expected[0], rtol=2e-5, atol=1e-5)
    assert (positions == expected[1]).mean() > 0.98


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("kind", ["int8", "pq"])
def test_equals_brute_force_over_what_the_codes_stand_for(kind, metric):
    index = BUILT[kind](metric)
    stands_for = index.quantizer.inverse(index.codes)
    queries = normalized(QUERIES) if metric == "cosine" else QUERIES
    expected = brute(queries, stands_for, metric, 7)
    same(index.search(QUERIES, 7), expected)
    # Not vacuous: the float vectors have another order.
    assert (expected[1] != exact_search(QUERIES, CORPUS, 7, metric)[1]).any()


def naive_bits(metric, count):
    """Count different bits of whole numbers; fewest first, then by position."""
    asked, kept = (
        [int("".join("01"[value > 0] for value in row), 2) for row in rows]
        for rows in (QUERIES.tolist(), CORPUS.tolist())
    )
    scores, positions = [], []
    for query in asked:
        found = [((query ^ bits).bit_count(), row) for row, bits in enumerate(kept)]
        best = sorted(found)[:count]
        width = CORPUS.shape[1]
        score = np.array([width - 2 * d for d, _ in best])
        scores.append(score / width if metric == "cosine" else score)
        positions.append([row for _, row in best])
    return np.array(scores), np.array(positions)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_bits_without_a_second_stage_equal_a_loop_ties_in_order(metric):
    scores, positions = BUILT["binary"](metric).search(QUERIES, 12, rescore=1)
    expected = naive_bits(metric, 12)
    np.testing.assert_allclose(scores, expected[0], atol=1e-6)
    np.testing.assert_array_equal(positions, expected[1])
    assert (np.diff(scores, axis=1) == 0).any()  # there are ties


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("against", ["bits", "int8", "float"])
def test_second_stage_equals_brute_force_over_the_candidates(against, metric):
    index = BUILT["binary + int8" if against == "int8" else "binary"](metric)
    candidates = naive_bits(metric, 5 * 4)[1]
    finer = {
        "bits": lambda: np.where(CORPUS > 0, 1.0, -1.0),
        "int8": lambda: index.fine_quantizer.inverse(index.fine_codes),
        "float": lambda: CORPUS,
    }[against]()
    queries = normalized(QUERIES) if metric == "cosine" else QUERIES
    vectors = CORPUS if against == "float" else None
    found = index.search(QUERIES, 5, rescore=4, vectors=vectors)
    same(found, brute(queries, finer, metric, 5, candidates))


def test_second_stage_does_not_depend_on_the_blocks(monkeypatch):
    index = BUILT["binary + int8"]("cosine")
    whole = index.search(QUERIES, 5)
    monkeypatch.setattr(compressed, "_FLOATS_AT_ONCE", 1)
    monkeypatch.setattr(compressed, "_ROWS_AT_ONCE", 100)
    same(index.search(QUERIES, 5), whole)
    again = BUILT["binary + int8"]("cosine")
    np.testing.assert_array_equal(again.codes, index.codes)
    np.testing.assert_array_equal(again.fine_codes, index.fine_codes)


@pytest.mark.parametrize("kind", ["int8", "pq", "binary"])
def test_all_rows_as_candidates_and_float_vectors_give_exact_search(kind):
    index = BUILT[kind]("cosine")
    found = index.search(QUERIES, 10, rescore=90, vectors=CORPUS)
    same(found, exact_search(QUERIES, CORPUS, 10))


def test_each_finer_second_stage_finds_more():
    wanted = exact_search(QUERIES, CORPUS, 10)[1]

    def recall(index, **how):
        found = index.search(QUERIES, 10, **how)[1]
        pairs = zip(found, wanted, strict=True)
        return np.mean([len(set(a) & set(b)) / 10 for a, b in pairs])

    bits, both = BUILT["binary"]("cosine"), BUILT["binary + int8"]("cosine")
    order = [recall(bits, rescore=1), recall(bits, rescore=4), recall(both, rescore=4)]
    assert order == sorted(order)
    assert order[2] > order[0] + 0.1
    assert recall(both) == recall(both, rescore=RESCORE) > order[2]
    assert recall(BUILT["int8"]("cosine")) > 0.97


def test_bits_rescored_by_the_float_query_are_the_peers():
    unit, queries = normalized(CORPUS), normalized(QUERIES)
    index = CompressedIndex.build(unit, "binary", fine=None)
    scores, positions = index.search(queries, 5, rescore=4)
    theirs = semantic_search_faiss(
        queries,
        corpus_embeddings=index.codes,
        corpus_precision="ubinary",
        top_k=5,
        rescore_multiplier=4,
    )[0]
    found = np.array([[hit["corpus_id"] for hit in row] for row in theirs])
    assert (found == positions).mean() > 0.98
    # The peer multiplies with bits, we with signs of unit length: the same order.
    products = scores * np.sqrt(CORPUS.shape[1])
    expected = (products + queries.sum(1, keepdims=True)) / 2
    np.testing.assert_allclose(
        [[hit["score"] for hit in row] for row in theirs], expected, atol=1e-5
    )


@given(
    seed=st.integers(0, 1000),
    n=st.integers(2, 30),
    k=st.integers(1, 40),
    rescore=st.integers(1, 6),
    kind=st.sampled_from(["int8", "binary", "both"]),
)
@settings(deadline=None, max_examples=60)
def test_shapes_and_order(seed, n, k, rescore, kind):
    rng = np.random.default_rng(seed)
    corpus = rng.normal(size=(n, 5)).astype(np.float32)
    first = "int8" if kind == "int8" else "binary"
    index = CompressedIndex.build(
        corpus, first, fine="int8" if kind == "both" else None
    )
    if kind == "int8":
        rescore = 1
    scores, positions = index.search(corpus[:3], k, rescore=rescore)
    assert scores.shape == positions.shape == (min(3, n), min(k, n))
    assert (np.diff(scores, axis=1) <= 0).all()
    equal = np.diff(scores, axis=1) == 0
    assert (np.diff(positions, axis=1)[equal] > 0).all()
    assert all(len(set(row)) == len(row) for row in positions.tolist())
    assert np.abs(scores).max(initial=0) <= 1 + 1e-5


def test_nothing_to_search_and_nobody_asking():
    for quantizer in (Int8Quantizer.fit(CORPUS), BinaryQuantizer.fit(CORPUS)):
        empty = CompressedIndex.build(CORPUS[:0], quantizer, fine=None)
        assert len(empty) == 0
        assert empty.search(QUERIES, 3)[1].shape == (len(QUERIES), 0)
        some = CompressedIndex.build(CORPUS, quantizer)
        assert some.search(QUERIES[:0], 3)[0].shape == (0, 3)


def test_build_fits_on_unit_vectors_for_cosine():
    index = CompressedIndex.build(CORPUS, "int8", coverage=0.99)
    own = Int8Quantizer.fit(normalized(CORPUS), coverage=0.99)
    np.testing.assert_array_equal(index.quantizer.low, own.low)
    given_one = CompressedIndex.build(CORPUS, own)
    np.testing.assert_array_equal(given_one.codes, index.codes)
    longer = CompressedIndex.build(3 * CORPUS, own)  # length means nothing for cosine
    assert np.abs(longer.codes.astype(int) - index.codes).max() <= 1
    dot = CompressedIndex.build(CORPUS, "int8", metric="dot")
    np.testing.assert_array_equal(dot.quantizer.high, CORPUS.max(0))


def test_large_corpora_are_fitted_on_a_seeded_sample(monkeypatch, tmp_path):
    monkeypatch.setattr(compressed, "_FIT_ROWS", 300)
    np.save(tmp_path / "v.npy", CORPUS)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    first, again, other = (
        CompressedIndex.build(mapped, "int8", seed=seed).quantizer for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.low, again.low)
    assert (first.low != other.low).any()
    assert (first.low >= Int8Quantizer.fit(normalized(CORPUS)).low).all()


def test_pq_takes_the_seed():
    first, again, other = (
        CompressedIndex.build(CORPUS, "pq", seed=seed).codes for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("kind", BUILT)
@pytest.mark.parametrize("on_disk", [False, True])
def test_saved_and_loaded_finds_the_same(kind, on_disk, tmp_path):
    index = BUILT[kind]("dot")
    index.save(tmp_path / "index")
    index.save(tmp_path / "index")  # replaces its own
    loaded = CompressedIndex.load(tmp_path / "index", fine_on_disk=on_disk)
    assert loaded.metric == "dot"
    assert (len(loaded), loaded.dimension) == (len(CORPUS), CORPUS.shape[1])
    assert loaded.bytes_per_vector == index.codes.shape[1]
    for ours, expected in zip(
        loaded.search(QUERIES, 5), index.search(QUERIES, 5), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)
    if kind == "binary + int8":
        assert isinstance(loaded.fine_codes, np.memmap) == on_disk


@pytest.mark.parametrize(
    "name",
    ["codes.npy", "fine_codes.npy", "quantizer.safetensors", "compressed.json"],
)
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_an_error_that_says_what_to_do(name, damage, tmp_path):
    folder = tmp_path / "index"
    BUILT["binary + int8"]("cosine").save(folder)
    content = bytearray((folder / name).read_bytes())
    if damage == "gone":
        (folder / name).unlink()
    elif damage == "cut":
        (folder / name).write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0x80
        (folder / name).write_bytes(content)
    kind = (
        FileNotFoundError
        if (name, damage) == ("compressed.json", "gone")
        else ValueError
    )
    with pytest.raises(kind, match="build it"):
        CompressedIndex.load(folder)


def test_format_of_the_future_and_a_folder_that_is_somebodys(tmp_path):
    folder = tmp_path / "index"
    BUILT["int8"]("cosine").save(folder)
    about = json.loads((folder / "compressed.json").read_text())
    (folder / "compressed.json").write_text(json.dumps(about | {"format": 2}))
    with pytest.raises(ValueError, match="format 2"):
        CompressedIndex.load(folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(FileExistsError):
        BUILT["int8"]("cosine").save(tmp_path / "mine")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda i: i.search(QUERIES[:, :-1]), "36 dimensions, these queries have 35"),
        (lambda i: i.search(QUERIES * np.nan), "not finite"),
        (lambda i: i.search(QUERIES, 0), "k=0"),
        (lambda i: i.search(QUERIES, rescore=0), "rescore=0"),
        (lambda i: i.search(QUERIES, rescore=4), "vectors="),
        (lambda i: i.search(QUERIES, vectors=CORPUS[:-1]), "built of"),
        (lambda i: i.search(QUERIES, rescore=1, vectors=CORPUS), "does not use"),
        (lambda i: CompressedIndex(i.quantizer, i.codes, "l2"), "metric='l2'"),
        (lambda i: CompressedIndex(i.quantizer, i.codes[:, 1:]), "made them"),
        (
            lambda i: CompressedIndex(i.quantizer, i.codes, "dot", i.quantizer),
            "give both",
        ),
        (
            lambda i: CompressedIndex(
                i.quantizer, i.codes, "dot", i.quantizer, i.codes[1:]
            ),
            "899 fine",
        ),
        (lambda i: CompressedIndex.build(CORPUS, "int4"), "'int4': one of"),
        (lambda i: CompressedIndex.build(CORPUS, metric="l2"), "metric='l2'"),
        (lambda i: CompressedIndex.build(CORPUS, i.quantizer, coverage=1), "already"),
        (lambda i: CompressedIndex.build(CORPUS[:, 1:], i.quantizer), "these vectors"),
        (lambda i: CompressedIndex.build(CORPUS[0], "int8"), "shape"),
        (
            lambda i: CompressedIndex.build(
                CORPUS, i.quantizer, fine=BinaryQuantizer.fit(CORPUS[:, 1:])
            ),
            "these vectors",
        ),
    ],
)
def test_misuse_is_refused_with_the_reason(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(BUILT["int8"]("cosine"))


def test_codes_take_what_they_say():
    both, bits = (
        CompressedIndex.build(CORPUS, "binary", fine=fine) for fine in ("auto", None)
    )
    assert both.bytes_per_vector == bits.bytes_per_vector == 5
    assert bits.nbytes() == 5 * len(CORPUS)
    assert both.nbytes() == (5 + CORPUS.shape[1]) * len(CORPUS)
    assert isinstance(both.fine_quantizer, Int8Quantizer)
    assert CompressedIndex.build(CORPUS, "int8").fine_codes is None
    quantizer = ProductQuantizer.fit(normalized(CORPUS), parts=12)
    index = CompressedIndex.build(CORPUS, quantizer)
    assert index.codes.nbytes == index.nbytes() == 12 * len(CORPUS)


def test_settings_are_those_of_the_first_quantizer():
    index = CompressedIndex.build(CORPUS, "binary", threshold="median")
    thresholds = np.median(normalized(CORPUS), axis=0)
    np.testing.assert_allclose(index.quantizer.thresholds, thresholds, atol=1e-6)
    assert index.fine_quantizer.coverage == 1
