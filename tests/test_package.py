"""The shape of the house: what imports what, how large it is, what importing costs."""

import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import grimp
import numpy as np
import pytest
from conftest import states, tiny_encoder

import sbert_lab
from sbert_lab import VectorIndex
from sbert_lab.__main__ import _parser as command_line

PACKAGE = Path(sbert_lab.__file__).parent
TESTS = Path(__file__).parent

#: From the ground up; `pyproject.toml` has the same as import-linter's contract.
ORDER = (
    "_utils models index losses datasets evaluation training selection adaptation "
    "__main__"
).split()


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    """Return what each folder imports of the others, lazy imports too."""
    graph = grimp.build_graph("sbert_lab", "experiments", cache_dir=None)
    found: dict[str, set[str]] = {name: set() for name in ORDER}
    package = {name for name in graph.modules if name.startswith("sbert_lab.")}
    for module in package:
        here = module.split(".")[1]
        for other in graph.find_modules_directly_imported_by(module):
            assert other.startswith("sbert_lab"), f"{module} imports {other}"
            found[here] |= {other.split(".")[1]} - {here}
    return found


def test_import_linter_agrees_and_finds_no_circle():
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [command, "--no-cache", "--no-logo"],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_imports_run_downwards_as_the_picture_shows(arrows):
    """CONTRIBUTING.md shows what each folder imports, nearest first."""
    rows = []
    for place, name in reversed(list(enumerate(ORDER))):
        below = [other for other in reversed(ORDER[:place]) if other in arrows[name]]
        above = arrows[name] - set(below)
        assert not above, f"{name} imports {sorted(above)}"
        rows.append(f"{name:12} -> {' '.join(below)}".rstrip(" ->"))
    picture = "\n".join(rows)
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"<!-- imports -->\n```text\n{picture}\n```" in text, picture


def lines(folder: Path) -> int:
    return sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in folder.rglob("*.py")
    )


def test_the_house_stays_small():
    """A budget for the whole, none for a file: a limit a file breeds files."""
    assert lines(PACKAGE) <= 13_000
    assert lines(PACKAGE.parent / "experiments") <= 1_200
    assert lines(TESTS) <= 13_000
    entries = {p.name for p in PACKAGE.iterdir()} - {"py.typed", "__pycache__"}
    assert len(entries) <= 12


def test_what_the_texts_name_is_here():
    """Links lead to files; README.md's commands, with their options, are there."""
    root = PACKAGE.parent
    for text in [*root.glob("*.md"), *root.glob("data/**/*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text.read_text("utf-8")):
            assert (text.parent / link).exists(), f"{text}: {link}"
    readme = (root / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 150
    makefile = (root / "Makefile").read_text("utf-8")
    for name in re.findall(r"^make (\w+)|`make (\w+)", readme, re.M):
        assert f"\n{''.join(name)}:" in makefile, name
    whole = readme.replace("\\\n", "")
    for line in re.findall(r"^python -m sbert_lab (.+)", whole, re.M):
        words = shlex.split(line, comments=True)
        assert command_line(words[0]).parse_args(words)
    for name in re.findall(r"`(sbert_lab\.[\w.]+)`", readme):
        assert pkgutil.resolve_name(name)


IMPORTS = """
import random, sys
import numpy as np, torch
from sbert_lab import SentenceEncoder, VectorIndex

def loaded(*names):
    return sorted(set(names) & set(sys.modules))

def states():
    numbers = np.random.get_state()[1].tolist()
    return random.getstate(), numbers, torch.get_rng_state().tolist()

print(loaded("transformers", "faiss", "mteb", "sklearn", "matplotlib", "pandas"))
from sbert_lab.evaluation import benchmark
from sbert_lab.evaluation.mteb import using_mteb
print(loaded("mteb", "datasets"))
before = states()
with using_mteb():
    pass
print(loaded("mteb"), states() == before)
"""


def test_what_importing_loads_and_that_no_generator_is_seeded_by_it():
    """mteb seeds the world while it is imported: seen only in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", "[]", "['mteb'] True"]


def test_no_global_random_state_is_touched():
    """Loading, encoding and searching leave every global generator as it was."""
    before = states()
    vectors = tiny_encoder().encode(["the cat", "a dog", "a bird"] * 100)
    rng = np.random.default_rng(0)
    vectors = vectors + rng.normal(size=vectors.shape).astype(np.float32)
    VectorIndex.build(vectors, kind="ivfpq", nlist=4).search(vectors[:3])
    assert states() == before
