"""What each of two processes does in the test of gathered candidates."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from batches import batch_of, drawn, numbers_of
from safetensors.torch import save_file
from torch import distributed, nn
from torch.multiprocessing import spawn

from sbert_lab.losses import MultipleNegativesRankingLoss
from sbert_lab.losses.objective import Batch

WIDTH = 5
# Equal anchors, equal positives and right answers among the negatives, each pair of
# them in different halves.
COLUMNS = {
    "anchor": ["a", "b", "c", "d", "a", "e", "f", "g"],
    "positive": ["p", "q", "r", "s", "t", "q", "u", "v"],
    "negative": [["x"], ["t"], ["y"], [], ["r"], ["z"], [], ["p"]],
}
KNOWN = [("c", "u")]


def layer() -> nn.Linear:
    """Return a linear layer, the same in every process, that is trained."""
    made = nn.Linear(WIDTH, 4, bias=False, dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    nn.init.normal_(made.weight, generator=generator)
    return made


def half(rank: int) -> tuple[Batch, dict[str, torch.Tensor]]:
    """Return the half of a process of the batch, and its embeddings."""
    whole = batch_of(COLUMNS)
    number = numbers_of(whole)
    part = batch_of({r: c[4 * rank : 4 * rank + 4] for r, c in COLUMNS.items()})
    numbers = {r: np.array([number[t] for t in c]) for r, c in part.texts.items()}
    texts = {r: x.chunk(2)[rank] for r, x in drawn(whole, WIDTH).items()}
    return replace(part, numbers=numbers), texts


def one_process(rank: int, folder: Path) -> None:
    if sys.platform == "linux":  # there may be no network at all
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=2
    )
    objective = MultipleNegativesRankingLoss(0.2, known=KNOWN, gather=True)
    objective.bind(nn.Module(), numbers_of(batch_of(COLUMNS)))
    model = layer()
    batch, texts = half(rank)
    loss = objective.value({r: model(x) for r, x in texts.items()}, batch)
    loss.backward()
    # What data-parallel training does with the processes' gradients.
    distributed.all_reduce(model.weight.grad)
    found = {"loss": loss.detach(), "gradient": model.weight.grad / 2}
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


def run(folder: Path) -> None:
    spawn(one_process, (folder,), nprocs=2)
