"""A progress bar where someone is watching, and silence where nobody is."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], object]


@contextmanager
def progress(
    total: int, what: str, *, show: bool | None = None, minimum: int = 2_000
) -> Iterator[Advance]:
    """Show a bar on standard error; yields a function that moves it.

    Parameters
    ----------
    total
        Items in all.
    what
        One word in front of the bar.
    show
        True or False decide; None shows it for `minimum` items or more, and only on a
        terminal, so that logs and executed notebooks stay clean.
    minimum
        Fewer items than this would only flicker.
    """
    if show is None:
        show = total >= minimum and sys.stderr.isatty()
    if not show:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=what, unit_scale=True) as bar:
        yield bar.update


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep that library's reports and bars off the screen; restore them afterwards."""
    from transformers.utils import logging as noise

    level, bar = noise.get_verbosity(), noise.is_progress_bar_enabled()
    noise.set_verbosity(logging.CRITICAL)
    noise.disable_progress_bar()
    try:
        yield
    finally:
        noise.set_verbosity(level)
        if bar:
            noise.enable_progress_bar()
