"""`CrossEncoder`: two texts go in together, one score comes out.

Where `SentenceEncoder` makes a vector of each text and compares those, here every token
of one text sees every token of the other. That judges better and cannot be prepared:
each pair costs a pass. So it is put on top of a search, to sort its first k answers
anew (`rerank`).
"""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbert_lab._utils import Vectors, progress
from sbert_lab.models import checkpoint
from sbert_lab.models.batching import check_texts, in_batches
from sbert_lab.models.checkpoint import ACTIVATIONS, CheckpointError
from sbert_lab.models.registry import resolve
from sbert_lab.models.sentence_encoder import CHUNK
from sbert_lab.models.transformer import TransformerModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OWN = "own"  # the activation that the model was saved with


class Ranking(NamedTuple):
    """Documents sorted by score, best first.

    ``order`` are their places in what was given, int64 ``[k]``; ``scores`` float32
    ``[k]``, falling.
    """

    order: NDArray[np.int64]
    scores: Vectors


class CrossEncoder(TransformerModel):
    """A transformer with a head of one score, as a function of two texts.

    Use `from_pretrained` to load one.

    Parameters
    ----------
    transformer
        A transformers model for sequence classification with one label: its ``logits``
        are ``[B, 1]``.
    tokenizer
        Its fast tokenizer.
    activation
        What follows the score unless `predict` is told otherwise: one of `ACTIVATIONS`.
    max_seq_length
        Longest pair in tokens, special tokens included; None for what the model bears.

    Source: Devlin et al. 2019, section 4.1; Nogueira and Cho 2019 (reranking).
    """

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
            raise CheckpointError(
                f"the head gives {config.num_labels} scores a pair, as a classifier "
                "does; a cross-encoder here gives one (num_labels=1)"
            )
        _check_activation(activation)
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
        """Load a cross-encoder, or begin one from an encoder.

        Parameters
        ----------
        name_or_path, device, allow_hub
            As in `SentenceEncoder.from_pretrained`.
        head_seed
            Of a plain encoder, which has no head: draw one with this seed. Without it
            such a folder is refused, for its scores would mean nothing.
        """
        folder = resolve(name_or_path, allow_hub=allow_hub)
        transformer, tokenizer, activation, length = checkpoint.load_cross(
            folder, head_seed
        )
        encoder = cls(
            transformer, tokenizer, activation=activation, max_seq_length=length
        )
        return encoder.on_device(device)

    def save(self, folder: str | Path) -> None:
        """Write a folder that sentence-transformers' CrossEncoder loads.

        Atomic: a killed process leaves the folder as it was, or the new one.
        """
        checkpoint.write_cross(
            Path(folder),
            self.transformer,
            self.tokenizer,
            self.activation,
            self.max_seq_length,
        )

    def token_ids(
        self, texts: Sequence[str] | Sequence[tuple[str, str]]
    ) -> list[NDArray[np.int64]]:
        """Return the tokens of single texts as `pair_ids` gives those of pairs."""
        return [
            np.array([encoding.ids, encoding.type_ids], np.int64).T
            for encoding in self._encodings(list(texts))
        ]

    def pair_ids(
        self, first: Sequence[str], second: Sequence[str]
    ) -> list[NDArray[np.int64]]:
        """Return the tokens of each pair, int64 ``[L, 2]``, cut at `max_seq_length`.

        First the token's id, then the text that it belongs to, 0 or 1.
        `last_truncated` says how many pairs were cut.
        """
        return self.token_ids(list(zip(first, second, strict=True)))

    def pair_lengths(
        self, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the tokens of pairs, uncut, from those that `token_ids` gives each."""
        alone = self._backend.num_special_tokens_to_add(False)
        together = self._backend.num_special_tokens_to_add(True)
        return first + second - 2 * alone + together

    def forward(self, pairs: Tensor, attention_mask: Tensor) -> Tensor:
        """Score padded pairs of `pair_ids`, ``[B, L, 2]`` -> ``[B, 1]``."""
        ids, kinds = pairs.unbind(-1)
        more = {"token_type_ids": kinds} if self._segmented else {}
        found: Tensor = self.transformer(
            input_ids=ids, attention_mask=attention_mask, **more
        ).logits
        return found

    def _readers(self) -> tuple[Any, Callable[[Any, Tensor], Tensor]]:
        """Return a model for `in_batches`, and how its output becomes ``[B, 1]``.

        A BERT without its head, which alone can read without padding, or the whole.
        """
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
        activation: str | None = OWN,
        token_budget: int | None = None,
        show_progress: bool | None = None,
    ) -> Vectors:
        """Score pairs of texts, float32 ``[n]``.

        Parameters
        ----------
        first, second
            The two texts of each pair; a query comes first.
        activation
            What follows the score: ``"own"``, the one that the model was saved with,
            another of `ACTIVATIONS`, or None for nothing.
        token_budget, show_progress
            As in `SentenceEncoder.encode`.
        """
        first, second = check_texts(first, "first"), check_texts(second, "second")
        if len(first) != len(second):
            raise ValueError(
                f"{len(first)} first texts and {len(second)} second ones; to score one "
                "query with many documents, use rerank"
            )
        name = self.activation if activation == OWN else activation or "identity"
        _check_activation(name)
        model, read = self._readers()
        out: Vectors = np.empty(len(first), np.float32)
        truncated = 0
        with progress(len(first), "score", show=show_progress) as move:
            for start in range(0, len(first), CHUNK):
                part = slice(start, start + CHUNK)
                pairs = self.pair_ids(first[part], second[part])
                truncated += self.last_truncated
                kinds = [pair[:, 1] for pair in pairs] if self._segmented else None
                out[part] = in_batches(
                    model,
                    [pair[:, 0] for pair in pairs],
                    read,
                    token_type_ids=kinds,
                    pad=self.pad_id,
                    token_budget=token_budget,
                    advance=lambda rows: move(len(rows)),
                )[:, 0]
        self._warn_of_cuts(truncated, len(first), "pairs")
        bad = np.flatnonzero(~np.isfinite(out))
        if len(bad):
            raise ValueError(
                f"{len(bad)} scores are not finite, the first for "
                f"{first[bad[0]][:40]!r} and {second[bad[0]][:40]!r}: the weights are "
                "damaged or training diverged; load the model again"
            )
        found: Vectors = ACTIVATIONS[name]()(torch.from_numpy(out)).numpy()
        return found

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        k: int | None = None,
        **options: Any,  # noqa: ANN401  (those of predict)
    ) -> Ranking:
        """Sort documents by their score with a query; return the best `k`, or all.

        Documents of equal score stay in the order given.
        """
        scores = self.predict([query] * len(documents), documents, **options)
        order = np.argsort(-scores, kind="stable")[:k]
        return Ranking(order, scores[order])

    def _settings(self) -> dict[str, Any]:
        return {"activation": self.activation}


def _check_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r}: one of {', '.join(ACTIVATIONS)}")
