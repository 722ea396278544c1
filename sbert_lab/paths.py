"""Where the notebooks, their records and what is made from them lie."""

import os
from pathlib import Path

RESULTS = "SBERT_LAB_RESULTS"


def root() -> Path:
    """Return the project's folder: the nearest one above that holds ``notebooks``.

    Falls back to the present folder, so that a notebook copied elsewhere still runs.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package, Path.cwd(), *Path.cwd().parents):
        if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    return Path.cwd()


def notebooks() -> list[Path]:
    """Return the notebooks in order."""
    return sorted((root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def build_folder() -> Path:
    """Return the folder of what `make notebooks` makes; never committed."""
    return root() / "build"


def results_folder(profile: str) -> Path:
    """Return where a run's record goes: ``$SBERT_LAB_RESULTS``, or under build/.

    The committed records of data/results are written only by ``run --update``.
    """
    base = os.environ.get(RESULTS)
    return (Path(base) if base else build_folder() / "results") / profile


def committed_results(profile: str) -> Path:
    """Return the folder of the committed records."""
    return root() / "data" / "results" / profile
