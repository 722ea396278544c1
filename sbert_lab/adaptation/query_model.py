"""Queries written by a model that reads a text: doc2query, or any encoder–decoder."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from sbert_lab._utils import progress, quiet_transformers, random_state_kept
from sbert_lab.adaptation.generators import text_generator
from sbert_lab.models.batching import evaluating
from sbert_lab.models.checkpoint import CheckpointError
from sbert_lab.models.fingerprint import Fingerprint, idle_settings_removed
from sbert_lab.models.registry import resolve

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)


class Seq2SeqGenerator:
    """Queries sampled from an encoder–decoder, such as a doc2query T5.

    Every word is drawn among the likeliest ones that together have the probability
    `top_p`. The draws of a text follow from the seed and the text alone, not from its
    place, its batch or any global state.

    Parameters
    ----------
    model
        A transformers model with ``generate``, that has an encoder and a decoder.
    tokenizer
        Its tokenizer.
    prompt
        What stands in front of every text, for models that were trained so, e.g.
        ``"generate query: "``.
    top_p
        Above 0, up to 1, which leaves all words in. GPL's is 0.95.
    temperature
        What the logits are divided by; below 1 the queries are tamer.
    longest_text, longest_query
        In tokens; longer texts are cut.
    batch_size
        Queries written together; changes speed and memory.
    show_progress
        A bar on standard error; by default for long work on a terminal.

    Use `from_pretrained` to load one.

    Sources: Nogueira and Lin 2019 (doc2query T5); Holtzman et al. 2020, section 3.1
    (nucleus sampling).
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        prompt: str = "",
        top_p: float = 0.95,
        temperature: float = 1.0,
        longest_text: int = 350,
        longest_query: int = 64,
        batch_size: int = 16,
        show_progress: bool | None = None,
    ) -> None:
        if not getattr(model.config, "is_encoder_decoder", False):
            raise CheckpointError(
                f"{type(model).__name__} is no encoder–decoder; give a model such as "
                "T5 or BART that was trained to write queries"
            )
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p={top_p}: above 0, up to 1")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: above 0")
        sizes = {
            "longest_text": longest_text,
            "longest_query": longest_query,
            "batch_size": batch_size,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name}={value}: one or more")
        self.model: Any = model
        self.tokenizer = tokenizer
        self.prompt, self.top_p, self.temperature = prompt, top_p, temperature
        self.longest_text, self.longest_query = longest_text, longest_query
        self.batch_size, self.show_progress = batch_size, show_progress
        self._fingerprint = Fingerprint()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device: str | torch.device | None = None,
        allow_hub: bool = True,
        **options: Any,  # noqa: ANN401
    ) -> Self:
        """Load a model's folder, or ``"owner/name"`` on the hub.

        Parameters
        ----------
        name_or_path
            Where ``config.json``, safetensors and the tokenizer are.
        device
            ``"cpu"``, ``"cuda"`` …; the default is the GPU if there is one.
        allow_hub
            False never asks the network.
        options
            Those of the class.

        Raises
        ------
        FileNotFoundError, CheckpointError
            Each with what to do.
        """
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        folder = resolve(name_or_path, allow_hub=allow_hub)
        only: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet_transformers(), random_state_kept():
                tokenizer = AutoTokenizer.from_pretrained(folder, **only)
                model, report = AutoModelForSeq2SeqLM.from_pretrained(
                    folder,
                    dtype=torch.float32,
                    use_safetensors=True,
                    output_loading_info=True,
                    **only,
                )
        except Exception as error:  # the library raises many kinds
            raise CheckpointError(
                f"{folder} cannot be loaded as an encoder–decoder: "
                f"{type(error).__name__}: {error}. It needs safetensors; a pickle "
                "(*.bin) can run code and is not read: load it where you trust it, "
                "save as safetensors"
            ) from error
        if report["missing_keys"]:
            raise CheckpointError(
                f"{folder} lacks weights, first {min(report['missing_keys'])}; an "
                "encoder alone cannot write queries"
            )
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device).eval(), tokenizer, **options)

    def generate(
        self, texts: Sequence[str], per_text: int, seed: int
    ) -> list[list[str]]:
        """Write `per_text` queries for each text; some may be equal, or empty."""
        if per_text < 1:
            raise ValueError(f"per_text={per_text}: one or more")
        with quiet_transformers():  # about lengths, of which we say more below
            whole = self.tokenizer([self.prompt + text for text in texts])["input_ids"]
        sizes = [len(ids) for ids in whole]
        cut = sum(size > self.longest_text for size in sizes)
        if cut:
            log.warning(
                "%d of %d texts are longer than %d tokens and were cut there",
                cut,
                len(texts),
                self.longest_text,
            )
        found: list[list[str]] = [[] for _ in texts]
        order = sorted(range(len(texts)), key=lambda row: -sizes[row])
        step = max(1, self.batch_size // per_text)
        with (
            evaluating(self.model),
            progress(len(texts), "queries", show=self.show_progress) as move,
        ):
            for start in range(0, len(texts), step):
                rows = order[start : start + step]
                made = self._written([texts[row] for row in rows], per_text, seed)
                for place, row in enumerate(rows):
                    found[row] = made[place * per_text : (place + 1) * per_text]
                move(len(rows))
        return found

    def fingerprint(self) -> str:
        """Return the sha256 that names model and settings in records."""
        settings = {
            "config": idle_settings_removed(self.model.config.to_diff_dict()),
            "prompt": self.prompt,
            "top_p": self.top_p,
            "temperature": self.temperature,
            "longest": [self.longest_text, self.longest_query],
        }
        return self._fingerprint.of(self.model, settings)

    def _written(self, texts: list[str], per_text: int, seed: int) -> list[str]:
        """Return `per_text` queries for the first text, then for the second …."""
        read = self.tokenizer(
            [self.prompt + text for text in texts for _ in range(per_text)],
            padding=True,
            truncation=True,
            max_length=self.longest_text,
            return_tensors="pt",
        ).to(self.model.device)
        draws = np.concatenate(
            [
                text_generator(text, seed).random((per_text, self.longest_query))
                for text in texts
            ]
        )
        choose = [
            TemperatureLogitsWarper(float(self.temperature)),
            TopPLogitsWarper(float(self.top_p)),
            _Draw(torch.from_numpy(draws).to(self.model.device)),
        ]
        with torch.inference_mode(), quiet_transformers():
            ids = self.model.generate(
                input_ids=read["input_ids"],
                attention_mask=read["attention_mask"],
                do_sample=False,  # the draw is ours, and leaves one word to take
                num_beams=1,
                num_return_sequences=1,
                max_new_tokens=self.longest_query,
                logits_processor=LogitsProcessorList(choose),
            )
        written = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [query.strip() for query in written]


class _Draw(LogitsProcessor):
    """Leaves the one word that a uniform number falls on, ``[B, steps]``.

    transformers samples from the global generator only; so the draw is made here.
    """

    def __init__(self, uniform: Tensor) -> None:
        self.uniform, self.step = uniform, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        del input_ids
        total = scores.double().softmax(-1).cumsum(-1)  # [B, V]
        wanted = self.uniform[:, self.step, None] * total[:, -1:]
        self.step += 1
        # The first word whose sum is above: one of probability 0 is never it.
        chosen = torch.searchsorted(total, wanted, right=True)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(1, chosen.clamp(max=scores.shape[1] - 1), 0.0)
