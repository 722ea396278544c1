"""Trained models that are kept between runs, so that a second run need not train again.

A model is known by its recipe: the data, the settings, the weights it starts from, and
the code that trains it. If one of these changes, it is trained anew.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from sbert_lab._utils import release_memory, sha256_file
from sbert_lab.experiments.profiles import Profile
from sbert_lab.experiments.trials import raw_encoder, train
from sbert_lab.losses import Objective
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.registry import cache_home
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training import TrainingData

log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parents[1]

#: What cannot change the weights: everything that only measures, searches or shows.
_ELSEWHERE = {
    *("__main__.py", "evaluation", "lab", "pretrain", "selection"),
    *(
        "chunks.py",
        "fusion.py",
        "memory.py",
        "passages.py",
        "reranking.py",
    ),
    *(f"adaptation/{name}.py" for name in ("command", "domains", "measuring")),
    *(f"adaptation/{name}.py" for name in ("folder", "options", "outcome")),
    *(f"adaptation/{name}.py" for name in ("pictures", "report", "texts")),
    *(f"adaptation/{name}.py" for name in ("two_stages", "verdict")),
}


def trained(
    name: str,
    recipe: Mapping[str, object],
    make: Callable[[], SentenceEncoder | CrossEncoder],
) -> tuple[Path, bool]:
    """Return the folder of a trained model, and whether it was trained just now.

    Parameters
    ----------
    name
        What the folder is called, before the hash.
    recipe
        All that decides the weights besides the package's code; must be plain data.
    make
        Trains it.
    """
    written = json.dumps([dict(recipe), _code()], sort_keys=True)
    digest = hashlib.sha256(written.encode()).hexdigest()[:12]
    folder = cache_home() / "trained" / f"{name}-{digest}"
    if folder.is_dir():
        return folder, False
    release_memory()
    make().save(folder)
    release_memory()
    log.info("%s is kept in %s", name, folder)
    return folder, True


def train_and_keep(
    profile: Profile,
    name: str,
    data: TrainingData,
    objective: Callable[[SentenceEncoder], Objective],
    *,
    seed: int = 0,
) -> tuple[Path, bool]:
    """Train the profile's raw BERT as `trials.train` does, once for each recipe.

    The learning rate is that of an ablation. `name` must say what `objective` makes.
    """
    recipe = {
        "objective": name,
        "data": data.fingerprint(),
        "raw": raw_encoder(profile).fingerprint(),
        "rows": profile.rows,
        "rate": profile.ablation_rate,
        "dropout": profile.dropout,
        "seed": seed,
    }
    rate = profile.ablation_rate
    return trained(
        name,
        recipe,
        lambda: train(profile, data, objective, seed=seed, rate=rate).encoder,
    )


def _code() -> list[str]:
    """Return the hashes of the modules that can change what a training gives."""
    return [
        sha256_file(path)
        for path in sorted(_PACKAGE.rglob("*.py"))
        if _ELSEWHERE.isdisjoint(_with_parents(path.relative_to(_PACKAGE)))
    ]


def _with_parents(path: Path) -> set[str]:
    return {part.as_posix() for part in (path, *path.parents)}
