"""SimCSE: a text is its own positive, since dropout never embeds it the same twice."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from sbert_lab.losses.multiple_negatives import MultipleNegativesRankingLoss
from sbert_lab.losses.objective import Batch, Encode, Objective, embedded


class SimCSELoss(Objective):
    """`multiple_negatives_ranking_loss` of the column ``text`` with itself.

    ``L = −1/B Σ_i log( exp(cos(h_i, h'_i)/τ) / Σ_j exp(cos(h_i, h'_j)/τ) )``

    h and h' are two embeddings of one text with other units dropped. Without dropout
    they would be equal, and there would be nothing to learn: that is refused.

    Source: Gao, Yao and Chen 2021, equation 1.
    """

    roles = ("text",)
    least_rows = 2

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        self.ranking = MultipleNegativesRankingLoss(temperature)

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Refuse an encoder without dropout."""
        self.ranking.bind(encoder, numbers)
        drops = [part for part in encoder.modules() if isinstance(part, nn.Dropout)]
        if not any(part.p > 0 for part in drops):
            raise ValueError(
                "SimCSELoss needs dropout: call sbert_lab.training.set_dropout first"
            )

    def forward(self, encode: Encode, batch: Batch) -> Tensor:
        """Embed every text twice, and return the loss."""
        columns = {
            name: {"anchor": column["text"], "positive": column["text"]}
            for name, column in (
                ("texts", batch.texts),
                ("tokens", batch.tokens),
                ("numbers", batch.numbers),
            )
        }
        twice = replace(batch, **columns)  # type: ignore[arg-type]
        return self.ranking.value(embedded(encode, twice), twice)
