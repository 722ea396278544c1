"""What `python -m sbert_lab benchmark` does, with and without ``--published``."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from sbert_lab._utils import results_folder, write_json
from sbert_lab.evaluation.mteb import (
    LOCAL_TASKS,
    TaskScore,
    evaluate,
    icd10cm_benchmark,
    with_local_data,
)
from sbert_lab.evaluation.published import published_row
from sbert_lab.models.registry import BY_NAME
from sbert_lab.models.sentence_encoder import SentenceEncoder

#: Largest difference that still counts as equal: published figures are rounded.
TOLERANCE = 0.0002

_VERSIONS = ("mteb", "numpy", "scikit-learn", "scipy", "torch", "transformers")


@dataclass(frozen=True)
class Reproduction:
    """One published score and ours, as fractions; without ours the reason why."""

    model: str
    task: str
    theirs: float | None
    ours: float | None = None
    reason: str = ""

    @property
    def agrees(self) -> bool:
        """Whether both are here and differ by at most `TOLERANCE`."""
        if self.ours is None or self.theirs is None:
            return False
        return abs(self.ours - self.theirs) <= TOLERANCE


def reproduce(model: str) -> Iterator[Reproduction]:
    """Measure a model in mteb's own tasks, beside published scores, task by task.

    Where the model or the data are missing, the `Reproduction` says what to do.
    """
    known = published_row("mteb", model)
    for task in LOCAL_TASKS:
        if task not in known:
            reason = f"data/published.json has no score of {model}"
            yield Reproduction(model, task, None, reason=reason)
            continue
        theirs = known[task] / 100
        try:
            encoder = SentenceEncoder.from_pretrained(model)
            local = with_local_data(task)
        except FileNotFoundError as error:
            yield Reproduction(model, task, theirs, reason=str(error))
            continue
        (ours,) = evaluate(encoder, [local], name=_hub_name(model))
        yield Reproduction(model, task, theirs, ours.score)


def run_benchmark(
    model: str, report: Callable[[TaskScore], None]
) -> tuple[tuple[TaskScore, ...], Path]:
    """Measure a model in the six tasks of ICD-10-CM, and write the record.

    `report` is given each score as soon as it is there. Returns the scores and the
    record's path: JSON, under build/results/benchmark, named by model and weights.
    """
    encoder = SentenceEncoder.from_pretrained(model)
    name = _hub_name(model)
    scores: tuple[TaskScore, ...] = ()
    for task in icd10cm_benchmark():
        scores += evaluate(encoder, [task], name=name)
        report(scores[-1])
    record = {
        "benchmark": "ICD-10-CM(eng)",
        "model": name,
        "revision": encoder.fingerprint(),
        "dimension": encoder.dimension,
        "mean": math.fsum(score.score for score in scores) / len(scores),
        "versions": {package: metadata.version(package) for package in _VERSIONS},
        "tasks": [asdict(score) for score in scores],
    }
    file = f"{name.rsplit('/', 1)[-1]}-{encoder.fingerprint()[:12]}.json"
    path = results_folder("benchmark") / file
    write_json(path, record)
    return scores, path


def _hub_name(model: str) -> str:
    """Return the name under which mteb knows a model: ``owner/model``."""
    entry = BY_NAME.get(model)
    if entry is not None and entry.hub:
        return entry.hub
    path = Path(model).expanduser()
    return f"local/{path.resolve().name}" if path.is_dir() else model
