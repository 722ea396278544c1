"""Losses against loops, against sentence-transformers, and their gradients."""

import math

import pytest
import torch

from sbert_lab.losses import cosine_similarity_loss, multiple_negatives_ranking_loss


def rows(seed, n=7, d=5, dtype=torch.float64):
    """Return two embeddings of each of n pairs, and a score."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, n, d, generator=generator, dtype=dtype)
    return first, second, torch.rand(n, generator=generator, dtype=dtype)


def cosine(u, v):
    dot = sum(x * y for x, y in zip(u, v, strict=True))
    return dot / math.sqrt(sum(x * x for x in u) * sum(y * y for y in v))


def test_cosine_regression_is_the_loop():
    first, second, score = rows(0)
    squares = [
        (cosine(u, v) - y) ** 2
        for u, v, y in zip(first.tolist(), second.tolist(), score.tolist(), strict=True)
    ]
    found = cosine_similarity_loss(first, second, score)
    assert found.item() == pytest.approx(sum(squares) / 7, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_ranking_is_the_loop(temperature):
    anchors, positives, _ = rows(1)
    total = 0.0
    for i, a in enumerate(anchors.tolist()):
        grades = [math.exp(cosine(a, p) / temperature) for p in positives.tolist()]
        total -= math.log(grades[i] / sum(grades))
    found = multiple_negatives_ranking_loss(anchors, positives, temperature=temperature)
    assert found.item() == pytest.approx(total / 7, abs=1e-12)


def value_and_gradients(loss, first, second):
    """Return what a loss says of the embeddings, and wants of them."""
    first, second = (x.clone().requires_grad_() for x in (first, second))
    value = loss(first, second)
    return value.detach(), *torch.autograd.grad(value, (first, second))


def assert_alike(ours, theirs, first, second):
    for mine, other in zip(
        value_and_gradients(ours, first, second),
        value_and_gradients(theirs, first, second),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


def test_cosine_regression_is_the_peers():
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    peer = CosineSimilarityLoss(model=None)
    first, second, score = rows(2, n=32, d=48, dtype=torch.float32)
    assert_alike(
        lambda u, v: cosine_similarity_loss(u, v, score),
        lambda u, v: peer.compute_loss_from_embeddings([u, v], score),
        first,
        second,
    )


@pytest.mark.parametrize("temperature", [0.05, 0.2])
def test_ranking_is_the_peers(temperature):
    from sentence_transformers.sentence_transformer.losses import (
        MultipleNegativesRankingLoss,
    )

    peer = MultipleNegativesRankingLoss(model=None, scale=1 / temperature)
    first, second, _ = rows(3, n=32, d=48, dtype=torch.float32)
    assert_alike(
        lambda a, p: multiple_negatives_ranking_loss(a, p, temperature=temperature),
        lambda a, p: peer.compute_loss_from_embeddings([a, p], None),
        first,
        second,
    )


def test_gradients_are_those_of_small_steps():
    first, second, score = (x.requires_grad_() for x in rows(4, n=4, d=3))
    assert torch.autograd.gradcheck(cosine_similarity_loss, (first, second, score))
    assert torch.autograd.gradcheck(multiple_negatives_ranking_loss, (first, second))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_first(dtype):
    first, second, score = (x.to(dtype) for x in rows(5))
    wide = first.float(), second.float()
    regression = cosine_similarity_loss(first, second, score)
    ranking = multiple_negatives_ranking_loss(first, second)
    assert regression.dtype == ranking.dtype == torch.float32
    assert regression == cosine_similarity_loss(*wide, score.float())
    assert ranking == multiple_negatives_ranking_loss(*wide)


def test_scores_may_be_of_another_precision():
    first, second, score = rows(6)
    narrow = first.float().requires_grad_()
    value = cosine_similarity_loss(narrow, second.float(), score)
    value.backward()
    assert value.dtype == narrow.grad.dtype == torch.float32


def test_length_of_an_embedding_does_not_matter():
    first, second, score = rows(7)
    times = torch.linspace(0.1, 9, 7, dtype=torch.float64)[:, None]
    for loss in (
        lambda u, v: cosine_similarity_loss(u, v, score),
        multiple_negatives_ranking_loss,
    ):
        torch.testing.assert_close(loss(first * times, second), loss(first, second))
        torch.testing.assert_close(loss(first, second * times), loss(first, second))


def test_regression_is_least_where_the_cosine_is_the_score():
    first, second, _ = rows(8)
    wanted = torch.nn.functional.cosine_similarity(first, second)
    assert cosine_similarity_loss(first, second, wanted) == 0
    assert cosine_similarity_loss(first, second, wanted + 0.1) == pytest.approx(0.01)


def test_ranking_cannot_tell_apart_what_is_alike():
    same = torch.ones(6, 3, dtype=torch.float64)
    assert multiple_negatives_ranking_loss(same, same) == pytest.approx(math.log(6))
    assert multiple_negatives_ranking_loss(same[:1], same[:1]) == 0


def test_ranking_punishes_exchanged_positives():
    apart = torch.eye(4)
    right = multiple_negatives_ranking_loss(apart, apart)
    assert right < 1e-6
    wrong = multiple_negatives_ranking_loss(apart, apart.roll(1, 0))
    assert wrong == pytest.approx(20, abs=1e-5)
