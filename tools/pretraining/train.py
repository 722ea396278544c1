"""Training: a small BERT whose embeddings begin at the static vectors.

Masked-language modelling on transformers' own Trainer, which brings checkpoints,
resuming, precision and devices.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from tools.pretraining.corpus import load_table
from tools.pretraining.prepare import CLS, PAD, SEP, SPECIAL_TOKENS


class Chunks(Dataset[dict[str, list[int]]]):
    """Rows of ``[CLS] text [SEP]``, `length` tokens each.

    Every pass over a source cuts it elsewhere, and shows of it what its weight says.

    Parameters
    ----------
    streams
        Token ids by source, each at least `length` long to count.
    weights
        By source.
    length
        Tokens in a row.
    rows
        How many rows; None for one pass over everything.
    seed
        Of the cuts and of the choice.
    """

    def __init__(
        self,
        streams: Mapping[str, NDArray[np.int16]],
        weights: Mapping[str, float],
        length: int,
        rows: int | None = None,
        seed: int = 0,
    ) -> None:
        self.span = length - 2
        self.ids = np.concatenate(list(streams.values()))
        ends = np.cumsum([len(stream) for stream in streams.values()])
        rng = np.random.default_rng(seed)
        starts: list[int] = []
        while not starts or (rows is not None and len(starts) < rows):
            shown: list[int] = []
            for name, end in zip(streams, ends, strict=True):
                first = end - len(streams[name]) + rng.integers(self.span)
                found = np.arange(first, end - self.span, self.span)
                share = round(min(1.0, weights[name]) * len(found))
                shown += rng.permutation(found)[:share].tolist()
            if not shown:
                raise ValueError(f"no source has {length} tokens: bring more text")
            starts += rng.permutation(shown).tolist()
        self.starts = starts[:rows]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.starts)

    def __getitem__(self, row: int) -> dict[str, list[int]]:
        """Return the token ids of a row."""
        start = self.starts[row]
        text = self.ids[start : start + self.span].tolist()
        return {"input_ids": [CLS, *text, SEP]}


def train(
    data: Path,
    run: Path,
    init: Path | None = None,
    *,
    max_tokens: float = 150e6,
    rows: int = 48,
    length: int = 64,
    learning_rate: float = 1e-3,
    warmup_steps: int = 400,
    cooldown_steps: int = 6500,
    seed: int = 0,
    bf16: bool = False,
    save_steps: int = 1000,
    model: BertForMaskedLM | None = None,
) -> Trainer:
    """Train on a prepared folder, or go on from the run's last checkpoint.

    The learning rate warms up, stays, and falls to zero over the last steps.

    Parameters
    ----------
    data, run
        The prepared folder; the run folder to write.
    init
        Folder of exported weights to start from; None starts from the static vectors.
    max_tokens
        How many are seen in all.
    rows, length
        Shape of a batch.
    learning_rate, warmup_steps, cooldown_steps
        The highest rate, and the phases before and after it.
    seed
        Of weights, batches and masks.
    bf16
        Whether matrix products are in bfloat16.
    save_steps
        Steps between checkpoints, and between held-out measures.
    model
        To start from instead.
    """
    tokenizer = AutoTokenizer.from_pretrained(data, local_files_only=True)
    if init is not None:
        if (init / "vocab.txt").read_bytes() != (data / "vocab.txt").read_bytes():
            raise ValueError(
                f"{init} and {data} have different vocabularies: prepare the data with "
                f"--tokenizer {init}"
            )
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        model = BertForMaskedLM.from_pretrained(init, dtype=torch.float32, **still)
    if model is None:
        model = make_model(load_file(data / "static_vectors.safetensors"), seed)
    weights = {row["source"]: float(row["weight"]) for row in load_table(data)}
    steps = math.ceil(max_tokens / (rows * length))
    text = load_file(data / "train.safetensors")
    unseen = load_file(data / "heldout.safetensors")
    trainer = Trainer(
        model,
        TrainingArguments(
            str(run),
            max_steps=steps,
            per_device_train_batch_size=rows,
            per_device_eval_batch_size=rows,
            learning_rate=learning_rate,
            warmup_steps=warmup_steps,
            lr_scheduler_type="warmup_stable_decay",
            lr_scheduler_kwargs={"num_decay_steps": cooldown_steps},
            adam_beta2=0.98,
            adam_epsilon=1e-6,
            weight_decay=0.01,
            max_grad_norm=1.0,
            seed=seed,
            bf16=bf16,
            eval_strategy="steps",
            eval_steps=save_steps,
            save_steps=save_steps,
            save_total_limit=2,
            report_to="none",
        ),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
        train_dataset=Chunks(text, weights, length, steps * rows, seed),
        eval_dataset=Chunks(unseen, dict.fromkeys(unseen, 1.0), length, 24 * rows),
        processing_class=tokenizer,
    )
    checkpoint = get_last_checkpoint(str(run)) if run.is_dir() else None
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model(str(run))
    trainer.save_state()
    return trainer


def make_model(
    statics: Mapping[str, NDArray[Any]],
    seed: int,
    *,
    layers: int = 4,
    hidden: int = 256,
    heads: int = 4,
    positions: int = 128,
    rms: float = 0.04,
) -> BertForMaskedLM:
    """Return a new BERT that starts from static vectors and log-frequencies.

    Rows of the token embeddings are the static vectors at equal length, those of the
    position embeddings sine waves of the same size, and the output bias is the log of
    the unigram frequencies. The global random state stays as it was.

    Parameters
    ----------
    statics
        ``vectors`` and ``frequency`` of a prepared folder.
    seed
        Of all other weights.
    layers, hidden, heads, positions
        Size of the encoder; the feed-forward layers are four times as wide.
    rms
        Root mean square of the embeddings' entries.
    """
    vectors = torch.from_numpy(statics["vectors"].astype(np.float32))
    frequency = torch.from_numpy(statics["frequency"].astype(np.float32))
    config = BertConfig(
        vocab_size=len(vectors),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=positions,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForMaskedLM(config)
        with torch.no_grad():
            table = model.bert.embeddings.word_embeddings.weight
            table.normal_(0.0, 0.02)
            width = min(vectors.shape[1], hidden)
            known = F.normalize(vectors[:, :width], dim=1) * (rms * math.sqrt(width))
            table[:, :width] = known
            table[: len(SPECIAL_TOKENS)].normal_(0.0, rms)
            table[PAD].zero_()
            model.bert.embeddings.position_embeddings.weight.copy_(
                rms * math.sqrt(2.0) * sine_waves(positions, hidden)
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
