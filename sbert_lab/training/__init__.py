"""Training: a raw transformer becomes a sentence encoder, or a good one a better one.

`TrainingData` holds texts by role, an objective of `sbert_lab.losses` says what should
come of them, and `SentenceTrainer` does it, on transformers' own trainer.
"""

from sbert_lab.training.data import TrainingData
from sbert_lab.training.hard_negatives import mine
from sbert_lab.training.trainer import (
    SentenceTrainer,
    SentenceTrainingArguments,
    fit,
    set_dropout,
)

__all__ = [
    "SentenceTrainer",
    "SentenceTrainingArguments",
    "TrainingData",
    "fit",
    "mine",
    "set_dropout",
]
