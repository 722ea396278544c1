"""The one entry for texts without pairs: a method's name, an encoder, the texts."""

import difflib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sbert_lab.adaptation.margins import gpl
from sbert_lab.adaptation.outcome import METHODS as ALL_METHODS
from sbert_lab.adaptation.unlabelled import Adapted, simcse, tsdae
from sbert_lab.models.sentence_encoder import SentenceEncoder

#: What can be done with texts alone, by name.
METHODS: dict[str, Callable[..., Adapted]] = {
    "simcse": simcse,
    "tsdae": tsdae,
    "pseudo-labels": gpl,
}


def adapt_without_pairs(
    method: str,
    encoder: SentenceEncoder,
    texts: Sequence[str],
    *,
    epochs: float | None = None,
    batch_size: int | None = None,
    rate: float | None = None,
    seed: int = 0,
    bf16: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    show_progress: bool | None = None,
    **options: Any,  # noqa: ANN401
) -> Adapted:
    """Train an encoder on texts of a domain, in place.

    Parameters
    ----------
    method
        ``"simcse"``, ``"tsdae"`` or ``"pseudo-labels"``.
    encoder
        To be trained; left in evaluation mode.
    texts
        Of the domain.
    epochs, batch_size, rate
        None takes what the method usually takes; `METHODS` holds the functions.
    seed, bf16, folder, resume, show_progress
        As for `simcse`.
    options
        Others of the method: ``temperature`` and ``dropout`` of `simcse`, ``ratio`` of
        `tsdae`, ``judge``, ``generator``, ``per_text`` … of `gpl`.

    Returns
    -------
    Adapted
        What was done: the recipe, the counts, the loss curve.

    Raises
    ------
    ValueError
        No such method, or an option that it does not have.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        if method in ALL_METHODS:
            meant = "; with pairs, call adapt"
        raise ValueError(f"method={method!r}: one of {', '.join(METHODS)}{meant}")
    train = METHODS[method]
    parameters = inspect.signature(train).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"{method} has no option {unknown[0]!r}: {', '.join(known)}")
    usual = {"epochs": epochs, "batch_size": batch_size, "rate": rate}
    return train(
        encoder,
        texts,
        seed=seed,
        bf16=bf16,
        folder=folder,
        resume=resume,
        show_progress=show_progress,
        **{name: value for name, value in usual.items() if value is not None},
        **options,
    )
