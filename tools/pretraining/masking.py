"""Masks: which tokens are hidden and have to be guessed, by seed and step alone."""

import numpy as np
import torch
from torch import Tensor

from tools.pretraining.vocabulary import MASK, SPECIAL_TOKENS


def mask_tokens(
    ids: Tensor, generator: torch.Generator, vocab_size: int, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Hide some of the tokens.

    Of the chosen ones 80 % become [MASK], 10 % a random ordinary token, and 10 %
    stay: the model must not trust what it sees there.

    Parameters
    ----------
    ids
        Token ids. Special tokens are never chosen.
    generator
        From `step_generator`.
    vocab_size
        How many tokens there are.
    share
        How many of the ordinary tokens are chosen.

    Returns
    -------
    masked, chosen
        The model's input, and a boolean mask of the positions to predict.

    Source: Devlin et al. 2019, section 3.1.
    """
    first = len(SPECIAL_TOKENS)
    draw = torch.rand(ids.shape, generator=generator)
    fate = torch.rand(ids.shape, generator=generator)
    words = torch.randint(first, vocab_size, ids.shape, generator=generator)
    chosen = (ids >= first) & (draw < share)
    masked = torch.where(chosen & (fate < 0.8), MASK, ids)
    masked = torch.where(chosen & (fate >= 0.9), words, masked)
    return masked, chosen


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the generator of one step's masks."""
    state = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
