"""Training a cross-encoder, with the objectives of `sbert_lab.losses.pair_scores`.

`SentenceTrainer` does the work, checkpoints and resuming included; what differs is
that an objective asks for the scores of pairs instead of the vectors of texts.
"""

import logging
from copy import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn
from transformers.trainer_utils import TrainOutput

from sbert_lab.losses.pair_scores import OBJECTIVES, PairObjective
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training.arguments import SentenceTrainingArguments
from sbert_lab.training.data import TrainingData
from sbert_lab.training.settings import train_usually
from sbert_lab.training.trainer import SentenceTrainer

log = logging.getLogger(__name__)


class CrossEncoderTrainer(SentenceTrainer):
    """Train a cross-encoder, in place.

    Parameters
    ----------
    encoder
        The model; when training ends it is the trained one, or the best one where
        ``load_best_model_at_end`` is set.
    args
        See `SentenceTrainingArguments`. ``batch_tokens`` counts each text of a row
        once, though its anchor is read with every one of them.
    data
        Rows to train on.
    objective
        What to train for.
    options
        ``evaluators``, ``evaluation_data``, ``overlap``, ``callbacks`` and
        ``optimizers`` of `SentenceTrainer`. An evaluator is given the cross-encoder.

    Raises
    ------
    DataError
        Columns, labels or negatives that the objective cannot read.
    """

    def __init__(
        self,
        encoder: CrossEncoder,
        args: SentenceTrainingArguments,
        data: TrainingData,
        objective: PairObjective,
        **options: Any,  # noqa: ANN401
    ) -> None:
        if not isinstance(encoder, CrossEncoder):
            raise TypeError(
                f"encoder is a {type(encoder).__name__}, not a CrossEncoder; "
                "SentenceTrainer trains a SentenceEncoder"
            )
        if not isinstance(objective, PairObjective):
            raise TypeError(
                f"{type(objective).__name__} compares vectors; a cross-encoder has "
                f"none. Take {', '.join(c.__name__ for c in OBJECTIVES.values())}"
            )
        if options.get("prompts"):
            raise ValueError("a cross-encoder takes no prompts; put them in the texts")
        self._pair_objective = objective
        # The trainer asks of its encoder no more than a cross-encoder has.
        super().__init__(
            cast(SentenceEncoder, encoder), args, data, objective, **options
        )

    def _cut(self, data: TrainingData, name: str) -> TrainingData:
        """Return the data with tokens of its own; count long pairs."""
        del name
        found = copy(data)
        found.tokenize(self.encoder)
        everything = found.__getitems__(range(len(found)))
        sizes = {
            role: [len(ids) for ids in column]
            for role, column in everything.tokens.items()
        }
        first, second = self._pair_objective.pairs(sizes, everything.owner)
        encoder = cast(CrossEncoder, self.encoder)
        lengths = encoder.pair_lengths(np.array(first), np.array(second))
        cut = int((lengths > encoder.max_seq_length).sum())
        if cut:
            log.warning(
                "%s: %d of %d pairs are longer than %d tokens and are cut there",
                data.source,
                cut,
                len(lengths),
                encoder.max_seq_length,
            )
        return found

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        del model
        saved = CrossEncoder.from_pretrained(
            resume_from_checkpoint, device="cpu", allow_hub=False
        )
        self.encoder.load_state_dict(saved.state_dict())


def train_cross_encoder(
    encoder: CrossEncoder,
    data: TrainingData,
    *,
    objective: str | PairObjective,
    folder: str | Path | None = None,
    epochs: float = 1,
    batch_size: int = 32,
    learning_rate: float = 2e-5,
    seed: int = 0,
    bf16: bool = False,
    resume: bool = False,
    evaluation_data: TrainingData | None = None,
    show_progress: bool | None = None,
    **arguments: Any,  # noqa: ANN401
) -> TrainOutput:
    """Train a cross-encoder, in place, with the settings that usually do.

    Adam, a learning rate that rises over the first tenth of the steps and then falls to
    0. All that is random follows from `seed`; the global random state stays as it was.
    `CrossEncoderTrainer` offers all the rest.

    Parameters
    ----------
    encoder
        To be trained; left in evaluation mode.
    data
        Rows, with the columns that the objective reads.
    objective
        ``"binary"``, ``"listwise"``, ``"margin"`` (`OBJECTIVES`), or one of your own.
    folder
        Where checkpoints go, one an epoch, the last two kept. None writes none.
    epochs, batch_size, learning_rate
        How often each row is seen, rows in a step, and the highest rate. A row costs a
        pass for each of its pairs.
    seed
        Of the order of rows and of dropout.
    bf16
        Half precision on devices that have it; losses stay in float32.
    resume
        Go on from the last complete checkpoint in `folder`, or begin where there is
        none.
    evaluation_data
        Rows whose loss is measured after each epoch.
    show_progress
        A bar on standard error; by default on a terminal, for 100 steps or more.
    arguments
        Others of `SentenceTrainingArguments`.

    Returns
    -------
    TrainOutput
        Last step, mean loss and what was measured.
    """
    if isinstance(objective, str):
        if objective not in OBJECTIVES:
            raise ValueError(f"objective={objective!r}: one of {', '.join(OBJECTIVES)}")
        objective = OBJECTIVES[objective]()
    found = train_usually(
        lambda args: CrossEncoderTrainer(
            encoder, args, data, objective, evaluation_data=evaluation_data
        ),
        device=encoder.device,
        folder=folder,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        bf16=bf16,
        resume=resume,
        show_progress=show_progress,
        arguments={"eval_strategy": "no" if evaluation_data is None else "epoch"}
        | arguments,
    )
    return found.output
