"""Memory that a process keeps though nobody needs it, where many models are trained."""

import ctypes
import gc
import os

_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def spare_memory() -> None:
    """Let oneDNN keep few of the programs that it makes, one for each shape it meets.

    Texts of ever new lengths fill its cache with a thousand of them, a gigabyte, and
    hardly one is asked for again. And let collections pass over what is loaded by now,
    mostly libraries: every training ends in several of them. To be called before the
    first training; what the environment says already stays.
    """
    os.environ.setdefault(_CAPACITY, "64")
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Return to the system what was freed, before a training and after it.

    glibc keeps it for later, in pieces that a next training often cannot use: a dozen
    trainings in one process would take half as much again. Elsewhere than on glibc
    only Python's garbage is collected.
    """
    gc.collect()
    if os.name == "posix" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
