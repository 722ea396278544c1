"""The shape of the house: what imports what, how large it is, what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import states, tiny_encoder

import sbert_lab
from sbert_lab import VectorIndex

PACKAGE = Path(sbert_lab.__file__).parent
TESTS = Path(__file__).parent

#: Each folder may import the ones before it, never a later one. Not `experiments`:
#: only the command line, above them all, asks it to run notebooks.
ORDER = (
    "_utils models index losses datasets evaluation training selection adaptation "
    "experiments __main__"
).split()


def folder_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the first-level names of the package that a file imports, lazily too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively: write the whole name"
            parts = (node.module or "").split(".")
            if parts[0] == "sbert_lab":
                found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
    return found


@pytest.mark.parametrize("place", range(len(ORDER)), ids=ORDER)
def test_imports_run_downwards(place):
    below = set(ORDER[: place + 1])
    paths = [p for p in PACKAGE.rglob("*.py") if folder_of(p) == ORDER[place]]
    assert paths
    for path in paths:
        above = imported(path) - below
        assert not above, f"{path.relative_to(PACKAGE)} imports {sorted(above)}"


def test_every_folder_has_its_place():
    assert {folder_of(p) for p in PACKAGE.rglob("*.py")} == {*ORDER, "__init__"}


def lines(folder: Path) -> int:
    return sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in folder.rglob("*.py")
    )


def test_the_house_stays_small():
    """A budget for the whole, none for a file: a limit a file breeds files."""
    assert lines(PACKAGE) <= 12_000
    assert lines(TESTS) <= 12_000
    entries = {p.name for p in PACKAGE.iterdir()} - {"py.typed", "__pycache__"}
    assert len(entries) <= 12


def test_importing_loads_no_heavy_library():
    heavy = ["transformers", "faiss", "mteb", "sklearn", "matplotlib", "pandas"]
    code = (
        "import sys, sbert_lab; from sbert_lab import SentenceEncoder, VectorIndex;"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_no_global_random_state_is_touched():
    """Loading, encoding and searching leave every global generator as it was."""
    before = states()
    vectors = tiny_encoder().encode(["the cat", "a dog", "a bird"] * 100)
    rng = np.random.default_rng(0)
    vectors = vectors + rng.normal(size=vectors.shape).astype(np.float32)
    VectorIndex.build(vectors, kind="ivfpq", lists=4).search(vectors[:3])
    assert states() == before
