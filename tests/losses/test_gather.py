"""Two processes with each other's candidates are one process on the joined batch."""

import pytest
import torch
from gathering import ROWS, model, run, texts
from safetensors.torch import load_file

from sbert_lab.losses import gathered, multiple_negatives_ranking_loss


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


def test_one_process_is_left_alone():
    rows = torch.ones(3, 2)
    assert gathered(rows) == (rows, 0)
