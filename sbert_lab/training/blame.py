"""Why a loss is not a number: the rows that make it so."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sbert_lab.losses.objective import Batch, Tokens
from sbert_lab.models.batching import evaluating
from sbert_lab.training.data import TrainingData
from sbert_lab.training.module import TrainedModule


def blame(
    module: TrainedModule, step: int, data: TrainingData, batch: Batch, dataset: str
) -> str:
    """Return a sentence that names the rows of a batch whose loss is not a number.

    Each row is tried alone; where all are well alone, the whole batch is named.

    Parameters
    ----------
    module
        What is trained.
    step
        The step that failed.
    data
        Where the rows are from.
    batch, dataset
        As `TrainedModule.forward`.
    """
    what = f"step {step}: the loss is not a number"
    if not all(torch.isfinite(weight).all() for weight in module.parameters()):
        why = (
            "an earlier step was too long. Lower learning_rate, or warm up longer, and "
            "begin again"
        )
        if step == 1:
            why = "the model is damaged; load it again"
        return f"{what}, and neither are the weights: {why}"
    with evaluating(module):
        bad = [
            i for i in range(len(batch)) if not _is_well(module, batch.only(i), dataset)
        ]
    places = batch.rows[bad or slice(None)]
    rows = ", ".join(str(data.row_names[place]) for place in places)
    where = f"{data.source}, {'row' if len(places) == 1 else 'rows'} {rows}"
    if not bad:
        where += ", each of which is well alone"
    first = batch.only(bad[0] if bad else 0)
    shown = {role: list(column) for role, column in first.texts.items()}
    label = "" if first.label is None else f", label {first.label[0]:g}"
    return f"{what}; {where}. The first of them: {shown}{label}"


def _is_well(module: TrainedModule, row: Batch, dataset: str) -> bool:
    """Return whether a row's embeddings are numbers, and its loss if it has one."""
    found: list[Tensor] = []

    def encode(texts: Sequence[Tokens]) -> Tensor:
        found.append(module.encode(texts))
        return found[-1]

    encode([ids for column in row.tokens.values() for ids in column])
    objective = module.objective(dataset)
    if objective.least_rows == 1:
        loss = float(objective(encode, row).loss)
        return math.isfinite(loss) and all(bool(torch.isfinite(v).all()) for v in found)
    return all(bool(torch.isfinite(v).all()) for v in found)
