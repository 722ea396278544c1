"""Objectives as modules against loops over texts, and not over their numbers."""

import itertools

import numpy as np
import pytest
import torch
from batches import KNOWN, RAGGED, batch_of, cos, drawn, naive_ranking, numbers_of
from objective_cases import KIND, PAIRS, ROWS, SAME, SCORE, D, N, made
from torch import nn

from sbert_lab.losses import (
    ContrastiveLoss,
    CoSENTLoss,
    CosineSimilarityLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SimCSELoss,
    TripletLoss,
)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("known", [KNOWN, ()])
def test_ranking_of_ragged_rows_is_the_loop(masked, symmetric, known):
    known = known if masked else ()
    batch = batch_of(RAGGED)
    texts = drawn(batch, D, seed=3)
    objective = MultipleNegativesRankingLoss(
        0.2, masked=masked, symmetric=symmetric, known=known
    )
    objective.bind(nn.Module(), numbers_of(batch))
    expected = naive_ranking(RAGGED, texts, 0.2, known, masked, symmetric)
    assert objective.value(texts, batch).item() == pytest.approx(expected, abs=1e-12)


def test_every_kind_of_mask_matters_to_that_loop():
    batch = batch_of(RAGGED)
    texts = drawn(batch, D, seed=3)
    found = {
        round(naive_ranking(RAGGED, texts, 0.2, known, masked, symmetric), 9)
        for known, masked, symmetric in itertools.product(
            ([], KNOWN[:1], KNOWN[1:2], KNOWN[2:3]), (True, False), (True, False)
        )
    }
    assert len(found) == 4 * 2 + 2  # known ones do not matter where nothing is masked


@pytest.mark.parametrize("negatives", [None, [[]] * 6, [["x"]] + [[]] * 5])
def test_ranking_bears_batches_without_negatives(negatives):
    columns = dict(RAGGED)
    del columns["negative"]
    if negatives is not None:
        columns["negative"] = negatives
    batch = batch_of(columns)
    texts = drawn(batch, D, seed=4)
    found = MultipleNegativesRankingLoss().value(texts, batch)
    expected = naive_ranking(columns, texts, 0.05)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    diagnostics = MultipleNegativesRankingLoss().diagnostics(texts, batch)
    assert all(torch.isfinite(x) for x in diagnostics.values())


def test_known_positives_are_looked_up_anew_for_other_data():
    objective = MultipleNegativesRankingLoss(known=KNOWN)
    for columns in (RAGGED, {r: c[::-1] for r, c in RAGGED.items()}):
        batch = batch_of(columns)
        texts = drawn(batch, D, seed=5)
        objective.bind(nn.Module(), numbers_of(batch))
        expected = naive_ranking(columns, texts, 0.05, KNOWN)
        found = objective.value(texts, batch)
        assert found.item() == pytest.approx(expected, abs=1e-12)


def test_ranking_diagnostics_are_the_loop():
    batch = batch_of(RAGGED)
    texts = drawn(batch, D, seed=6)
    texts["anchor"][:3] = texts["positive"][:3]  # found, and two more perhaps
    objective = MultipleNegativesRankingLoss(0.3, learned=True, known=KNOWN)
    objective.bind(nn.Module(), numbers_of(batch))
    found = {k: v.item() for k, v in objective.diagnostics(texts, batch).items()}
    names = [*RAGGED["positive"], *(t for some in RAGGED["negative"] for t in some)]
    c = [*texts["positive"].numpy(), *texts["negative"].numpy()]
    first, others = [], []
    for i, (anchor, a) in enumerate(
        zip(RAGGED["anchor"], texts["anchor"].numpy(), strict=True)
    ):
        right = {
            p
            for x, p in zip(RAGGED["anchor"], RAGGED["positive"], strict=True)
            if x == anchor
        } | {p for x, p in KNOWN if x == anchor}
        wrong = [cos(a, c[j]) for j in range(len(c)) if names[j] not in right]
        first.append(cos(a, c[i]) > max(wrong))
        others += wrong
    assert 0 < sum(first) < len(first)
    assert found["accuracy"] == pytest.approx(np.mean(first))
    assert found["negative"] == pytest.approx(np.mean(others))
    positive = [cos(*pair) for pair in zip(texts["anchor"].numpy(), c, strict=False)]
    assert found["positive"] == pytest.approx(np.mean(positive))
    assert found["temperature"] == pytest.approx(0.3)


def test_simcse_does_not_punish_a_text_that_comes_twice():
    columns = {"text": ["a", "b", "a", "c"]}
    twice = {"anchor": columns["text"], "positive": columns["text"]}
    texts = drawn(batch_of(twice), D)
    found = SimCSELoss(0.1).value(texts, batch_of(columns))
    expected = naive_ranking(twice, texts, 0.1)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    assert found.item() != pytest.approx(naive_ranking(twice, texts, 0.1, masked=False))


@pytest.mark.parametrize(
    ("metric", "margin"), [("euclidean", 0.6), ("manhattan", 1.0), ("cosine", 0.3)]
)
def test_triplets_with_several_negatives_are_the_loop(metric, margin):
    columns = ROWS | {"negative": [["x"], [], ["y", "z"], *[["x", "u"]] * 5]}
    batch = batch_of(columns)
    texts = drawn(batch, D, seed=7)
    a, p, n = (x.numpy() for x in texts.values())

    def far(u, v):
        if metric == "cosine":
            return 1 - cos(u, v)
        gap = np.abs(u - v + 1e-6)
        return gap.sum() if metric == "manhattan" else np.sqrt((gap**2).sum())

    hinges, nearer, met, place = [], [], [], 0
    for row, some in enumerate(columns["negative"]):
        for _ in some:
            gap = far(a[row], n[place]) - far(a[row], p[row])
            hinges.append(max(0.0, margin - gap))
            nearer.append(gap > 0)
            met.append(gap >= margin)
            place += 1
    objective = TripletLoss(metric, margin)
    found = objective.value(texts, batch)
    assert found.item() == pytest.approx(np.mean(hinges), abs=1e-12)
    assert 0 < sum(met) < sum(nearer) < len(hinges) == 13
    diagnostics = objective.diagnostics(texts, batch)
    assert diagnostics["nearer"].item() == pytest.approx(np.mean(nearer))
    assert diagnostics["margin_met"].item() == pytest.approx(np.mean(met))


@pytest.mark.parametrize("normalize", [True, False])
def test_matryoshka_is_the_loop(normalize):
    columns = ROWS | {"negative": [["x"], [], ["y", "z"], *[["x", "u"]] * 5]}
    batch = batch_of(columns)
    texts = drawn(batch, D, seed=8)
    total = 0.0
    for d, weight in ((6, 0.5), (3, 2.0), (1, 0.25)):
        a, p, n = (x[:, :d].numpy() for x in texts.values())
        if normalize:
            a, p, n = (
                np.stack([v / np.sqrt(sum(v * v)) for v in part]) for part in (a, p, n)
            )
        hinges = []
        for place, row in enumerate(batch.owner):
            near = np.sqrt(((a[row] - p[row] + 1e-6) ** 2).sum())
            away = np.sqrt(((a[row] - n[place] + 1e-6) ** 2).sum())
            hinges.append(max(0.0, near - away + 0.5))
        total += weight * np.mean(hinges)
    inner = TripletLoss(margin=0.5)
    for order in itertools.permutations([(6, 0.5), (3, 2.0), (1, 0.25)]):
        dimensions, weights = zip(*order, strict=True)
        objective = MatryoshkaLoss(inner, dimensions, weights, normalize=normalize)
        found = objective.value(texts, batch)
        assert found.item() == pytest.approx(total, abs=1e-12)
    assert objective.roles == inner.roles
    assert objective.diagnostics(texts, batch) == inner.diagnostics(texts, batch)


def test_diagnostics_of_pairs_are_the_loop():
    batch = batch_of(PAIRS, SAME)
    texts = drawn(batch, D, seed=9)
    cosines = [cos(*pair) for pair in zip(*(x.numpy() for x in texts.values()))]  # noqa: B905
    found = ContrastiveLoss().diagnostics(texts, batch)
    for name, kind in (("distance_alike", 1), ("distance_apart", 0)):
        far = [1 - c for c, same in zip(cosines, SAME, strict=True) if same == kind]
        assert found[name].item() == pytest.approx(np.mean(far))
    one_kind = batch_of(PAIRS, [1] * N)
    assert list(ContrastiveLoss().diagnostics(texts, one_kind)) == ["distance_alike"]
    mean = CosineSimilarityLoss().diagnostics(texts, batch)["cosine"]
    assert mean.item() == pytest.approx(np.mean(cosines))
    scored = batch_of(PAIRS, SCORE)
    right = [
        cosines[i] < cosines[j]
        for i, j in itertools.permutations(range(N), 2)
        if SCORE[i] < SCORE[j]
    ]
    assert CoSENTLoss().diagnostics(texts, scored)["in_order"].item() == pytest.approx(
        np.mean(right)
    )
    assert CoSENTLoss().diagnostics(texts, batch_of(PAIRS, [1] * N)) == {}


def test_softmax_diagnostics_are_the_loop():
    case, batch, texts, _ = made("softmax")
    weight = case.objective.weight.detach().numpy()
    found = case.objective.diagnostics(texts, batch)
    hits = [
        int(np.argmax(weight @ np.concatenate([u, v, abs(u - v)])) == label)
        for u, v, label in zip(*(x.numpy() for x in texts.values()), KIND, strict=True)
    ]
    assert 0 < sum(hits) < N
    assert found["accuracy"].item() == pytest.approx(np.mean(hits))
    cosines = [cos(*pair) for pair in zip(*(x.numpy() for x in texts.values()))]  # noqa: B905
    assert found["cosine"].item() == pytest.approx(np.mean(cosines))
