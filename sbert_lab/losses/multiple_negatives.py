"""Multiple negatives ranking: every other row's positive is a wrong answer."""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sbert_lab.losses.precision import widened

Similarity = Literal["cosine", "dot"]


def multiple_negatives_ranking_loss(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.05,
    similarity: Similarity = "cosine",
    symmetric: bool = False,
    ignored: Tensor | None = None,
    offset: int = 0,
) -> Tensor:
    """Return the mean cross-entropy of finding each anchor's positive, a scalar.

    ``L = −1/B Σ_i log( exp(s(a_i, p_i)/τ) / Σ_c exp(s(a_i, c)/τ) )``

    The candidates c are all positives and all negatives. In float32 throughout: at
    τ = 0.05 a logit in bfloat16 would move in steps of an eighth.

    Parameters
    ----------
    anchors
        Embeddings ``[B, D]``.
    positives
        ``[P, D]``; that of anchor *i* is row ``offset + i``. P is B, or larger where
        the positives of other processes were gathered.
    negatives
        Hard negatives ``[N, D]``, any number: rows may have more or fewer of their own,
        since each is a candidate for every anchor.
    temperature
        τ; a tensor if it is learned. sentence-transformers' ``scale`` is 1/τ.
    similarity
        s: ``"cosine"`` or ``"dot"`` (then τ is usually 1).
    symmetric
        Also ask of each positive to find its anchor among the anchors, and average the
        two. Needs all anchors: not together with gathered positives.
    ignored
        True where a candidate is no wrong answer, ``[B, P + N]``: see
        `false_negatives`. An anchor's own positive is never left out.
    offset
        Where this process's positives begin.

    Source: Henderson et al. 2017, section 4.4; with cosine and temperature van den
    Oord et al. 2018, equation 4; symmetric: Radford et al. 2021, figure 3.
    """
    if symmetric and len(positives) != len(anchors):
        raise ValueError("symmetric needs as many positives as anchors")
    candidates = positives if negatives is None else torch.cat([positives, negatives])
    a, c = widened(anchors), widened(candidates)
    if similarity == "cosine":
        a, c = F.normalize(a, dim=-1), F.normalize(c, dim=-1)
    logits = a @ c.T / temperature  # [B, P + N]
    own = torch.arange(len(a), device=a.device) + offset  # [B]
    if ignored is not None:
        is_own = torch.zeros_like(ignored).scatter_(1, own[:, None], True)
        logits = logits.masked_fill(ignored & ~is_own, -torch.inf)
    loss = F.cross_entropy(logits, own)
    if symmetric:
        back = logits[:, : len(positives)].T  # [B, B]
        loss = (loss + F.cross_entropy(back, own)) / 2
    return loss


def false_negatives(
    anchor_ids: Tensor,
    candidate_ids: Tensor,
    own: Tensor,
    known: Collection[tuple[int, int]] = (),
) -> Tensor:
    """Return which candidates are no wrong answers, bool ``[B, C]``.

    Texts are compared by number, since dropout makes equal texts embed differently. A
    candidate is left out where it is the anchor's own positive once more, where another
    anchor of the same number has it as its positive, or where the pair is known.

    Parameters
    ----------
    anchor_ids
        Number of each anchor's text, int64 ``[B]``.
    candidate_ids
        Number of each candidate's text, int64 ``[C]``, positives first.
    own
        Column of each anchor's positive, int64 ``[B]``.
    known
        Pairs (anchor, candidate) by their numbers that belong together although this
        batch does not say so.
    """
    positive_ids = candidate_ids[own]  # [B]
    same_text = anchor_ids[:, None] == anchor_ids[None, :]  # [B, B]
    is_positive = positive_ids[:, None] == candidate_ids[None, :]  # [B, C]
    mask = (same_text.float() @ is_positive.float()) > 0  # any twin's positive
    for row, anchor in enumerate(anchor_ids.tolist()):
        right = [text for first, text in known if first == anchor]
        if right:
            wanted = torch.tensor(right, device=candidate_ids.device)
            mask[row] |= torch.isin(candidate_ids, wanted)
    mask[torch.arange(len(own), device=own.device), own] = False
    return mask
