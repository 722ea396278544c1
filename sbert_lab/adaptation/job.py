"""One adaptation from its checked data to the saved model, whatever teaches it.

What each stage leaves in the folder's ``work`` is enough to go on from, so that a run
that was killed and is called again ends in the same weights, to the bit.
"""

import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from time import perf_counter
from typing import Any

import torch

from sbert_lab._utils import write_bytes
from sbert_lab.adaptation.data import Data, sha256
from sbert_lab.adaptation.folder import Folder, make_plan
from sbert_lab.adaptation.measuring import Measure, Measured, general_sets
from sbert_lab.adaptation.outcome import Method, Outcome, write_outcome
from sbert_lab.adaptation.report import report, require
from sbert_lab.adaptation.stages import Clock, Curve
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.models.averaging import average
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder

log = logging.getLogger(__name__)

#: Packages whose version may change a number.
_VERSIONS = ("sbert-lab", "torch", "transformers", "tokenizers", "numpy")


@dataclass(frozen=True)
class Place:
    """Where a run works.

    Parameters
    ----------
    folder
        What it fills.
    clock
        Counts the seconds of its stages.
    cache
        Of the base's vectors, in ``work``: no other run's, since a vector can differ in
        its last bit with what it was encoded together with.
    show
        Whether bars are shown; None decides by length and terminal.
    checkpoints
        Whether a training writes some, to go on from if it is stopped.
    """

    folder: Folder
    clock: Clock
    cache: EmbeddingCache
    show: bool | None
    checkpoints: bool = True


@dataclass(frozen=True)
class Taught:
    """How a training went.

    Parameters
    ----------
    curve
        Step and loss.
    mined
        What mining took away, by reason.
    recipe, facts
        What else is known by then of the recipe, and of the data.
    """

    curve: Curve
    mined: Mapping[str, int] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Parameters
    ----------
    base
        Name, folder or repository of the model to begin with.
    method, recipe, keep
        How; `keep` is the base's share in the average.
    data
        Checked.
    sha256
        Hashes of all that decides the weights beside base, method and recipe.
    teach
        Trains the encoder it gets, in place; called again after an interruption, with
        the base as it was, it goes on.
    check
        Called with the base before anything is computed; raises what `teach` would.
    """

    base: str
    method: Method
    recipe: Mapping[str, Any]
    keep: float
    data: Data
    sha256: Mapping[str, str]
    teach: Callable[[SentenceEncoder, Place], Taught]
    check: Callable[[SentenceEncoder], object] = lambda encoder: None


def run(
    job: Job,
    folder: Folder,
    *,
    general: Mapping[str, ScoredPairs] | None = None,
    watch: Callable[[str], object] | None = None,
    show_progress: bool | None = None,
    started: float | None = None,
) -> Outcome:
    """Do a job, or what is left of it, and return what came of it.

    Parameters
    ----------
    job
        What.
    folder
        Where.
    general, watch, show_progress
        As `run.adapt`.
    started
        `perf_counter` when checking began; None for now.
    """
    started = perf_counter() if started is None else started
    require()
    encoder = SentenceEncoder.from_pretrained(job.base)
    if any(encoder.prompts.values()) and not encoder.layout.include_prompt:
        raise ValueError(
            "this encoder does not pool a prompt's tokens, and training would: load it "
            "with include_prompt"
        )
    job.check(encoder)
    sets = dict(general_sets() if general is None else general)
    fingerprint = encoder.fingerprint()
    sums = {**job.sha256, "general pairs": _sum_of(sets)}
    plan = make_plan(fingerprint, job.method, job.recipe, sums)
    if (done := folder.check(plan)) is not None:
        log.info("%s is finished", folder.out)
        return finished(folder, done)
    folder.begin(plan)
    clock = Clock(folder.work / "seconds.json", watch)
    clock.add("check", perf_counter() - started)
    place = Place(folder, clock, EmbeddingCache(folder.work / "cache"), show_progress)
    measure = Measure(job.data.search, sets)
    before = _before(encoder, measure, place)
    taught = job.teach(encoder, place)
    with clock.stage("average"):
        if job.keep:
            base = SentenceEncoder.from_pretrained(job.base)
            if base.fingerprint() != fingerprint:
                raise ValueError(
                    f"{job.base} has changed since this run began: put the files back, "
                    "or begin anew in another folder"
                )
            encoder = average(base, encoder, job.keep)
    with clock.stage("measure the adapted model"):
        after = measure.of(encoder, show_progress=show_progress)
    with clock.stage("save"):
        encoder.save(folder.model)
    better, worse = measure.examples(before, after)
    outcome = Outcome(
        base=job.base,
        base_fingerprint=fingerprint,
        fingerprint=encoder.fingerprint(),
        method=job.method,
        recipe={**taught.recipe, **job.recipe},
        data={**job.data.facts, **taught.facts},
        mined=dict(taught.mined),
        domain=measure.domain(before, after),
        general=measure.elsewhere(before, after),
        curve=taught.curve,
        better=better,
        worse=worse,
        seconds={name: round(value, 3) for name, value in clock.seconds.items()},
        about={**_about(encoder), **{f"sha256 of {k}": v for k, v in sums.items()}},
    )
    write_outcome(folder.outcome, outcome)
    return finished(folder, outcome)


def finished(folder: Folder, outcome: Outcome) -> Outcome:
    """Write the page if it is missing, and remove what was only needed on the way."""
    if not folder.report.is_file() or folder.work.exists():
        write_bytes(folder.report, report(outcome).encode())
    folder.tidy()
    return outcome


def _before(encoder: SentenceEncoder, measure: Measure, place: Place) -> Measured:
    """Return what the base is worth, measured once."""
    path = place.folder.work / "before.json"
    if path.is_file():
        return Measured.read(path)
    with place.clock.stage("measure the base"):
        found = measure.of(encoder, cache=place.cache, show_progress=place.show)
        found.write(path)
    return found


def _sum_of(sets: Mapping[str, ScoredPairs]) -> str:
    return sha256({n: [s.first, s.second, s.score, s.group] for n, s in sets.items()})


def _about(encoder: SentenceEncoder) -> dict[str, str]:
    device = encoder.device.type
    where = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    threads = f"{torch.get_num_threads()} threads"
    return {
        "machine": ", ".join(
            filter(None, (platform.machine(), where, device, threads))
        ),
        "python": platform.python_version(),
        **{package: _version(package) for package in _VERSIONS},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
