"""The model: a small BERT whose embeddings begin at the static vectors."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM

from sbert_lab._utils import quiet_transformers
from tools.pretraining.vocabulary import PAD, SPECIAL_TOKENS


@dataclass(frozen=True)
class Shape:
    """Size of the encoder."""

    layers: int = 4
    hidden: int = 256
    heads: int = 4
    intermediate: int = 1024
    positions: int = 128


def make_model(
    shape: Shape, statics: Mapping[str, NDArray[Any]], seed: int, rms: float = 0.04
) -> BertForMaskedLM:
    """Return a new BERT that starts from static vectors and log-frequencies.

    Rows of the token embeddings are the static vectors at equal length, those of the
    position embeddings sine waves of the same size, and the output bias is the log of
    the unigram frequencies. The global random state stays as it was.

    Parameters
    ----------
    shape
        Size of the encoder.
    statics
        ``vectors`` and ``frequency`` of a prepared folder.
    seed
        Of all other weights.
    rms
        Root mean square of the embeddings' entries.
    """
    vectors = torch.from_numpy(statics["vectors"].astype(np.float32))
    frequency = torch.from_numpy(statics["frequency"].astype(np.float32))
    model = _empty(
        BertConfig(
            vocab_size=len(vectors),
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.intermediate,
            max_position_embeddings=shape.positions,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=PAD,
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.normal_(0.0, 0.02, generator=generator)
            else:
                parameter.fill_(1.0 if "LayerNorm.weight" in name else 0.0)
        table = model.bert.embeddings.word_embeddings.weight
        width = min(vectors.shape[1], shape.hidden)
        rows = F.normalize(vectors[:, :width], dim=1) * (rms * math.sqrt(width))
        table[:, :width] = rows
        table[: len(SPECIAL_TOKENS)].normal_(0.0, rms, generator=generator)
        table[PAD].zero_()
        model.bert.embeddings.position_embeddings.weight.copy_(
            rms * math.sqrt(2.0) * sine_waves(shape.positions, shape.hidden)
        )
        model.cls.predictions.bias.copy_(torch.log(frequency + 1e-7))
    return model


def sine_waves(positions: int, size: int, longest: float = 1000.0) -> Tensor:
    """Return sines and cosines of each position, ``[positions, size]``.

    There are ``size / 2`` wavelengths, the shortest first.

    Source: Vaswani et al. 2017, section 3.5.
    """
    rates = torch.exp(-math.log(longest) * torch.arange(0, size, 2) / size)
    angles = torch.arange(float(positions))[:, None] * rates[None, :]
    waves = torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1)
    return waves.reshape(positions, size)


def model_of(config: Mapping[str, Any]) -> BertForMaskedLM:
    """Return a model of this configuration, its weights yet to be read."""
    return _empty(BertConfig.from_dict(dict(config)))


def _empty(config: BertConfig) -> BertForMaskedLM:
    # Its first weights are drawn from the global generator, and then overwritten.
    with torch.random.fork_rng(devices=[]):
        return BertForMaskedLM(config)


def load_model(folder: Path) -> BertForMaskedLM:
    """Read exported weights in float32, dropout off."""
    with quiet_transformers():
        model: BertForMaskedLM = BertForMaskedLM.from_pretrained(
            folder,
            dtype=torch.float32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    return model


def check_vocabulary(folder: Path, data: Path) -> None:
    """Raise ValueError where weights and prepared data count words differently."""
    name = "vocab.txt"
    if (folder / name).read_bytes() != (data / name).read_bytes():
        raise ValueError(
            f"{folder} and {data} have different vocabularies: prepare the data with "
            f"--tokenizer {folder}"
        )


def place(model: BertForMaskedLM, device: torch.device) -> None:
    """Move a model to the device that trains it."""
    nn.Module.to(model, device)  # the model's own wrapper of it has no types
    if device.type == "cpu":
        # The backward pass of the fused attention kernel is the slower one on a CPU.
        model.set_attn_implementation("eager")


def masked_logits(model: BertForMaskedLM, ids: Tensor, chosen: Tensor) -> Tensor:
    """Return logits at the chosen positions, ``[chosen, V]``.

    Leaving the others out spares most of the output layer's work.
    """
    hidden = model.bert(input_ids=ids).last_hidden_state
    logits: Tensor = model.cls.predictions(hidden[chosen])
    return logits


def autocast(
    device: torch.device, enabled: bool
) -> contextlib.AbstractContextManager[Any]:
    """Return a context with matrix products in bfloat16, or one that does nothing."""
    if enabled:
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
