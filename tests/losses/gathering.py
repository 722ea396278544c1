"""What each of several processes does in the test of gathered candidates."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed, nn
from torch.multiprocessing import spawn

from sbert_lab.losses import gathered, multiple_negatives_ranking_loss

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


def one_process(rank: int, world: int, folder: Path, rows: tuple[int, ...]) -> None:
    if sys.platform == "linux":  # there may be no network at all
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=world
    )
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
    distributed.barrier()  # nobody leaves while another still listens
    distributed.destroy_process_group()


def run(folder: Path, rows: tuple[int, ...]) -> None:
    spawn(one_process, (len(rows), folder, rows), nprocs=len(rows))
