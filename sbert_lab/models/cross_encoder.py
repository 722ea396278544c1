"""`CrossEncoder`: two texts go in together, one score comes out.

It judges better than comparing vectors, but each pair costs a pass; so it sorts the
first k answers of a search anew.
"""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbert_lab._utils import Vectors, progress, whole_number
from sbert_lab.models import checkpoint
from sbert_lab.models.batching import check_texts, in_batches
from sbert_lab.models.checkpoint import ACTIVATIONS, CheckpointError
from sbert_lab.models.registry import resolve
from sbert_lab.models.sentence_encoder import CHUNK
from sbert_lab.models.transformer import TransformerModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class CrossEncoder(TransformerModel):
    """A transformer with a head of one score, as a function of two texts.

    Use `from_pretrained` to load one. The transformer is a sequence classifier of one
    label, logits ``[B, 1]``; `activation`, one of `ACTIVATIONS`, follows the score.
    Source: Devlin et al. 2019, section 4.1; Nogueira and Cho 2019 (reranking).
    """

    _reads_pairs = True

    def __init__(
        self,
        transformer: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        activation: str = "sigmoid",
        max_seq_length: int | None = None,
    ) -> None:
        super().__init__(transformer, tokenizer, max_seq_length)
        config = transformer.config
        if config.num_labels != 1:
            raise CheckpointError(f"the head gives {config.num_labels} scores a pair")
        self.activation = activation
        name, takes = "token_type_ids", inspect.signature(transformer.forward)
        told = name in tokenizer.model_input_names and name in takes.parameters
        # A RoBERTa has one kind of token, whatever its tokenizer says.
        self._segmented = told and getattr(config, "type_vocab_size", 2) != 1

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        head_seed: int | None = None,
        device: str | torch.device | None = None,
        allow_hub: bool = True,
    ) -> Self:
        """Load a cross-encoder, as `SentenceEncoder.from_pretrained` does an encoder.

        A plain encoder has no head, and is refused unless `head_seed` draws one.
        """
        folder = resolve(name_or_path, allow_hub=allow_hub)
        parts, activation, length = checkpoint.load_cross(folder, head_seed)
        encoder = cls(*parts, activation=activation, max_seq_length=length)
        return encoder.on_device(device)

    def save(self, folder: str | Path) -> None:
        """Write a folder that sentence-transformers' CrossEncoder loads, atomically."""
        parts, length = (self.transformer, self.tokenizer), self.max_seq_length
        checkpoint.write_cross(Path(folder), parts, self.activation, length)

    def forward(self, pairs: Tensor, attention_mask: Tensor) -> Tensor:
        """Score padded pairs of `pair_ids`, ``[B, L, 2]`` -> ``[B, 1]``."""
        ids, kinds = pairs.unbind(-1)
        more = {"token_type_ids": kinds} if self._segmented else {}
        found = self.transformer(input_ids=ids, attention_mask=attention_mask, **more)
        return cast(Tensor, found.logits)

    def _readers(self) -> tuple[Any, Callable[[Any, Tensor], Tensor]]:
        """Return what to read with, of a BERT the model inside, and what scores it."""
        from transformers import BertForSequenceClassification

        model: Any = self.transformer
        if type(model) is not BertForSequenceClassification:
            return model, lambda output, _: output.logits

        bert: Any = model.bert
        head = model.classifier
        return bert, lambda found, _: head(bert.pooler(found.last_hidden_state[:, :1]))

    def predict(
        self,
        first: Sequence[str],
        second: Sequence[str],
        *,
        activation: Literal["own"] | None = "own",
        token_budget: int | None = None,
        show_progress: bool | None = None,
    ) -> Vectors:
        """Score pairs of texts, the query first, float32 ``[n]``.

        The model's own activation follows the score, or with None nothing. The other
        options, and errors, are those of `SentenceEncoder.encode`.
        """
        first, second = check_texts(first, "first"), check_texts(second, "second")
        if len(first) != len(second):
            raise ValueError(f"{len(first)} first texts and {len(second)} second ones")
        model, read = self._readers()
        out: Vectors = np.empty((len(first), 1), np.float32)
        self.last_truncated = self.last_unknown = 0
        with progress(len(first), "score", show=show_progress) as move:
            for start in range(0, len(first), CHUNK):
                part = slice(start, start + CHUNK)
                pairs = self.pair_ids(first[part], second[part])
                out[part] = in_batches(
                    model,
                    pairs if self._segmented else [pair[:, 0] for pair in pairs],
                    read,
                    pad=self.pad_id,
                    token_budget=token_budget,
                    advance=lambda rows: move(len(rows)),
                )
        self._check(out, first, "pairs")
        follow = ACTIVATIONS[self.activation if activation else "identity"]()
        found: Vectors = follow(torch.from_numpy(out[:, 0])).numpy()
        return found

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        k: int | None = None,
        **options: Any,  # noqa: ANN401  (those of predict)
    ) -> tuple[NDArray[np.int64], Vectors]:
        """Sort documents by their score with a query, best first, equal ones in order.

        Returns the places in `documents` and the scores of the best `k`, or of all.
        """
        documents = check_texts(documents, "documents")
        k = len(documents) if k is None else whole_number(k, "k")
        scores = self.predict([query] * len(documents), documents, **options)
        order = np.argsort(-scores, kind="stable")[:k]
        return order, scores[order]

    def _settings(self) -> dict[str, Any]:
        return {"activation": self.activation}
