"""The transformer and its tokenizer, loaded strictly from a local folder."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sbert_lab._utils import quiet_transformers
from sbert_lab.models.checkpoint import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: No network, and no code from the folder.
LOCALLY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}

#: And no pickle; what is missing or of another shape is told, in our words.
STRICTLY: dict[str, Any] = LOCALLY | {
    "dtype": torch.float32,
    "use_safetensors": True,
    "output_loading_info": True,
    "ignore_mismatched_sizes": True,
}

_NO_LIMIT = 1_000_000  # tokenizers without a limit of their own carry a huge number


def load(folder: Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load a transformer in float32 and its tokenizer from a folder.

    Half-precision weights are widened. Safetensors only, no code from the folder, no
    network. Every weight the model needs must be there with the right shape; only an
    unused pooler may be absent, and is then left out.

    Raises
    ------
    CheckpointError
        Damaged files, or weights that are another model's.
    """
    from transformers import AutoModel, AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, **LOCALLY)
            model, report = AutoModel.from_pretrained(folder, **STRICTLY)
    except Exception as error:  # the library raises many kinds for a damaged file
        raise cannot_be_loaded(folder, error) from error
    missing = sorted(k for k in report["missing_keys"] if not k.startswith("pooler."))
    refuse_others(folder, missing, report["mismatched_keys"])
    if any(key.startswith("pooler.") for key in report["missing_keys"]):
        model.pooler = None  # else it would be random numbers, and saved as if learnt
    return model, tokenizer


def cannot_be_loaded(folder: Path, error: Exception) -> CheckpointError:
    """Return the error for files that the library gives up on."""
    return CheckpointError(
        f"{folder} cannot be loaded: {type(error).__name__}: {error}. If the files "
        "look right, copy them again"
    )


def refuse_others(
    folder: Path, missing: Sequence[str], mismatched: Iterable[Sequence[object]]
) -> None:
    """Raise where weights are missing, or are of another shape than the config's."""
    wrong = sorted(str(key[0]) for key in mismatched)
    if missing or wrong:
        raise CheckpointError(
            f"{folder}: the weights do not belong to this config.json: "
            f"{len(missing)} tensors missing, {len(wrong)} of another shape, first "
            f"{[*missing, *wrong][0]}; copy both from the same model"
        )


def length_limit(
    wanted: int | None,
    tokenizer: "PreTrainedTokenizerBase",
    transformer: "PreTrainedModel",
) -> int:
    """Return the longest input in tokens: as wanted, or what the model bears."""
    bears = [
        limit
        for limit in (
            tokenizer.model_max_length,
            getattr(transformer.config, "max_position_embeddings", None),
        )
        if limit is not None and 0 < limit < _NO_LIMIT
    ]
    if wanted is None:
        return min(bears, default=512)
    positions = getattr(transformer.config, "max_position_embeddings", None)
    if positions is not None and wanted > positions:
        raise CheckpointError(
            f"max_seq_length {wanted} is more than the {positions} positions of the "
            "transformer; lower it in sentence_bert_config.json"
        )
    return wanted


def fast_tokenizer(
    tokenizer: "PreTrainedTokenizerBase", max_length: int, do_lower_case: bool
) -> "Tokenizer":
    """Return a copy of the Rust tokenizer that cuts at `max_length` and never pads."""
    from tokenizers import Tokenizer, normalizers

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.enable_truncation(max_length, strategy="longest_first")
    if do_lower_case:
        lower = [normalizers.Lowercase()]
        if backend.normalizer is not None:
            lower.append(backend.normalizer)
        backend.normalizer = normalizers.Sequence(lower)
    return backend


def encoding_part(backend: "Tokenizer") -> str:
    """Return what of a tokenizer decides token ids, as JSON: all but its decoder."""
    parts = json.loads(backend.to_str())
    parts.pop("decoder", None)
    return json.dumps(parts, sort_keys=True)
