"""CoSENT and AnglE: pairs with a higher score must be more similar than others."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from sbert_lab.losses.objective import Batch, LabelRule, Objective
from sbert_lab.losses.precision import widened


def cosent_loss(
    first: Tensor, second: Tensor, score: Tensor, *, temperature: float = 0.05
) -> Tensor:
    """Return the ranking loss over all pairs of pairs, a scalar.

    ``L = log( 1 + Σ_{y_i < y_j} exp( (cos_i − cos_j) / τ ) )``

    Pairs of equal score say nothing about each other. The value grows with the square
    of the batch.

    Parameters
    ----------
    first, second
        Embeddings ``[B, D]`` of the two texts of each pair.
    score
        ``[B]``; only its order matters.
    temperature
        τ; sentence-transformers' ``scale`` is 1/τ.

    Source: Su 2022, "CoSENT (1)", kexue.fm/archives/8847.
    """
    cosine = F.cosine_similarity(widened(first), widened(second), dim=-1)  # [B]
    return _ranking(cosine, score, temperature)


def angle_loss(
    first: Tensor, second: Tensor, score: Tensor, *, temperature: float = 0.05
) -> Tensor:
    """Return `cosent_loss` over the angle of complex vectors, a scalar.

    The two halves of an embedding are real and imaginary part of D/2 complex numbers;
    a pair's similarity is the absolute sum of the normalised quotients' parts. Unlike a
    cosine it does not flatten out near its ends.

    The arguments are those of `cosent_loss`; D must be even.

    Source: Li and Li 2024, equations 4 to 7.
    """
    return _ranking(angle_similarity(first, second), score, temperature)


def angle_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the angle similarity of each pair, ``[B, D], [B, D] -> [B]``."""
    x, y = (F.normalize(widened(part), dim=-1) for part in (first, second))
    if x.shape[-1] % 2:
        raise ValueError(
            f"embeddings of {x.shape[-1]} dimensions cannot be halved into real and "
            "imaginary parts; AnglE needs an even number"
        )
    real_x, imaginary_x = x.chunk(2, dim=-1)
    real_y, imaginary_y = y.chunk(2, dim=-1)
    cosine = (x * y).sum(-1)  # the real parts of x · conj(y), summed
    sine = (imaginary_x * real_y - real_x * imaginary_y).sum(-1)  # the imaginary ones
    return (cosine + sine).abs()


def _ranking(similarity: Tensor, score: Tensor, temperature: float) -> Tensor:
    gaps = (similarity[:, None] - similarity[None, :]) / temperature  # [B, B]
    ordered = score[:, None] < score[None, :]
    zero = gaps.new_zeros(1)
    return torch.logsumexp(torch.cat([zero, gaps[ordered]]), dim=0)


class CoSENTLoss(Objective):
    """`cosent_loss` of columns ``first``, ``second`` and ``label``.

    Parameters
    ----------
    temperature
        τ.
    """

    roles = ("first", "second")
    label = LabelRule()
    least_rows = 2

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: more than 0")
        self.temperature = temperature

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the similarity of each pair, ``[B, D], [B, D] -> [B]``."""
        return F.cosine_similarity(widened(first), widened(second), dim=-1)

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the loss of embeddings by role."""
        similarity = self.similarity(texts["first"], texts["second"])
        return _ranking(similarity, self.label_of(batch, similarity), self.temperature)

    def diagnostics(
        self, texts: Mapping[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Return which part of the pairs of pairs is in the right order."""
        similarity = self.similarity(texts["first"], texts["second"])
        score = self.label_of(batch, similarity)
        below = score[:, None] < score[None, :]  # [B, B]
        right = similarity[:, None] < similarity[None, :]
        return {"in_order": right[below].float().mean()} if below.any() else {}


class AnglELoss(CoSENTLoss):
    """`angle_loss` of columns ``first``, ``second`` and ``label``."""

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the angle similarity of each pair, ``[B, D], [B, D] -> [B]``."""
        return angle_similarity(first, second)
