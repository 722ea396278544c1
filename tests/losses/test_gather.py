"""Two processes with each other's candidates are one process on the joined batch."""

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import batch_of, drawn, numbers_of
from safetensors.torch import load_file, save_file
from torch import distributed, nn
from torch.multiprocessing import spawn

from sbert_lab.losses import MultipleNegativesRankingLoss

WIDTH = 5
# Equal anchors, equal positives and right answers among the negatives, each pair of
# them in different halves.
COLUMNS = {
    "anchor": ["a", "b", "c", "d", "a", "e", "f", "g"],
    "positive": ["p", "q", "r", "s", "t", "q", "u", "v"],
    "negative": [["x"], ["t"], ["y"], [], ["r"], ["z"], [], ["p"]],
}


def half(rank):
    """Return the half of a process of the batch, and its embeddings."""
    whole = batch_of(COLUMNS)
    number = numbers_of(whole)
    part = batch_of({r: c[4 * rank : 4 * rank + 4] for r, c in COLUMNS.items()})
    numbers = {r: np.array([number[t] for t in c]) for r, c in part.texts.items()}
    texts = {r: x.chunk(2)[rank] for r, x in drawn(whole, WIDTH).items()}
    return replace(part, numbers=numbers), texts


def learnt(batch, texts, **options):
    """Return the objective, its loss, and the gradient of a linear layer below it."""
    objective = MultipleNegativesRankingLoss(0.2, known=[("c", "u")], **options)
    objective.bind(nn.Module(), numbers_of(batch_of(COLUMNS)))
    layer = nn.Linear(WIDTH, 4, bias=False, dtype=torch.float64)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(7))
    loss = objective.value({r: layer(x) for r, x in texts.items()}, batch)
    loss.backward()
    return objective, loss.detach(), layer.weight.grad


def one_process(rank, folder):
    if sys.platform == "linux":  # there may be no network at all
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=2
    )
    batch, texts = half(rank)
    objective, loss, gradient = learnt(batch, texts, gather=True)
    # What data-parallel training does with the processes' gradients.
    distributed.all_reduce(gradient)
    found = {"loss": loss, "gradient": gradient / 2}
    save_file(found, folder / f"{rank}.safetensors")
    if rank:  # no row of this one's batch has a negative
        del batch.texts["negative"], batch.numbers["negative"], texts["negative"]
    try:
        objective.value(texts, batch)
    except ValueError as error:
        (folder / f"{rank}.error").write_text(str(error))
    distributed.barrier()  # nobody leaves while another still listens
    distributed.destroy_process_group()
    os._exit(0)  # gloo's threads may abort a process that takes its leave in order


@pytest.mark.slow
def test_two_processes_are_the_joined_batch(tmp_path):
    """Loss and gradient, masks too: a twin, or a right answer, may be in the other."""
    spawn(one_process, (tmp_path,), nprocs=2)
    batch = batch_of(COLUMNS)
    _, loss, gradient = learnt(batch, drawn(batch, WIDTH))
    found = [load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1)]
    mean = (found[0]["loss"] + found[1]["loss"]) / 2
    torch.testing.assert_close(mean, loss, rtol=0, atol=1e-12)
    for rank, one in enumerate(found):
        torch.testing.assert_close(one["gradient"], gradient, rtol=0, atol=1e-12)
        assert not torch.allclose(one["gradient"], learnt(*half(rank))[2])
        assert "bring [3, 0] rows" in (tmp_path / f"{rank}.error").read_text()
