"""What `python -m sbert_lab reproduce` and `benchmark` do.

`reproduce` holds our encoder in mteb's own tasks against the published scores of the
same model; `benchmark` measures any model, a reader's own folder too, in the six
tasks of ICD-10-CM.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sbert_lab._utils import results_folder, write_json
from sbert_lab.evaluation import icd10cm_tasks
from sbert_lab.evaluation.mteb import TaskScore, evaluate
from sbert_lab.evaluation.mteb_local import LOCAL_TASKS, with_local_data
from sbert_lab.evaluation.published import published
from sbert_lab.models.registry import BY_NAME, locate
from sbert_lab.models.sentence_encoder import SentenceEncoder

log = logging.getLogger(__name__)

#: Models whose published scores are held against ours, where they are installed.
REPRODUCED = ("all-MiniLM-L6-v2", "all-mpnet-base-v2")

#: Largest difference that still counts as equal, as a fraction. Published figures are
#: rounded to 0.0001, and the order of sums in a matrix product moves a further digit.
TOLERANCE = 0.0002

_VERSIONS = ("mteb", "numpy", "scikit-learn", "scipy", "torch", "transformers")


@dataclass(frozen=True)
class Reproduction:
    """One published score, and ours.

    Parameters
    ----------
    model, task
        What was measured on what.
    theirs
        The published score, a fraction; None where none is on record.
    ours
        What we measured, or None.
    reason
        Why there is no `ours`, and what to do.
    seconds
        How long ours took.
    """

    model: str
    task: str
    theirs: float | None
    ours: float | None
    reason: str = ""
    seconds: float = 0.0

    @property
    def difference(self) -> float | None:
        """Ours less theirs; None where one is missing."""
        if self.ours is None or self.theirs is None:
            return None
        return self.ours - self.theirs

    @property
    def agrees(self) -> bool:
        """Whether both are here and differ by at most `TOLERANCE`."""
        return self.difference is not None and abs(self.difference) <= TOLERANCE


def installed_models() -> list[str]:
    """Return which of `REPRODUCED` are on this machine; the first in any case."""
    first, *others = REPRODUCED
    return [first, *(name for name in others if locate(BY_NAME[name]))]


def reproduce(
    models: Sequence[str] = (),
    tasks: Sequence[str] = LOCAL_TASKS,
    cache_folder: str | Path | None = None,
) -> Iterator[Reproduction]:
    """Measure models in mteb's own tasks, each beside the score that is published.

    Parameters
    ----------
    models
        Names of the catalogue; none takes `installed_models`.
    tasks
        Some of `LOCAL_TASKS`. Those of which no score of the model is on record are
        left out, unless it has none at all.
    cache_folder
        As in `evaluate`; None encodes anew.

    Yields
    ------
    Reproduction
        One a model and task; where a model or its data are missing, one that says what
        to do.
    """
    for model in models or installed_models():
        theirs = {task: _theirs(model, task) for task in tasks}
        wanted = [task for task in tasks if theirs[task] is not None]
        if not wanted:
            reason = f"data/published.json has no score of {model}"
            yield from (Reproduction(model, t, None, None, reason) for t in tasks)
            continue
        try:
            encoder = SentenceEncoder.from_pretrained(model)
        except FileNotFoundError as error:
            for task in wanted:
                yield Reproduction(model, task, theirs[task], None, str(error))
            continue
        for task in wanted:
            try:
                local = with_local_data(task)
            except FileNotFoundError as error:
                yield Reproduction(model, task, theirs[task], None, str(error))
                continue
            (score,) = evaluate(
                encoder, [local], name=_hub_name(model), cache_folder=cache_folder
            )
            yield Reproduction(
                model, task, theirs[task], score.score, seconds=score.seconds
            )


def run_benchmark(
    model: str,
    size: int | None = None,
    cache_folder: str | Path | None = None,
    report: Callable[[TaskScore], None] | None = None,
) -> tuple[tuple[TaskScore, ...], Path]:
    """Measure a model in the six tasks of ICD-10-CM, and write the record.

    Parameters
    ----------
    model
        A name of the catalogue, a folder, or a repository of the hub.
    size, cache_folder
        As in `icd10cm_tasks.benchmark` and `evaluate`.
    report
        Is given each score as soon as it is there.

    Returns
    -------
    scores
        One a task.
    path
        Of the record: JSON, under build/results/benchmark, named by model and weights.
    """
    encoder = SentenceEncoder.from_pretrained(model)
    name = _hub_name(model)
    whole = icd10cm_tasks.benchmark(size)
    scores: tuple[TaskScore, ...] = ()
    for task in whole:
        scores += evaluate(encoder, [task], name=name, cache_folder=cache_folder)
        if report is not None:
            report(scores[-1])
    record = {
        "benchmark": whole.name,
        "model": scores[0].model,
        "revision": scores[0].revision,
        "dimension": encoder.dimension,
        "mean": math.fsum(score.score for score in scores) / len(scores),
        "versions": {package: metadata.version(package) for package in _VERSIONS},
        "tasks": [_finite(asdict(score)) for score in scores],
    }
    short = name.rsplit("/", 1)[-1]
    ending = "" if size is None else f"-size{size}"
    file = f"{short}-{scores[0].revision[:12]}{ending}.json"
    path = results_folder("benchmark") / file
    write_json(path, record)
    return scores, path


def _theirs(model: str, task: str) -> float | None:
    """Return the published score as a fraction, or None if none is on record."""
    try:
        found = published(f"mteb.{model}.{task}")
    except KeyError:
        return None
    value = float(found.value)
    return value / 100 if "100" in found.unit else value


def _hub_name(model: str) -> str:
    """Return the name under which mteb knows a model: ``owner/model``."""
    entry = BY_NAME.get(model)
    if entry is not None and entry.hub:
        return entry.hub
    path = Path(model).expanduser()
    return f"local/{path.resolve().name}" if path.is_dir() else model


def _finite(value: Any) -> Any:  # noqa: ANN401  (whatever json takes)
    """Return a record with None in the place of numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
