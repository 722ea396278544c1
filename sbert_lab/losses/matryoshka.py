"""Matryoshka: every leading part of an embedding must be a good embedding itself."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from sbert_lab.losses.objective import Batch, LabelRule, Objective, trained_width
from sbert_lab.losses.precision import widened
from sbert_lab.losses.softmax import SoftmaxLoss


def matryoshka_loss(
    loss: Callable[..., Tensor],
    embeddings: Sequence[Tensor],
    dimensions: Sequence[int],
    weights: Sequence[float] | None = None,
    *,
    normalize: bool = True,
) -> Tensor:
    """Return the weighted sum of a loss over truncated embeddings, a scalar.

    ``L = Σ_d w_d · loss(x[:, :d] / |x[:, :d]|)``

    Nothing is patched and nothing depends on the order of the dimensions: the loss is a
    function of embeddings, and it is called on shorter ones.

    Parameters
    ----------
    loss
        A function of the embeddings, in their order.
    embeddings
        ``[B, D]`` each.
    dimensions, weights
        How many leading dimensions, each at most D, and the weight of each; 1 if not
        given.
    normalize
        Scale the truncated embeddings to unit length, the whole ones too.

    Source: Kusupati et al. 2022, equation 1.
    """
    weights = [1.0] * len(dimensions) if weights is None else weights
    width = min(x.shape[-1] for x in embeddings)
    if not dimensions or any(not 1 <= d <= width for d in dimensions):
        raise ValueError(f"dimensions {list(dimensions)}: each from 1 to {width}")
    if len(weights) != len(dimensions):
        raise ValueError(f"{len(weights)} weights for {len(dimensions)} dimensions")
    embeddings = [widened(x) for x in embeddings]
    total = embeddings[0].new_zeros(())
    for d, weight in zip(dimensions, weights, strict=True):
        short = [x[..., :d] for x in embeddings]
        if normalize:
            short = [F.normalize(x, dim=-1) for x in short]
        total = total + weight * loss(*short)
    return total


class MatryoshkaLoss(Objective):
    """`matryoshka_loss` over another objective, which keeps its columns and labels.

    Parameters
    ----------
    objective
        One whose `value` is a function of the embeddings.
    dimensions, weights, normalize
        As there.
    """

    def __init__(
        self,
        objective: Objective,
        dimensions: Sequence[int],
        weights: Sequence[float] | None = None,
        *,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(objective, SoftmaxLoss):
            raise ValueError(
                "SoftmaxLoss has a layer of one width and cannot take shorter "
                "embeddings; train MatryoshkaLoss over a ranking or cosine objective"
            )
        if objective.replays or type(objective).forward is not Objective.forward:
            raise ValueError(
                f"{type(objective).__name__} embeds its texts itself: put it around "
                "MatryoshkaLoss, not into it"
            )
        self.objective = objective
        self.dimensions, self.weights = tuple(dimensions), weights
        self.normalize = normalize
        self.roles, self.optional = objective.roles, objective.optional  # type: ignore[misc]
        self.least_rows = objective.least_rows  # type: ignore[misc]
        self.label: LabelRule | None = objective.label

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Refuse dimensions that the encoder does not have."""
        width = trained_width(encoder, max(self.dimensions, default=0))
        wrong = [d for d in self.dimensions if not 1 <= d <= width]
        if wrong or not self.dimensions:
            raise ValueError(
                f"dimensions {list(self.dimensions)}: this encoder has 1 to {width}"
            )
        self.objective.bind(encoder, numbers)

    def value(self, texts: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the weighted sum over the dimensions."""

        def short(*embeddings: Tensor) -> Tensor:
            return self.objective.value(
                dict(zip(texts, embeddings, strict=True)), batch
            )

        return matryoshka_loss(
            short,
            list(texts.values()),
            self.dimensions,
            self.weights,
            normalize=self.normalize,
        )

    def diagnostics(
        self, texts: Mapping[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Return those of the objective, at full width."""
        return self.objective.diagnostics(texts, batch)
