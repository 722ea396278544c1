"""Multiple negatives ranking: every other row's positive is a wrong answer."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sbert_lab.losses.gather import gathered
from sbert_lab.losses.objective import Batch, Objective
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
    known: Mapping[int, Collection[int]] | None = None,
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
        For the number of an anchor those of candidates that belong to it although this
        batch does not say so.
    """
    positive_ids = candidate_ids[own]  # [B]
    same_text = anchor_ids[:, None] == anchor_ids[None, :]  # [B, B]
    is_positive = positive_ids[:, None] == candidate_ids[None, :]  # [B, C]
    mask = (same_text.float() @ is_positive.float()) > 0  # any twin's positive
    for row, anchor in enumerate(anchor_ids.tolist() if known else ()):
        right = list((known or {}).get(anchor, ()))
        if right:
            wanted = torch.tensor(right, device=candidate_ids.device)
            mask[row] |= torch.isin(candidate_ids, wanted)
    mask[torch.arange(len(own), device=own.device), own] = False
    return mask


class MultipleNegativesRankingLoss(Objective):
    """`multiple_negatives_ranking_loss` of ``anchor``, ``positive``, ``negative``.

    A row may have any number of negatives, or none. Candidates that are no wrong
    answers are left out: see `false_negatives`.

    Parameters
    ----------
    temperature
        τ, or where it begins if it is learned.
    learned
        Whether τ is learned, as the exponential of a parameter.
    similarity
        ``"cosine"`` or ``"dot"``.
    symmetric
        Also from positive to anchor.
    masked
        Whether equal texts and known positives are left out of the wrong answers.
    known
        Further pairs (anchor, positive) of texts that belong together.
    gather
        Whether the candidates of all processes are wrong answers to each other.
    """

    roles = ("anchor", "positive")
    optional = ("negative",)
    least_rows = 2

    def __init__(
        self,
        temperature: float = 0.05,
        *,
        learned: bool = False,
        similarity: Similarity = "cosine",
        symmetric: bool = False,
        masked: bool = True,
        known: Collection[tuple[str, str]] = (),
        gather: bool = False,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: more than 0, usually 0.05")
        if symmetric and gather:
            raise ValueError("symmetric and gather do not go together; choose one")
        if known and not masked:
            raise ValueError("known positives are only looked at with masked=True")
        log_temperature = torch.tensor(float(np.log(temperature)))
        self.log_temperature = nn.Parameter(log_temperature) if learned else None
        self._temperature = temperature
        self.similarity: Similarity = similarity
        self.symmetric, self.masked, self.gather = symmetric, masked, gather
        self._known_texts = tuple(known)
        self._known: dict[int, set[int]] = {}

    @property
    def temperature(self) -> Tensor | float:
        """τ as it is now."""
        learned = self.log_temperature
        return self._temperature if learned is None else learned.exp()

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Look up the numbers of the known positives; others do not matter here."""
        del encoder
        self._known = defaultdict(set)
        for anchor, positive in self._known_texts:
            if anchor in numbers and positive in numbers:
                self._known[numbers[anchor]].add(numbers[positive])

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role."""
        anchors, positives = texts["anchor"], texts["positive"]
        negatives = texts.get("negative")
        offset = 0
        if self.gather:  # by all, though the rows of one may have no negative
            positives, offset = gathered(positives)
            negatives, _ = gathered(anchors[:0] if negatives is None else negatives)
        return multiple_negatives_ranking_loss(
            anchors,
            positives,
            negatives,
            temperature=self.temperature,
            similarity=self.similarity,
            symmetric=self.symmetric,
            ignored=self._ignored(batch, anchors, offset) if self.masked else None,
            offset=offset,
        )

    def diagnostics(
        self, texts: Mapping[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Return how often the positive comes first, and both mean similarities."""
        parts = [
            texts["positive"],
            *([texts["negative"]] if "negative" in texts else []),
        ]
        a, c = widened(texts["anchor"]), widened(torch.cat(parts))
        if self.similarity == "cosine":
            a, c = F.normalize(a, dim=-1), F.normalize(c, dim=-1)
        scores = a @ c.T  # [B, P + N]
        own = torch.arange(len(a), device=a.device)
        wrong = torch.ones_like(scores, dtype=torch.bool)
        wrong[own, own] = False
        if self.masked and not self.gather:
            wrong &= ~self._ignored(batch, a, 0)
        right = scores[own, own]
        best = scores.masked_fill(~wrong, -torch.inf).amax(1)
        found = {
            "accuracy": (right > best).float().mean(),
            "positive": right.mean(),
        }
        if wrong.any():
            found["negative"] = scores[wrong].mean()
        if self.log_temperature is not None:
            found["temperature"] = self.log_temperature.exp()
        return found

    def _ignored(self, batch: Batch, like: Tensor, offset: int) -> Tensor:
        """Return `false_negatives` of a batch, gathered as its candidates are."""
        ids = {
            role: torch.from_numpy(numbers).to(like.device)
            for role, numbers in batch.numbers.items()
        }
        anchors, positives = ids["anchor"], ids["positive"]
        negatives, rows = ids.get("negative", anchors[:0]), len(anchors)
        if self.gather:  # the anchors too: twins may be in two processes
            anchors, positives, negatives = (
                gathered(part)[0] for part in (anchors, positives, negatives)
            )
        own = torch.arange(len(anchors), device=like.device)
        candidates = torch.cat([positives, negatives])
        found = false_negatives(anchors, candidates, own, self._known)
        return found[offset : offset + rows]
