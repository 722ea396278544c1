"""Pair, triplet and classification losses: a loop, the peer, small steps."""

import math

import numpy as np
import pytest
import torch
from batches import batch_of

from sbert_lab.losses import (
    SoftmaxLoss,
    angle_loss,
    contrastive_loss,
    cosent_loss,
    margin_mse_loss,
    matryoshka_loss,
    multiple_negatives_ranking_loss,
    online_contrastive_loss,
    softmax_loss,
    triplet_loss,
)
from sbert_lab.losses.softmax import concatenated

N, D = 9, 6


def embeddings(count, seed=0, n=N, d=D, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=generator, dtype=dtype) for _ in range(count)]


def labels(seed=0, n=N):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2, n))


def far(u, v, metric):
    if metric == "cosine":
        return 1 - u @ v / np.sqrt((u @ u) * (v @ v))
    gap = np.abs(u - v + 1e-6)
    return gap.sum() if metric == "manhattan" else np.sqrt((gap**2).sum())


METRICS = ["euclidean", "manhattan", "cosine"]


@pytest.mark.parametrize("metric", METRICS)
def test_triplet_is_the_loop(metric):
    a, p, n = embeddings(3)
    hinge = [
        max(0.0, far(x, y, metric) - far(x, z, metric) + 0.7)
        for x, y, z in zip(*(part.numpy() for part in (a, p, n)), strict=True)
    ]
    found = triplet_loss(a, p, n, metric=metric, margin=0.7)
    assert 0 < sum(h == 0 for h in hinge) < N, "the hinge must be closed for some"
    assert found.item() == pytest.approx(np.mean(hinge), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_contrastive_is_the_loop(metric):
    u, v = embeddings(2)
    same, margin = labels(), {"cosine": 0.9}.get(metric, 4.0)
    total = 0.0
    for x, y, alike in zip(u.numpy(), v.numpy(), same.tolist(), strict=True):
        d = far(x, y, metric)
        total += d**2 if alike else max(0.0, margin - d) ** 2
    found = contrastive_loss(u, v, same, metric=metric, margin=margin)
    assert found.item() == pytest.approx(total / 2 / N, abs=1e-12)


@pytest.mark.parametrize(
    "same", [labels(), torch.ones(N).long(), torch.zeros(N).long()]
)
def test_online_contrastive_is_the_loop(same):
    u, v = embeddings(2, seed=1)
    d = [far(x, y, "cosine") for x, y in zip(u.numpy(), v.numpy(), strict=True)]
    near = [x for x, y in zip(d, same, strict=True) if y]
    away = [x for x, y in zip(d, same, strict=True) if not y]
    limit_away = max(near) if near else np.mean(away)
    limit_near = min(away) if away else np.mean(near)
    total = sum(x**2 for x in near if x > limit_near)
    total += sum(max(0.0, 0.5 - x) ** 2 for x in away if x < limit_away)
    assert online_contrastive_loss(u, v, same).item() == pytest.approx(total, abs=1e-12)


def similar(u, v, kind):
    if kind is cosent_loss:
        return 1 - far(u, v, "cosine")
    half = D // 2  # complex numbers, conjugated and summed
    x, y = u[:half] + 1j * u[half:], v[:half] + 1j * v[half:]
    quotient = (x * y.conj()).sum() / np.sqrt((u @ u) * (v @ v))
    return abs(quotient.real + quotient.imag)


@pytest.mark.parametrize("loss", [cosent_loss, angle_loss])
def test_ranking_over_pairs_is_the_loop(loss):
    u, v = embeddings(2, seed=2)
    score = torch.tensor([0, 1, 2, 2, 3, 3, 3, 4, 5.0])
    s = [similar(x, y, loss) for x, y in zip(u.numpy(), v.numpy(), strict=True)]
    total = 1.0
    for i in range(N):
        for j in range(N):
            if score[i] < score[j]:
                total += math.exp((s[i] - s[j]) / 0.05)
    assert loss(u, v, score).item() == pytest.approx(math.log(total), rel=1e-12)
    stretched = loss(u, v, score**3 - 7)  # only the order of the scores matters
    assert stretched.item() == loss(u, v, score).item()
    assert loss(u, v, torch.ones(N)).item() == 0  # equal scores say nothing


@pytest.mark.parametrize("parts", [("u", "v"), ("|u-v|",), ("u", "v", "|u-v|", "u*v")])
def test_softmax_is_the_loop(parts):
    u, v = embeddings(2, seed=3)
    (weight,) = embeddings(1, seed=4, n=3, d=D * len(parts))
    label = torch.tensor([0, 1, 2] * 3)
    total = 0.0
    for x, y, k in zip(u.numpy(), v.numpy(), label.tolist(), strict=True):
        made = {"u": x, "v": y, "|u-v|": abs(x - y), "u*v": x * y}
        logits = weight.numpy() @ np.concatenate([made[part] for part in parts])
        total -= logits[k] - np.log(np.exp(logits).sum())
    found = softmax_loss(u, v, label, weight, parts)
    assert found.item() == pytest.approx(total / N, abs=1e-12)
    module = SoftmaxLoss(D, 3, parts)
    assert concatenated(u, v, parts).shape[1] == module.weight.shape[1]
    module.weight.data = weight
    batch = batch_of({role: [str(n) for n in range(N)] for role in module.roles}, label)
    value = module.value({"first": u, "second": v}, batch)
    assert value.item() == pytest.approx(total / N, abs=1e-12)


def test_softmax_head_is_drawn_from_its_generator():
    before = torch.get_rng_state()
    one, two, other = (
        SoftmaxLoss(D, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, other.weight)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("parts", [(), ("u", "u"), ("u", "w")])
def test_softmax_refuses_unknown_parts(parts):
    with pytest.raises(ValueError, match=r"u, v, \|u-v\|, u\*v"):
        SoftmaxLoss(D, parts=parts)


def test_margin_mse_is_the_loop():
    q, p, n = embeddings(3, seed=5)
    (margin,) = embeddings(1, seed=6, d=1)
    gaps = [
        (x @ y - x @ z - m[0]) ** 2
        for x, y, z, m in zip(*(t.numpy() for t in (q, p, n, margin)), strict=True)
    ]
    found = margin_mse_loss(q, p, n, margin[:, 0])
    assert found.item() == pytest.approx(np.mean(gaps), abs=1e-12)


def test_matryoshka_is_the_sum_over_truncated_embeddings():
    a, p = embeddings(2, seed=7)
    total = 0.0
    for d, w in ((6, 1.0), (4, 0.5), (2, 0.25)):
        short = [x[:, :d] / x[:, :d].norm(dim=1, keepdim=True) for x in (a, p)]
        total += w * multiple_negatives_ranking_loss(*short).item()
    for order in ([6, 4, 2], [2, 6, 4]):
        weights = [{6: 1.0, 4: 0.5, 2: 0.25}[d] for d in order]
        found = matryoshka_loss(multiple_negatives_ranking_loss, [a, p], order, weights)
        assert found.item() == pytest.approx(total, abs=1e-12)
    whole = matryoshka_loss(multiple_negatives_ranking_loss, [a, p], [D])
    assert whole.item() == pytest.approx(multiple_negatives_ranking_loss(a, p).item())


@pytest.mark.parametrize("dims", [[], [0], [D + 1]])
def test_matryoshka_refuses_dimensions_that_are_not_there(dims):
    with pytest.raises(ValueError, match="from 1 to 6"):
        matryoshka_loss(multiple_negatives_ranking_loss, embeddings(2), dims)


def test_angle_refuses_odd_dimensions():
    u, v = embeddings(2, d=5)
    with pytest.raises(ValueError, match="even"):
        angle_loss(u, v, torch.rand(N))


def cases():
    from sentence_transformers.sentence_transformer import losses as peer

    metric, pair = peer.TripletDistanceMetric, peer.SiameseDistanceMetric
    score, same = torch.rand(N, generator=torch.Generator().manual_seed(9)), labels(8)
    yield (
        3,
        lambda a, p, n: triplet_loss(a, p, n, metric="euclidean", margin=5),
        peer.TripletLoss(None, metric.EUCLIDEAN, 5),
        None,
    )
    yield (
        3,
        lambda a, p, n: triplet_loss(a, p, n, metric="cosine", margin=0.5),
        peer.TripletLoss(None, metric.COSINE, 0.5),
        None,
    )
    yield (
        2,
        lambda u, v: contrastive_loss(u, v, same),
        peer.ContrastiveLoss(None),
        same,
    )
    yield (
        2,
        lambda u, v: contrastive_loss(u, v, same, metric="manhattan", margin=9),
        peer.ContrastiveLoss(None, pair.MANHATTAN, 9),
        same,
    )
    yield (
        2,
        lambda u, v: online_contrastive_loss(u, v, same),
        peer.OnlineContrastiveLoss(None),
        same,
    )
    yield 2, lambda u, v: cosent_loss(u, v, score), peer.CoSENTLoss(None), score
    yield 2, lambda u, v: angle_loss(u, v, score), peer.AnglELoss(None), score
    yield (
        3,
        lambda q, p, n: margin_mse_loss(q, p, n, score),
        peer.MarginMSELoss(None),
        score,
    )


@pytest.mark.parametrize("number", range(8))
def test_value_and_gradient_are_the_peers(number):
    count, ours, peer, label = list(cases())[number]
    theirs = embeddings(count, seed=10, dtype=torch.float32)
    mine = [x.clone().requires_grad_() for x in theirs]
    theirs = [x.requires_grad_() for x in theirs]
    value, expected = ours(*mine), peer.compute_loss_from_embeddings(theirs, label)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    for x, y in zip(
        torch.autograd.grad(value, mine),
        torch.autograd.grad(expected, theirs),
        strict=True,
    ):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("number", range(8))
def test_gradients_are_those_of_small_steps(number):
    count, ours, _, _ = list(cases())[number]
    parts = [x.requires_grad_() for x in embeddings(count, seed=11)]
    assert torch.autograd.gradcheck(ours, parts)


def test_softmax_gradient_is_that_of_small_steps():
    u, v = (x.requires_grad_() for x in embeddings(2, seed=12))
    (weight,) = (x.requires_grad_() for x in embeddings(1, seed=13, n=3, d=3 * D))
    label = torch.tensor([0, 1, 2] * 3)
    parts = ("u", "v", "|u-v|")
    assert torch.autograd.gradcheck(
        lambda *x: softmax_loss(*x[:2], label, x[2], parts), (u, v, weight)
    )
