"""Adapt a model: check, measure, mine, train, average, measure again, save.

Everything that can be refused is refused before the first second of computation.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from numpy.typing import NDArray
from transformers import TrainerCallback

from sbert_lab.adaptation.data import Data, from_pairs, from_texts, sha256
from sbert_lab.adaptation.folder import Folder
from sbert_lab.adaptation.job import Job, Place, Taught, run
from sbert_lab.adaptation.outcome import Method, Outcome
from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.adaptation.stages import (
    is_large,
    objective,
    prompts,
    train,
    training_data,
)
from sbert_lab.adaptation.without_pairs import METHODS
from sbert_lab.datasets.pairs import Pairs, plain
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.losses import DenoisingAutoEncoderLoss
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training.hard_negatives import (
    Guard,
    Mined,
    NoNegativesError,
    Rows,
    mine,
)
from sbert_lab.training.trainer import has_fast_bfloat16

log = logging.getLogger(__name__)

#: Settings that say how a training is watched, not what it does.
_WATCHING = {"save_strategy": "steps", "save_steps": 0.05, "logging_steps": 0.05}


def adapt(
    base: str | Path,
    pairs: Pairs,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    test: Pairs | None = None,
    corpus: Sequence[str] | None = None,
    guard: Guard | None = None,
    known: Sequence[tuple[str, str]] = (),
    general: Mapping[str, ScoredPairs] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    watch: Callable[[str], object] | None = None,
    show_progress: bool | None = None,
) -> Outcome:
    """Adapt a model to pairs, and say what that brought and what it cost.

    Called again after an interruption, with the same arguments, it goes on; called
    again when all is done, it returns what was found.

    Parameters
    ----------
    base
        A model's name, folder or hub repository.
    pairs
        What belongs together, e.g. queries and answers; from `read_pairs`.
    out
        The folder to fill: new, empty, or that of an earlier call.
    recipe
        How; None for the defaults.
    test
        Other pairs, to test on; None keeps some of `pairs` aside, whole groups that
        share no text with the rest.
    corpus
        What is searched, and where hard negatives come from. By default the answers of
        training and test are searched, and negatives are answers of training.
    guard
        As in `mining.mine`: a function of rows of `pairs` and rows of `corpus` to bool,
        True where the two must not meet. Needs a corpus.
    known
        Further pairs (anchor, text) that belong together and are no wrong answers.
    general
        Scored pairs by name, to see what is lost elsewhere; None takes
        `measuring.general_sets`.
    callbacks
        For the training, as in transformers.
    watch
        Called with the name of each stage when it begins.
    show_progress
        Bars on standard error; by default for long work on a terminal.

    Returns
    -------
    Outcome
        Also in `out`, as JSON and as a page, beside the model.

    Raises
    ------
    DataError, ValueError, OSError, CheckpointError
        Before anything is computed, with what to change.

    Sources: Henderson et al. 2017 (in-batch negatives), Karpukhin et al. 2020 (mined
    ones), Wortsman et al. 2022 (the average with the base).
    """
    started, recipe = perf_counter(), recipe or Recipe()
    if guard is not None and corpus is None:
        raise ValueError("guard speaks of rows of the corpus; give corpus=… too")
    folder = Folder(out)
    data = from_pairs(pairs, recipe, test, corpus)
    sums = dict(data.sha256)
    if known:
        sums["known pairs"] = sha256(sorted(known))
    if guard is not None:
        sums["guard"] = sha256(_name(guard))

    def teach(encoder: SentenceEncoder, place: Place) -> Taught:
        return teach_pairs(
            encoder,
            data,
            recipe,
            place,
            guard=guard,
            known=known,
            callbacks=callbacks,
        )

    job = Job(str(base), "pairs", recipe.as_json(), recipe.keep, data, sums, teach)
    return run(
        job,
        folder,
        general=general,
        watch=watch,
        show_progress=show_progress,
        started=started,
    )


def adapt_texts(
    base: str | Path,
    texts: Sequence[str],
    out: str | Path,
    *,
    method: Method,
    epochs: float | None = None,
    batch: int | None = None,
    rate: float | None = None,
    keep: float = 0.0,
    seed: int = 0,
    source: str = "texts",
    test: Pairs | None = None,
    corpus: Sequence[str] | None = None,
    general: Mapping[str, ScoredPairs] | None = None,
    watch: Callable[[str], object] | None = None,
    show_progress: bool | None = None,
    **options: Any,  # noqa: ANN401
) -> Outcome:
    """Adapt a model to texts alone, where there are no pairs to train on.

    Parameters
    ----------
    base, out, general, watch, show_progress
        As `adapt`.
    texts
        Of the domain.
    method
        ``"simcse"``, ``"tsdae"`` or ``"pseudo-labels"``; see `without_pairs`.
    epochs, batch, rate
        None takes what suits the method.
    keep
        Share of the base's weights in the average at the end.
    seed
        Of the batches and all else that is drawn.
    source
        What to call the texts in messages and records.
    test, corpus
        Pairs to test on, if there are some, and what is searched; by default the
        answers of the test.
    options
        Others of the method: ``judge`` of pseudo-labels, ``ratio`` of tsdae …

    Raises
    ------
    DataError, ValueError, OSError, CheckpointError
        Before anything is computed, with what to change.
    """
    started = perf_counter()
    settings = _settings(method, epochs, batch, rate, seed, options)
    if not 0 <= keep <= 1:
        raise ValueError(f"keep={keep}: from 0 to 1")
    folder = Folder(out)
    data = from_texts(texts, source, test, corpus)
    if method != "pseudo-labels" and settings["batch_size"] > data.facts["train"]:
        raise ValueError(
            f"{source}: a batch of {settings['batch_size']} is larger than the "
            f"{data.facts['train']} different texts; take a smaller one"
        )
    named = {key: _name(value) for key, value in settings.items()}
    sums = data.sha256 | {"recipe": sha256({**named, "keep": keep})}

    def teach(encoder: SentenceEncoder, place: Place) -> Taught:
        own: dict[str, Any] = dict(settings)
        if method == "pseudo-labels":
            own["cache"] = place.cache
        with place.clock.stage("train"):
            found = METHODS[method](
                encoder,
                data.texts,
                bf16=has_fast_bfloat16(),
                folder=folder.checkpoints,
                resume=True,
                show_progress=show_progress,
                **own,
                **_WATCHING,
            )
        return Taught(
            found.curve,
            found.mined,
            {k: v for k, v in found.recipe.items() if k not in _WATCHING}
            | {"keep": keep},
            {"repeated": found.duplicates, "rows": found.rows}
            | ({"made up": dict(found.counts)} if found.counts else {}),
        )

    def check(encoder: SentenceEncoder) -> None:
        if method == "tsdae":  # not every architecture has a decoder
            DenoisingAutoEncoderLoss(encoder)

    job = Job(str(base), method, {}, keep, data, sums, teach, check)
    return run(
        job,
        folder,
        general=general,
        watch=watch,
        show_progress=show_progress,
        started=started,
    )


def teach_pairs(
    encoder: SentenceEncoder,
    data: Data,
    recipe: Recipe,
    place: Place,
    *,
    guard: Guard | None = None,
    known: Sequence[tuple[str, str]] = (),
    callbacks: Sequence[TrainerCallback] = (),
) -> Taught:
    """Mine and train, in place, or go on where an earlier call was stopped.

    Parameters
    ----------
    encoder
        The base, as it was at the first call.
    data
        Its ``train``, ``rows`` and ``candidates``.
    recipe
        All but its share for the average, which is not made here.
    place
        Where checkpoints and vectors are kept.
    guard, known, callbacks
        As `adapt`.
    """
    if data.train is None:
        raise ValueError("there are no pairs to teach; see adapt_texts")
    mined, removed = _mined(encoder, data, recipe, guard, known, place)
    with place.clock.stage("train"):
        rows = training_data(encoder, data.train, mined)
        curve = train(
            encoder,
            rows,
            objective(
                recipe,
                [*known, *_several(data.train)],
                prompts(encoder),
                in_parts=is_large(encoder, rows, recipe.batch),
            ),
            recipe,
            place.folder.checkpoints if place.checkpoints else None,
            place.clock,
            callbacks=callbacks,
            show_progress=place.show,
        )
    return Taught(curve, removed, facts={"negatives": sum(map(len, mined))})


def _settings(
    method: str,
    epochs: float | None,
    batch: int | None,
    rate: float | None,
    seed: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what the method is called with, its own defaults filled in."""
    if method not in METHODS:
        raise ValueError(f"method {method!r}: one of {', '.join(METHODS)}")
    known = inspect.signature(METHODS[method]).parameters
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"{method} has no option {unknown[0]!r}")
    if method == "pseudo-labels" and options.get("judge") is None:
        raise ValueError(
            "pseudo-labels need a judge, for what it knows is what is learnt: a "
            "cross-encoder, or similarity_judge of a better encoder"
        )
    asked = {"epochs": epochs, "batch_size": batch, "rate": rate}
    for name, value in asked.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value}: above 0")
    usual = {
        name: known[name].default if value is None else value
        for name, value in asked.items()
    }
    return {**usual, "seed": seed, **options}


def hard_negatives(
    encoder: SentenceEncoder,
    data: Data,
    recipe: Recipe,
    *,
    guard: Guard | None = None,
    known: Sequence[tuple[str, str]] = (),
    cache: EmbeddingCache | None = None,
    show_progress: bool | None = None,
) -> Mined:
    """Mine as a recipe says, for the pairs that are trained on; see `mining.mine`."""
    assert data.train is not None
    return mine(
        encoder,
        data.train.anchor,
        data.train.positive,
        corpus=data.candidates,
        per_anchor=recipe.negatives,
        rank=recipe.rank,
        relative_margin=recipe.relative_margin,
        known=known,
        guard=None if guard is None else _Guarded(guard, data.rows),
        sampling="random",
        seed=recipe.seed,
        cache=cache,
        show_progress=show_progress,
    )


def _mined(
    encoder: SentenceEncoder,
    data: Data,
    recipe: Recipe,
    guard: Guard | None,
    known: Sequence[tuple[str, str]],
    place: Place,
) -> tuple[list[list[str]], dict[str, int]]:
    """Return the hard negatives of each pair, and what was taken away.

    A base that knows nothing of the domain may find none that is safe; the other
    answers of a batch are then all there is to learn from.
    """
    if not recipe.negatives:
        return [], {}
    with place.clock.stage("mine"):
        try:
            found = hard_negatives(
                encoder,
                data,
                recipe,
                guard=guard,
                known=known,
                cache=place.cache,
                show_progress=place.show,
            )
        except NoNegativesError as error:
            log.warning("trained without mined negatives: %s", error)
            return [], {}
    columns = found.columns()["negative"]
    return [list(texts) for texts in columns], dict(found.removed)


class _Guarded:
    """A guard that knows rows of the whole file, for the rows that are trained on."""

    def __init__(self, guard: Guard, rows: Sequence[int]) -> None:
        import numpy as np

        self.guard, self.rows = guard, np.array(rows, np.int64)

    def __call__(self, pairs: Rows, corpus: Rows) -> NDArray[Any]:
        """Ask it."""
        return self.guard(self.rows[pairs], corpus)


def _several(pairs: Pairs) -> list[tuple[str, str]]:
    """Return the pairs of anchors that have several answers: none is a wrong one.

    In every spelling of an anchor that the file has, for texts have numbers by how
    they are written.
    """
    answers: dict[str, dict[str, None]] = {}
    spelt: dict[str, dict[str, None]] = {}
    for anchor, positive in zip(pairs.anchor, pairs.positive, strict=True):
        answers.setdefault(plain(anchor), {})[positive] = None
        spelt.setdefault(plain(anchor), {})[anchor] = None
    return [
        (anchor, positive)
        for key, found in answers.items()
        if len(found) > 1
        for anchor in spelt[key]
        for positive in found
    ]


def _name(value: object) -> object:
    """Name an option for a plan: by its fingerprint, if it has one."""
    told = getattr(value, "fingerprint", None)
    if callable(told):
        return told()
    if value is None or isinstance(value, str | int | float | bool | list | tuple):
        return value
    return type(value).__name__
