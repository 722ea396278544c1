"""How large an experiment is: one frozen set of numbers for each purpose.

``SBERT_LAB_PROFILE`` picks one. A notebook reads the fields and never asks for the
name, so that the code that a test runs is the code that a reader runs.
"""

import os
from dataclasses import dataclass

VARIABLE = "SBERT_LAB_PROFILE"


@dataclass(frozen=True)
class Profile:
    """The sizes of one kind of run.

    Parameters
    ----------
    name
        ``smoke``, ``laptop`` or ``paper``.
    about
        What it is for.
    decides
        Whether claims get a verdict; a smoke run proves nothing about sentences.
    budget_s, first_run_s
        Seconds a notebook may take, and while its vectors are not cached yet.
    budget_mb
        Peak memory a notebook may take.
    model
        The sentence encoder.
    codes
        Entries of ICD-10-CM to search in; None for all.
    queries
        Real queries to search with.
    repeats
        How often a timing is repeated.
    build_effort
        efConstruction of the HNSW graph.
    seed
        For every sample and every bootstrap.
    """

    name: str
    about: str
    decides: bool
    budget_s: int
    first_run_s: int
    budget_mb: int
    model: str
    codes: int | None
    queries: int
    repeats: int
    build_effort: int
    seed: int = 0


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            about="every test run: checks the structure, decides nothing",
            decides=False,
            budget_s=60,
            first_run_s=60,
            budget_mb=3_000,
            model="all-MiniLM-L6-v2",
            codes=1_500,
            queries=60,
            repeats=3,
            build_effort=40,
        ),
        Profile(
            name="laptop",
            about="readers: real models and data, no network, two CPU cores",
            decides=True,
            budget_s=360,
            first_run_s=600,
            budget_mb=4_000,
            model="all-MiniLM-L6-v2",
            codes=None,
            queries=2_000,
            repeats=15,
            build_effort=200,
        ),
        Profile(
            name="paper",
            about="reproduction of published figures; a GPU, and the hub",
            decides=True,
            budget_s=3_600,
            first_run_s=7_200,
            budget_mb=16_000,
            model="all-mpnet-base-v2",
            codes=None,
            queries=2_000,
            repeats=25,
            build_effort=400,
        ),
    )
}


def current() -> Profile:
    """Return the profile that ``SBERT_LAB_PROFILE`` names; the default is laptop."""
    name = os.environ.get(VARIABLE, "laptop")
    if name not in PROFILES:
        raise ValueError(f"{VARIABLE}={name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
