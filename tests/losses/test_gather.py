"""Two processes with each other's candidates are one process on the joined batch."""

import pytest
import torch
from batches import batch_of, drawn, numbers_of, value_and_gradients
from gathering import COLUMNS, KNOWN, ROWS, WIDTH, model, run, run_objective, texts
from safetensors.torch import load_file
from torch import nn

from sbert_lab.losses import (
    MultipleNegativesRankingLoss,
    gathered,
    multiple_negatives_ranking_loss,
)


@pytest.mark.slow
def test_gradient_is_the_joined_batchs(tmp_path):
    run(tmp_path, (ROWS, ROWS))
    layer = model()
    first, second = (torch.cat(parts) for parts in zip(texts(0), texts(1), strict=True))
    multiple_negatives_ranking_loss(layer(first), layer(second)).backward()
    alone = model()
    multiple_negatives_ranking_loss(*(alone(part) for part in texts(0))).backward()
    for rank in (0, 1):
        found = load_file(tmp_path / f"{rank}.safetensors")
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, rtol=0, atol=1e-12)
        assert not torch.allclose(found["weight"], alone.weight.grad)


@pytest.mark.slow
def test_processes_must_bring_the_same_number(tmp_path):
    run(tmp_path, (ROWS, ROWS - 1))
    for rank in (0, 1):
        assert "[6, 5] rows: drop the last" in (tmp_path / f"{rank}.error").read_text()


@pytest.mark.slow
def test_objective_of_two_processes_is_the_joined_batchs(tmp_path):
    """Masks too: a twin, or a right answer, may be in the other process."""
    run_objective(tmp_path)
    batch = batch_of(COLUMNS)
    alone = MultipleNegativesRankingLoss(0.2, known=KNOWN)
    alone.bind(nn.Module(), numbers_of(batch))
    value, wanted = value_and_gradients(
        lambda t: alone.value(t, batch), drawn(batch, WIDTH)
    )
    found = [load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1)]
    pairs = drawn(batch, WIDTH)
    del pairs["negative"], batch.texts["negative"], batch.numbers["negative"]
    for key, whole in (("loss", value), ("pairs", alone.value(pairs, batch))):
        mean = (found[0].pop(key) + found[1].pop(key)) / 2
        torch.testing.assert_close(mean, whole, rtol=0, atol=1e-12)
    for role, gradient in wanted.items():
        joined = torch.cat([half[role] for half in found])
        torch.testing.assert_close(joined, gradient, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_processes_must_bring_the_same_number_of_negatives(tmp_path):
    run_objective(tmp_path, ragged=True)
    for rank in (0, 1):
        assert "bring [3, 0] rows" in (tmp_path / f"{rank}.error").read_text()


def test_one_process_is_left_alone():
    rows = torch.ones(3, 2)
    assert gathered(rows) == (rows, 0)
