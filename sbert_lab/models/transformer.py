"""What every encoder is built on: a transformer and its tokenizer."""

import hashlib
import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbert_lab._utils import Vectors
from sbert_lab.models.checkpoint import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_NO_LIMIT = 1_000_000  # tokenizers without a limit of their own carry a huge number

#: Settings of a transformer that do not change what it computes.
_IDLE = {"_name_or_path", "architectures", "dtype", "torch_dtype", "use_cache"}


class TransformerModel(nn.Module):
    """Base of the encoders; ``last_truncated`` counts texts cut in the last call."""

    def __init__(
        self,
        transformer: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        max_seq_length: int | None,
    ) -> None:
        super().__init__()
        if not tokenizer.is_fast:
            raise CheckpointError("no tokenizer.json; save it with a fast tokenizer")
        self.transformer = transformer
        self.tokenizer = tokenizer
        self.last_truncated = 0
        self.max_seq_length = max_seq_length  # makes the tokenizer's copy
        self._hashed: tuple[object, str] = (None, "")

    @property
    def max_seq_length(self) -> int:
        """Longest input in tokens, special ones included; set None for the most."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, wanted: int | None) -> None:
        positions = getattr(self.transformer.config, "max_position_embeddings", None)
        if wanted is None:
            limits = (self.tokenizer.model_max_length, positions)
            wanted = min((n for n in limits if n and n < _NO_LIMIT), default=512)
        if positions is not None and wanted > positions:
            raise CheckpointError(
                f"max_seq_length {wanted} is more than the {positions} positions of "
                "the transformer; lower it in sentence_bert_config.json"
            )
        self._max_seq_length = wanted
        self._backend = fast_tokenizer(self.tokenizer, wanted)
        parts = json.loads(self._backend.to_str())
        parts.pop("decoder", None)  # decides no token ids
        self._tokenizer_json = json.dumps(parts, sort_keys=True)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        return self.tokenizer.pad_token_id or 0

    def on_device(self, device: str | torch.device | None) -> Self:
        """Move to `device`, by default a GPU if there is one, ready for use."""
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return self.to(device).eval()

    def pair_ids(
        self, first: Sequence[str], second: Sequence[str]
    ) -> list[NDArray[np.int64]]:
        """Return the tokens of each pair, int64 ``[L, 2]``, cut at `max_seq_length`.

        First the token's id, then the text that it belongs to, 0 or 1. The longer text
        is cut first.
        """
        return [
            np.array([encoding.ids, encoding.type_ids], np.int64).T
            for encoding in self._encodings(list(zip(first, second, strict=True)))
        ]

    def _encodings(self, inputs: list[Any]) -> "list[Encoding]":
        found = self._backend.encode_batch_fast(inputs)
        self.last_truncated = sum(bool(encoding.overflowing) for encoding in found)
        return found

    def _check(
        self, found: Vectors, inputs: Sequence[str], truncated: int, what: str
    ) -> None:
        """Tell of inputs that were cut, and of ones whose results are not numbers."""
        self.last_truncated = truncated
        if truncated:
            message = "%d of %d %s are longer than %d tokens and were cut there"
            log.warning(message, truncated, len(inputs), what, self.max_seq_length)
        bad = np.flatnonzero(~np.isfinite(found).all(1))
        if len(bad):
            raise ValueError(
                f"results of {len(bad)} {what} are not finite, first of "
                f"{inputs[bad[0]][:60]!r}: damaged weights or a training that "
                "diverged; load the model again"
            )

    def _settings(self) -> dict[str, Any]:
        """Return what changes a result besides weights, config and tokenizer."""
        raise NotImplementedError

    def described(self) -> str:
        """Return, as JSON, what changes a result besides the weights."""
        config = {
            key: value
            for key, value in self.transformer.config.to_diff_dict().items()
            if key not in _IDLE and not key.endswith("_version")
        }
        read = {"config": config, "tokenizer": self._tokenizer_json}
        return json.dumps(self._settings() | read, sort_keys=True)

    def fingerprint(self) -> str:
        """Return the sha256 that names this model in caches, indexes and records.

        It covers whatever changes a result, and is worked out anew when a weight
        changed: by PyTorch's counter or, if that misses it, the sum of all bits.
        """
        written = self.described()
        state = self.state_dict(keep_vars=True)
        versions = [(name, v._version, _bit_sum(v)) for name, v in state.items()]
        if self._hashed[0] != (versions, written):
            digest = hashlib.sha256(written.encode())
            for name in sorted(state):
                value = state[name].detach().cpu().contiguous()
                digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
            self._hashed = ((versions, written), digest.hexdigest())
        return self._hashed[1]


def fast_tokenizer(
    tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> "Tokenizer":
    """Return a copy of the Rust tokenizer that cuts at `max_length` and never pads."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.enable_truncation(max_length, strategy="longest_first")
    return backend


def _bit_sum(value: Tensor) -> int:
    width = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = value.detach().reshape(-1).view(width[value.element_size()])
    return int(bits.sum(dtype=torch.int64))
