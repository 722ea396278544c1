"""The record of an experiment: hypotheses first, then results, then verdicts.

A hypothesis cannot be added after a result, and the verdict on a claim follows from the
interval of its measurement by a fixed rule. The record is a JSON file, which the
findings page and ``python -m tools.notebooks --verify`` read.
"""

import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from experiments.profiles import Profile, current
from sbert_lab._utils import limit_memory, results_folder, write_json
from sbert_lab.datasets import icd10cm
from sbert_lab.evaluation.figures import table
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.registry import BY_NAME, resolve

Direction = Literal[">", "<", "within"]
Verdict = Literal["holds", "fails", "inconclusive", "not tested"]
Compare = Literal["exact", "tolerance", "interval", "ignore"]

_LIBRARIES = ("torch", "transformers", "faiss-cpu", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Hypothesis:
    """What is expected, stated before it is measured.

    It holds if the whole interval lies above `margin` (``">"``), below it (``"<"``), or
    inside ± `margin` (``"within"``).
    """

    id: str
    statement: str  #: one sentence that a reader understands without the notebook
    metric: str  #: what is measured, with its unit
    direction: Direction
    margin: float
    machine: bool = False  #: about time or memory: may fail, and is not verified
    reputed: bool = False  #: what the field says: that it fails is a finding


@dataclass
class Experiment:
    """The record of one notebook run. Make one with `start`."""

    notebook: str
    profile: Profile
    cache: EmbeddingCache
    sources: dict[str, str]
    hypotheses: dict[str, Hypothesis] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    attached: list[str] = field(default_factory=list)
    trained: int = 0  #: models trained in this run, not found in the store
    _started: float = field(default_factory=time.perf_counter)

    def hypothesis(self, id: str, *stated: Any, **flags: Any) -> None:  # noqa: ANN401
        """Record a `Hypothesis` of these fields; only before the first result."""
        if self.results or self.claims:
            raise RuntimeError(f"hypothesis {id!r} comes after a result")
        if id in self.hypotheses:
            raise ValueError(f"hypothesis {id!r} is stated twice")
        self.hypotheses[id] = Hypothesis(id, *stated, **flags)

    def record(
        self,
        id: str,
        value: float | Interval,
        unit: str,
        *,
        compare: Compare = "interval",
        tolerance: float = 0.0,
    ) -> None:
        """Keep a measured value; `compare` says how ``--verify`` compares it.

        ``exact``, within ± `tolerance`, whether the intervals overlap, or not at all.
        """
        if compare == "interval" and not isinstance(value, Interval):
            raise ValueError(f"{id}: compare='interval' needs an Interval")
        self.results[id] = as_json(value) | {"unit": unit, "compare": compare}
        if compare == "tolerance":
            self.results[id]["tolerance"] = tolerance

    def claim(self, id: str, estimate: float | Interval) -> Verdict:
        """Compare a hypothesis with its measurement, show and return the verdict.

        Raises AssertionError where the whole interval contradicts a hypothesis that is
        neither about the machine nor by repute.
        """
        if id not in self.hypotheses:
            raise KeyError(f"no hypothesis {id!r}; state it before measuring")
        hypothesis = self.hypotheses[id]
        measured, rule = as_json(estimate), _rule(hypothesis)
        verdict = _verdict(hypothesis, measured)
        if not self.profile.decides:
            verdict = "not tested"
        self.claims[id] = asdict(hypothesis) | measured | {"verdict": verdict}
        shown = {
            "claim": hypothesis.statement,
            "measured": str(estimate) if "low" in measured else f"{estimate:.4g}",
            "holds if": rule,
            "verdict": verdict,
        }
        table([shown], caption=f"Claim {id}: {hypothesis.metric}")
        if verdict == "fails" and not (hypothesis.machine or hypothesis.reputed):
            raise AssertionError(
                f"{id}: {hypothesis.statement} Measured {estimate}, holds if {rule}"
            )
        return verdict

    def attach(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file of data beside the record; `write` is given its path."""
        write(results_folder(self.profile.name) / name)
        self.attached.append(name)

    def finish(self) -> Path:
        """Write the record, show time and memory, and return the record's path."""
        if unmeasured := self.hypotheses.keys() - self.claims.keys():
            raise RuntimeError(f"hypotheses without a claim: {', '.join(unmeasured)}")
        seconds, profile = time.perf_counter() - self._started, self.profile
        path = results_folder(profile.name) / f"{self.notebook}.json"
        spent = {
            "seconds": round(seconds, 1),
            "budget_s": profile.budget_s,
            "peak_mb": round(_peak_mb()),
            "budget_mb": profile.budget_mb,
            "first_run": self.trained > 0 or self.cache.misses > self.cache.hits,
            "texts_encoded": self.cache.misses,
            "models_trained": self.trained,
        }
        record = {
            "format": 1,
            "notebook": self.notebook,
            "profile": profile.name,
            "versions": versions(),
            "sources": self.sources,
            "results": self.results,
            "claims": self.claims,
            "attached": self.attached,
            "run": spent,
        }
        write_json(path, record)
        table([spent], caption="This run against its budget")
        return path


def start(
    notebook: str, *, uses: Sequence[str] = (), trains: bool = False
) -> Experiment:
    """Begin the record of ``"NN_slug"``, and show what the run uses.

    `uses` are names of models and data, whose checksums are verified and recorded, or
    the reader's own folders. Where many models are trained (`trains`) memory is spared.
    """
    if trains:
        icd10cm.load()  # whose objects need no collection either
        limit_memory()
    profile = current()
    sources = checksums(uses, allow_hub=profile.name == "paper")
    rows = {
        "profile": f"{profile.name} ({profile.about})",
        "seed": str(profile.seed),
        "Python": platform.python_version(),
        **versions(),
    }
    for name, sha in sources.items():
        rows[name] = f"sha256 {sha[:12]}…" if sha else "yours"
    shown = [{"what": name, "value": value} for name, value in rows.items()]
    table(shown, caption="What this run uses")
    return Experiment(notebook, profile, EmbeddingCache(), sources)


def _verdict(hypothesis: Hypothesis, measured: dict[str, Any]) -> Verdict:
    low, high = (measured.get(end, measured["mean"]) for end in ("low", "high"))
    margin = hypothesis.margin
    if hypothesis.direction == ">":
        holds, fails = low > margin, high < margin
    elif hypothesis.direction == "<":
        holds, fails = high < margin, low > margin
    else:
        holds = -margin <= low and high <= margin
        fails = low > margin or high < -margin
    return "holds" if holds else "fails" if fails else "inconclusive"


def _peak_mb() -> float:
    """Return the most memory that this process has held, in MB."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes there


def _rule(hypothesis: Hypothesis) -> str:
    sides = {">": "above ", "<": "below ", "within": "within ±"}
    return f"all of it {sides[hypothesis.direction]}{hypothesis.margin:g}"


def as_json(value: float | Interval) -> dict[str, Any]:
    """Return a measured value as a record has it: its mean, and what else there is."""
    return asdict(value) if isinstance(value, Interval) else {"mean": float(value)}


def checksums(uses: Sequence[str], *, allow_hub: bool) -> dict[str, str]:
    """Verify models and data, and return the first checksum of each; "" for folders."""
    found = {}
    for name in uses:
        resolve(name, allow_hub=allow_hub)
        known = BY_NAME[name].sha256 if name in BY_NAME else {}
        found[name] = next(iter(known.values()), "")
    return found


def versions() -> dict[str, str]:
    """Return the versions of the libraries that results may depend on."""
    return {name: metadata.version(name) for name in _LIBRARIES}
