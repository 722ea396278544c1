"""In-batch losses: negatives, masks, directions, guides, and the gradient cache."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sbert_lab.losses import (
    cached_loss,
    false_negatives,
    gist_embed_loss,
    multiple_negatives_ranking_loss,
)

B, D = 6, 5


def embeddings(*sizes, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, D, generator=generator, dtype=dtype) for n in sizes]


def cos(u, v):
    return u @ v / np.sqrt((u @ u) * (v @ v))


def naive(anchors, candidates, own, temperature, ignored=None, similar=cos):
    """Return the loss by a double loop, in NumPy."""
    total = 0.0
    for i, a in enumerate(anchors):
        below = 0.0
        for c, candidate in enumerate(candidates):
            if ignored is None or not ignored[i][c] or c == own[i]:
                below += math.exp(similar(a, candidate) / temperature)
        total -= similar(a, candidates[own[i]]) / temperature - math.log(below)
    return total / len(anchors)


@pytest.mark.parametrize("count", [0, 1, B, 17])
def test_any_number_of_negatives(count):
    a, p, n = embeddings(B, B, count)
    candidates = [*p.numpy(), *n.numpy()]
    found = multiple_negatives_ranking_loss(a, p, n, temperature=0.1)
    expected = naive(a.numpy(), candidates, range(B), 0.1)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_dot_product():
    a, p = embeddings(B, B)
    found = multiple_negatives_ranking_loss(a, p, temperature=1, similarity="dot")
    expected = naive(a.numpy(), p.numpy(), range(B), 1, similar=np.dot)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_symmetric_is_the_mean_of_both_directions():
    a, p, n = embeddings(B, B, 4)
    there = naive(a.numpy(), [*p.numpy(), *n.numpy()], range(B), 0.05)
    back = naive(p.numpy(), a.numpy(), range(B), 0.05)
    found = multiple_negatives_ranking_loss(a, p, n, symmetric=True)
    assert found.item() == pytest.approx((there + back) / 2, abs=1e-12)


def test_ignored_candidates_do_not_count_and_the_own_one_always_does():
    a, p, n = embeddings(B, B, 3, seed=1)
    ignored = torch.from_numpy(np.random.default_rng(0).random((B, B + 3)) < 0.4)
    ignored[0, 0] = True  # its own positive
    found = multiple_negatives_ranking_loss(a, p, n, ignored=ignored)
    candidates = [*p.numpy(), *n.numpy()]
    expected = naive(a.numpy(), candidates, range(B), 0.05, ignored.tolist())
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_gathered_positives_begin_elsewhere():
    a, p = embeddings(B, 3 * B, seed=2)
    found = multiple_negatives_ranking_loss(a, p, offset=B)
    expected = naive(a.numpy(), p.numpy(), range(B, 2 * B), 0.05)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_shards_add_up_to_the_whole_batch():
    """Two processes with each other's positives have the joined batch's gradient."""
    a, p = (x.requires_grad_() for x in embeddings(2 * B, 2 * B, seed=3))
    whole = torch.autograd.grad(multiple_negatives_ranking_loss(a, p), (a, p))
    halves = [
        multiple_negatives_ranking_loss(a[start : start + B], p, offset=start)
        for start in (0, B)
    ]
    shards = torch.autograd.grad(sum(halves) / 2, (a, p))
    for one, other in zip(whole, shards, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_order_of_the_rows_does_not_matter():
    a, p = embeddings(B, B, seed=4)
    mixed = torch.randperm(B, generator=torch.Generator().manual_seed(0))
    one = multiple_negatives_ranking_loss(a, p, symmetric=True)
    other = multiple_negatives_ranking_loss(a[mixed], p[mixed], symmetric=True)
    assert one.item() == pytest.approx(other.item(), abs=1e-12)


def test_learned_temperature_gets_its_gradient():
    a, p = (x.requires_grad_() for x in embeddings(B, B, seed=5))
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, p, t: multiple_negatives_ranking_loss(a, p, temperature=t), (a, p, t)
    )


def test_everything_at_once_has_the_gradient_of_small_steps():
    a, p, n = (x.requires_grad_() for x in embeddings(B, B, 4, seed=6))
    ignored = torch.from_numpy(np.random.default_rng(1).random((B, B + 4)) < 0.3)
    assert torch.autograd.gradcheck(
        lambda a, p, n: multiple_negatives_ranking_loss(
            a, p, n, ignored=ignored, symmetric=True
        ),
        (a, p, n),
    )


@pytest.mark.parametrize("symmetric", [False, True])
def test_negatives_and_directions_are_the_peers(symmetric):
    from sentence_transformers.sentence_transformer import losses as peer

    both = {"directions": ("query_to_doc", "doc_to_query")}
    both["partition_mode"] = "per_direction"
    theirs = peer.MultipleNegativesRankingLoss(None, **(both if symmetric else {}))
    parts = embeddings(B, B, B, B, seed=7, dtype=torch.float32)
    mine = [x.clone().requires_grad_() for x in parts]
    peers = [x.requires_grad_() for x in parts]
    value = multiple_negatives_ranking_loss(
        mine[0], mine[1], torch.cat(mine[2:]), symmetric=symmetric
    )
    expected = theirs.compute_loss_from_embeddings(peers, None)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    ours, other = torch.autograd.grad(value, mine), torch.autograd.grad(expected, peers)
    for x, y in zip(ours, other, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


def naive_false_negatives(anchor_ids, candidate_ids, own, known):
    rows = []
    for i, anchor in enumerate(anchor_ids):
        twins = [k for k, other in enumerate(anchor_ids) if other == anchor]
        right = {candidate_ids[own[k]] for k in twins}
        right |= {text for first, text in known if first == anchor}
        rows.append(
            [c != own[i] and text in right for c, text in enumerate(candidate_ids)]
        )
    return rows


def by_anchor(pairs):
    """Return pairs (anchor, candidate) as `false_negatives` takes them."""
    return {a: {c for other, c in pairs if other == a} for a, _ in pairs}


def test_false_negatives_are_found_by_number():
    rng = np.random.default_rng(2)
    for _ in range(20):
        anchors, candidates = rng.integers(0, 4, B), rng.integers(0, 8, B + 5)
        known = {(int(a), int(c)) for a, c in rng.integers(0, 8, (5, 2))}
        found = false_negatives(
            torch.from_numpy(anchors),
            torch.from_numpy(candidates),
            torch.arange(B),
            by_anchor(known),
        )
        expected = naive_false_negatives(
            anchors.tolist(), candidates.tolist(), range(B), known
        )
        assert found.tolist() == expected
        for nothing in (None, {}, {99: [0]}, {0: []}):
            unknown = false_negatives(
                torch.from_numpy(anchors),
                torch.from_numpy(candidates),
                torch.arange(B),
                nothing,
            )
            assert unknown.tolist() == naive_false_negatives(
                anchors.tolist(), candidates.tolist(), range(B), ()
            )


def test_symmetric_needs_all_anchors():
    a, p = embeddings(B, 2 * B)
    with pytest.raises(ValueError, match="as many positives"):
        multiple_negatives_ranking_loss(a, p, symmetric=True)


def naive_gist(a, p, n, ga, gp, gn, margin, relative, temperature):
    total = 0.0
    for i in range(len(a)):
        own = cos(ga[i], gp[i])
        limit = own - (abs(own) if relative else 1) * margin
        kept = [cos(a[i], p[i])]
        for j in range(len(a)):
            if j != i and not cos(ga[i], gp[j]) > limit:
                kept.append(cos(a[i], p[j]))
            if j != i and not cos(ga[i], ga[j]) > limit:
                kept.append(cos(a[i], a[j]))
            if j != i and not cos(gp[i], gp[j]) > limit:
                kept.append(cos(p[i], p[j]))
        for j in range(len(n)):
            if not cos(ga[i], gn[j]) > limit:
                kept.append(cos(a[i], n[j]))
        total -= kept[0] / temperature
        total += math.log(sum(math.exp(x / temperature) for x in kept))
    return total / len(a)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_gist_is_the_loop(relative, margin):
    a, p, n, ga, gp, gn = embeddings(B, B, 4, B, B, 4, seed=8)
    found = gist_embed_loss(
        a,
        p,
        ga,
        gp,
        negatives=n,
        guide_negatives=gn,
        temperature=0.1,
        margin_kind="relative" if relative else "absolute",
        margin=margin,
    )
    arrays = [x.numpy() for x in (a, p, n, ga, gp, gn)]
    expected = naive_gist(*arrays, margin, relative, 0.1)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    unguided = multiple_negatives_ranking_loss(a, p, n, temperature=0.1)
    assert found.item() != pytest.approx(unguided.item())


def test_small_steps_through_gist():
    a, p, n, ga, gp, gn = embeddings(B, B, 4, B, B, 4, seed=9)
    parts = [x.requires_grad_() for x in (a, p, n)]
    assert torch.autograd.gradcheck(
        lambda a, p, n: gist_embed_loss(
            a, p, ga, gp, negatives=n, guide_negatives=gn, temperature=0.5
        ),
        parts,
    )


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(4, 16), nn.Dropout(0.3), nn.Tanh(), nn.Linear(16, D)
        )


def texts(count, seed):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 100])
def test_cached_gradient_is_the_whole_batchs(size):
    """Dropout on: each mini-batch must meet the same numbers in both passes."""
    model = network()
    columns = [texts(8, 1), texts(8, 2)]
    batches = [column.split(size) for column in columns]
    temperature = torch.tensor(0.2, requires_grad=True)

    def loss(a, p):
        return multiple_negatives_ranking_loss(a, p, temperature=temperature)

    with torch.random.fork_rng():
        torch.manual_seed(5)
        direct = loss(*(torch.cat([model(b) for b in column]) for column in batches))
        direct.mul(3).backward()
        expected, of_temperature = gradients(model), temperature.grad.clone()
        after = torch.get_rng_state()
        model.zero_grad()
        temperature.grad = None
        torch.manual_seed(5)
        value = cached_loss(model, batches, loss)
        value.mul(3).backward()
        assert torch.equal(torch.get_rng_state(), after)
    assert value.item() == direct.item()
    for one, other in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(temperature.grad, of_temperature)


def test_processes_exchange_gradients_once():
    from contextlib import contextmanager

    model, entered = network(), []

    @contextmanager
    def wait():
        entered.append(1)
        yield

    columns = [texts(8, 1).split(2), texts(8, 2).split(2)]
    loss = cached_loss(model, columns, multiple_negatives_ranking_loss, wait=wait)
    assert not entered
    loss.backward()
    assert len(entered) == 7  # of eight mini-batches all but the last


def test_cached_without_gradients_is_the_plain_value():
    model = network().eval()
    columns = [texts(8, 1), texts(8, 2)]
    with torch.no_grad():
        value = cached_loss(
            model, [c.split(3) for c in columns], multiple_negatives_ranking_loss
        )
        plain = multiple_negatives_ranking_loss(*(model(c) for c in columns))
    assert not value.requires_grad
    assert value.item() == pytest.approx(plain.item(), abs=1e-6)


def test_cached_needs_something_to_encode():
    with pytest.raises(ValueError, match="mini-batch"):
        cached_loss(network(), [[]], multiple_negatives_ranking_loss)
