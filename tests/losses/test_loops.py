"""Losses against loops over texts, row by row, in NumPy."""

import numpy as np
import pytest
import torch
from batches import KNOWN, RAGGED, batch_of, drawn, naive_ranking, numbers_of
from objective_cases import ROWS, D
from torch import nn

from sbert_lab.losses import (
    MultipleNegativesRankingLoss,
    TripletLoss,
    multiple_negatives_ranking_loss,
)

SEVERAL = ROWS | {"negative": [["x"], [], ["y", "z"], *[["x", "u"]] * 5]}


def far(u, v):
    return np.sqrt(((u - v + 1e-6) ** 2).sum())


def arrays(texts):
    return [x.numpy() for x in texts.values()]


@pytest.mark.parametrize("known", [KNOWN, ()])
def test_ranking_of_ragged_rows_is_the_loop(known):
    batch = batch_of(RAGGED)
    texts = drawn(batch, D, seed=3)
    objective = MultipleNegativesRankingLoss(0.2, known=known)
    objective.bind(nn.Module(), numbers_of(batch))
    expected = naive_ranking(RAGGED, texts, 0.2, known)
    assert objective.value(texts, batch).item() == pytest.approx(expected, abs=1e-12)
    unmasked = multiple_negatives_ranking_loss(*texts.values(), temperature=0.2)
    assert unmasked.item() > expected + 1e-3, "the masks would not have mattered"


def test_ranking_bears_batches_without_negatives():
    columns = {role: RAGGED[role] for role in ("anchor", "positive")}
    batch = batch_of(columns)
    texts = drawn(batch, D, seed=4)
    found = MultipleNegativesRankingLoss().value(texts, batch)
    expected = naive_ranking(columns, texts, 0.05)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_an_anchors_own_positive_is_never_left_out():
    a, p = torch.randn(2, 4, D, generator=torch.Generator().manual_seed(1))
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert multiple_negatives_ranking_loss(a, p, ignored=everything) == 0


def test_triplets_with_several_negatives_are_the_loop():
    batch = batch_of(SEVERAL)
    texts = drawn(batch, D, seed=7)
    a, p, n = arrays(texts)
    hinges = [
        max(0.0, far(a[row], p[row]) - far(a[row], n[place]) + 0.6)
        for place, row in enumerate(batch.owner)
    ]
    found = TripletLoss(0.6).value(texts, batch)
    assert found.item() == pytest.approx(np.mean(hinges), abs=1e-12)
    assert 0 < sum(h == 0 for h in hinges) < len(hinges) == 13
