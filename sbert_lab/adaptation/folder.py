"""The folder that an adaptation fills, and how far it has come.

::

    model/          the adapted model; sentence-transformers loads it
    outcome.json    what was found
    report.html     the same as a page
    work/           until then: plan, vectors, checkpoints

A run may be killed at any moment. What is in ``work`` is whole or absent, and enough to
go on; ``outcome.json`` is written last but for the page, and says that all is done.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sbert_lab._utils import write_json
from sbert_lab.adaptation.outcome import Outcome, read_outcome


class Folder:
    """Where a run writes.

    Parameters
    ----------
    out
        The folder; it may be absent.

    Raises
    ------
    NotADirectoryError
        It is a file.
    FileExistsError
        It holds something else than an adaptation.
    """

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out).expanduser()
        self.model = self.out / "model"
        self.outcome = self.out / "outcome.json"
        self.report = self.out / "report.html"
        self.work = self.out / "work"
        self.checkpoints = self.work / "checkpoints"
        self._plan = self.work / "plan.json"
        if self.out.exists() and not self.out.is_dir():
            raise NotADirectoryError(f"{self.out} is a file; give the path of a folder")
        if self.out.is_dir() and not (self.is_finished or self.is_begun):
            self._refuse_others()

    @property
    def is_finished(self) -> bool:
        """Whether a model and its outcome are there."""
        return self.outcome.is_file() and self.model.is_dir()

    @property
    def is_begun(self) -> bool:
        """Whether a run has left a plan, and no outcome yet."""
        return self._plan.is_file() and not self.is_finished

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Write the plan of a new run, or compare it with that of an unfinished one.

        Raises
        ------
        ValueError
            The unfinished run has another plan; names what differs.
        """
        if self.is_begun:
            differs = changed(self._read_plan(), plan)
            if differs:
                raise ValueError(
                    f"{self.out} holds an unfinished run with another "
                    f"{', '.join(differs)}: take back the change to go on with it, "
                    "give another folder, or delete this one"
                )
            return
        self.work.mkdir(parents=True, exist_ok=True)
        write_json(self._plan, dict(plan))

    def check(self, plan: Mapping[str, Any]) -> Outcome | None:
        """Return the outcome of a finished run of this plan; None if there is none.

        Raises
        ------
        FileExistsError
            A finished run of another plan is there; names what differs.
        """
        if not self.is_finished:
            return None
        outcome = read_outcome(self.outcome)
        differs = changed(plan_of(outcome), plan)
        if differs:
            raise FileExistsError(
                f"{self.out} holds a finished model, made with another "
                f"{', '.join(differs)}; give another folder, or delete this one"
            )
        return outcome

    def tidy(self) -> None:
        """Remove what only an unfinished run needs, and what killed ones left."""
        shutil.rmtree(self.work, ignore_errors=True)
        for path in self._leftovers():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _read_plan(self) -> dict[str, Any]:
        try:
            plan: dict[str, Any] = json.loads(self._plan.read_text(encoding="utf-8"))
            return dict(plan)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self._plan} is damaged ({error}): delete {self.out}, or give "
                "another folder"
            ) from error

    def _leftovers(self) -> list[Path]:
        """Return what atomic writing leaves when it is killed."""
        names = [path.name for path in (self.model, self.outcome, self.report)]
        return [path for name in names for path in self.out.glob(f".{name}.*")]

    def _refuse_others(self) -> None:
        ours = {path.name for path in self._leftovers()}
        if self.work.is_dir():
            inside = list(self.work.iterdir())
            if all(path.name.startswith(".plan.json.") for path in inside):
                ours.add(self.work.name)  # killed before it had a plan
        others = sorted({path.name for path in self.out.iterdir()} - ours)
        if others:
            raise FileExistsError(
                f"{self.out} holds other files ({', '.join(others[:3])}), and no "
                "adaptation; give a new folder, or an empty one"
            )


def make_plan(
    base: str, method: str, recipe: Mapping[str, Any], sha256: Mapping[str, str]
) -> dict[str, Any]:
    """Return what a run must have in common with its beginning, for JSON."""
    plan = {
        "base": base,
        "method": method,
        **{f"recipe {k}": v for k, v in recipe.items()},
    }
    return plan | {f"sha256 of {name}": value for name, value in sha256.items()}


def plan_of(outcome: Outcome) -> dict[str, Any]:
    """Return the plan that an outcome was made with."""
    sums = {
        name.removeprefix("sha256 of "): value
        for name, value in outcome.about.items()
        if name.startswith("sha256 of ")
    }
    # Without pairs a method fills in numbers of its own; what was asked has a hash.
    recipe = outcome.recipe if outcome.method == "pairs" else {}
    return make_plan(outcome.base_fingerprint, outcome.method, recipe, sums)


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs between two plans, as a reader knows it."""
    names = [*now, *(name for name in before if name not in now)]
    return [
        name.removeprefix("recipe ").removeprefix("sha256 of ")
        for name in names
        if before.get(name) != now.get(name)
    ]
