"""Two processes that train together.

They are forks of the process that tests, which has imported everything; its products
run on one thread, so no other thread's work is missing. The two work through all cases,
and each leaves its weights and what it counted.
"""

import json
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
    sentences,
    train,
    weights,
)
from torch import distributed

from sbert_lab import SentenceEncoder
from sbert_lab.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
)
from sbert_lab.training import TrainingData
from sbert_lab.training.batch_samplers import BatchSampler

#: Which rows each process has first, of eight; 42 is transformers' own seed.
HALVES = list(BatchSampler(8, 4, seed=42))

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


def twins(*, even: bool = True) -> TrainingData:
    """Return eight rows, two for each anchor, one in each half.

    The negatives of one half are right answers, positives of the other or known.
    """
    texts, other = sentences(18), dict(zip(*HALVES, strict=True))
    anchor, negative = [""] * 8, [[""]] * 8
    for number, (row, twin) in enumerate(other.items()):
        anchor[row] = anchor[twin] = texts[number]
        negative[row] = [texts[4 + twin]]
        negative[twin] = [texts[12 + number]] if even else []
    columns = {"anchor": anchor, "positive": texts[4:12], "negative": negative}
    return TrainingData(columns)


def cases(gather: bool, rank: int) -> dict:
    """Return data, objective and options by name; batches are of 4 a process."""
    texts = sentences(18)
    told = {"gather": gather, "known": [(texts[0], texts[13]), (texts[1], texts[4])]}

    def cached():
        return CachedMultipleNegativesRankingLoss(tokens=20, **told)

    return {
        "ranking": (twins(), MultipleNegativesRankingLoss(**told), {"max_steps": 1}),
        "cached": (twins(), cached(), {"max_steps": 1}),
        "cached, accumulating": (
            pairs(32),
            cached(),
            {"max_steps": 2, "gradient_accumulation_steps": 2},
        ),
        "head": (classed(8), head(rank), {"max_steps": 1}),
    }


def gradients(folder: Path, out: Path, rank: int) -> None:
    for name, (data, objective, options) in cases(True, rank).items():
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
    loss, encoder, said = MultipleNegativesRankingLoss(gather=True), load(folder), []
    for data, options in (
        (pairs(8), {}),
        (pairs(4), {"dataloader_drop_last": True}),
        (twins(even=False), {"dataloader_drop_last": True}),
    ):
        try:
            made(encoder, out, data, loss, **options).train()
        except ValueError as error:
            said.append(str(error))
    (out / f"refusals {rank}.json").write_text(json.dumps(said))


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
