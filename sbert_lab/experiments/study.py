"""The full study behind a notebook: many jobs, each kept on disk, and their record.

A script ``studies/NN_slug.py`` says what the jobs are (`Study.add`) and what follows
from their results (`Study.record`); `main` runs it. A stopped study goes on with the
job it was at, and several processes may share one.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import ArrayLike, NDArray

from sbert_lab._utils import (
    RESULTS,
    committed_results,
    limit_memory,
    machine,
    release_memory,
    results_folder,
    write_bytes,
    write_json,
)
from sbert_lab.adaptation.recipe import sha256_of
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.experiments import profiles
from sbert_lab.experiments.record import as_json, checksums, versions
from sbert_lab.experiments.runs import TRAINING_VERSION
from sbert_lab.experiments.timing import timed
from sbert_lab.models.registry import cache_home

#: What a job gives: arrays by name, one number an item, or a single number.
Items = Mapping[str, NDArray[Any]]

_SECONDS = "seconds of the job"  # is kept beside its arrays
_POLL = 5.0  # seconds between looks at jobs that others do


@dataclass(frozen=True)
class Job:
    """One piece of work, the seconds it should take, and the file of its result."""

    name: str
    make: Callable[[], Mapping[str, ArrayLike]]
    seconds: float
    path: Path

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return self.path.is_file()

    def items(self) -> dict[str, NDArray[Any]]:
        """Return the result."""
        with np.load(self.path, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files if name != _SECONDS}

    def took(self) -> float:
        """Return the seconds that the work took."""
        with np.load(self.path, allow_pickle=False) as kept:
            return float(kept[_SECONDS])

    def do(self) -> bool:
        """Do the work and keep the result; False if it is done, or done elsewhere."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        try:  # the system lets go of the lock of a process that is killed
            if self.done:
                return False
            made, seconds = timed(self.make)
            arrays = {name: np.asarray(values) for name, values in made.items()}
            if any(array.dtype.hasobject for array in arrays.values()):
                raise TypeError(f"{self.name}: give arrays of numbers or of text")
            buffer = BytesIO()
            np.savez(buffer, **arrays, **{_SECONDS: np.array(seconds)})
            write_bytes(self.path, buffer.getvalue())
            release_memory()
            return True
        finally:
            lock.release()


class Study:
    """The jobs of the full study of ``"NN_slug"`` and, once they are done, its record.

    The checksums of `uses`, names of models and data, go into the record.
    """

    def __init__(self, notebook: str, *, uses: Sequence[str] = ()) -> None:
        self.notebook, self.profile = notebook, profiles.current()
        self.sources = checksums(uses, allow_hub=True)
        self.jobs: list[Job] = []
        self.results: dict[str, dict[str, Any]] = {}

    def add(
        self,
        name: str,
        make: Callable[[], Mapping[str, ArrayLike]],
        *,
        seconds: float,
        depends: Mapping[str, object],
    ) -> None:
        """Add a job: `make` gives arrays by name, in about so many `seconds`.

        `depends` is all that decides the result, as plain data: sizes, seeds, settings,
        hashes of data and models. It is the key under which the result is kept, with
        the notebook, the profile and `TRAINING_VERSION`.
        """
        told = [self.notebook[:2], self.profile.name, TRAINING_VERSION, dict(depends)]
        file = cache_home() / "study" / f"{sha256_of(told)[:16]}.npz"
        for job in self.jobs:
            if name == job.name or file == job.path:
                raise ValueError(
                    f"{name!r} has the name of {job.name!r}, or depends on the same: "
                    "give each its own name, and say in `depends` what differs"
                )
        self.jobs.append(Job(name, make, seconds, file))

    def missing(self) -> list[str]:
        """Return the names of the jobs without a result."""
        return [job.name for job in self.jobs if not job.done]

    def run(self, *, wait: bool = True) -> dict[str, Items]:
        """Do what is not done yet, and return the results by the names of the jobs.

        Jobs that another process is at are waited for. Without `wait` they are not, and
        nothing is returned.
        """
        while rest := [job for job in self.jobs if not job.done]:
            did = [self._report(job) for job in rest if job.do()]
            if not did and not wait:
                return {}
            time.sleep(0 if did else _POLL)
        return self.items()

    def items(self) -> dict[str, Items]:
        """Return the results by the names of the jobs; all of them must be done."""
        if missing := self.missing():
            raise RuntimeError(f"not done yet: {'; '.join(missing)}")
        return {job.name: job.items() for job in self.jobs}

    def left(self) -> float:
        """Return the seconds that the rest will take, as wrong as the guesses were."""
        done = [job for job in self.jobs if job.done]
        guessed = sum(job.seconds for job in done)
        rest = sum(job.seconds for job in self.jobs) - guessed
        return rest * (sum(job.took() for job in done) / guessed if guessed else 1.0)

    def _report(self, job: Job) -> None:
        number = len(self.jobs) - len(self.missing())
        print(
            f"job {number} of {len(self.jobs)}, {job.took():.0f} s: {job.name}; "
            f"about {self.left() / 60:.0f} min left",
            flush=True,
        )

    def record(self, key: str, value: float | Interval, unit: str) -> None:
        """Put a value into the record; templates of `answer` name it as ``{key}``."""
        if key in self.results or set(key) & set("{}:\n"):
            raise ValueError(f"{key!r} is recorded twice, or has one of {{ }} : in it")
        self.results[key] = as_json(value) | {"unit": unit}

    def write(self) -> Path:
        """Write the record and return its path.

        That of the full profile is committed; any other goes under build/, and all of
        them under ``$SBERT_LAB_RESULTS`` where that is set.
        """
        self.items()  # all are there
        name = self.profile.name
        committed = name == "full" and RESULTS not in os.environ
        folder = committed_results(name) if committed else results_folder(name)
        path = folder / f"{self.notebook[:2]}.json"
        spent = {
            "seconds": round(sum(job.took() for job in self.jobs), 1),
            "jobs": len(self.jobs),
            "processor": machine(),
        }
        record = {
            "format": 1,
            "notebook": self.notebook,
            "profile": name,
            "versions": versions(),
            "sources": self.sources,
            "results": self.results,
            "run": spent,
        }
        write_json(path, record)
        return path


def main(
    build: Callable[[], Study],
    conclude: Callable[[Study, Mapping[str, Items]], None],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a study from the command line, in the full profile unless another is named.

    `build` makes the study with its jobs; `conclude` is given the study and the results
    by the names of the jobs, and records what follows. Returns the exit status.
    """
    parser = argparse.ArgumentParser(description="Make the record of a full study.")
    what = parser.add_mutually_exclusive_group()
    flag: Any = {"action": "store_true"}
    what.add_argument("--list", **flag, help="show the jobs; do none")
    what.add_argument("--only-jobs", **flag, help="help another process; write nothing")
    what.add_argument("--write", **flag, help="write the record of what is there")
    options = parser.parse_args(arguments)
    os.environ.setdefault(profiles.VARIABLE, "full")
    study = build()
    if options.list:
        for job in study.jobs:
            state = f"done in {job.took():.0f} s" if job.done else "not done"
            print(f"{state:15} {job.seconds:6.0f} s expected  {job.name}")
        print(f"about {study.left() / 60:.0f} min left")
        return 0
    try:
        if not options.write:
            limit_memory()
            study.run(wait=not options.only_jobs)
        elif missing := study.missing():
            raise SystemExit(f"not done yet: {'; '.join(missing)}")
        if not options.only_jobs:
            conclude(study, study.items())
            print(study.write())
    except KeyboardInterrupt:
        print("stopped; what is done is kept, and the next run goes on from there")
        return 130
    return 0
