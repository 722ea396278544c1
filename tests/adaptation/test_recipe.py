"""A recipe refuses what cannot be meant."""

import json

import pytest

from sbert_lab.adaptation.recipe import Recipe


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": True},
        {"batch": 1},
        {"negatives": -1},
        {"seed": -1},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"temperature": float("inf")},
        {"keep": 2},
        {"keep": float("nan")},
        {"warmup": -0.1},
        {"relative_margin": 1.5},
        {"test_share": 1.0},
        {"rank": (5, 5)},
        {"rank": (-1, 30)},
        {"rank": (0, 3), "negatives": 4},
    ],
)
def test_what_is_out_of_range_is_named(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Recipe(**change)


def test_json_gives_it_back():
    recipe = Recipe(negatives=0, rank=(0, 1), keep=1)
    content = json.loads(json.dumps(recipe.as_json()))
    assert content == recipe.as_json()
    assert Recipe(**content) == recipe
