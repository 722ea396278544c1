"""How large an experiment is: one frozen set of sizes for each purpose.

``SBERT_LAB_PROFILE`` picks one, ``SBERT_LAB_SET`` changes single fields of it by JSON,
as in ``{"queries": 100, "sbert": "/my/model"}``. A notebook reads the fields and never
asks for the name, so that the code that a test runs is the code that a reader runs.
"""

import dataclasses
import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "SBERT_LAB_PROFILE"
CHANGES = "SBERT_LAB_SET"

MODELS = (
    "bm25",
    "tfidf-lsa",
    "wordllama-256",
    "all-MiniLM-L6-v2-static",
    "bert-mini",
    "paraphrase-MiniLM-L3-v2",
    "all-MiniLM-L6-v2-int8",
    "all-MiniLM-L6-v2",
)
KINDS = ("Retrieval", "STS", "Classification", "Reranking")


@dataclass(frozen=True)
class Profile:
    """The sizes of one kind of run; None stands for all that there is.

    The defaults are those of the laptop profile. Budgets are printed and recorded, and
    stop nothing.
    """

    name: str
    about: str
    decides: bool = True  #: whether claims get a verdict
    budget_s: int = 360
    budget_mb: int = 4_000
    seed: int = 0

    model: str = "all-MiniLM-L6-v2"  #: the sentence encoder
    raw_model: str = "bert-mini"  #: a BERT that was never trained for similarity
    sbert: str = "all-MiniLM-L6-v2"  #: what it is compared with in 01
    base: str = "all-MiniLM-L6-v2"  #: what is adapted in 07 and 08
    candidates: tuple[str, ...] = MODELS  #: to choose among in 06
    kinds: tuple[str, ...] = KINDS  #: of task, to choose by
    sts: tuple[str, ...] = ()  #: public sets of scored pairs to measure on
    mteb: tuple[str, ...] = ()  #: tasks from the hub
    libraries: tuple[str, ...] = ()  #: whose documentation is the second domain

    nli: tuple[str, ...] = ("authored", "icd10cm")  #: labelled pairs, or "all-nli"
    scored: str = "icd10cm"  #: scored pairs to train on, or "stsb"
    authored_premises: int | None = None  #: three labelled pairs each
    premises: int | None = 300  #: the same, of ICD-10-CM
    ablation_premises: int | None = 240
    graded_anchors: int | None = 200  #: six scored pairs each
    domain_pairs: int | None = 6_000  #: terms and descriptions to train on in 06
    known_pairs: int | None = None  #: and in 07 and 08
    pair_counts: tuple[int, ...] = (100, 1_000, 3_000, 10_000)  #: the learning curve
    trial_pairs: int = 1_000  #: one of these counts, where one thing changes
    texts: int = 4_000  #: to adapt to without pairs

    batch_size: int = 32
    learning_rate: float = 1e-4
    ablation_rate: float = 3e-4  #: higher, since ablations train on little
    dropout: float = 0.0
    runs: int = 3  #: seeds of each training

    ladder_anchors: int | None = None  #: six scored pairs each, written by us
    anchors: int | None = None  #: the same, of ICD-10-CM
    benchmark: int | None = None  #: rows of each of the six tasks
    queries: int = 2_000
    codes: int | None = None  #: of ICD-10-CM to search in
    corpus: int | None = 3_000  #: the same after one of many trainings
    domain_queries: int | None = None  #: to measure an adaptation with
    domain_codes: int | None = None
    trial_queries: int | None = 800  #: the same where one thing changes
    second_queries: int = 600  #: of the second domain
    second_documents: int = 2_000
    rerank_queries: int | None = 600
    rerank_aside: int | None = 200  #: queries to choose depth and mixture with
    rerank_depths: tuple[int, ...] = (5, 10, 20, 50, 100, 200)
    pages: int | None = 80  #: to cite from
    typed: int | None = None  #: questions to ask of them

    repeats: int = 15  #: rounds of a timing
    turns: int = 5  #: rounds of the candidates' timings in 06
    index_mb: float = 320  #: size of the index whose search is timed
    timed_texts: tuple[int, int] = (256, 48)  #: short and long ones


def _read() -> dict[str, Profile]:
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return {
        name: Profile(name=name, **{key: _value(v) for key, v in fields.items()})
        for name, fields in tomllib.loads(text).items()
    }


def _value(told: Any) -> Any:  # noqa: ANN401  (whatever TOML or JSON holds)
    if told == "all":
        return None
    return tuple(told) if isinstance(told, list) else told


PROFILES = _read()


def current() -> Profile:
    """Return the profile that ``SBERT_LAB_PROFILE`` names; the default is laptop.

    Fields named in ``SBERT_LAB_SET`` have the values given there.
    """
    name = os.environ.get(VARIABLE, "laptop")
    if name not in PROFILES:
        raise ValueError(f"{VARIABLE}={name!r}: choose one of {', '.join(PROFILES)}")
    told = json.loads(os.environ.get(CHANGES) or "{}")
    changes = {key: _value(value) for key, value in told.items()}
    return dataclasses.replace(PROFILES[name], **changes)
