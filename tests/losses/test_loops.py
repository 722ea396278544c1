"""Losses against loops over texts, row by row, in NumPy."""

import numpy as np
import pytest
import torch
from batches import KNOWN, RAGGED, batch_of, cos, drawn, naive_ranking, numbers_of
from objective_cases import KIND, PAIRS, ROWS, D, N
from torch import nn

from sbert_lab.losses import (
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
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
    diagnostics = MultipleNegativesRankingLoss().diagnostics(texts, batch)
    assert all(torch.isfinite(x) for x in diagnostics.values())


def test_an_anchors_own_positive_is_never_left_out():
    a, p = torch.randn(2, 4, D, generator=torch.Generator().manual_seed(1))
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert multiple_negatives_ranking_loss(a, p, ignored=everything) == 0


def test_ranking_diagnostics_are_the_loop():
    batch = batch_of(RAGGED)
    texts = drawn(batch, D, seed=6)
    texts["anchor"][:3] = texts["positive"][:3]  # found, and two more perhaps
    objective = MultipleNegativesRankingLoss(0.3, known=KNOWN)
    objective.bind(nn.Module(), numbers_of(batch))
    found = {k: v.item() for k, v in objective.diagnostics(texts, batch).items()}
    names = [*RAGGED["positive"], *(t for some in RAGGED["negative"] for t in some)]
    a, p, n = arrays(texts)
    c = [*p, *n]
    pairs = [*zip(RAGGED["anchor"], RAGGED["positive"], strict=True), *KNOWN]
    first, others = [], []
    for i, anchor in enumerate(RAGGED["anchor"]):
        right = {p for x, p in pairs if x == anchor}
        wrong = [cos(a[i], c[j]) for j in range(len(c)) if names[j] not in right]
        first.append(cos(a[i], c[i]) > max(wrong))
        others += wrong
    assert 0 < sum(first) < len(first)
    assert found["accuracy"] == pytest.approx(np.mean(first))
    assert found["no_negative"] == 0
    assert found["negative"] == pytest.approx(np.mean(others))
    assert found["positive"] == pytest.approx(np.mean([*map(cos, a, p)]))


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


def test_softmax_counts_its_hits():
    batch = batch_of(PAIRS, KIND)
    texts = drawn(batch, D, seed=3)
    generator = torch.Generator().manual_seed(4)
    objective = SoftmaxLoss(D, 3, generator=generator).double()
    weight = objective.weight.detach().numpy()
    hits = 0
    for x, y, k in zip(*arrays(texts), KIND, strict=True):
        logits = weight @ np.concatenate([x, y, abs(x - y)])
        hits += logits.argmax() == k
    accuracy = objective.diagnostics(texts, batch)["accuracy"]
    assert accuracy.item() == pytest.approx(hits / N)
    assert 0 < hits < N
