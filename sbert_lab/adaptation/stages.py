"""The stages of a run, their seconds, and what each leaves for the next start."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from sbert_lab._utils import quiet_transformers, write_json
from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
    Objective,
)
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training import TrainingData
from sbert_lab.training.trainer import fit, has_fast_bfloat16

log = logging.getLogger(__name__)

Curve = tuple[tuple[int, float], ...]

#: Tokens of a batch, by device; a larger one is cut into parts (`losses.cached`), which
#: takes a third more time, and memory for one part only.
PLAIN_TOKENS = {"cpu": 8_192, "cuda": 1 << 17, "mps": 1 << 15}


class Clock:
    """Seconds by stage, over all starts of a run.

    Parameters
    ----------
    path
        Where they are kept.
    watch
        Called with the name of each stage when it begins.
    """

    def __init__(self, path: Path, watch: Callable[[str], object] | None) -> None:
        self._path, self._watch = path, watch
        self.seconds: dict[str, float] = {}
        if path.is_file():
            self.seconds = json.loads(path.read_text(encoding="utf-8"))
        self._running = ("", 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the seconds of a block."""
        log.info("%s …", name)
        self._running = (name, time.perf_counter())
        if self._watch is not None:
            self._watch(name)
        try:
            yield
        finally:
            self.save()
        log.info("%s: %.1f s", name, self.seconds[name])

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that were spent elsewhere."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def save(self) -> None:
        """Write what is known by now; a killed process loses what comes after."""
        name, since = self._running
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - since
        self._running = (name, now)
        write_json(self._path, self.seconds)


class _Saving(TrainerCallback):
    """Writes the seconds with every checkpoint."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_save(self, args, state, control, **_) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003
        del args, state, control
        self.clock.save()


def training_data(
    encoder: SentenceEncoder,
    pairs: Pairs,
    mined: Sequence[Sequence[str]],
) -> TrainingData:
    """Return rows of anchor, positive and all negatives, each with its prompt.

    Parameters
    ----------
    encoder
        Whose prompts for queries and documents stand in front of the texts, as they
        will in use.
    pairs
        Their own negative comes first, if they have one.
    mined
        For each row those that were mined; empty for none.
    """
    query, document = prompts(encoder)
    own = [[text] for text in pairs.negative] if pairs.negative else [[]] * len(pairs)
    negatives = [
        [document + text for text in dict.fromkeys([*first, *more])]
        for first, more in zip(own, mined or [[]] * len(pairs), strict=True)
    ]
    columns: dict[str, Sequence[Any]] = {
        "anchor": [query + text for text in pairs.anchor],
        "positive": [document + text for text in pairs.positive],
    }
    if any(negatives):
        columns["negative"] = negatives
    data = TrainingData(columns, source=str(pairs.source))
    data.row_names = pairs.rows
    return data


def is_large(encoder: SentenceEncoder, data: TrainingData, batch: int) -> bool:
    """Return whether a batch has too many tokens to keep all its activations."""
    data.tokenize(encoder)
    tokens = batch * float(data.lengths().mean())
    return tokens > PLAIN_TOKENS.get(encoder.device.type, PLAIN_TOKENS["cpu"])


def objective(
    recipe: Recipe,
    known: Sequence[tuple[str, str]],
    prefixes: tuple[str, str],
    *,
    in_parts: bool = False,
) -> Objective:
    """Return multiple negatives ranking.

    Parameters
    ----------
    recipe
        Its temperature and batch.
    known
        (anchor, positive) pairs that are no wrong answers in any batch.
    prefixes
        Prompts of anchors and of positives.
    in_parts
        Whether a batch goes through the model in parts; see `is_large`.
    """
    options: dict[str, Any] = {
        "known": [(prefixes[0] + a, prefixes[1] + p) for a, p in known]
    }
    if in_parts:
        return CachedMultipleNegativesRankingLoss(recipe.temperature, **options)
    return MultipleNegativesRankingLoss(recipe.temperature, **options)


def train(
    encoder: SentenceEncoder,
    data: TrainingData,
    loss: Objective,
    recipe: Recipe,
    folder: Path | None,
    clock: Clock,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    show_progress: bool | None = None,
) -> Curve:
    """Train an encoder in place, going on from the last checkpoint in `folder`.

    With no folder no checkpoint is written.

    Returns
    -------
    tuple
        Step and training loss.
    """
    with quiet_transformers():
        return fit(
            encoder,
            data,
            loss,
            folder=folder,
            epochs=recipe.epochs,
            batch_size=recipe.batch,
            learning_rate=recipe.rate,
            seed=recipe.seed,
            bf16=has_fast_bfloat16(),
            resume=folder is not None,
            callbacks=[_Saving(clock), *callbacks],
            show_progress=show_progress,
            warmup_steps=recipe.warmup,
            save_strategy="no" if folder is None else "steps",
            save_steps=0.1,
        )


def prompts(encoder: SentenceEncoder) -> tuple[str, str]:
    """Return what an encoder puts in front of queries and of documents."""
    named: Mapping[str, str] = encoder.prompts
    usual = named.get(encoder.layout.default_prompt or "", "")
    query = named.get("query") or usual
    names = ("document", "passage", "corpus")
    document = next((named[name] for name in names if named.get(name)), usual)
    return query, document
