"""Two models of one shape become one: the mean of their weights.

Between a model and what was fine-tuned from it much of what was forgotten returns
before much of what was learned is lost.

Source: Wortsman et al. 2022, equation 1 (WiSE-FT).
"""

import copy

import torch

from sbert_lab.models.sentence_encoder import SentenceEncoder


def average(
    first: SentenceEncoder, second: SentenceEncoder, share: float
) -> SentenceEncoder:
    """Return a new encoder, ``share · first + (1 − share) · second``, weight by weight.

    Parameters
    ----------
    first, second
        Of the same shape, tokenizer and pooling, usually a base and what was trained
        from it; neither is changed. Everything but weights is the second's.
    share
        Of the first, from 0 to 1. At 0 and 1 the result has the one's weights to the
        bit.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: from 0, all second, to 1, all first")
    kinds = [
        {
            "weights": {name: weight.shape for name, weight in e.named_parameters()},
            "vocabularies": e.tokenizer.get_vocab(),
            "poolings": e.layout.pooling,
            "heads": repr(e.head),
        }
        for e in (first, second)
    ]
    for what, own in kinds[0].items():
        if own != kinds[1][what]:
            raise ValueError(
                f"the encoders have different {what}, so the same weight means "
                "something else in each: average a model with what was trained from it"
            )
    mixed = copy.deepcopy(second).eval()
    others = dict(first.named_parameters())
    with torch.no_grad():
        for name, weight in mixed.named_parameters():
            # On the processor: not every accelerator has float64.
            a, b = (part.cpu().double() for part in (others[name], weight))
            weight.copy_(share * a + (1 - share) * b)
    return mixed
