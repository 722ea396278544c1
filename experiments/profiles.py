"""How large an experiment is: one set of sizes for each purpose.

``SBERT_LAB_PROFILE`` picks one, ``SBERT_LAB_SET`` changes single fields of it by JSON,
as in ``{"queries": 100, "sbert": "/my/model"}``. A notebook reads the fields and never
asks for the name, so that the code that a test runs is the code that a reader runs.
"""

import json
import os
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

VARIABLE = "SBERT_LAB_PROFILE"
CHANGES = "SBERT_LAB_SET"


class Profile(SimpleNamespace):
    """The sizes of one kind of run: the fields of ``profiles.toml``; None is all."""

    def but(self, **changes: Any) -> "Profile":  # noqa: ANN401
        """Return the same with other values in some fields."""
        unknown = changes.keys() - vars(self).keys()
        if unknown:
            raise ValueError(f"a profile has no {', '.join(sorted(unknown))}")
        return Profile(**vars(self) | {k: _value(v) for k, v in changes.items()})


def _value(told: Any) -> Any:  # noqa: ANN401  (whatever TOML or JSON holds)
    if told == "all":
        return None
    return tuple(told) if isinstance(told, list) else told


def _read() -> dict[str, Profile]:
    told = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    laptop = Profile(name="laptop", **told["laptop"]).but(**told["laptop"])
    return {name: laptop.but(name=name, **fields) for name, fields in told.items()}


PROFILES = _read()


def current() -> Profile:
    """Return the profile that ``SBERT_LAB_PROFILE`` names; the default is laptop.

    Fields named in ``SBERT_LAB_SET`` have the values given there.
    """
    name = os.environ.get(VARIABLE, "laptop")
    if name not in PROFILES:
        raise ValueError(f"{VARIABLE}={name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name].but(**json.loads(os.environ.get(CHANGES) or "{}"))
