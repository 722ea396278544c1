"""`SentenceEncoder`: text goes in, vectors come out; and `Encoder`, what all have.

The same vectors as sentence-transformers, to 1e-5 in float32, and faster.
"""

import copy
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbert_lab._utils import METRICS, Advance, Metric, Vectors, progress, whole_number
from sbert_lab.models import checkpoint
from sbert_lab.models.batching import Tokens, check_texts, in_batches
from sbert_lab.models.checkpoint import Dense, Layout, Normalize
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.packed_bert import is_padded_right, is_supported, without_padding
from sbert_lab.models.pooling import Pooling
from sbert_lab.models.registry import BY_NAME, resolve
from sbert_lab.models.transformer import TransformerModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

CHUNK = 16_384  # texts tokenised at once


@runtime_checkable
class Encoder(Protocol):
    """What encoders have; ``encode_query``, ``encode_document``, ``metric`` may be."""

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Turn texts into rows, float32 ``[n, dimension]``."""
        ...


def encode_queries(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """Encode queries: by ``encode_query``, or else by ``encode``."""
    return cast(Vectors, getattr(encoder, "encode_query", encoder.encode)(texts))


def encode_documents(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """Encode documents: by ``encode_document``, or else by ``encode``."""
    return cast(Vectors, getattr(encoder, "encode_document", encoder.encode)(texts))


def metric_of(encoder: Encoder) -> Metric:
    """Return how vectors are compared, cosine unless it says, or refuse to search."""
    theirs = getattr(encoder, "similarity_fn_name", None)  # sentence-transformers'
    found = getattr(encoder, "metric", theirs or "cosine")
    if found not in METRICS:
        raise ValueError(
            f"{found!r} is not what is searched by here: set similarity_fn_name in the "
            "model's config_sentence_transformers.json to cosine or dot"
        )
    return cast(Metric, found)


class SentenceEncoder(TransformerModel):
    """A transformer, a pooling, and what follows; use `from_pretrained` to load one.

    The transformer gives ``last_hidden_state`` ``[B, L, D]``; `Layout` says the rest.
    """

    def __init__(
        self,
        transformer: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        layout: Layout,
    ) -> None:
        super().__init__(transformer, tokenizer, layout.max_seq_length)
        self.layout = layout
        self.pooling = Pooling(layout.dimension, layout.pooling)
        self.head = nn.Sequential(
            *[
                Normalize() if p == "normalize" else copy.deepcopy(p)
                for p in layout.head
            ]
        )
        given = {name: prompt or "" for name, prompt in layout.prompts.items()}
        self.prompts = {"query": "", "document": ""} | given
        if given.get("passage") and "document" not in given:
            message = (
                'the prompt "passage" is used, as in sentence-transformers, for no '
            )
            log.warning(message + 'document; if it should be, set prompts["document"]')

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device: str | torch.device | None = None,
        allow_hub: bool = True,
    ) -> Self:
        """Load a model, onto the GPU if there is one and no `device` is given.

        `name_or_path` is a registered name such as ``"all-MiniLM-L6-v2"``, a folder in
        either spelling, a plain transformers folder (read with mean pooling), or
        ``"owner/name"`` on the hub; `allow_hub` False never asks the network.
        """
        known = BY_NAME.get(str(name_or_path))
        if known and known.form != "encoder":
            raise checkpoint.CheckpointError(f"{known.name} is {known.form}")
        folder = resolve(name_or_path, allow_hub=allow_hub)
        layout = checkpoint.read(folder)
        parts = checkpoint.load_transformer(folder / layout.transformer)
        return cls(*parts, layout).on_device(device)

    def save(self, folder: str | Path) -> None:
        """Write a folder that sentence-transformers loads, atomically."""
        layout = dataclasses.replace(
            self.layout,
            head=tuple(p if isinstance(p, Dense) else "normalize" for p in self.head),
            prompts=self.prompts,
            max_seq_length=self.max_seq_length,
        )
        checkpoint.write(Path(folder), layout, (self.transformer, self.tokenizer))

    @property
    def dimension(self) -> int:
        """Width of the vectors that `encode` returns by default."""
        return self.layout.truncate_dim or self._full_dimension

    @property
    def metric(self) -> str:
        """How the model compares vectors: cosine, dot, euclidean or manhattan."""
        return self.layout.similarity

    @property
    def _full_dimension(self) -> int:
        dense = [part for part in self.head if isinstance(part, Dense)]
        return dense[-1].linear.out_features if dense else self.pooling.out_dimension

    def token_ids(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Return token ids, cut at `max_seq_length`; `last_truncated` says how many."""
        self.last_truncated = self.last_unknown = 0
        return [np.array(e.ids, np.int64) for e in self._encodings(check_texts(texts))]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode padded token ids, ``[B, L]`` -> ``[B, full dimension]``.

        On a CPU a plain BERT leaves the padding out, which is most of the time spent on
        a batch of unlike texts.
        """
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        plain = self.device.type == "cpu" and is_supported(self.transformer)
        if plain and is_padded_right(attention_mask):
            tokens = without_padding(self.transformer, **given)
        else:
            tokens = self.transformer(**given).last_hidden_state
        return self._pooled(tokens, attention_mask, 0)

    def _pooled(self, tokens: Tensor, mask: Tensor, skipped: int) -> Tensor:
        vectors: Tensor = self.head(self.pooling(tokens, mask, skipped))
        return vectors

    def encode_token_ids(
        self,
        sequences: Sequence[Tokens],
        *,
        skipped: int = 0,
        **options: Any,  # noqa: ANN401  (token_budget and advance of in_batches)
    ) -> Vectors:
        """Encode token ids, all but `skipped` pooled, ``[n, full dimension]``."""
        return in_batches(
            self.transformer,
            sequences,
            lambda output, mask: self._pooled(output.last_hidden_state, mask, skipped),
            pad=self.pad_id,
            **options,
        )

    def encode(
        self,
        texts: Sequence[str] | str,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize: bool = False,
        truncate_dim: int | None = None,
        token_budget: int | None = None,
        show_progress: bool | None = None,
        cache: EmbeddingCache | None = None,
    ) -> Vectors:
        """Turn texts into vectors, float32 ``[n, d]``; a single string into ``[d]``.

        A `prompt`, or that of a name in `prompts`, stands before every text. The
        leading `truncate_dim` dimensions are kept, then scaled to unit length if asked
        to `normalize`. `token_budget` is tokens in a batch, which changes speed and
        memory alone; `show_progress` a bar on standard error, by default for long work
        on a terminal; `cache` is where vectors are looked up first, and kept. A
        ValueError names a text whose vector is not finite.
        """
        listed = check_texts([texts] if isinstance(texts, str) else texts)
        before = self._prefix(prompt_name, prompt)
        width = truncate_dim if truncate_dim is not None else self.dimension
        width = whole_number(width, "truncate_dim", 1, self._full_dimension)
        out: Vectors = np.empty((len(listed), width), np.float32)
        self.last_truncated = self.last_unknown = 0
        with progress(len(listed), "encode", show=show_progress) as move:
            for start in range(0, len(listed), CHUNK):
                chunk = listed[start : start + CHUNK]
                full = self._encode_chunk(chunk, before, token_budget, move, cache)
                out[start : start + len(chunk)] = full[:, :width]
        self._check(out, listed, "texts")
        if normalize:
            lengths = np.linalg.norm(out, axis=1, keepdims=True)
            out /= np.maximum(lengths, np.float32(1e-12))
        return out[0] if isinstance(texts, str) else out

    def encode_query(self, texts: Sequence[str] | str, **options: Any) -> Vectors:  # noqa: ANN401
        """`encode` with `prompt_for` queries, unless another one is given."""
        return self.encode(texts, **self._prompted("query", options))

    def encode_document(self, texts: Sequence[str] | str, **options: Any) -> Vectors:  # noqa: ANN401
        """`encode` with `prompt_for` documents, unless another one is given."""
        return self.encode(texts, **self._prompted("document", options))

    def prompt_for(self, side: str) -> str:
        """Return the prompt of a ``"query"`` or ``"document"``; an empty one is one."""
        others = ("passage", "corpus") if side == "document" else ()
        named = (side, *others, self.layout.default_prompt or "")
        return next((self.prompts[n] for n in named if n in self.prompts), "")

    def _prompted(self, side: str, options: dict[str, Any]) -> dict[str, Any]:
        given = options.get("prompt"), options.get("prompt_name")
        mine = {"prompt": self.prompt_for(side)} if given == (None, None) else {}
        return options | mine

    def _settings(self) -> dict[str, Any]:
        return {
            "pooling": self.layout.pooling,
            "include_prompt": self.layout.include_prompt,
            "head": [
                checkpoint.spelled(p.activation)
                if isinstance(p, Dense)
                else "normalize"
                for p in self.head
            ],
        }

    def _prefix(self, name: str | None, literal: str | None) -> tuple[str, int]:
        """Return a prompt, and how many leading tokens pooling leaves out for it."""
        name = name if name is not None else self.layout.default_prompt
        if literal is None and name is not None:
            if name not in self.prompts:
                raise ValueError(f"no prompt named {name!r} in {sorted(self.prompts)}")
            literal = self.prompts[name]
        (literal,) = check_texts([literal or ""], "prompt")
        if not literal or self.layout.include_prompt:
            return literal, 0
        ids = self._backend.encode(literal).ids
        # A closing token is not the prompt's; a template may have none, or no other.
        closed = bool(ids) and ids[-1] in self.tokenizer.all_special_ids
        return literal, len(ids) - closed

    def _encode_chunk(
        self,
        texts: list[str],
        prompt: tuple[str, int],
        token_budget: int | None,
        advance: Advance,
        cache: EmbeddingCache | None,
    ) -> Vectors:
        """Encode texts behind a `_prefix`, ``[n, full dimension]``: the cache first."""
        prefix, skipped = prompt
        whole = [prefix + text for text in texts]
        if cache is not None:
            # A prompt that is not pooled gives another vector for the same characters.
            keys = [f"{skipped}\0{text}" for text in whole] if skipped else whole
            model_hash = self.fingerprint()
            vectors, known = cache.get(model_hash, keys, self._full_dimension)
            advance(int(known.sum()))
            missing = np.flatnonzero(~known).tolist()
            if missing:
                rest = [texts[i] for i in missing]
                new = self._encode_chunk(rest, prompt, token_budget, advance, None)
                cache.put(model_hash, [keys[i] for i in missing], new)
                vectors[missing] = new
            return vectors
        position: dict[tuple[int, ...], int] = {}  # each token sequence once
        found = [tuple(encoding.ids) for encoding in self._encodings(whole, prefix)]
        owner = np.array([position.setdefault(ids, len(position)) for ids in found])
        copies = np.bincount(owner)
        unique = self.encode_token_ids(
            list(position),
            skipped=skipped,
            token_budget=token_budget,
            advance=lambda rows: advance(int(copies[rows].sum())),
        )
        repeated: Vectors = unique[owner]
        return repeated
