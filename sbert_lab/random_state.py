"""The global random state: what other libraries seed, and dropout draws from."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave every global generator as it was, whatever is drawn or seeded inside."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
