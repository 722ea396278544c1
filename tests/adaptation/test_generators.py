"""Crops are crops: a run of the text's words, as long as asked, from a seed."""

import numpy as np
import pytest
from conftest import states
from hypothesis import given
from hypothesis import strategies as st

from sbert_lab.adaptation.generators import CropGenerator
from sbert_lab.datasets.pairs import DataError

WORD = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=4)
TEXT = (
    st.lists(WORD, min_size=2, max_size=30)
    .map(" ".join)
    .filter(lambda text: len(text.split()) > 1)
)
SEED = st.integers(0, 2**32)


def is_subsequence(part, whole):
    rest = iter(whole)
    return all(word in rest for word in part)


def windows(words, least, most):
    """Yield every run of `least` to `most` words."""
    for length in range(least, most + 1):
        for start in range(len(words) - length + 1):
            yield words[start : start + length]


@given(TEXT, SEED, st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0, 0.99))
def test_a_crop_is_part_of_a_run(text, seed, one, other, delete):
    share = (min(one, other), max(one, other))
    words = text.split()
    low, high = (min(max(round(s * len(words)), 1), len(words) - 1) for s in share)
    (found,) = CropGenerator(share, delete).generate([text], 4, seed)
    assert len(found) == 4
    for query in found:
        part = query.split()
        assert 1 <= len(part) <= high
        assert any(is_subsequence(part, run) for run in windows(words, low, high))


@given(TEXT, SEED)
def test_without_deletion_a_crop_is_a_run(text, seed):
    words = text.split()
    runs = [" ".join(run) for run in windows(words, 1, len(words) - 1)]
    (found,) = CropGenerator((0.3, 1.0), delete=0).generate([text], 3, seed)
    assert set(found) <= set(runs)


@given(st.lists(TEXT, min_size=1, max_size=5, unique=True), SEED, st.randoms())
def test_a_text_has_its_crops_wherever_it_stands(texts, seed, shuffle):
    before = states()
    found = dict(zip(texts, CropGenerator().generate(texts, 3, seed), strict=True))
    shuffle.shuffle(texts)
    again = dict(zip(texts, CropGenerator().generate(texts, 3, seed), strict=True))
    assert found == again
    assert [CropGenerator().generate([t], 3, seed)[0] for t in texts] == [
        again[t] for t in texts
    ]
    assert states() == before


def test_another_seed_makes_other_crops():
    text = " ".join(f"w{i}" for i in range(50))
    first, second = (CropGenerator().generate([text], 5, seed) for seed in (0, 1))
    assert first != second
    assert len(set(first[0])) == 5


def test_lengths_places_and_deletions_are_drawn_evenly():
    """Of 20 words, runs of 2 to 10; every length and every place alike often."""
    text = " ".join(str(i) for i in range(20))
    (crops,) = CropGenerator(delete=0).generate([text], 9_000, 3)
    runs = [[int(word) for word in crop.split()] for crop in crops]
    lengths = np.bincount([len(run) for run in runs], minlength=11)
    assert lengths[:2].sum() == 0
    assert len(lengths) == 11
    assert np.abs(lengths[2:] / 1_000 - 1).max() < 0.15  # deviation 0.03
    for length in (2, 10):
        starts = np.bincount([run[0] for run in runs if len(run) == length])
        assert len(starts) == 20 - length + 1
        assert np.abs(starts / starts.mean() - 1).max() < 0.5
    (thinned,) = CropGenerator((0.5, 0.5), 0.3).generate([text], 4_000, 3)
    left = np.mean([len(crop.split()) for crop in thinned])
    assert left == pytest.approx(7, abs=0.1)  # 10 words, 3 of them deleted


def test_a_word_always_stays():
    (found,) = CropGenerator((0.5, 0.5), 0.99).generate(["a b c d"], 200, 0)
    assert {len(query.split()) for query in found} >= {1}
    assert all(found)
    assert set("".join(found).replace(" ", "")) == set("abcd")  # no word is favoured


def test_what_cannot_be_cropped():
    texts = ["a cat", "cat", "  dog "]
    with pytest.raises(DataError, match="skip_short=True") as caught:
        CropGenerator().generate(texts, 2, 0)
    assert [problem.split(",")[0] for problem in caught.value.problems] == [
        "text 1",
        "text 2",
    ]
    found = CropGenerator(skip_short=True).generate(texts, 2, 0)
    assert [len(made) for made in found] == [2, 0, 0]


def test_bad_settings_are_refused():
    for share in ((0, 0.5), (0.6, 0.5), (0.1, 1.1)):
        with pytest.raises(ValueError, match="share"):
            CropGenerator(share)
    with pytest.raises(ValueError, match="delete=1"):
        CropGenerator(delete=1)


def test_the_fingerprint_names_the_settings():
    names = {
        CropGenerator().fingerprint(),
        CropGenerator((0.1, 0.6)).fingerprint(),
        CropGenerator(delete=0.2).fingerprint(),
        CropGenerator(skip_short=True).fingerprint(),
    }
    assert len(names) == 4
    assert CropGenerator().fingerprint() == CropGenerator((0.1, 0.5)).fingerprint()
