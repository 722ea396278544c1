"""What each of several processes does in the tests of gathered candidates."""

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

from sbert_lab.losses import (
    Batch,
    MultipleNegativesRankingLoss,
    gathered,
    multiple_negatives_ranking_loss,
)

ROWS, WIDTH = 6, 5


def texts(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return tuple(torch.randn(2, ROWS, WIDTH, generator=generator, dtype=torch.float64))


def model() -> nn.Linear:
    layer = nn.Linear(WIDTH, 4, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            generator = torch.Generator().manual_seed(7)
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer


def meet(rank: int, world: int, folder: Path) -> None:
    if sys.platform == "linux":  # there may be no network at all
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=world
    )


def leave() -> None:
    distributed.barrier()  # nobody leaves while another still listens
    distributed.destroy_process_group()
    os._exit(0)  # gloo's threads may abort a process that takes its leave in order


def one_process(rank: int, world: int, folder: Path, rows: tuple[int, ...]) -> None:
    meet(rank, world, folder)
    layer = model()
    first, second = (part[: rows[rank]] for part in texts(rank))
    try:
        positives, offset = gathered(layer(second))
    except ValueError as error:
        (folder / f"{rank}.error").write_text(str(error))
    else:
        loss = multiple_negatives_ranking_loss(layer(first), positives, offset=offset)
        loss.backward()
        found = {}
        # What data-parallel training does with the processes' gradients.
        for name, parameter in layer.named_parameters():
            distributed.all_reduce(parameter.grad)
            found[name] = parameter.grad / world
        save_file(found, folder / f"{rank}.safetensors")
    leave()


def run(folder: Path, rows: tuple[int, ...]) -> None:
    spawn(one_process, (len(rows), folder, rows), nprocs=len(rows))


# Equal anchors, equal positives and right answers among the negatives, each pair of
# them in different halves.
COLUMNS = {
    "anchor": ["a", "b", "c", "d", "a", "e", "f", "g"],
    "positive": ["p", "q", "r", "s", "t", "q", "u", "v"],
    "negative": [["x"], ["t"], ["y"], [], ["r"], ["z"], [], ["p"]],
}
KNOWN = [("c", "u")]


def part(rank: int) -> tuple[Batch, dict[str, torch.Tensor]]:
    """Return the half of a process of the batch, and its embeddings."""
    whole = batch_of(COLUMNS)
    number = numbers_of(whole)
    half = batch_of({r: c[4 * rank : 4 * rank + 4] for r, c in COLUMNS.items()})
    numbers = {r: np.array([number[t] for t in c]) for r, c in half.texts.items()}
    texts = drawn(whole, WIDTH)
    mine = {r: x.chunk(2)[rank].clone().requires_grad_() for r, x in texts.items()}
    return replace(half, numbers=numbers), mine


def with_objective(rank: int, world: int, folder: Path, ragged: bool) -> None:
    meet(rank, world, folder)
    objective = MultipleNegativesRankingLoss(0.2, known=KNOWN, gather=True)
    objective.bind(nn.Module(), numbers_of(batch_of(COLUMNS)))
    batch, texts = part(rank)
    if ragged and rank:  # no row of this one's batch has a negative
        del batch.texts["negative"], batch.numbers["negative"], texts["negative"]
    try:
        loss = objective.value(texts, batch)
    except ValueError as error:
        (folder / f"{rank}.error").write_text(str(error))
    else:
        loss.backward()
        found = {role: x.grad / world for role, x in texts.items()}
        del batch.texts["negative"], batch.numbers["negative"], texts["negative"]
        pairs = objective.value(texts, batch).detach()  # nobody has a negative
        losses = {"loss": loss.detach(), "pairs": pairs}
        save_file(found | losses, folder / f"{rank}.safetensors")
    leave()


def run_objective(folder: Path, *, ragged: bool = False) -> None:
    spawn(with_objective, (2, folder, ragged), nprocs=2)
