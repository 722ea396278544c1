"""Training: a raw transformer becomes a sentence encoder, or a good one a better one.

`TrainingData` holds texts by role, an objective of `sbert_lab.losses` says what should
come of them, and `SentenceTrainer` does it, on transformers' own trainer.
"""

from sbert_lab.training.arguments import SentenceTrainingArguments
from sbert_lab.training.data import TrainingData
from sbert_lab.training.dropout import set_dropout
from sbert_lab.training.trainer import SentenceTrainer

__all__ = [
    "SentenceTrainer",
    "SentenceTrainingArguments",
    "TrainingData",
    "set_dropout",
]
