"""Texts of a small made-up domain, and a tiny encoder to adapt to it."""

import numpy as np
import torch
from conftest import WORDS, tiny_encoder

CONTENT = WORDS[:29]


def domain(count: int = 48, seed: int = 0, least: int = 3, most: int = 9) -> list[str]:
    """Return different random texts of `least` to `most` words."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(rng.choice(CONTENT, rng.integers(least, most + 1)))] = None
    return list(found)


def encoder(seed: int = 0, **layout):
    """Return a tiny encoder of unit vectors."""
    return tiny_encoder(seed, **{"head": ("normalize",), "max_seq_length": 24} | layout)


def weights(model):
    """Return a copy of all weights."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    """Return whether all weights are equal to the bit."""
    return all(torch.equal(first[name], second[name]) for name in first)


def by_words(pairs):
    """Judge a pair by hand: shared words, less a tenth of the second text's length."""
    return [
        len(set(a.split()) & set(b.split())) - 0.1 * len(b.split()) for a, b in pairs
    ]
