"""What objectives refuse and warn of, and what wrapped ones pass on."""

import logging

import pytest
import torch
from batches import KNOWN, RAGGED, batch_of, drawn, naive_ranking, numbers_of
from conftest import WORDS, tiny_encoder
from objective_cases import D, cases, dense, made
from torch import nn

from sbert_lab.losses import (
    AnglELoss,
    CachedLoss,
    CachedMultipleNegativesRankingLoss,
    CoSENTLoss,
    DenoisingAutoEncoderLoss,
    LabelRule,
    MarginMSELoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SimCSELoss,
    SoftmaxLoss,
    TripletLoss,
    multiple_negatives_ranking_loss,
    triplet_loss,
)
from sbert_lab.training import set_dropout
from sbert_lab.training.trainer import encode_tokens


def unit_encoder(**layout):
    return tiny_encoder(head=("normalize",), max_seq_length=24, **layout)


@pytest.mark.parametrize(
    ("metric", "margin", "unit", "warned"),
    [
        ("cosine", 2.0, False, "cosine distance"),
        ("cosine", 5.0, True, "cosine distance"),
        ("cosine", 1.99, True, None),
        ("euclidean", 2.0, True, "unit vectors"),
        ("euclidean", 5.0, True, "unit vectors"),
        ("euclidean", 5.0, False, None),
        ("euclidean", 1.99, True, None),
        ("manhattan", 5.0, True, None),  # unit vectors are up to 2 √D apart
        ("manhattan", 5.0, False, None),
    ],
)
def test_triplet_warns_where_the_hinge_cannot_close(
    metric, margin, unit, warned, caplog
):
    encoder = unit_encoder() if unit else tiny_encoder(max_seq_length=24)
    with caplog.at_level(logging.WARNING, "sbert_lab"):
        TripletLoss(metric, margin).bind(encoder, {})
    assert [warned in m for m in caplog.messages] == ([] if warned is None else [True])
    assert all(f"margin {margin:g}:" in message for message in caplog.messages)


def test_margin_warned_of_can_indeed_not_be_met():
    """No triplet whose positive is not the anchor itself reaches it; 1.99 may."""
    a, n = torch.tensor([[1.0, 0]]), torch.tensor([[-1.0, 0]])
    p = torch.tensor([[1.0, 0.01]])
    for metric in ("cosine", "euclidean"):
        p = nn.functional.normalize(p)
        assert triplet_loss(a, p, n, metric=metric, margin=2.0) > 0
        assert triplet_loss(a, p, n, metric=metric, margin=1.98) == 0


def test_negative_margins_are_refused():
    with pytest.raises(ValueError, match=r"margin=-0.1: 0 or more"):
        TripletLoss(margin=-0.1)


def test_simcse_needs_dropout():
    encoder = tiny_encoder(max_seq_length=24)
    SimCSELoss().bind(encoder, {})
    set_dropout(encoder, 0.0)
    with pytest.raises(ValueError, match="set_dropout"):
        SimCSELoss().bind(encoder, {})


def test_simcse_embeds_a_text_differently_twice():
    encoder = tiny_encoder(max_seq_length=24)
    batch = batch_of({"text": WORDS[:8]}, encoder=encoder)
    found = []

    def encode(texts):
        found.append(encode_tokens(encoder, texts, 2048))
        return found[-1]

    torch.manual_seed(0)
    loss = SimCSELoss()(encode, batch).loss
    first, second = found[-1].chunk(2)
    assert torch.equal(first, second)  # an encoder in evaluation mode does not drop
    encoder.train()
    dropped = SimCSELoss()(encode, batch)
    first, second = found[-1].chunk(2)
    assert not torch.isclose(first, second).all(1).any()
    assert loss != dropped.loss
    expected = multiple_negatives_ranking_loss(first, second)
    torch.testing.assert_close(dropped.loss, expected)
    assert dropped.diagnostics["positive"] < 1


def test_matryoshka_refuses_what_it_cannot_shorten():
    with pytest.raises(ValueError, match="layer of one width"):
        MatryoshkaLoss(SoftmaxLoss(D), [2])
    for objective in (SimCSELoss(), CachedMultipleNegativesRankingLoss()):
        with pytest.raises(ValueError, match="put it around"):
            MatryoshkaLoss(objective, [2])
    encoder = tiny_encoder(max_seq_length=24)
    denoising = DenoisingAutoEncoderLoss(encoder)
    with pytest.raises(ValueError, match="put it around"):
        MatryoshkaLoss(denoising, [2])


@pytest.mark.parametrize("dimensions", [[], [16, 17], [0, 4], [-1]])
def test_matryoshka_refuses_dimensions_out_of_range(dimensions):
    objective = MatryoshkaLoss(CoSENTLoss(), dimensions)
    with pytest.raises(ValueError, match="this encoder has 1 to 16"):
        objective.bind(tiny_encoder(max_seq_length=24), {})


def test_matryoshka_refuses_weights_that_do_not_fit():
    case, batch, texts, _ = made("ranking")
    with pytest.raises(ValueError, match="2 weights for 3 dimensions"):
        MatryoshkaLoss(case.objective, [1, 2, 3], [1, 2]).value(texts, batch)


def test_wrapped_objectives_are_bound_too():
    batch = batch_of(RAGGED)
    texts = drawn(batch, D, seed=3)
    inner = MultipleNegativesRankingLoss(0.2, known=KNOWN)
    objective = CachedLoss(MatryoshkaLoss(inner, [D]))
    objective.bind(nn.Module(), numbers_of(batch))
    expected = naive_ranking(RAGGED, texts, 0.2, KNOWN)
    assert objective.value(texts, batch).item() == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="has 1 to 4"):
        CachedLoss(MatryoshkaLoss(CoSENTLoss(), [5])).bind(Wide(), {})


class Wide(nn.Module):
    """An encoder of another kind."""

    dimension = 4


def test_wrappers_read_what_the_wrapped_one_reads():
    for name in ("ranking", "cosent", "contrastive", "margin mse"):
        inner = cases()[name].objective
        for outer in (CachedLoss(inner), MatryoshkaLoss(inner, [2])):
            for what in ("roles", "optional", "least_rows", "label"):
                assert getattr(outer, what) == getattr(inner, what)
    assert CachedLoss(SoftmaxLoss(D, 4)).label == LabelRule(0, 3, whole=True)
    assert CachedLoss(inner).replays
    assert not inner.replays


def test_cached_refuses_what_it_cannot_replay():
    cached = CachedMultipleNegativesRankingLoss()
    with pytest.raises(ValueError, match="CachedMultipleNegativesRankingLoss embeds"):
        CachedLoss(cached)
    with pytest.raises(ValueError, match="SimCSELoss embeds its texts itself"):
        CachedLoss(SimCSELoss())
    with pytest.raises(ValueError, match="cannot be cached"):
        CachedLoss(DenoisingAutoEncoderLoss(tiny_encoder(max_seq_length=24)))
    with pytest.raises(ValueError, match="tokens=0"):
        CachedLoss(CoSENTLoss(), 0)


def test_cached_ranking_takes_the_options_of_ranking():
    objective = CachedMultipleNegativesRankingLoss(
        0.1, tokens=7, learned=True, symmetric=True, known=KNOWN, similarity="dot"
    )
    assert objective.tokens == 7
    inner = objective.objective
    assert inner.symmetric
    assert inner.similarity == "dot"
    assert inner.temperature.item() == pytest.approx(0.1)
    assert [name for name, _ in objective.named_parameters()] == [
        "objective.log_temperature"
    ]
    with pytest.raises(TypeError):
        CachedMultipleNegativesRankingLoss(scale=20)


def test_softmax_refuses_another_width():
    encoder = tiny_encoder(max_seq_length=24)
    SoftmaxLoss(16).bind(encoder, {})
    with pytest.raises(ValueError, match=r"6 dimensions.*has 16.*SoftmaxLoss\(16\)"):
        SoftmaxLoss(6).bind(encoder, {})
    with pytest.raises(ValueError, match="labels=1"):
        SoftmaxLoss(6, 1)


def test_width_in_training_is_the_uncut_one():
    """``truncate_dim`` cuts what `encode` returns; training sees whole vectors."""
    encoder = tiny_encoder(max_seq_length=24, truncate_dim=4)
    assert encoder.dimension == 4
    columns = {"first": WORDS[:4], "second": WORDS[4:8]}
    batch = batch_of(columns, [0, 1, 2, 0], encoder)
    for objective in (SoftmaxLoss(16), MatryoshkaLoss(CoSENTLoss(), [16, 4])):
        objective.bind(encoder, {})
        loss = objective(lambda texts: encode_tokens(encoder, texts, 99), batch).loss
        assert torch.isfinite(loss)
    with pytest.raises(ValueError, match="has 16"):
        SoftmaxLoss(4).bind(encoder, {})
    DenoisingAutoEncoderLoss(encoder)


def test_denoising_refuses_what_it_cannot_decode():
    encoder = tiny_encoder(max_seq_length=24)
    objective = DenoisingAutoEncoderLoss(encoder)
    objective.bind(encoder, {})
    with pytest.raises(ValueError, match="made for another encoder"):
        objective.bind(tiny_encoder(max_seq_length=24), {})
    with pytest.raises(ValueError, match="8 dimensions and its transformer 16"):
        DenoisingAutoEncoderLoss(tiny_encoder(max_seq_length=24, head=(dense(8),)))
    with pytest.raises(ValueError, match="32 dimensions and its transformer 16"):
        DenoisingAutoEncoderLoss(
            tiny_encoder(max_seq_length=24, pooling=("cls", "mean"))
        )
    for ratio in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"ratio={ratio}"):
            DenoisingAutoEncoderLoss(encoder, ratio)


def test_ranking_refuses_options_that_do_not_go_together():
    with pytest.raises(ValueError, match="symmetric and gather"):
        MultipleNegativesRankingLoss(symmetric=True, gather=True)
    with pytest.raises(ValueError, match="masked=True"):
        MultipleNegativesRankingLoss(known=KNOWN, masked=False)
    for temperature in (0, -0.05):
        for make in (MultipleNegativesRankingLoss, SimCSELoss, CoSENTLoss, AnglELoss):
            with pytest.raises(ValueError, match=f"temperature={temperature}"):
                make(temperature)


@pytest.mark.parametrize(
    "negatives",
    [
        [["x"], [], ["y"]],
        [["x"], ["y"], ["z", "u"]],
        [["x", "y"], [], ["z"]],  # as many as rows, and yet
        None,
    ],
)
def test_margin_mse_needs_one_negative_a_row(negatives):
    columns = {"anchor": ["a", "b", "c"], "positive": ["p", "q", "r"]}
    if negatives is not None:
        columns["negative"] = negatives
    batch = batch_of(columns, [1, 2, 3])
    with pytest.raises(ValueError, match="one negative in every row"):
        MarginMSELoss().value(drawn(batch, D), batch)
