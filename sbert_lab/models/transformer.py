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

from sbert_lab._utils import Vectors, whole_number
from sbert_lab.models.batching import check_texts
from sbert_lab.models.checkpoint import CheckpointError, pad_id

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_NO_LIMIT = 1_000_000  # tokenizers without a limit of their own carry a huge number

#: Settings of a transformer that do not change what it computes.
_IDLE = {"_name_or_path", "architectures", "dtype", "torch_dtype", "use_cache"}


class TransformerModel(nn.Module):
    """Base of the encoders; ``last_truncated`` counts texts cut in the last call."""

    _reads_pairs = False

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
        self.last_truncated = self.last_unknown = 0
        most = _positions(transformer)
        if most and isinstance(max_seq_length, int) and max_seq_length > most:
            # Folders say so of a RoBERTa; short texts are none the worse.
            message = "max_seq_length %d is more than the %d positions: cut there"
            log.warning(message, max_seq_length, most)
            max_seq_length = most
        self.max_seq_length = max_seq_length  # makes the tokenizer's copy
        self._hashed: tuple[object, str] = (None, "")

    @property
    def max_seq_length(self) -> int:
        """Longest input in tokens, special ones included; set None for the most."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, wanted: int | None) -> None:
        positions = _positions(self.transformer)
        if wanted is None:
            limits = (self.tokenizer.model_max_length, positions)
            wanted = min((n for n in limits if n and n < _NO_LIMIT), default=512)
        backend = self.tokenizer.backend_tokenizer
        special = int(backend.num_special_tokens_to_add(self._reads_pairs))
        wanted = whole_number(wanted, "max_seq_length", special + 1)
        if positions is not None and wanted > positions:
            raise CheckpointError(
                f"max_seq_length {wanted} is more than the {positions} positions of "
                "the transformer; lower it, or set None for the most"
            )
        self._max_seq_length = wanted
        self._backend = fast_tokenizer(self.tokenizer, wanted)
        parts = json.loads(self._backend.to_str())
        parts.pop("decoder", None)  # decides no token ids
        self._tokenizer_json = json.dumps(parts, sort_keys=True)
        self._unknown = unknown_token(parts)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        return pad_id(self.transformer, self.tokenizer)

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
        pairs = zip(check_texts(first), check_texts(second), strict=True)
        return [
            np.array([encoding.ids, encoding.type_ids], np.int64).T
            for encoding in self._encodings(list(pairs))
        ]

    def _encodings(self, inputs: list[Any], prompt: str = "") -> "list[Encoding]":
        """Tokenise, and add to the counts of texts that are cut or unknown."""
        found = self._backend.encode_batch_fast(inputs)
        rows = int(getattr(self.transformer.config, "vocab_size", None) or 0)
        more = rows and self._backend.get_vocab_size() > rows
        if more and any(max(encoding.ids, default=0) >= rows for encoding in found):
            raise CheckpointError(
                f"a text has a token that is none of the model's {rows}; call "
                "transformer.resize_token_embeddings(len(tokenizer)) and train, or "
                "take the model's own tokenizer"
            )
        known = len(self._backend.encode(prompt, add_special_tokens=False).ids)
        self.last_truncated += sum(bool(encoding.overflowing) for encoding in found)
        self.last_unknown += count_unknown(found, self._unknown, known)
        return found

    def _check(self, found: Vectors, inputs: Sequence[str], what: str) -> None:
        """Tell of inputs cut or unknown, and of ones whose results are not numbers."""
        if cut := self.last_truncated:
            message = "%d of %d %s are longer than %d tokens and were cut there"
            log.warning(message, cut, len(inputs), what, self.max_seq_length)
        tell_unknown(self.last_unknown, len(inputs), what)
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


def _positions(transformer: Any) -> int | None:  # noqa: ANN401
    """Return how many tokens have a position; None if any number may be given."""
    for name, part in transformer.named_modules():
        first = getattr(part, "padding_idx", None)
        if name.endswith("position_embeddings") and first is not None:
            # A RoBERTa and its kin count from the row after the padding's.
            return int(part.num_embeddings - first - 1)
    positions = int(getattr(transformer.config, "max_position_embeddings", None) or -1)
    return positions if positions > 0 else None  # an XLNet says -1


def fast_tokenizer(
    tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> "Tokenizer":
    """Return a copy of the Rust tokenizer that cuts at `max_length` and never pads."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.enable_truncation(max_length, strategy="longest_first")
    return backend


def unknown_token(tokenizer: dict[str, Any]) -> int:
    """Return the id for what a tokenizer, in JSON, does not know; -1 if it has none."""
    model = tokenizer["model"]
    unigram = model["type"] == "Unigram"
    found = model["unk_id"] if unigram else model["vocab"].get(model["unk_token"])
    return -1 if found is None else int(found)


def count_unknown(texts: "Sequence[Encoding]", unknown: int, prompt: int = 0) -> int:
    """Count texts most of whose tokens, beside those of a prompt, are `unknown`."""
    count = 0
    for text in texts:
        if unknown in text.ids:
            own = np.array(text.ids)[np.array(text.special_tokens_mask) == 0]
            count += 2 * int((own == unknown).sum()) > len(own) - prompt
    return count


def tell_unknown(count: int, total: int, what: str) -> None:
    """Warn of texts that a tokenizer does not know."""
    if count:
        message = "%d of %d %s are mostly unknown to the tokenizer: take another model"
        log.warning(message, count, total, what)


def _bit_sum(value: Tensor) -> int:
    width = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = value.detach().reshape(-1).view(width[value.element_size()])
    return int(bits.sum(dtype=torch.int64))
