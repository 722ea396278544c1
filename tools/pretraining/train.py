"""Training: a small BERT whose embeddings begin at the static vectors.

Masked-language modelling, alone or with next-sentence prediction, on transformers' own
Trainer, which brings checkpoints, resuming, precision and devices.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    DataCollatorForLanguageModeling,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from tools.pretraining.corpus import load_table
from tools.pretraining.prepare import CLS, PAD, SEP, SPECIAL_TOKENS

Model = BertForMaskedLM | BertForPreTraining
MEASURES = ("masked_accuracy", "nsp_accuracy")
SENTENCE_ENDS = [".", "?", "!", ";"]  # dictionaries part definitions with the last


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
    ends
        Tokens that end a sentence, which `Pairs` need.
    """

    def __init__(
        self,
        streams: Mapping[str, NDArray[np.int16]],
        weights: Mapping[str, float],
        length: int,
        rows: int | None = None,
        seed: int = 0,
        ends: Sequence[int] = (),
    ) -> None:
        self.ends = ends
        self.span = length - 2
        self.ids = np.concatenate(list(streams.values()))
        bounds = np.cumsum([len(stream) for stream in streams.values()])
        rng = np.random.default_rng(seed)
        starts: list[Any] = []
        while not starts or (rows is not None and len(starts) < rows):
            shown: list[Any] = []
            for name, end in zip(streams, bounds, strict=True):
                found = self._places(end - len(streams[name]), end, rng)
                share = round(min(1.0, weights[name]) * len(found))
                shown += rng.permutation(found)[:share].tolist()
            if not shown:
                raise ValueError(f"no source has {length} tokens: bring more text")
            starts += rng.permutation(shown).tolist()
        self.starts = starts[:rows]

    def _places(self, first: int, end: int, rng: Generator) -> NDArray[np.int64]:
        """Choose where the rows of one pass over one source start."""
        return np.arange(first + rng.integers(self.span), end - self.span, self.span)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.starts)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return the token ids of a row."""
        start = self.starts[row]
        text = self.ids[start : start + self.span].tolist()
        return {"input_ids": [CLS, *text, SEP]}


class Pairs(Chunks):
    """Rows of ``[CLS] A [SEP] B [SEP]``: B follows A (label 0), or does not (label 1).

    A ends with a sentence, B begins with the next one, and their random lengths fill
    the row unless the document is shorter. Half of the rows exchange their B within a
    source: only what A speaks of tells (Devlin et al. 2019, section 3.1, task 2).
    """

    def _places(self, first: int, end: int, rng: Generator) -> NDArray[np.int64]:
        """Choose the end of each A, the start of each B, and the length of A."""
        seen = np.cumsum(self.ids[first:end] == SEP)
        cuts = np.flatnonzero(np.isin(self.ids[first:end], self.ends)) + 1
        cuts = cuts[(cuts >= self.span) & (cuts <= len(seen) - self.span)]
        least = self.span // 8 + 1  # tokens of one document on both sides
        cuts = cuts[seen[cuts - least - 1] == seen[cuts + least - 1]]
        cuts = first + rng.permutation(cuts)[: len(seen) // self.span]
        moved = len(cuts) // 2
        starts = np.concatenate([np.roll(cuts[:moved], 1), cuts[moved:]])
        sizes = rng.integers(least, self.span - least, len(cuts))
        return np.stack([cuts, starts, sizes], axis=1)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return tokens, segments and label of a row."""
        cut, start, size = self.starts[row]
        before = self.ids[cut - size : cut].tolist()[::-1]
        after = self.ids[start : start + self.span - size - 1].tolist()
        a, b = (part[: [*part, SEP].index(SEP)] for part in (before, after))
        return {
            "input_ids": [CLS, *a[::-1], SEP, *b, SEP],
            "token_type_ids": [0] * (len(a) + 2) + [1] * (len(b) + 1),
            "next_sentence_label": int(cut != start),
        }


OBJECTIVES = {"mlm": (BertForMaskedLM, Chunks), "mlm+nsp": (BertForPreTraining, Pairs)}


def train(
    data: Path,
    run: Path,
    init: Path | None = None,
    *,
    objective: str = "mlm",
    max_tokens: float = 150e6,
    rows: int = 48,
    length: int = 64,
    learning_rate: float = 1e-3,
    warmup_steps: int = 400,
    cooldown_steps: int = 6500,
    seed: int = 0,
    bf16: bool = False,
    save_steps: int = 1000,
    model: Model | None = None,
) -> Trainer:
    """Train on a prepared folder, or go on from the run's last checkpoint.

    The learning rate warms up, stays, and falls to zero over the last steps.

    Parameters
    ----------
    data, run
        The prepared folder; the run folder to write.
    init
        Folder of exported weights to start from; None starts from the static vectors.
    objective
        ``mlm``, or ``mlm+nsp``, which asks [CLS] about `Pairs` besides.
    max_tokens
        How many are seen in all, the padding of short pairs included.
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
    kind, make = OBJECTIVES[objective]
    if init is not None:
        if (init / "vocab.txt").read_bytes() != (data / "vocab.txt").read_bytes():
            raise ValueError(
                f"{init} and {data} have different vocabularies: prepare the data with "
                f"--tokenizer {init}"
            )
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        set_seed(seed)  # of heads that the folder lacks
        model = kind.from_pretrained(init, dtype=torch.float32, **still)
        if model.config.architectures == ["BertForMaskedLM"]:  # it saw one segment only
            segments = model.bert.embeddings.token_type_embeddings.weight.data
            segments[1] = segments[0]
    if model is None:
        statics = load_file(data / "static_vectors.safetensors")
        model = make_model(statics, seed, kind=kind)
    weights = {row["source"]: float(row["weight"]) for row in load_table(data)}
    steps = math.ceil(max_tokens / (rows * length))
    text = load_file(data / "train.safetensors")
    unseen = load_file(data / "heldout.safetensors")
    all_of_it = dict.fromkeys(unseen, 1.0)
    ends = tokenizer.convert_tokens_to_ids(SENTENCE_ENDS)
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
        train_dataset=make(text, weights, length, steps * rows, seed, ends),
        eval_dataset=make(unseen, all_of_it, length, 24 * rows, 0, ends),
        processing_class=tokenizer,
        compute_metrics=accuracies,
        preprocess_logits_for_metrics=_guesses,
    )
    checkpoint = get_last_checkpoint(str(run)) if run.is_dir() else None
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model(str(run))
    trainer.save_state()
    return trainer


def accuracies(results: EvalPrediction) -> dict[str, float]:
    """Return the shares of masked tokens, and of labels of pairs, that were guessed."""
    labels = results.label_ids
    labels = labels if isinstance(labels, tuple) else (labels,)
    parts = zip(MEASURES, results.predictions, labels, strict=False)
    return {name: float((a == b)[b != -100].mean()) for name, a, b in parts}


def _guesses(logits: Tensor | tuple[Tensor, ...], _: object) -> tuple[Tensor, ...]:
    """Keep of all logits the best place, which takes a fraction of the memory."""
    parts = logits if isinstance(logits, tuple) else (logits,)
    return tuple(part.argmax(-1) for part in parts)


def make_model(
    statics: Mapping[str, NDArray[Any]],
    seed: int,
    *,
    layers: int = 4,
    hidden: int = 256,
    heads: int = 4,
    positions: int = 128,
    rms: float = 0.04,
    kind: type[Model] = BertForMaskedLM,
) -> Model:
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
    kind
        The encoder with its heads.
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
        model = kind(config)
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
