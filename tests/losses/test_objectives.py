"""Objectives as modules: their functions, the peer's losses, their gradients."""

import math

import numpy as np
import pytest
import torch
from batches import RAGGED, batch_of, drawn, numbers_of, sentences, value_and_gradients
from conftest import tiny_encoder
from objective_cases import (
    KIND,
    NAMES,
    PAIRS,
    SCORE,
    TEXTS,
    TRIPLETS,
    D,
    N,
    made,
    ranked,
)

from sbert_lab.losses import (
    CoSENTLoss,
    CosineSimilarityLoss,
    GISTEmbedLoss,
    LabelRule,
    MultipleNegativesRankingLoss,
    Objective,
    SoftmaxLoss,
    gist_embed_loss,
)
from sbert_lab.training.trainer import encode_tokens


def assert_alike(found, expected, tolerance):
    (value, gradients), (right, wanted) = found, expected
    torch.testing.assert_close(value, right, rtol=tolerance, atol=tolerance)
    for role, gradient in gradients.items():
        assert gradient.abs().max() > 1e-4, "a gradient of zeros proves nothing"
        torch.testing.assert_close(
            gradient, wanted[role], rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("name", NAMES)
def test_module_is_its_function(name):
    case, batch, texts, label = made(name)
    found = value_and_gradients(lambda t: case.objective.value(t, batch), texts)
    expected = value_and_gradients(lambda t: case.function(t, label), texts)
    assert_alike(found, expected, 1e-12 if name != "ranking, both ways" else 1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_module_is_the_peers(name, dtype):
    case, batch, texts, label = made(name, dtype)
    if name == "softmax":
        case.objective.to(dtype)
    found = value_and_gradients(lambda t: case.objective.value(t, batch), texts)
    expected = value_and_gradients(
        lambda t: case.peer(list(t.values()), label).to(dtype), texts
    )
    assert_alike(found, expected, 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_module_has_the_gradient_of_small_steps(name):
    case, batch, texts, _ = made(name)

    def value(*columns):
        by_role = dict(zip(texts, columns, strict=True))
        return case.objective.value(by_role, batch)

    leaves = [x.requires_grad_() for x in texts.values()]
    assert torch.autograd.gradcheck(value, leaves)


@pytest.mark.parametrize("name", NAMES)
def test_forward_encodes_every_text_and_returns_the_value(name):
    case, batch, texts, _ = made(name, torch.float32)
    case.objective.float()
    order = torch.cat(list(texts.values()))
    seen = []

    def encode(tokens):
        """Return the drawn embeddings, whatever order the texts are asked for in."""
        count = len(seen)
        seen.extend(int(ids[0]) for ids in tokens)
        if name == "simcse":  # each text twice, which number does not tell apart
            return order
        return order[torch.tensor(seen[count:])]

    with torch.no_grad():
        outcome = case.objective(encode, batch)
        expected = case.objective.value(texts, batch)
    torch.testing.assert_close(outcome.loss, expected, rtol=1e-6, atol=1e-7)
    numbers = [n for column in batch.numbers.values() for n in column]
    times = 2 if name == "simcse" else 1
    assert sorted(seen) == sorted(times * numbers)
    assert all(x.ndim == 0 for x in outcome.diagnostics.values())


def test_softmax_weight_is_the_peers_too():
    case, batch, texts, label = made("softmax")
    weight = case.objective.weight
    (mine,) = torch.autograd.grad(case.objective.value(texts, batch), weight)
    (theirs,) = torch.autograd.grad(case.peer(list(texts.values()), label), weight)
    assert mine.abs().max() > 1e-3
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


# Batches and labels.


def test_a_batch_of_one_row():
    batch = batch_of(RAGGED, [5, 6, 7, 8, 9, 10])
    assert len(batch) == 6
    for row in range(6):
        one = batch.only(row)
        assert len(one) == 1
        negatives = RAGGED["negative"][row]
        assert one.texts == {
            "anchor": [RAGGED["anchor"][row]],
            "positive": [RAGGED["positive"][row]],
            "negative": negatives,
        }
        number = numbers_of(batch)
        for role, texts in one.texts.items():
            assert one.numbers[role].tolist() == [number[text] for text in texts]
            assert one.numbers[role].dtype == np.int64
            assert [t.tolist() for t in one.tokens[role]] == [
                [number[t]] for t in texts
            ]
        assert one.label.tolist() == [row + 5]
        assert one.rows.tolist() == [row]
        assert one.owner.tolist() == [0] * len(negatives)
    assert batch.only(2).only(0).texts == batch.only(2).texts


def test_a_batch_of_one_row_without_label_or_negatives():
    one = batch_of(PAIRS).only(3)
    assert one.label is None
    assert one.texts == {"first": [TEXTS[3]], "second": [TEXTS[N + 3]]}
    assert len(one.owner) == 0


def test_rows_add_up_to_the_batch():
    """What a loss says of each row alone is its mean, where rows do not compare."""
    for name in ("triplet", "cosine", "margin mse", "contrastive", "softmax"):
        case, batch, texts, _ = made(name)
        alone = [
            case.objective.value(
                {role: x[row : row + 1] for role, x in texts.items()}, batch.only(row)
            ).item()
            for row in range(N)
        ]
        whole = case.objective.value(texts, batch).item()
        assert np.mean(alone) == pytest.approx(whole, abs=1e-12)


def test_labels_where_and_what_they_should_be():
    like = torch.zeros(2)
    batch = batch_of(PAIRS, KIND)
    whole = SoftmaxLoss(D).label_of(batch, like)
    assert whole.dtype == torch.int64
    assert whole.tolist() == KIND
    number = CosineSimilarityLoss().label_of(batch_of(PAIRS, SCORE), like)
    assert number.dtype == torch.float32
    assert number.tolist() == torch.tensor(SCORE).tolist()
    assert whole.device == like.device
    if torch.cuda.is_available():
        assert SoftmaxLoss(D).label_of(batch, like.cuda()).is_cuda
    with pytest.raises(ValueError, match="CoSENTLoss needs a column 'label'"):
        CoSENTLoss().label_of(batch_of(PAIRS), like)


@pytest.mark.parametrize(
    ("rule", "right", "wrong", "said"),
    [
        (LabelRule(), [0, -3, 1e9, 0.5], [math.nan, math.inf, -math.inf], "a number"),
        (
            LabelRule(-1, 1),
            [-1, 1, 0.25],
            [-1.01, 1.01, math.nan],
            "a number from -1 to 1",
        ),
        (
            LabelRule(0, 2, whole=True),
            [0, 1, 2, 2.0],
            [-1, 3, 0.5, math.nan, math.inf],
            "a whole number from 0 to 2",
        ),
        (LabelRule(whole=True), [7, -7], [0.1, math.inf], "a whole number"),
    ],
)
def test_label_rules(rule, right, wrong, said):
    assert all(rule.fits(label) for label in right)
    assert not any(rule.fits(label) for label in wrong)
    assert str(rule) == said


def test_an_objective_must_say_its_value():
    with pytest.raises(NotImplementedError):
        Objective().value({}, batch_of(PAIRS))
    assert Objective().diagnostics({}, batch_of(PAIRS)) == {}


def test_guide_is_no_part_of_the_module():
    guide = tiny_encoder(max_seq_length=24)
    objective = GISTEmbedLoss(guide)
    assert list(objective.parameters()) == []
    assert objective.train() is objective
    assert not guide.training


def test_guide_is_a_sentence_encoder():
    guide, encoder = (tiny_encoder(seed, max_seq_length=24) for seed in (1, 2))
    columns = {"anchor": sentences(0, N), "positive": sentences(1, N)}
    batch = batch_of(columns, None, encoder)
    found = GISTEmbedLoss(guide)(lambda x: encode_tokens(encoder, x, 99), batch).loss
    seen = [torch.from_numpy(guide.encode(column)) for column in columns.values()]
    mine = [torch.from_numpy(encoder.encode(column)) for column in columns.values()]
    expected = gist_embed_loss(*mine, *seen)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.backward()
    assert all(p.grad is None for p in guide.parameters())


def test_learned_temperature_is_trained():
    objective = MultipleNegativesRankingLoss(0.3, learned=True)
    batch = batch_of(TRIPLETS)
    texts = drawn(batch, D)
    assert objective.temperature.item() == pytest.approx(0.3)
    objective.value(texts, batch).backward()
    step = 1e-6

    def at(log_temperature):
        return ranked(texts, temperature=math.exp(log_temperature)).item()

    middle = math.log(0.3)
    slope = (at(middle + step) - at(middle - step)) / (2 * step)
    assert objective.log_temperature.grad.item() == pytest.approx(slope, rel=1e-5)
    assert list(MultipleNegativesRankingLoss().parameters()) == []
