"""Two models of one shape become one: the mean of their weights.

Source: Wortsman et al. 2022, equation 1 (WiSE-FT).
"""

import copy

import torch

from sbert_lab.models.sentence_encoder import SentenceEncoder


def average(
    first: SentenceEncoder, second: SentenceEncoder, share: float
) -> SentenceEncoder:
    """Return a new encoder, ``share · first + (1 − share) · second``, weight by weight.

    They are a base and what was trained from it; all but the weights is the second's.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: from 0, all second, to 1, all first")
    kinds = [
        {
            "weights": {name: weight.shape for name, weight in e.named_parameters()},
            "vocabularies": e.tokenizer.get_vocab(),
            "layouts": (e.layout.pooling, repr(e.head)),
        }
        for e in (first, second)
    ]
    if other := [what for what, own in kinds[0].items() if own != kinds[1][what]]:
        raise ValueError(f"one was not trained from the other: different {other}")
    mixed = copy.deepcopy(second).eval()
    others = dict(first.named_parameters())
    with torch.no_grad():
        for name, weight in mixed.named_parameters():
            # On the processor: not every accelerator has float64.
            a, b = (part.cpu().double() for part in (others[name], weight))
            weight.copy_(share * a + (1 - share) * b)
    return mixed
