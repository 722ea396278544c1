"""The full study behind a notebook: many jobs, each kept on disk, and their record.

A script ``studies/NN_slug.py`` says what the jobs are (`Study.add`) and what follows
from their results (`Study.record`); `main` runs it. A stopped study goes on with the
job it was at, and several processes may share one.
"""

import argparse
import ctypes
import gc
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

from experiments import profiles
from experiments.record import as_json, checksums, versions
from experiments.runs import TRAINING_VERSION
from experiments.timing import timed
from sbert_lab._utils import (
    RESULTS,
    committed_results,
    limit_memory,
    machine,
    results_folder,
    write_bytes,
    write_json,
)
from sbert_lab.adaptation.recipe import sha256_of
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.models.registry import cache_home

#: What a job gives: arrays by name, one number an item, or a single number.
Items = Mapping[str, NDArray[Any]]

_SECONDS = "seconds of the job"  # is kept beside its arrays
_POLL = 5.0  # seconds between looks at what other processes do


@dataclass(frozen=True)
class Job:
    """One piece of work, the seconds it should take, and the file of its result."""

    make: Callable[[], Mapping[str, ArrayLike]]
    seconds: float
    path: Path

    def load(self) -> tuple[Items, float]:
        """Return the result and the seconds that it took."""
        with np.load(self.path, allow_pickle=False) as kept:
            found = dict(kept)
        return found, float(found.pop(_SECONDS))

    def do(self) -> bool:
        """Do the work and keep its result; False if that is done, or done elsewhere."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        try:  # of a process that is killed the system lets the lock go
            if self.path.is_file():
                return False
            made, seconds = timed(self.make)
            kept: dict[str, Any] = {k: np.asarray(values) for k, values in made.items()}
            if any(array.dtype.hasobject for array in kept.values()):
                raise TypeError("a job gives arrays of numbers or of text")
            buffer = BytesIO()
            np.savez(buffer, **kept | {_SECONDS: np.array(seconds)})
            write_bytes(self.path, buffer.getvalue())
            _release_memory()
            return True
        finally:
            lock.release()


def _release_memory() -> None:
    """Return freed memory to the system, which glibc keeps for later by itself."""
    gc.collect()
    if os.name == "posix" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


class Study:
    """The jobs of the full study of ``"NN_slug"`` and, once they are done, its record.

    The checksums of `uses`, names of models and data, go into the record. `judged` is a
    hash of what all jobs are measured on.
    """

    def __init__(
        self, notebook: str, *, uses: Sequence[str] = (), judged: str = ""
    ) -> None:
        self.notebook, self.profile = notebook, profiles.current()
        self.judged = judged
        self.sources = checksums(uses, allow_hub=True)
        self.jobs: dict[str, Job] = {}
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
        hashes of data and models. With the notebook, the profile, what is judged and
        `TRAINING_VERSION` it is the key under which the result is kept.
        """
        told = [self.notebook[:2], self.profile.name, self.judged, TRAINING_VERSION]
        told.append(dict(depends))
        path = cache_home() / "study" / f"{sha256_of(told)[:16]}.npz"
        if name in self.jobs or path in [job.path for job in self.jobs.values()]:
            raise ValueError(f"{name!r}: its name or what it depends on is another's")
        self.jobs[name] = Job(make, seconds, path)

    def missing(self) -> list[str]:
        """Return the names of the jobs that are not done."""
        return [name for name, job in self.jobs.items() if not job.path.is_file()]

    def run(self, *, wait: bool = True) -> dict[str, Items]:
        """Do what is not done yet, and return the results by the names of the jobs.

        Jobs that another process is at are waited for. Without `wait` they are not, and
        nothing is returned.
        """
        while missing := self.missing():
            did = [name for name in missing if self._did(name)]
            if not did and not wait:
                return {}
            time.sleep(0 if did else _POLL)
        return {name: job.load()[0] for name, job in self.jobs.items()}

    def left(self) -> float:
        """Return the seconds that the rest takes, if guesses are as wrong as so far."""
        done = [job for job in self.jobs.values() if job.path.is_file()]
        guessed = sum(job.seconds for job in done)
        rest = sum(job.seconds for job in self.jobs.values()) - guessed
        return rest * sum(job.load()[1] for job in done) / guessed if done else rest

    def _did(self, name: str) -> bool:
        if not self.jobs[name].do():
            return False
        number, took = len(self.jobs) - len(self.missing()), self.jobs[name].load()[1]
        where = f"job {number} of {len(self.jobs)}, {took:.0f} s: {name}"
        print(f"{where}; about {self.left() / 60:.0f} min left", flush=True)
        return True

    def record(self, key: str, value: float | Interval, unit: str) -> None:
        """Put a value into the record; templates of `answer` name it as ``{key}``."""
        if key in self.results or set(key) & set("{}:"):
            raise ValueError(f"{key!r} is recorded twice, or has one of {{ }} : in it")
        self.results[key] = as_json(value) | {"unit": unit}

    @property
    def path(self) -> Path:
        """Where the record goes: that of the full profile is committed.

        Others go under build/, and all of them under ``$SBERT_LAB_RESULTS`` where that
        is set.
        """
        name = self.profile.name
        committed = name == "full" and RESULTS not in os.environ
        folder = committed_results(name) if committed else results_folder(name)
        return folder / f"{self.notebook[:2]}.json"

    def write(self) -> Path:
        """Write the record and return its path."""
        seconds = sum(job.load()[1] for job in self.jobs.values())
        spent = {"seconds": round(seconds, 1), "jobs": len(self.jobs)}
        record = {
            "format": 1,
            "notebook": self.notebook,
            "profile": self.profile.name,
            "versions": versions(),
            "sources": self.sources,
            "results": self.results,
            "run": spent | {"processor": machine()},
        }
        write_json(self.path, record)
        return self.path


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
    add = parser.add_mutually_exclusive_group().add_argument
    add("--list", action="store_true", help="show the jobs; do none")
    add("--only-jobs", action="store_true", help="help another process; write nothing")
    add("--write", action="store_true", help="only write the record, of what is there")
    options = parser.parse_args(arguments)
    os.environ.setdefault(profiles.VARIABLE, "full")
    limit_memory()
    study = build()
    try:
        if options.list:
            for name, job in study.jobs.items():
                state = "done" if job.path.is_file() else f"{job.seconds:.0f} s"
                print(f"{state:>8}  {name}")
            print(f"about {study.left() / 60:.0f} min left")
        elif options.only_jobs:
            study.run(wait=False)
        elif options.write and (missing := study.missing()):
            raise SystemExit(f"not done yet: {'; '.join(missing)}")
        else:
            conclude(study, study.run())
            print(study.write())
    except KeyboardInterrupt:
        print("stopped: what is done is kept, and the next run goes on from there")
        return 130
    return 0
