"""What is freed is given back."""

import subprocess
import sys

import pytest

from sbert_lab._utils import limit_memory, release_memory

VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def test_what_the_environment_says_stays(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    import os

    limit_memory()
    assert os.environ[VARIABLE] == "64"
    monkeypatch.setenv(VARIABLE, "7")
    limit_memory()
    assert os.environ[VARIABLE] == "7"


def test_collections_pass_over_what_is_loaded():
    import gc

    frozen = gc.get_freeze_count()
    loaded = [[] for _ in range(1_000)]
    limit_memory()
    assert gc.get_freeze_count() - frozen >= len(loaded)


#: Frees 200 MB below a piece that stays, so that the heap cannot shrink by itself.
HOLES = """
from sbert_lab.memory import give_back

def resident():
    with open("/proc/self/status") as file:
        return next(int(l.split()[1]) for l in file if l.startswith("VmRSS")) // 1024

pieces = [bytearray(50_000) for _ in range(4_000)]
last = bytearray(50_000)
full = resident()
del pieces
before = resident()
release_memory()
print(full - before, before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is asked")
def test_holes_in_the_heap_are_given_back():
    done = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, check=True
    )
    by_itself, by_asking = map(int, done.stdout.split())
    assert by_asking > 150 > by_itself


def test_garbage_is_collected():
    import weakref

    class Ring:
        pass

    ring = Ring()
    ring.itself = ring
    there = weakref.ref(ring)
    del ring
    release_memory()
    assert there() is None
