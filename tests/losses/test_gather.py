"""Two processes with each other's candidates are one process on the joined batch."""

import pytest
import torch
from batches import batch_of, drawn, numbers_of
from gathering import COLUMNS, KNOWN, WIDTH, half, layer, run
from safetensors.torch import load_file
from torch import nn

from sbert_lab.losses import MultipleNegativesRankingLoss


@pytest.mark.slow
def test_two_processes_are_the_joined_batch(tmp_path):
    """Loss and gradient, masks too: a twin, or a right answer, may be in the other."""
    run(tmp_path)

    def alone(batch, texts):
        objective, model = MultipleNegativesRankingLoss(0.2, known=KNOWN), layer()
        objective.bind(nn.Module(), numbers_of(batch_of(COLUMNS)))
        loss = objective.value({r: model(x) for r, x in texts.items()}, batch)
        loss.backward()
        return loss.detach(), model.weight.grad

    batch = batch_of(COLUMNS)
    loss, gradient = alone(batch, drawn(batch, WIDTH))
    found = [load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1)]
    mean = (found[0]["loss"] + found[1]["loss"]) / 2
    torch.testing.assert_close(mean, loss, rtol=0, atol=1e-12)
    for rank, one in enumerate(found):
        torch.testing.assert_close(one["gradient"], gradient, rtol=0, atol=1e-12)
        assert not torch.allclose(one["gradient"], alone(*half(rank))[1])
        assert "bring [3, 0] rows" in (tmp_path / f"{rank}.error").read_text()
