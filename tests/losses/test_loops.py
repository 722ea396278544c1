"""Losses against loops over texts, row by row, in NumPy."""

import itertools
import math

import numpy as np
import pytest
import torch
from batches import KNOWN, RAGGED, batch_of, cos, drawn, naive_ranking, numbers_of
from objective_cases import KIND, PAIRS, ROWS, SAME, SCORE, D, N, made
from torch import nn

from sbert_lab.losses import (
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SimCSELoss,
    TripletLoss,
    contrastive_loss,
    cosent_loss,
    cosine_similarity_loss,
    false_negatives,
    margin_mse_loss,
    multiple_negatives_ranking_loss,
    softmax_loss,
)

SEVERAL = ROWS | {"negative": [["x"], [], ["y", "z"], *[["x", "u"]] * 5]}


def far(u, v, metric):
    if metric == "cosine":
        return 1 - cos(u, v)
    return np.sqrt(((u - v + 1e-6) ** 2).sum())


def arrays(texts):
    return [x.numpy() for x in texts.values()]


# -- in-batch negatives ---------------------------------------------------------------


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


@pytest.mark.parametrize("negatives", [None, [[]] * 6, [["x"]] + [[]] * 5])
def test_ranking_bears_batches_without_negatives(negatives):
    columns = {role: RAGGED[role] for role in ("anchor", "positive")}
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


def test_false_negatives_are_found_by_number():
    rng = np.random.default_rng(2)
    for _ in range(20):
        anchors, candidates = rng.integers(0, 4, 6), rng.integers(0, 8, 11)
        known = {int(a): {int(c)} for a, c in rng.integers(0, 8, (5, 2))}
        expected = []
        for i, anchor in enumerate(anchors):
            right = {candidates[k] for k in range(6) if anchors[k] == anchor}
            right |= known.get(int(anchor), set())
            expected.append([c != i and candidates[c] in right for c in range(11)])
        ids = torch.from_numpy(anchors), torch.from_numpy(candidates)
        found = false_negatives(*ids, known)
        assert found.tolist() == expected


def test_positives_of_other_processes_are_candidates():
    """Two halves with each other's positives have the joined batch's gradient."""
    a, p = torch.randn(2, 12, D, generator=torch.Generator().manual_seed(3)).double()
    a, p = a.requires_grad_(), p.requires_grad_()
    whole = torch.autograd.grad(multiple_negatives_ranking_loss(a, p), (a, p))
    halves = [
        multiple_negatives_ranking_loss(a[start : start + 6], p, offset=start)
        for start in (0, 6)
    ]
    shards = torch.autograd.grad(sum(halves) / 2, (a, p))
    for one, other in zip(whole, shards, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_an_anchors_own_positive_is_never_left_out():
    a, p = torch.randn(2, 4, D, generator=torch.Generator().manual_seed(1))
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert multiple_negatives_ranking_loss(a, p, ignored=everything) == 0


def test_dot_products_are_not_scaled():
    a, p = torch.randn(2, 4, D, generator=torch.Generator().manual_seed(1))
    found = multiple_negatives_ranking_loss(a, p, temperature=2, similarity="dot")
    scores = (a @ p.T / 2).double().exp()
    wanted = -(scores.diagonal() / scores.sum(1)).log().mean()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


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
    assert found["negative"] == pytest.approx(np.mean(others))
    assert found["positive"] == pytest.approx(np.mean([*map(cos, a, p)]))


def test_simcse_does_not_punish_a_text_that_comes_twice():
    columns = {"text": ["a", "b", "a", "c"]}
    twice = {"anchor": columns["text"], "positive": columns["text"]}
    texts = drawn(batch_of(twice), D)
    found = SimCSELoss(0.1).value(texts, batch_of(columns))
    expected = naive_ranking(twice, texts, 0.1)
    assert found.item() == pytest.approx(expected, abs=1e-12)


# -- pairs, triplets, labels ----------------------------------------------------------


@pytest.mark.parametrize(("metric", "margin"), [("euclidean", 0.6), ("cosine", 0.3)])
def test_triplets_with_several_negatives_are_the_loop(metric, margin):
    batch = batch_of(SEVERAL)
    texts = drawn(batch, D, seed=7)
    a, p, n = arrays(texts)
    hinges = [
        max(0.0, far(a[row], p[row], metric) - far(a[row], n[place], metric) + margin)
        for place, row in enumerate(batch.owner)
    ]
    found = TripletLoss(metric, margin).value(texts, batch)
    assert found.item() == pytest.approx(np.mean(hinges), abs=1e-12)
    assert 0 < sum(h == 0 for h in hinges) < len(hinges) == 13


@pytest.mark.parametrize(("metric", "margin"), [("euclidean", 4.0), ("cosine", 0.9)])
def test_contrastive_is_the_loop(metric, margin):
    texts = drawn(batch_of(PAIRS), D)
    total = 0.0
    for u, v, same in zip(*arrays(texts), SAME, strict=True):
        d = far(u, v, metric)
        total += d**2 if same else max(0.0, margin - d) ** 2
    same = torch.tensor(SAME)
    found = contrastive_loss(*texts.values(), same, metric=metric, margin=margin)
    assert found.item() == pytest.approx(total / 2 / N, abs=1e-12)


def test_cosent_is_the_loop():
    texts = drawn(batch_of(PAIRS), D, seed=2)
    s = [*map(cos, *arrays(texts))]
    total = 1.0
    for i, j in itertools.permutations(range(N), 2):
        if SCORE[i] < SCORE[j]:
            total += math.exp((s[i] - s[j]) / 0.05)
    score = torch.tensor(SCORE)
    found = cosent_loss(*texts.values(), score)
    assert found.item() == pytest.approx(math.log(total), rel=1e-12)
    assert cosent_loss(*texts.values(), score**3 - 7) == found  # only the order counts
    assert cosent_loss(*texts.values(), torch.ones(N)) == 0  # equal scores say nothing


def test_cosine_regression_is_the_loop():
    texts = drawn(batch_of(PAIRS), D, seed=3)
    squares = [
        (cos(u, v) - y) ** 2 for u, v, y in zip(*arrays(texts), SCORE, strict=True)
    ]
    found = cosine_similarity_loss(*texts.values(), torch.tensor(SCORE).double())
    assert found.item() == pytest.approx(np.mean(squares), abs=1e-7)


@pytest.mark.parametrize("parts", [("u", "v"), ("|u-v|",), ("u", "v", "|u-v|", "u*v")])
def test_softmax_is_the_loop(parts):
    texts = drawn(batch_of(PAIRS), D, seed=3)
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(3, D * len(parts), generator=generator, dtype=torch.float64)
    total = 0.0
    for x, y, k in zip(*arrays(texts), KIND, strict=True):
        made = {"u": x, "v": y, "|u-v|": abs(x - y), "u*v": x * y}
        logits = weight.numpy() @ np.concatenate([made[part] for part in parts])
        total -= logits[k] - np.log(np.exp(logits).sum())
    found = softmax_loss(*texts.values(), torch.tensor(KIND), weight, parts)
    assert found.item() == pytest.approx(total / N, abs=1e-12)


def test_softmax_accuracy_is_the_loop():
    case, batch, texts, _ = made("softmax")
    weight = case.objective.weight.detach().numpy()
    hits = [
        int(np.argmax(weight @ np.concatenate([u, v, abs(u - v)])) == label)
        for u, v, label in zip(*arrays(texts), KIND, strict=True)
    ]
    assert 0 < sum(hits) < N
    found = case.objective.diagnostics(texts, batch)
    assert found["accuracy"].item() == pytest.approx(np.mean(hits))


def test_margin_mse_is_the_loop():
    q, p, n = drawn(
        batch_of(ROWS | {"negative": [[t] for t in "abcdefgh"]}), D
    ).values()
    margin = torch.tensor(SCORE).double()
    gaps = [
        (x @ y - x @ z - m) ** 2
        for x, y, z, m in zip(*(t.numpy() for t in (q, p, n, margin)), strict=True)
    ]
    found = margin_mse_loss(q, p, n, margin)
    assert found.item() == pytest.approx(np.mean(gaps), abs=1e-12)


def test_matryoshka_is_the_loop():
    batch = batch_of(SEVERAL)
    texts = drawn(batch, D, seed=8)
    total = 0.0
    for d, weight in ((6, 0.5), (3, 2.0), (1, 0.25)):
        a, p, n = (
            x[:, :d] / np.linalg.norm(x[:, :d], axis=1)[:, None] for x in arrays(texts)
        )
        hinges = []
        for place, row in enumerate(batch.owner):
            gap = far(a[row], p[row], "euclidean") - far(a[row], n[place], "euclidean")
            hinges.append(max(0.0, gap + 0.5))
        total += weight * np.mean(hinges)
    inner = TripletLoss(margin=0.5)
    for order in itertools.permutations([(6, 0.5), (3, 2.0), (1, 0.25)]):
        dimensions, weights = zip(*order, strict=True)
        found = MatryoshkaLoss(inner, dimensions, weights).value(texts, batch)
        assert found.item() == pytest.approx(total, abs=1e-12)
