"""Two processes that train together.

They are forks of the process that tests, which has imported everything; its products
run on one thread, so no other thread's work is missing. The two work through all cases,
and each leaves its weights and what it counted.
"""

import os
import time
import traceback
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from safetensors.torch import save_file
from tiny_training import (
    BEST,
    WIDTH,
    Scripted,
    StopAt,
    classed,
    load,
    made,
    pairs,
    train,
    weights,
)
from torch import distributed

from sbert_lab import SentenceEncoder
from sbert_lab.losses import (
    CachedLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
)

#: Steps of plain gradient descent, whose weights tell the gradient.
STEP = {
    "optim": "sgd",
    "learning_rate": 0.01,
    "max_grad_norm": 0.0,
    "lr_scheduler_type": "constant",
    "dataloader_drop_last": True,
}


def head(rank: int) -> SoftmaxLoss:
    return SoftmaxLoss(WIDTH, generator=torch.Generator().manual_seed(rank))


def cases(rank: int) -> dict:
    """Return data, objective and options by name; batches are of 4 a process."""
    return {
        "head": (classed(8), head(rank), {"max_steps": 1}),
        "cached": (classed(8), CachedLoss(head(rank), 20), {"max_steps": 1}),
        "cached, accumulating": (
            classed(32),
            CachedLoss(head(rank), 20),
            {"max_steps": 2, "gradient_accumulation_steps": 2},
        ),
    }


def gradients(folder: Path, out: Path, rank: int) -> None:
    for name, (data, objective, options) in cases(rank).items():
        encoder = load(folder, 0, double=True)
        train(encoder, out, data, objective, **STEP | options)
        save_file(weights(encoder, objective), out / f"{name} {rank}.safetensors")


def checkpoints(folder: Path, out: Path, rank: int) -> None:
    """Stop and resume, the first process slow in writing, and keep the best."""
    save = SentenceEncoder.save

    def slowly(self, target):
        time.sleep(0.3)  # the other one is there before
        save(self, target)

    SentenceEncoder.save = slowly
    scores = [0.1, 0.2, 0.9, 0.3]
    for name, begin, end in (("whole", 0, 4), ("parts", 0, 2), ("parts", 2, 4)):
        encoder, classes = load(folder, 0.2), head(rank)
        told = Scripted("told", scores[begin:])
        trainer = made(
            encoder, out / name, classed(20), classes, evaluators=[told],
            max_steps=4, callbacks=[StopAt(end)], **BEST,
        )  # fmt: skip
        trainer.train(begin > 0)
        found = weights(encoder, classes) | {
            f"last {key}": value for key, value in told.seen[-1].items()
        }
        save_file(found, out / f"{name} {rank}.safetensors")
        distributed.barrier()
    SentenceEncoder.save = save


def refusals(folder: Path, out: Path, rank: int) -> None:
    options = {"dataloader_drop_last": True}
    try:
        made(load(folder), out, pairs(4), MultipleNegativesRankingLoss(), **options)
    except ValueError as error:
        (out / f"refusal {rank}").write_text(str(error))


def in_two(folder: Path, out: Path, rank: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    gradients(folder, out, rank)
    refusals(folder, out, rank)
    checkpoints(folder, out, rank)
    distributed.barrier()  # nobody leaves while another still listens


def start(folder: Path, out: Path, settings: dict[str, str]) -> list[int]:
    """Fork two that train together; return their numbers."""
    children = []
    for rank in (0, 1):
        children.append(os.fork())
        if not children[-1]:
            try:
                os.environ |= settings
                torch.set_num_threads(1)
                AcceleratorState._reset_state(reset_partial_state=True)
                in_two(folder, out, rank)
                os._exit(0)  # gloo's threads may abort one that leaves in order
            except BaseException:
                (out / f"error {rank}").write_text(traceback.format_exc())
                os._exit(1)
    return children
