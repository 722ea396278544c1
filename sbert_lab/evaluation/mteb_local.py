"""mteb's own tasks on copies of their data that lie on this machine.

The metrics, the prompts, the name and the protocol stay mteb's; only the download is
left out, so that a score can be held against the published one.
"""

from typing import TYPE_CHECKING, Any

from sbert_lab.datasets.sts import ScoredPairs, banking77, sick, stsb
from sbert_lab.evaluation.mteb import using_mteb

if TYPE_CHECKING:
    from mteb import AbsTask

#: The tasks of which a local copy can be read.
LOCAL_TASKS = ("STSBenchmark", "SICK-R", "Banking77Classification")


def with_local_data(task: str) -> "AbsTask":
    """Return mteb's own task with its data read from this machine.

    The metrics, the prompts and the name stay mteb's. The data are those of
    `sbert_lab.datasets`: a copy under ``$SBERT_LAB_DATA_HOME``, or the hub's.

    Parameters
    ----------
    task
        One of `LOCAL_TASKS`.

    Raises
    ------
    FileNotFoundError
        The data are not here; says how to get them.
    """
    if task not in LOCAL_TASKS:
        raise ValueError(
            f"no local reader for {task!r}, only for {', '.join(LOCAL_TASKS)}; "
            "evaluate takes any name of mteb and asks the hub for its data"
        )
    columns: dict[str, dict[str, Any]]
    if task == "Banking77Classification":
        sides = {split: banking77(split) for split in ("train", "test")}
        names = sorted(set(sides["train"].labels), key=str.lower)  # as the hub does
        numbers = {name: number for number, name in enumerate(names)}
        columns = {
            split: {"text": s.texts, "label": [numbers[n] for n in s.labels]}
            for split, s in sides.items()
        }
    else:
        columns = {"test": _columns(stsb() if task == "STSBenchmark" else sick("all"))}
    with using_mteb() as mteb:
        from datasets import Dataset, DatasetDict

        made: AbsTask = mteb.get_task(task)
        made.dataset = DatasetDict(
            {
                split: Dataset.from_dict({k: list(v) for k, v in named.items()})
                for split, named in columns.items()
            }
        )
        made.data_loaded = True
    return made


def _columns(pairs: ScoredPairs) -> dict[str, Any]:
    """Return scored pairs under the names that mteb gives their columns."""
    named = {"sentence1": pairs.first, "sentence2": pairs.second}
    return {**named, "score": pairs.score}
