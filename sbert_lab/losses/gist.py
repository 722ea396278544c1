"""GIST: a guide model says which in-batch candidates are no wrong answers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sbert_lab.losses.objective import Batch, Objective
from sbert_lab.losses.precision import widened

MarginKind = Literal["absolute", "relative"]


def gist_embed_loss(
    anchors: Tensor,
    positives: Tensor,
    guide_anchors: Tensor,
    guide_positives: Tensor,
    *,
    negatives: Tensor | None = None,
    guide_negatives: Tensor | None = None,
    temperature: float = 0.01,
    margin_kind: MarginKind = "absolute",
    margin: float = 0.0,
) -> Tensor:
    """Return the guided in-batch cross-entropy, a scalar.

    A candidate c of anchor i is left out where the guide finds it nearer than the
    positive: ``g(a_i, c) > g(a_i, p_i) − m``, or ``− m |g(a_i, p_i)|`` for a
    relative margin. Candidates are the positives, the other anchors, the positives
    seen from the positive, and the negatives.

    Parameters
    ----------
    anchors, positives, negatives
        Embeddings of the model in training, ``[B, D]``, ``[B, D]``, ``[N, D]``.
    guide_anchors, guide_positives, guide_negatives
        Those of the guide, in any dimension.
    temperature
        τ.
    margin_kind, margin
        How far below its own positive the guide's limit lies.

    Source: Solatorio 2024, section 3.
    """
    a, p = (F.normalize(widened(x), dim=-1) for x in (anchors, positives))
    g, h = (F.normalize(widened(x), dim=-1) for x in (guide_anchors, guide_positives))
    own = (g * h).sum(-1, keepdim=True)  # [B, 1]
    limit = own - margin if margin_kind == "absolute" else own - own.abs() * margin
    itself = torch.eye(len(a), dtype=torch.bool, device=a.device)
    blocks = [
        (a @ p.T, (g @ h.T > limit) & ~itself),
        (a @ a.T, (g @ g.T > limit) | itself),
        (p @ p.T, (h @ h.T > limit) | itself),
    ]
    if negatives is not None and guide_negatives is not None:
        n = F.normalize(widened(negatives), dim=-1)
        k = F.normalize(widened(guide_negatives), dim=-1)
        blocks.append((a @ n.T, g @ k.T > limit))
    logits = torch.cat(
        [scores.masked_fill(out, -torch.inf) for scores, out in blocks], dim=1
    )
    return F.cross_entropy(logits / temperature, torch.arange(len(a), device=a.device))


class Guide(Protocol):
    """What a guide must be able to do; a `SentenceEncoder` is one."""

    def encode(self, texts: Sequence[str], /) -> NDArray[Any]:
        """Return float32 ``[n, d]``."""
        ...


class GISTEmbedLoss(Objective):
    """`gist_embed_loss` of ``anchor``, ``positive`` and any number of ``negative``.

    Parameters
    ----------
    guide
        An encoder that is not trained; each text goes through it as it is.
    temperature, margin_kind, margin
        As there.
    """

    roles = ("anchor", "positive")
    optional = ("negative",)
    least_rows = 2

    def __init__(
        self,
        guide: Guide,
        temperature: float = 0.01,
        *,
        margin_kind: MarginKind = "absolute",
        margin: float = 0.0,
    ) -> None:
        super().__init__()
        self._guide = (guide,)  # in a tuple: its weights are none of this module's
        self.temperature = temperature
        self.margin_kind: MarginKind = margin_kind
        self.margin = margin

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role."""
        where = texts["anchor"].device
        seen = {
            role: torch.from_numpy(self._guide[0].encode(list(batch.texts[role]))).to(
                where
            )
            for role in texts
        }
        return gist_embed_loss(
            texts["anchor"],
            texts["positive"],
            seen["anchor"],
            seen["positive"],
            negatives=texts.get("negative"),
            guide_negatives=seen.get("negative"),
            temperature=self.temperature,
            margin_kind=self.margin_kind,
            margin=self.margin,
        )
