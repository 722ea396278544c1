"""What is trained: an encoder together with its objectives, as one module.

So the objectives' own weights are moved, optimised, exchanged between processes, saved
and resumed like the encoder's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sbert_lab.losses.objective import Batch, Objective, Outcome, Tokens
from sbert_lab.models.batching import pad_right, token_budget_batches
from sbert_lab.models.sentence_encoder import SentenceEncoder

#: Padded tokens that go through the model together. On a CPU a group that fits the
#: caches is fastest; a GPU takes the whole batch at once.
GROUP = {"cpu": 2048, "cuda": 1 << 17, "mps": 1 << 15}


class TrainedModule(nn.Module):
    """An encoder and the objective of each data set.

    Parameters
    ----------
    encoder
        To be trained, in place.
    objectives
        By the name of their data set.
    group
        Padded tokens that go through the model together; None for `GROUP`.
    """

    accepts_loss_kwargs = False  # transformers then scales accumulated gradients

    def __init__(
        self,
        encoder: SentenceEncoder,
        objectives: Mapping[str, Objective],
        group: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self._objectives = nn.ModuleDict(
            {f"for {name}": objective for name, objective in objectives.items()}
        )
        self.group = group

    def forward(self, batch: Batch, dataset: str) -> dict[str, Any]:
        """Return ``loss`` and ``diagnostics`` of a batch.

        Losses are worked out in float32 whatever precision the encoder runs in.
        """
        kind = self.encoder.device.type
        mixed, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def encode(texts: Sequence[Tokens]) -> Tensor:
            # Said anew, for a cached loss encodes again when it goes backward.
            with torch.autocast(kind, dtype=dtype, enabled=mixed):
                return self.encode(texts)

        with torch.autocast(kind, enabled=False):
            found: Outcome = self.objective(dataset)(encode, batch)
        return {"loss": found.loss, "diagnostics": found.diagnostics}

    def objective(self, dataset: str) -> Objective:
        """Return the objective of a data set."""
        found = self._objectives[f"for {dataset}"]
        assert isinstance(found, Objective)
        return found

    def encode(self, texts: Sequence[Tokens]) -> Tensor:
        """Embed token ids, ``[n, D]``, in order."""
        group = self.group or GROUP.get(self.encoder.device.type, GROUP["cpu"])
        return encode_tokens(self.encoder, texts, group)

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights of the objectives that are not the encoder's."""
        shared = {id(parameter) for parameter in self.encoder.parameters()}
        return {
            name: parameter
            for name, parameter in self._objectives.named_parameters()
            if id(parameter) not in shared
        }

    def activation_checkpointing_enable(self, **options: Any) -> None:  # noqa: ANN401
        """Work activations out again in the backward pass instead of keeping them."""
        self.encoder.transformer.activation_checkpointing_enable(**options)


def encode_tokens(
    encoder: SentenceEncoder, texts: Sequence[Tokens], budget: int
) -> Tensor:
    """Embed token ids with gradients, ``[n, D]``, in order.

    Texts of like length go through the model together, whatever row they are of, each
    group within a budget of padded tokens: in a random batch of short texts half of the
    tokens would be padding. Attention masks padding, so the gradient is the same.
    """
    lengths = np.array([len(ids) for ids in texts])
    pad = encoder.tokenizer.pad_token_id or 0
    parts, order = [], []
    for rows in token_budget_batches(lengths, budget):
        ids, mask = pad_right([texts[row] for row in rows], pad)
        on_device = [torch.from_numpy(part).to(encoder.device) for part in (ids, mask)]
        parts.append(encoder(*on_device))
        order.append(rows)
    back = torch.from_numpy(np.argsort(np.concatenate(order)))
    return torch.cat(parts)[back.to(encoder.device)]


@contextmanager
def quick_attention(encoder: SentenceEncoder) -> Iterator[None]:
    """On a CPU take plain attention: the fused kernel is slower going backward."""
    transformer = encoder.transformer
    before = getattr(transformer.config, "_attn_implementation", None)
    if encoder.device.type != "cpu" or before != "sdpa":
        yield
        return
    transformer.set_attn_implementation("eager")
    try:
        yield
    finally:
        transformer.set_attn_implementation(before)
