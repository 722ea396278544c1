"""Multiple negatives ranking: every other row's positive is a wrong answer."""

from collections import defaultdict
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sbert_lab.losses.objective import Batch, Objective, to_float32


def multiple_negatives_ranking_loss(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    temperature: float = 0.05,
    ignored: Tensor | None = None,
) -> Tensor:
    """Return the mean cross-entropy of finding each anchor's positive, a scalar.

    ``L = −1/B Σ_i log( exp(cos(a_i, p_i)/τ) / Σ_c exp(cos(a_i, c)/τ) )``

    The candidates c are all positives and all negatives. Anchors are embeddings
    ``[B, D]``; the positive of anchor *i* is row *i* of ``[B, D]``; `negatives`,
    ``[N, D]``, are candidates for every anchor. τ is the `temperature`,
    sentence-transformers' ``scale`` is 1/τ. `ignored`, ``[B, B + N]``, is True where a
    candidate is no wrong answer, see `false_negatives`; an anchor's own positive is
    never left out.

    Source: Henderson et al. 2017, section 4.4; with cosine and temperature van den
    Oord et al. 2018, equation 4.
    """
    candidates = positives if negatives is None else torch.cat([positives, negatives])
    a, c = to_float32(anchors), to_float32(candidates)
    cosines = F.normalize(a, dim=-1) @ F.normalize(c, dim=-1).T  # [B, B + N]
    logits = cosines / temperature
    own = torch.arange(len(anchors), device=anchors.device)  # [B]
    if ignored is not None:
        is_own = torch.zeros_like(ignored).scatter_(1, own[:, None], True)
        logits = logits.masked_fill(ignored & ~is_own, -torch.inf)
    return F.cross_entropy(logits, own)


def false_negatives(
    anchor_ids: Tensor,
    candidate_ids: Tensor,
    known: Mapping[int, Collection[int]] | None = None,
) -> Tensor:
    """Return which candidates are no wrong answers, bool ``[B, C]``.

    Texts are compared by number, int64 ``[B]`` and ``[C]``; the first candidates are
    the anchors' positives. A candidate is left out where it is the anchor's own
    positive once more, where another anchor of the same number has it as its positive,
    or where `known` has its number under the anchor's.
    """
    positive_ids = candidate_ids[: len(anchor_ids)]  # [B]
    same_text = anchor_ids[:, None] == anchor_ids[None, :]  # [B, B]
    is_positive = positive_ids[:, None] == candidate_ids[None, :]  # [B, C]
    mask = (same_text.float() @ is_positive.float()) > 0  # any twin's positive
    for row, anchor in enumerate(anchor_ids.tolist() if known else ()):
        right = list((known or {}).get(anchor, ()))
        if right:
            wanted = torch.tensor(right, device=candidate_ids.device)
            mask[row] |= torch.isin(candidate_ids, wanted)
    mask.fill_diagonal_(False)
    return mask


class MultipleNegativesRankingLoss(Objective):
    """`multiple_negatives_ranking_loss` of ``anchor``, ``positive``, ``negative``.

    A row may have any number of negatives, or none. Candidates that are no wrong
    answers are left out: see `false_negatives`; `known` are further pairs (anchor,
    positive) of texts that belong together.
    """

    roles = ("anchor", "positive")
    optional = ("negative",)
    least_rows = 2

    def __init__(
        self,
        temperature: float = 0.05,
        *,
        known: Collection[tuple[str, str]] = (),
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: more than 0, usually 0.05")
        self.temperature = temperature
        self._known_texts = tuple(known)
        self._known: dict[int, set[int]] = {}

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
        negatives = texts.get("negative", anchors[:0])
        return multiple_negatives_ranking_loss(
            anchors,
            positives,
            negatives,
            temperature=self.temperature,
            ignored=self._ignored(batch, anchors),
        )

    def _ignored(self, batch: Batch, like: Tensor) -> Tensor:
        """Return `false_negatives` of a batch."""
        ids = {
            role: torch.from_numpy(numbers).to(like.device)
            for role, numbers in batch.numbers.items()
        }
        anchors, positives = ids["anchor"], ids["positive"]
        candidates = torch.cat([positives, ids.get("negative", anchors[:0])])
        return false_negatives(anchors, candidates, self._known)
