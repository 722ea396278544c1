"""Fewer dimensions, by what must hold."""

import numpy as np
import pytest

from sbert_lab.index.compression import truncate
from sbert_lab.index.exact import normalized

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(600, 20)) * np.linspace(1, 0.2, 20) + 0.15
CORPUS = normalized(ROWS[:, RNG.permutation(20)].astype(np.float32))


def test_truncated_rows_have_unit_length_and_the_same_direction():
    before = CORPUS.copy()
    short = truncate(CORPUS, 5)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-5)
    lengths = np.linalg.norm(CORPUS[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(short * lengths, CORPUS[:, :5], atol=1e-6)
    short[:] = 0
    np.testing.assert_array_equal(CORPUS, before)  # a copy, not a view


def test_more_dimensions_than_there_are_are_refused():
    for wrong in (0, 21, "2"):
        with pytest.raises(ValueError, match="a whole number, 1 "):
            truncate(CORPUS, wrong)
    with pytest.raises(ValueError, match="not finite"):
        truncate(np.float32([[np.nan, 1]]), 1)
