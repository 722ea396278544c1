"""The quantisers and reducers: naive loops, the peers, properties, and damage."""

import logging
import sys

import faiss
import numpy as np
import pytest
from conftest import states
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sentence_transformers.util.quantization import quantize_embeddings
from sklearn.decomposition import PCA

from sbert_lab.index import quantization
from sbert_lab.index.exact import normalized
from sbert_lab.index.quantization import (
    BinaryQuantizer,
    Int8Quantizer,
    ProductQuantizer,
    load_quantizer,
)
from sbert_lab.index.reduction import Pca, truncate

WIDTH = 20  # no multiple of eight: the last byte of the bits is not full


def unit(count, seed=0, width=WIDTH):
    """Return unit vectors around a centre that is not zero, as encoders make them."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, width)) * np.linspace(1, 0.2, width) + 0.15
    return normalized(rows.astype(np.float32))


CORPUS, NEW = unit(600), unit(80, seed=1)
FITTED = {
    "int8": lambda: Int8Quantizer.fit(CORPUS),
    "int8, 98 %": lambda: Int8Quantizer.fit(CORPUS, coverage=0.98),
    "binary": lambda: BinaryQuantizer.fit(CORPUS),
    "binary, median": lambda: BinaryQuantizer.fit(CORPUS, threshold="median"),
    "pq": lambda: ProductQuantizer.fit(CORPUS, parts=5),
    "pca": lambda: Pca.fit(CORPUS, 7),
}
QUANTIZERS = [name for name in FITTED if name != "pca"]


# --- int8 ---------------------------------------------------------------------------


def test_int8_equals_a_loop():
    quantizer = Int8Quantizer.fit(CORPUS)
    codes = quantizer.transform(NEW)
    assert codes.dtype == np.int8
    for column in range(WIDTH):
        values = CORPUS[:, column].astype(float)
        low, high = min(values), max(values)
        levels = [low + (high - low) * i / 255 for i in range(256)]
        for row in range(len(NEW)):
            value = min(max(float(NEW[row, column]), low), high)
            gaps = [abs(value - level) for level in levels]
            assert gaps[int(codes[row, column]) + 128] <= min(gaps) + 1e-7


@given(
    fitted=arrays(
        np.float32,
        (7, 3),
        elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
    ),
    shares=arrays(np.float32, (9, 3), elements=st.floats(0, 1, width=32)),
)
@settings(deadline=None, max_examples=60)
def test_int8_moves_a_value_by_half_a_step_at_most(fitted, shares):
    quantizer = Int8Quantizer.fit(fitted)
    low, high = fitted.min(0), fitted.max(0)
    inside = np.clip(low + shares * (high - low), low, high)
    moved = quantizer.inverse(quantizer.transform(inside)).astype(float) - inside
    rounding = 1e-6 * np.maximum(np.abs(low), np.abs(high)).astype(float)
    rounding += np.finfo(np.float32).tiny  # below it floats have no full precision
    half = (high.astype(float) - low) / 255 / 2
    assert (np.abs(moved) <= half * (1 + 1e-4) + rounding).all()
    ends = np.stack([low, high])  # the ends of the range are levels themselves
    off = quantizer.inverse(quantizer.transform(ends)) - ends.astype(float)
    assert (np.abs(off) <= rounding).all()
    assert quantizer.clipping.outside == 0


def test_int8_codes_and_back_are_the_same_codes():
    quantizer = Int8Quantizer.fit(CORPUS)
    codes = np.tile(np.arange(-128, 128)[:, None], (1, WIDTH)).astype(np.int8)
    np.testing.assert_array_equal(quantizer.transform(quantizer.inverse(codes)), codes)


def test_int8_has_the_peers_ranges_and_rounds_where_the_peer_floors():
    quantizer = Int8Quantizer.fit(CORPUS)
    ranges = np.stack([quantizer.low, quantizer.high])
    ours = quantizer.transform(NEW).astype(int)
    np.testing.assert_array_equal(
        quantize_embeddings(NEW, "int8", calibration_embeddings=CORPUS),
        quantize_embeddings(NEW, "int8", ranges=ranges),
    )
    # The peer's buckets begin at our levels: the same codes for values that lie half
    # a step further, but for the last digit of the float.
    shifted = np.clip(NEW, *ranges) + quantizer.step / 2
    theirs = quantize_embeddings(shifted, "int8", ranges=ranges).astype(int)
    assert np.abs(ours - theirs).max() <= 1
    assert (ours == theirs).mean() > 0.999
    floored = quantize_embeddings(NEW, "int8", ranges=ranges)
    ahead = ours - floored
    assert set(np.unique(ahead)) == {0, 1}
    # Why: decoded from the same ranges, the values are twice as near.
    inside = (quantizer.low <= NEW) & (quantizer.high >= NEW)
    off, floored_off = (
        np.abs(quantizer.inverse(codes.astype(np.int8)) - NEW)[inside].mean()
        for codes in (ours, floored)
    )
    assert off < 0.55 * floored_off


def test_int8_coverage_is_the_central_quantile(caplog):
    quantizer = Int8Quantizer.fit(CORPUS, coverage=0.9)
    np.testing.assert_allclose(
        quantizer.low, np.percentile(CORPUS, 5, axis=0), atol=1e-6
    )
    np.testing.assert_allclose(
        quantizer.high, np.percentile(CORPUS, 95, axis=0), atol=1e-6
    )
    quantizer.transform(CORPUS)
    share = quantizer.clipping.outside / quantizer.clipping.values
    assert share == pytest.approx(0.1, abs=0.01)
    assert not caplog.records  # that much was asked for


def test_int8_meets_new_vectors_with_the_fitted_range_and_counts_what_it_cuts(caplog):
    quantizer = Int8Quantizer.fit(CORPUS)
    alone = quantizer.transform(NEW[:1])
    np.testing.assert_array_equal(alone[0], quantizer.transform(NEW)[0])
    outside = int(((quantizer.low > NEW) | (quantizer.high < NEW)).sum())
    seen = quantizer.clipping
    first = int(((quantizer.low > NEW[0]) | (quantizer.high < NEW[0])).sum())
    assert (seen.values, seen.outside) == (81 * WIDTH, outside + first)
    assert 0 < outside < 0.01 * NEW.size  # a few new extremes are no reason to warn
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        codes = quantizer.transform(100 * NEW)
        quantizer.transform(100 * NEW)
    assert len(caplog.records) == 1
    assert "outside the range" in caplog.text
    far = 100 * NEW
    far_low, far_high = far < quantizer.low, far > quantizer.high
    assert (codes[far_low] == -128).all()
    assert (codes[far_high] == 127).all()
    assert far_low.any()


def test_int8_of_a_constant_dimension():
    rows = np.tile(np.float32([[0.25, -3]]), (4, 1))
    rows[:, 1] = [1, 2, 3, 4]
    quantizer = Int8Quantizer.fit(rows)
    far = np.float32([[0.25, 2], [7, 2]])
    with np.errstate(all="raise"):  # nothing is divided by a range of zero
        back = quantizer.inverse(quantizer.transform(far))
    np.testing.assert_allclose(back[:, 0], [0.25, 0.25])


def test_int8_does_not_depend_on_the_blocks(monkeypatch):
    quantizer = Int8Quantizer.fit(CORPUS)
    whole = quantizer.transform(NEW)
    counted = quantizer.clipping.outside
    monkeypatch.setattr(quantization, "_ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(quantizer.transform(NEW), whole)
    assert quantizer.clipping.outside == 2 * counted


@pytest.mark.parametrize(
    ("low", "high"),
    [([0, 1], [1, 0]), ([0, np.nan], [1, 1]), ([0], [1, 2]), ([-3e38], [3e38])],
)
def test_int8_refuses_ranges_that_are_none(low, high):
    with pytest.raises(ValueError, match="low"):
        Int8Quantizer(np.float32(low), np.float32(high))


# --- binary -------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", ["zero", "median"])
def test_bits_equal_a_loop(threshold):
    quantizer = BinaryQuantizer.fit(CORPUS, threshold=threshold)
    codes, signs = quantizer.transform(NEW), quantizer.inverse(quantizer.transform(NEW))
    assert codes.shape == (len(NEW), 3) == (len(NEW), quantizer.bytes_per_vector)
    for column in range(WIDTH):
        border = 0.0
        if threshold == "median":
            ordered = sorted(CORPUS[:, column].tolist())
            border = (ordered[299] + ordered[300]) / 2
        for row in range(len(NEW)):
            above = NEW[row, column] > border
            assert (codes[row, column // 8] >> (7 - column % 8)) & 1 == above
            assert signs[row, column] == (1 if above else -1)


def test_bits_are_the_peers():
    quantizer = BinaryQuantizer.fit(CORPUS)
    rows = NEW.copy()
    rows[:, 3] = 0  # on the threshold
    np.testing.assert_array_equal(
        quantizer.transform(rows), quantize_embeddings(rows, "ubinary")
    )


def test_median_makes_bits_even():
    signs = {}
    for threshold in ("zero", "median"):
        quantizer = BinaryQuantizer.fit(CORPUS, threshold=threshold)
        signs[threshold] = quantizer.inverse(quantizer.transform(CORPUS)).mean(0)
    np.testing.assert_allclose(signs["median"], 0, atol=1e-6)
    assert np.abs(signs["zero"]).max() > 0.1


# --- product quantisation -------------------------------------------------------------


def test_pq_takes_the_nearest_centroid_of_each_part():
    quantizer = ProductQuantizer.fit(CORPUS, parts=5)
    codes = quantizer.transform(NEW)
    assert (codes.dtype, codes.shape) == (np.uint8, (len(NEW), 5))
    back = quantizer.inverse(codes)
    for row in range(len(NEW)):
        for part in range(5):
            piece = NEW[row, 4 * part : 4 * part + 4].astype(float)
            gaps = ((quantizer.centroids[part].astype(float) - piece) ** 2).sum(1)
            assert gaps[codes[row, part]] <= gaps.min() + 1e-6
            np.testing.assert_array_equal(
                back[row, 4 * part : 4 * part + 4],
                quantizer.centroids[part, codes[row, part]],
            )


def test_pq_is_faisss():
    peer = faiss.ProductQuantizer(WIDTH, 5, 8)
    peer.cp.seed, peer.cp.min_points_per_centroid = 3, 1
    peer.train(CORPUS)
    ours = ProductQuantizer.fit(CORPUS, parts=5, seed=3)
    codes = ours.transform(NEW)
    np.testing.assert_array_equal(codes, peer.compute_codes(NEW))
    np.testing.assert_array_equal(ours.inverse(codes), peer.decode(codes))


def test_pq_is_the_same_for_a_seed_and_another_for_another():
    first, again, other = (
        ProductQuantizer.fit(CORPUS, parts=4, seed=seed).centroids for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_pq_default_is_a_byte_for_four_dimensions():
    assert ProductQuantizer.fit(CORPUS).bytes_per_vector == 5
    assert ProductQuantizer.fit(unit(300, width=7)).bytes_per_vector == 1


def test_pq_errors_name_the_fix():
    with pytest.raises(ValueError, match=r"parts=3 .*\[1, 2, 4, 5, 10, 20\]"):
        ProductQuantizer.fit(CORPUS, parts=3)
    with pytest.raises(ValueError, match="at least 256"):
        ProductQuantizer.fit(CORPUS[:255], parts=5)


# --- reducers -------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), width=st.integers(1, 12), scale=st.floats(0.1, 9))
@settings(deadline=None, max_examples=30)
def test_truncated_rows_have_unit_length_and_the_same_direction(seed, width, scale):
    rng = np.random.default_rng(seed)
    rows = (scale * rng.normal(size=(4, 12))).astype(np.float32)
    before = rows.copy()
    short = truncate(rows, width)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-5)
    plain = truncate(rows, width, normalize=False)
    np.testing.assert_array_equal(plain, rows[:, :width])
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(short * lengths, plain, rtol=1e-4, atol=1e-6)
    plain[:] = 0
    np.testing.assert_array_equal(rows, before)  # a copy, not a view


def test_truncate_refuses_more_than_there_is():
    for dimension in (0, WIDTH + 1):
        with pytest.raises(ValueError, match="choose from 1"):
            truncate(CORPUS, dimension)
    with pytest.raises(ValueError, match="not finite"):
        truncate(np.float32([[np.nan, 1]]), 1)


def test_pca_is_scikit_learns_without_the_mean():
    peer = PCA(7, svd_solver="full").fit(CORPUS)
    ours = Pca.fit(CORPUS, 7)
    found = ours.transform(NEW, normalize=False)
    np.testing.assert_allclose(
        found, peer.transform(NEW) + peer.mean_ @ peer.components_.T, atol=1e-5
    )
    np.testing.assert_allclose(ours.transform(NEW), normalized(found), atol=1e-6)


def test_pca_of_the_full_width_keeps_every_product():
    full = Pca.fit(CORPUS, WIDTH)
    turned = full.transform(NEW, normalize=False)
    np.testing.assert_allclose(turned @ turned.T, NEW @ NEW.T, atol=1e-5)
    np.testing.assert_allclose(full.inverse(turned), NEW, atol=1e-5)


def test_pca_keeps_more_than_the_leading_dimensions_where_those_are_no_better():
    rows = CORPUS[:, np.random.default_rng(0).permutation(WIDTH)]
    exact = rows @ rows.T
    off = {}
    for name, short in {
        "pca": Pca.fit(rows, 8).transform(rows),
        "leading": truncate(rows, 8),
    }.items():
        off[name] = np.abs(short @ short.T - exact).mean()
    assert off["pca"] < 0.7 * off["leading"]


def test_pca_errors():
    with pytest.raises(ValueError, match="choose"):
        Pca.fit(CORPUS, WIDTH + 1)
    with pytest.raises(ValueError, match="at least 7"):
        Pca.fit(CORPUS[:5], 7)
    with pytest.raises(ValueError, match="orthonormal"):
        Pca(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="7 dimensions, these 8"):
        Pca.fit(CORPUS, 7).inverse(CORPUS[:, :8])


def test_pca_without_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        Pca.fit(CORPUS, 7)


# --- all of them ----------------------------------------------------------------------


@pytest.mark.parametrize("name", FITTED)
def test_saved_and_loaded_does_the_same(name, tmp_path):
    fitted = FITTED[name]()
    path = tmp_path / "deep" / "fitted.safetensors"
    fitted.save(path)
    loaded = type(fitted).load(path)
    np.testing.assert_array_equal(loaded.transform(NEW), fitted.transform(NEW))
    assert loaded.dimension == fitted.dimension == WIDTH
    if name != "pca":
        codes = fitted.transform(NEW)
        again = load_quantizer(path)
        assert type(again) is type(fitted)
        np.testing.assert_array_equal(again.inverse(codes), fitted.inverse(codes))
        assert codes.shape == (len(NEW), fitted.bytes_per_vector)
        assert codes.nbytes == len(NEW) * fitted.bytes_per_vector
    if name == "int8, 98 %":
        assert loaded.coverage == 0.98
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing beside


@pytest.mark.parametrize("name", FITTED)
def test_every_damaged_byte_is_noticed(name, tmp_path):
    fitted = FITTED[name]()
    path = tmp_path / "fitted"
    fitted.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    header = int.from_bytes(whole[:8], "little") + 8
    tried = [*rng.integers(8, header, 20), *rng.integers(header, len(whole), 20)]
    for at in tried:
        if whole[at] == 0x20:  # padding of the header
            continue
        flipped = bytearray(whole)
        flipped[at] ^= 0x15
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match="fit"):
            type(fitted).load(path)
    for end in (0, 7, header - 3, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="damaged"):
            type(fitted).load(path)
    path.write_bytes(whole)
    type(fitted).load(path)  # so the errors were the damage's


def test_a_file_of_another_kind_or_none(tmp_path):
    path = tmp_path / "fitted"
    FITTED["binary"]().save(path)
    with pytest.raises(ValueError, match="'binary', not 'int8'"):
        Int8Quantizer.load(path)
    FITTED["pca"]().save(path)
    with pytest.raises(ValueError, match="no quantiser"):
        load_quantizer(path)
    with pytest.raises(FileNotFoundError, match="save it first"):
        BinaryQuantizer.load(tmp_path / "other")


@pytest.mark.parametrize("name", FITTED)
def test_another_width_is_refused(name):
    with pytest.raises(ValueError, match="20 dimensions, these vectors have 19"):
        FITTED[name]().transform(NEW[:, :-1])
    broken = NEW.copy()
    broken[3, 4] = np.inf
    with pytest.raises(ValueError, match="row 3 is not finite"):
        FITTED[name]().transform(broken)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_codes_of_another_make_are_refused(name):
    quantizer = FITTED[name]()
    codes = quantizer.transform(NEW)
    with pytest.raises(ValueError, match="use the one that made them"):
        quantizer.inverse(codes[:, :-1])
    with pytest.raises(ValueError, match="codes are int16"):
        quantizer.inverse(codes.astype(np.int16))


@pytest.mark.parametrize("name", FITTED)
def test_no_rows_give_no_rows(name):
    fitted = FITTED[name]()
    nothing = fitted.transform(NEW[:0])
    assert nothing.shape == (0, fitted.transform(NEW[:1]).shape[1])
    if name != "pca":
        assert fitted.inverse(nothing).shape == (0, WIDTH)


def test_fitting_leaves_the_global_random_state_alone():
    before = states()
    for fit in FITTED.values():
        fit()
    assert states() == before


@pytest.mark.parametrize(
    "fit",
    [
        lambda: Int8Quantizer.fit(CORPUS[:1]),
        lambda: Int8Quantizer.fit(CORPUS, coverage=0),
        lambda: Int8Quantizer.fit(CORPUS, coverage=1.5),
        lambda: Int8Quantizer.fit(CORPUS[0]),
        lambda: BinaryQuantizer.fit(CORPUS[:0]),
        lambda: BinaryQuantizer.fit(CORPUS, threshold="mean"),
        lambda: Int8Quantizer.fit(CORPUS * np.nan),
    ],
)
def test_what_cannot_be_fitted_is_refused(fit):
    with pytest.raises(ValueError, match="at least|share|shape|finite|median"):
        fit()
