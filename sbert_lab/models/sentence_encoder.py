"""`SentenceEncoder`: text goes in, vectors come out.

The same vectors as sentence-transformers, to 1e-5 in float32, and faster: a large
chunk of texts is tokenised at once, equal token sequences are encoded once, batches
are filled to a budget of tokens (`batching`), on a CPU without any padding (`packed`),
and results go straight into one array.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbert_lab._utils import Advance, Vectors, progress
from sbert_lab.models import checkpoint, head
from sbert_lab.models.batching import Tokens, in_batches
from sbert_lab.models.checkpoint import CheckpointError, DenseSpec, Layout
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.fingerprint import Fingerprint, idle_settings_removed
from sbert_lab.models.growing import write_vectors
from sbert_lab.models.pooling import Pooling
from sbert_lab.models.registry import BY_NAME, resolve
from sbert_lab.models.transformer import encoding_part, fast_tokenizer, length_limit
from sbert_lab.models.transformer import load as load_transformer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

CHUNK = 16_384  # texts tokenised at once

#: Who reads the other forms of catalogue entries.
_READERS = {
    "static word vectors": "StaticEncoder of sbert_lab.models.static",
    "an ONNX graph": "OnnxEncoder, or encoder_from_onnx, of sbert_lab.models.onnx",
}


class SentenceEncoder(nn.Module):
    """A transformer, a pooling, and what follows, as one function from text to vector.

    Parameters
    ----------
    transformer
        A transformers model that returns ``last_hidden_state`` ``[B, L, D]``.
    tokenizer
        Its fast tokenizer.
    layout
        Pooling, layers after it, length limit, prompts: see `Layout`.

    Use `from_pretrained` to load one.
    """

    def __init__(
        self,
        transformer: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        layout: Layout,
    ) -> None:
        super().__init__()
        if not tokenizer.is_fast:
            raise CheckpointError(
                "the tokenizer has no tokenizer.json and none can be made from its "
                "vocabulary; save it with a fast tokenizer"
            )
        self.transformer = transformer
        self.tokenizer = tokenizer
        self.layout = layout
        self.pooling = Pooling(
            layout.dimension, layout.pooling, include_prompt=layout.include_prompt
        )
        self.head = head.build(layout.head)
        self.prompts = {"query": "", "document": ""} | layout.prompts
        self.last_truncated = 0
        self.max_seq_length = layout.max_seq_length  # builds the tokenizer's copy
        self._fingerprint = Fingerprint()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device: str | torch.device | None = None,
        allow_hub: bool = True,
    ) -> Self:
        """Load a model by its catalogue name, folder, or hub repository.

        Parameters
        ----------
        name_or_path
            ``"all-MiniLM-L6-v2"``, a folder in either spelling, a plain transformers
            folder (read with mean pooling), or ``"owner/name"`` on the hub.
        device
            ``"cpu"``, ``"cuda"`` …; the default is the GPU if there is one.
        allow_hub
            False never asks the network.

        Raises
        ------
        FileNotFoundError, ChecksumError, CheckpointError
            Each with what to do.
        """
        entry = BY_NAME.get(str(name_or_path))
        if entry is not None and entry.form != "encoder":
            reader = _READERS.get(entry.form, "sbert_lab.datasets")
            raise CheckpointError(
                f"{entry.name} is {entry.form}, which SentenceEncoder does not read; "
                f"{reader} does"
            )
        folder = resolve(name_or_path, allow_hub=allow_hub)
        layout = checkpoint.read(folder)
        transformer, tokenizer = load_transformer(folder / layout.transformer)
        encoder = cls(transformer, tokenizer, layout)
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return encoder.to(device).eval()

    def save(self, folder: str | Path) -> None:
        """Write a folder that every sentence-transformers release since 2.3 loads.

        Atomic: a killed process leaves the folder as it was, or the new one.
        """
        layout = dataclasses.replace(
            self.layout,
            head=head.describe(self.head),
            prompts=self.prompts,
            max_seq_length=self.max_seq_length,
            transformer="",
        )
        checkpoint.write(Path(folder), layout, self.transformer, self.tokenizer)

    @property
    def max_seq_length(self) -> int:
        """Longest text in tokens, special tokens included; longer ones are cut.

        Set it to another number, or to None for what the model bears.
        """
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, wanted: int | None) -> None:
        limit = length_limit(wanted, self.tokenizer, self.transformer)
        self._max_seq_length = limit
        lower = self.layout.do_lower_case
        self._backend = fast_tokenizer(self.tokenizer, limit, lower)
        self._tokenizer_json = encoding_part(self._backend)

    @property
    def dimension(self) -> int:
        """Width of the vectors that `encode` returns by default."""
        return self.layout.truncate_dim or self._full_dimension

    @property
    def _full_dimension(self) -> int:
        dense = [part for part in self.layout.head if isinstance(part, DenseSpec)]
        return dense[-1].out_features if dense else self.pooling.out_dimension

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def token_ids(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Return token ids, cut at `max_seq_length`; `last_truncated` says how many."""
        encodings = self._backend.encode_batch_fast(list(texts))
        self.last_truncated = sum(bool(e.overflowing) for e in encodings)
        return [np.array(e.ids, np.int64) for e in encodings]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode padded token ids.

        Parameters
        ----------
        input_ids, attention_mask
            int64 ``[B, L]``.

        Returns
        -------
        Tensor
            float32 ``[B, dimension]``, before `truncate_dim`.
        """
        output = self.transformer(input_ids=input_ids, attention_mask=attention_mask)
        return self._pooled(output.last_hidden_state, attention_mask, 0)

    def _pooled(self, tokens: Tensor, mask: Tensor, skipped: int) -> Tensor:
        """Pool and apply the head; `skipped` leading tokens are left out."""
        if skipped:
            mask = mask.clone()
            mask[:, :skipped] = 0
        vectors: Tensor = self.head(self.pooling(tokens, mask))
        return vectors

    def encode_token_ids(
        self,
        sequences: Sequence[Tokens],
        *,
        skipped: int = 0,
        token_budget: int | None = None,
        advance: Callable[[NDArray[np.int64]], object] | None = None,
    ) -> Vectors:
        """Encode texts that are token ids already, float32 ``[n, full dimension]``.

        See `in_batches`; `skipped` leading tokens of each are not pooled.
        """
        return in_batches(
            self.transformer,
            sequences,
            lambda output, mask: self._pooled(output.last_hidden_state, mask, skipped),
            pad=self.tokenizer.pad_token_id or 0,
            token_budget=token_budget,
            advance=advance,
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
        """Turn texts into vectors.

        Parameters
        ----------
        texts
            Strings; a single string gives a single vector ``[d]``.
        prompt_name, prompt
            A prefix for every text, by its name in `prompts` or literally.
        normalize
            Scale each vector to unit length, after `truncate_dim`.
        truncate_dim
            Keep the leading dimensions only.
        token_budget
            Tokens in a batch; the default is `TOKEN_BUDGET` of the device. Changes
            speed and memory, not the result.
        show_progress
            A bar on standard error; by default for long work on a terminal.
        cache
            Where to look vectors up first, and to keep new ones.

        Returns
        -------
        NDArray
            float32 ``[n, d]``; ``[0, d]`` for no texts.

        Raises
        ------
        TypeError
            An item is not a string; names its position.
        ValueError
            An unknown prompt, a dimension the model does not have, or a result that
            is not finite.
        """
        if isinstance(texts, str):
            single: Vectors = self.encode(
                [texts],
                prompt_name=prompt_name,
                prompt=prompt,
                normalize=normalize,
                truncate_dim=truncate_dim,
                token_budget=token_budget,
                show_progress=False,
                cache=cache,
            )[0]
            return single
        texts = _strings(texts)
        prefix = self._prefix(prompt_name, prompt)
        width = self._width(truncate_dim)
        out: Vectors = np.empty((len(texts), width), np.float32)
        self.last_truncated = 0
        with progress(len(texts), "encode", show=show_progress) as move:
            for start in range(0, len(texts), CHUNK):
                chunk = texts[start : start + CHUNK]
                full = self._through_cache(chunk, prefix, token_budget, move, cache)
                out[start : start + len(chunk)] = _finish(full, width, normalize)
        if self.last_truncated:
            log.warning(
                "%d of %d texts are longer than %d tokens and were cut there",
                self.last_truncated,
                len(texts),
                self.max_seq_length,
            )
        return out

    def encode_query(self, texts: Sequence[str] | str, **options: Any) -> Vectors:  # noqa: ANN401
        """`encode` with the model's prompt for queries, if it has one."""
        options.setdefault("prompt_name", self._first_prompt("query", options))
        return self.encode(texts, **options)

    def encode_document(self, texts: Sequence[str] | str, **options: Any) -> Vectors:  # noqa: ANN401
        """`encode` with the model's prompt for documents, if it has one."""
        names = "document passage corpus"
        options.setdefault("prompt_name", self._first_prompt(names, options))
        return self.encode(texts, **options)

    def encode_iter(
        self,
        texts: Iterable[str],
        *,
        chunk_size: int = CHUNK,
        **options: Any,  # noqa: ANN401  (those of encode)
    ) -> Iterator[Vectors]:
        """Yield the vectors of a stream of texts, `chunk_size` of them at a time."""
        stream = iter(texts)
        while chunk := list(islice(stream, chunk_size)):
            yield self.encode(chunk, **options)

    def encode_to_file(
        self,
        texts: Iterable[str],
        path: str | Path,
        **options: Any,  # noqa: ANN401  (those of encode_iter)
    ) -> np.memmap[Any, np.dtype[np.float32]]:
        """Encode a stream of any length into a ``.npy`` file, and map it into memory.

        Neither the texts nor the vectors need to fit in memory. The file appears under
        its name when it is complete. Returned is float32 ``[n, d]``, read-only.
        """
        width = self._width(options.get("truncate_dim"))
        return write_vectors(Path(path), self.encode_iter(texts, **options), width)

    def fingerprint(self) -> str:
        """Return the sha256 that names this model in caches, indexes and records.

        Covers whatever changes the vector of a text: weights, configuration, tokenizer,
        pooling, what follows. Worked out anew when a weight has changed in place.
        """
        settings = {
            "pooling": self.layout.pooling,
            "include_prompt": self.layout.include_prompt,
            "head": [
                part.activation if isinstance(part, DenseSpec) else part
                for part in self.layout.head
            ],
            "config": idle_settings_removed(self.transformer.config.to_diff_dict()),
            "tokenizer": self._tokenizer_json,
        }
        return self._fingerprint.of(self, settings)

    def _first_prompt(self, names: str, options: dict[str, Any]) -> str | None:
        """Return the first of `names` with a prompt, unless one is given literally."""
        if options.get("prompt") is not None:
            return None
        return next((n for n in names.split() if self.prompts.get(n)), None)

    def _prefix(self, name: str | None, literal: str | None) -> str:
        if literal is not None:
            if name is not None:
                raise ValueError("give prompt_name or prompt, not both")
            return literal
        name = name if name is not None else self.layout.default_prompt
        if name is None:
            return ""
        if name not in self.prompts:
            raise ValueError(
                f"no prompt named {name!r}; this model has {sorted(self.prompts)}. "
                "Pass the text itself as prompt=…"
            )
        return self.prompts[name]

    def _width(self, truncate_dim: int | None) -> int:
        width = truncate_dim if truncate_dim is not None else self.dimension
        if not 1 <= width <= self._full_dimension:
            raise ValueError(
                f"truncate_dim={width}: this model has 1 to {self._full_dimension} "
                "dimensions"
            )
        return width

    def _through_cache(
        self,
        texts: Sequence[str],
        prefix: str,
        budget: int | None,
        advance: Advance,
        cache: EmbeddingCache | None,
    ) -> Vectors:
        """Encode one chunk, ``[n, full dimension]``, asking the cache first."""
        prompted = [prefix + text for text in texts] if prefix else texts
        skipped = self._prompt_tokens(prefix)
        if cache is None:
            return self._encode_chunk(prompted, skipped, budget, advance)
        # A prompt that is not pooled gives another vector for the same characters.
        keys = [f"{skipped}\0{text}" for text in prompted] if skipped else prompted
        model_hash = self.fingerprint()
        vectors, known = cache.get(model_hash, keys, self._full_dimension)
        advance(int(known.sum()))
        missing = np.flatnonzero(~known)
        if len(missing):
            new = self._encode_chunk(
                [prompted[int(i)] for i in missing], skipped, budget, advance
            )
            cache.put(model_hash, [keys[int(i)] for i in missing], new)
            vectors[missing] = new
        return vectors

    def _prompt_tokens(self, prefix: str) -> int:
        """Count the leading tokens that pooling leaves out."""
        if not prefix or self.layout.include_prompt:
            return 0
        ids = self._backend.encode(prefix).ids
        special = self._backend.num_special_tokens_to_add(False)
        return len(ids) - (1 if special > 1 else 0)  # the closing token is not prompt

    def _encode_chunk(
        self, texts: Sequence[str], skipped: int, budget: int | None, advance: Advance
    ) -> Vectors:
        encodings = self._backend.encode_batch_fast(list(texts))
        self.last_truncated += sum(bool(e.overflowing) for e in encodings)
        position: dict[tuple[int, ...], int] = {}  # each token sequence once
        owner = np.array(
            [position.setdefault(tuple(e.ids), len(position)) for e in encodings]
        )
        copies = np.bincount(owner)
        unique = self.encode_token_ids(
            list(position),
            skipped=skipped,
            token_budget=budget,
            advance=lambda rows: advance(int(copies[rows].sum())),
        )
        bad = np.flatnonzero(~np.isfinite(unique).all(1))
        if len(bad):
            text = texts[int(np.flatnonzero(owner == bad[0])[0])]
            raise ValueError(
                f"{len(bad)} vectors are not finite, the first for {text[:60]!r}: the "
                "weights are damaged or training diverged; load the model again"
            )
        vectors: Vectors = unique[owner]
        return vectors


def _strings(texts: object) -> Sequence[str]:
    """Return `texts` as a list of strings, or say which one is not."""
    if not isinstance(texts, Iterable):
        raise TypeError(f"texts must be a list of strings, not {type(texts).__name__}")
    listed = texts if isinstance(texts, list) else list(texts)
    for position, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(
                f"texts[{position}] is {text!r} ({type(text).__name__}), not a string; "
                "drop it, or convert it with str()"
            )
    return listed


def _finish(vectors: Vectors, width: int, normalize: bool) -> Vectors:
    """Cut to `width` dimensions and, if asked, scale to unit length."""
    vectors = vectors[:, :width]
    if normalize:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        scaled: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
        return scaled
    return vectors
