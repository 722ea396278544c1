"""The measure: how well masked tokens of unseen documents are guessed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import BertForMaskedLM

from tools.pretraining.batches import Streams, batch_at, chunks_per_pass
from tools.pretraining.masking import mask_tokens, step_generator
from tools.pretraining.model import autocast, masked_logits


@dataclass(frozen=True)
class HeldOut:
    """Quality on documents that were not trained on.

    Parameters
    ----------
    loss, accuracy
        Mean cross-entropy in nats, and share of masked tokens guessed.
    unigram_loss, unigram_accuracy
        The same for a guess by the tokens' frequencies alone.
    masked
        Tokens over which these are means.
    """

    loss: float
    accuracy: float
    unigram_loss: float
    unigram_accuracy: float
    masked: int


def held_out_batches(
    streams: Streams, rows: int = 48, length: int = 64, most: int = 24, seed: int = 1
) -> list[NDArray[np.int64]]:
    """Return a fixed sample of held-out text: at most `most` batches of one pass."""
    steps = max(1, sum(chunks_per_pass(streams, length - 2)) // rows)
    return [batch_at(streams, i, seed, rows, length) for i in range(min(most, steps))]


def evaluate(
    model: BertForMaskedLM,
    batches: Sequence[NDArray[np.int64]],
    frequency: NDArray[np.floating[Any]],
    seed: int = 0,
    bf16: bool = False,
) -> HeldOut:
    """Measure a model under masks that are always the same.

    Parameters
    ----------
    model
        On any device; left in the mode, training or not, in which it came.
    batches
        From `held_out_batches`.
    frequency
        The tokens' frequencies in the text trained on, ``[V]``.
    seed, bf16
        Of the masks; whether matrix products are in bfloat16.
    """
    device = next(model.parameters()).device
    log_frequency = torch.log(torch.from_numpy(frequency).float() + 1e-7)
    guess = F.log_softmax(log_frequency, dim=0)
    sums = np.zeros(4)
    count = 0
    training = model.training
    model.train(False)
    with torch.no_grad():
        for i, batch in enumerate(batches):
            ids = torch.from_numpy(batch)
            generator = step_generator(seed, i)
            masked, chosen = mask_tokens(ids, generator, len(frequency))
            labels = ids[chosen]
            with autocast(device, bf16):
                logits = masked_logits(model, masked.to(device), chosen.to(device))
            logits = logits.float().cpu()
            sums += (
                float(F.cross_entropy(logits, labels, reduction="sum")),
                float((logits.argmax(-1) == labels).sum()),
                float(-guess[labels].sum()),
                float((labels == guess.argmax()).sum()),
            )
            count += len(labels)
    model.train(training)
    means = [float(mean) for mean in sums / max(1, count)]
    loss, accuracy, unigram_loss, unigram_accuracy = means
    return HeldOut(loss, accuracy, unigram_loss, unigram_accuracy, count)
