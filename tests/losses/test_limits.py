"""What objectives refuse and warn of, what wrapped ones pass on, and autocast."""

import pytest
import torch
from batches import (
    KNOWN,
    RAGGED,
    batch_of,
    drawn,
    encoding,
    naive_ranking,
    numbers_of,
    sentences,
    trained,
    with_dropout,
)
from conftest import WORDS, tiny_encoder
from objective_cases import D, N, dense
from torch import nn

from sbert_lab.losses import (
    CachedLoss,
    CachedMultipleNegativesRankingLoss,
    CosineSimilarityLoss,
    DenoisingAutoEncoderLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SimCSELoss,
    SoftmaxLoss,
    multiple_negatives_ranking_loss,
)
from sbert_lab.losses.objective import LabelRule


def encoder(**layout):
    return tiny_encoder(max_seq_length=24, **layout)


def test_simcse_needs_dropout_and_embeds_a_text_differently_twice():
    model = encoder().train()
    batch = batch_of({"text": WORDS[:8]}, encoder=model)
    objective, found = SimCSELoss(), []
    objective.bind(model, {})

    def encode(texts):
        found.append(encoding(model)(texts))
        return found[-1]

    loss = objective(encode, batch)
    first, second = found[-1].chunk(2)
    assert not torch.isclose(first, second).all(1).any()
    expected = multiple_negatives_ranking_loss(first, second)
    torch.testing.assert_close(loss, expected)
    with pytest.raises(ValueError, match="set_dropout"):
        objective.bind(with_dropout(model, 0.0), {})


def test_matryoshka_refuses_what_it_cannot_shorten():
    with pytest.raises(ValueError, match="layer of one width"):
        MatryoshkaLoss(SoftmaxLoss(D), [2])
    for dimensions in ([], [16, 17], [0, 4]):
        with pytest.raises(ValueError, match="this encoder has 1 to 16"):
            MatryoshkaLoss(CosineSimilarityLoss(), dimensions).bind(encoder(), {})


def test_what_embeds_its_texts_itself_is_not_wrapped():
    for inner in (SimCSELoss(), CachedMultipleNegativesRankingLoss()):
        for wrap in (CachedLoss, lambda objective: MatryoshkaLoss(objective, [2])):
            with pytest.raises(ValueError, match="embeds its texts itself"):
                wrap(inner)


def test_wrapped_objectives_are_bound_and_read_too():
    batch = batch_of(RAGGED)
    texts = drawn(batch, D, seed=3)
    inner = MultipleNegativesRankingLoss(0.2, known=KNOWN)
    objective = MatryoshkaLoss(inner, [D])
    outer = CachedLoss(objective)
    outer.bind(nn.Module(), numbers_of(batch))
    expected = naive_ranking(RAGGED, texts, 0.2, KNOWN)
    assert objective.value(texts, batch).item() == pytest.approx(expected, abs=1e-12)
    assert outer.replays
    for what in ("roles", "optional", "least_rows", "label"):
        assert getattr(outer, what) == getattr(inner, what)


def test_softmax_refuses_another_width():
    SoftmaxLoss(16).bind(encoder(), {})
    with pytest.raises(ValueError, match=r"6 dimensions.*has 16.*SoftmaxLoss\(16\)"):
        SoftmaxLoss(6).bind(encoder(), {})
    assert SoftmaxLoss(D, 4).label == LabelRule(0, 3, whole=True)


def test_width_in_training_is_the_uncut_one():
    """``truncate_dim`` cuts what `encode` returns; training sees whole vectors."""
    cut = encoder(truncate_dim=4)
    SoftmaxLoss(16).bind(cut, {})
    MatryoshkaLoss(CosineSimilarityLoss(), [16]).bind(cut, {})
    DenoisingAutoEncoderLoss(cut)


@pytest.fixture
def narrow_encoder():
    """Return an encoder whose vectors come as bfloat16 out of autocast."""
    found = encoder(head=(dense(16),))
    with torch.no_grad():  # a fresh BERT's vectors are all alike
        for weight in found.transformer.parameters():
            if weight.ndim > 1:
                weight.mul_(10)
    return found


def test_losses_are_float32_under_autocast(narrow_encoder):
    """The vectors come out of autocast as they are; what is made of them is float32.

    Both ways encode the same texts in the same batches, so nothing else may differ.
    """
    objective = CachedLoss(MultipleNegativesRankingLoss(), 10**6)
    columns = {"anchor": sentences(0, N), "positive": sentences(1, N)}
    batch = batch_of(columns, None, narrow_encoder)
    seen = []
    handle = narrow_encoder.register_forward_hook(lambda *given: seen.append(given[2]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = trained(narrow_encoder, objective)(batch)
    handle.remove()
    assert found["loss"].dtype == torch.float32
    with torch.no_grad():
        again = objective(lambda _: torch.cat(seen), batch)
    assert found["loss"] == again
