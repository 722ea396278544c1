"""A better model from texts alone: SimCSE and TSDAE.

Neither needs to know which texts belong together, and so neither can teach it: they
make the encoder at home in the domain's words. `pseudo_labels` goes further, at the
price of a second model.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from sbert_lab.adaptation.outcome import Method
from sbert_lab.datasets.pairs import DataError, plain
from sbert_lab.losses.denoising import DenoisingAutoEncoderLoss
from sbert_lab.losses.objective import Objective
from sbert_lab.losses.simcse import SimCSELoss
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training.data import TrainingData
from sbert_lab.training.trainer import fit, set_dropout

log = logging.getLogger(__name__)

_DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob")


@dataclass(frozen=True)
class Adapted:
    """How an encoder was trained without pairs.

    Parameters
    ----------
    method
        ``"simcse"``, ``"tsdae"`` or ``"pseudo-labels"``.
    recipe
        Every setting, by name; for records.
    texts, duplicates
        How many different texts were read, and how many more said the same
        (`datasets.pairs.plain`) and were left out.
    rows
        What was trained on: the texts, or the rows of pseudo-labels.
    steps
        Of the whole training, those before a resumption included.
    curve
        Step and training loss.
    mined
        How many candidates mining took away, by reason; empty if nothing was mined.
    counts
        What else is worth knowing about the data, e.g. queries left out.
    """

    method: Method
    recipe: Mapping[str, Any]
    texts: int
    duplicates: int
    rows: int
    steps: int
    curve: tuple[tuple[int, float], ...]
    mined: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


def different_texts(texts: Sequence[str], least: int = 2) -> list[str]:
    """Check texts, and return them without those that another one repeats.

    Texts are the same if `datasets.pairs.plain` makes them so; the first one stays.

    Parameters
    ----------
    texts
        The domain's texts.
    least
        How many there must be.

    Raises
    ------
    DataError
        Every row that is not a text.
    ValueError
        Fewer different texts than `least`.
    """
    if isinstance(texts, str):
        raise DataError(["texts is one text, not a list"])
    problems = [
        f"texts, row {row}: "
        f"{'empty' if isinstance(text, str) else type(text).__name__}, not a text; "
        "take that row out"
        for row, text in enumerate(texts)
        if not isinstance(text, str) or not text.strip()
    ]
    if problems:
        raise DataError(problems)
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(plain(text), text)
    if len(found) < least:
        raise ValueError(
            f"{len(found)} different texts among {len(texts)}, and at least {least} "
            "are needed for one batch: bring more texts or lower batch_size"
        )
    if len(found) < len(texts):
        log.warning(
            "%d of %d texts repeat another one and are left out",
            len(texts) - len(found),
            len(texts),
        )
    return list(found.values())


def simcse(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    *,
    epochs: float = 1,
    batch_size: int = 64,
    rate: float = 3e-5,
    temperature: float = 0.05,
    dropout: float | None = 0.1,
    seed: int = 0,
    bf16: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    show_progress: bool | None = None,
    **arguments: Any,  # noqa: ANN401
) -> Adapted:
    """Train an encoder on texts alone by unsupervised SimCSE, in place.

    A text is embedded twice with different units dropped, and shall be nearer to itself
    than to the other texts of its batch. This spreads the vectors out; which texts mean
    the same is not taught. It helps a model most that was only pre-trained; for one
    trained on pairs the loss begins near 0. See `losses.simcse.SimCSELoss`.

    Parameters
    ----------
    encoder
        To be trained; left in evaluation mode.
    texts
        Of the domain, at least a batch of different ones. They are read without a
        prompt; put one in front of them if the encoder needs it.
    epochs, batch_size, rate
        How often each text is seen, texts in a step (the others are the negatives), and
        the highest learning rate.
    temperature
        τ of the loss.
    dropout
        Set in every layer while training lasts, and set back; None takes what is there.
        The paper found 0.1 to be best.
    seed
        Of the order of texts and of dropout.
    bf16
        Half precision on devices that have it; losses stay in float32.
    folder, resume
        Where checkpoints go, one an epoch, and whether to go on from the last one.
    show_progress
        A bar on standard error; by default on a terminal, for 100 steps or more.
    arguments
        Others of `SentenceTrainingArguments`.

    Returns
    -------
    Adapted
        What was done.

    Raises
    ------
    DataError, ValueError
        Texts that are empty or too few, an encoder without dropout, a number out of
        range; before the first step.

    Source: Gao, Yao and Chen 2021, section 3.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: above 0; the paper's is 0.05")
    if dropout == 0:
        raise ValueError(
            "dropout=0: SimCSE tells a text's two vectors apart by dropout alone; the "
            "paper's is 0.1"
        )
    return _trained(
        "simcse",
        encoder,
        texts,
        lambda: SimCSELoss(temperature),
        dropout=dropout,
        own={"temperature": temperature, "dropout": dropout},
        settings={
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": rate,
            "seed": seed,
            "bf16": bf16,
        },
        where={"folder": folder, "resume": resume, "show_progress": show_progress},
        arguments=arguments,
    )


def tsdae(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    *,
    epochs: float = 1,
    batch_size: int = 8,
    rate: float = 3e-5,
    ratio: float = 0.6,
    seed: int = 0,
    bf16: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    show_progress: bool | None = None,
    **arguments: Any,  # noqa: ANN401
) -> Adapted:
    """Train an encoder on texts alone by TSDAE, in place.

    Words of a text are deleted, and a decoder, which is thrown away afterwards, must
    write the whole text from the vector of what is left. See
    `losses.denoising.DenoisingAutoEncoderLoss`.

    Parameters
    ----------
    encoder
        To be trained, without a dense layer, of an architecture that has a causal form
        (BERT has, MPNet has not); left in evaluation mode.
    texts
        Of the domain, at least a batch of different ones. The paper had 10 000 and
        more.
    epochs, batch_size, rate
        How often each text is seen, texts in a step, and the highest learning rate.
    ratio
        How many words are deleted.
    seed
        Of the order of texts, the deletions, dropout and the decoder.
    bf16, folder, resume, show_progress, arguments
        As for `simcse`.

    Returns
    -------
    Adapted
        What was done.

    Raises
    ------
    DataError, ValueError
        Texts that are empty or too few, an encoder that no decoder fits, a number out
        of range; before the first step.

    Source: Wang, Reimers and Gurevych 2021.
    """
    return _trained(
        "tsdae",
        encoder,
        texts,
        lambda: DenoisingAutoEncoderLoss(encoder, ratio, seed=seed),
        own={"ratio": ratio},
        settings={
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": rate,
            "seed": seed,
            "bf16": bf16,
        },
        where={"folder": folder, "resume": resume, "show_progress": show_progress},
        arguments=arguments,
    )


def _trained(
    method: Method,
    encoder: SentenceEncoder,
    texts: Sequence[str],
    objective: Callable[[], Objective],
    *,
    own: Mapping[str, Any],
    settings: Mapping[str, Any],
    where: Mapping[str, Any],
    arguments: Mapping[str, Any],
    dropout: float | None = None,
) -> Adapted:
    """Check the texts and train on the column ``text``."""
    kept = different_texts(texts, max(2, settings["batch_size"]))
    data = TrainingData({"text": kept}, source="texts")
    with _dropout_set(encoder, dropout):
        found = fit(encoder, data, objective(), **settings, **where, **arguments)
    return Adapted(
        method,
        {**settings, **own, **arguments},
        texts=len(kept),
        duplicates=len(texts) - len(kept),
        rows=len(kept),
        steps=found[-1][0],
        curve=found,
    )


@contextmanager
def _dropout_set(encoder: SentenceEncoder, probability: float | None) -> Iterator[None]:
    """Set the dropout of every layer, and set it back; None leaves it alone."""
    if probability is None:
        yield
        return
    config = encoder.transformer.config
    layers = [
        (part, name, getattr(part, name))
        for part in encoder.modules()
        for name in ("p", "attention_dropout")
        if (name == "attention_dropout" or isinstance(part, nn.Dropout))
        and isinstance(getattr(part, name, None), (float, int))
    ]
    written = [(config, name, getattr(config, name, None)) for name in _DROPOUT]
    set_dropout(encoder, probability)
    try:
        yield
    finally:
        for owner, name, value in [*layers, *written]:
            if hasattr(owner, name):
                setattr(owner, name, value)
