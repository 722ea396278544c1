"""How large an experiment is: one frozen set of sizes for each purpose.

``SBERT_LAB_PROFILE`` picks one, ``SBERT_LAB_SET`` changes single fields of it by JSON,
as in ``{"queries": 100, "sbert": "/my/model"}``. A notebook reads the fields and never
asks for the name, so that the code that a test runs is the code that a reader runs.
"""

import dataclasses
import json
import os
from dataclasses import dataclass

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
PUBLIC_STS = ("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sick")


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
    processes: int = 3  #: in which their memory is measured
    index_mb: float = 320  #: size of the index whose search is timed
    timed_texts: tuple[int, int] = (256, 48)  #: short and long ones


PROFILES = {
    "smoke": Profile(
        name="smoke",
        about="every test run: checks the structure, decides nothing",
        decides=False,
        budget_s=30,
        budget_mb=3_000,
        base="bert-mini",
        candidates=(
            "bm25",
            "wordllama-256",
            "paraphrase-MiniLM-L3-v2",
            "all-MiniLM-L6-v2-int8",
            "all-MiniLM-L6-v2",
        ),
        kinds=("Retrieval", "STS", "Reranking"),
        libraries=("tornado", "fsspec", "pillow"),
        nli=("authored",),
        authored_premises=8,
        ablation_premises=4,
        graded_anchors=8,
        domain_pairs=64,
        known_pairs=24,
        pair_counts=(16, 24),
        trial_pairs=16,
        texts=64,
        runs=1,
        ladder_anchors=30,
        anchors=60,
        benchmark=16,
        queries=60,
        codes=1_000,
        corpus=200,
        domain_queries=30,
        domain_codes=100,
        trial_queries=30,
        second_queries=20,
        second_documents=60,
        rerank_queries=24,
        rerank_aside=12,
        rerank_depths=(5, 10, 20),
        pages=4,
        typed=3,
        repeats=3,
        turns=1,
        processes=1,
        index_mb=40,
        timed_texts=(40, 8),
    ),
    "laptop": Profile(
        name="laptop",
        about="readers: real models and data, no network, two CPU cores",
    ),
    "paper": Profile(
        name="paper",
        about="reproduction of published figures; a GPU, and the hub",
        budget_s=21_600,
        budget_mb=16_000,
        model="all-mpnet-base-v2",
        raw_model="bert-base-uncased",
        sbert="sentence-transformers/bert-base-nli-mean-tokens",
        base="all-mpnet-base-v2",
        candidates=(*MODELS, "all-mpnet-base-v2"),
        kinds=(*KINDS, "Clustering", "PairClassification"),
        sts=PUBLIC_STS,
        mteb=("STSBenchmark", "SICK-R", "STS12", "Banking77Classification"),
        nli=("all-nli",),
        scored="stsb",
        premises=None,
        ablation_premises=None,
        graded_anchors=None,
        domain_pairs=None,
        texts=100_000,
        batch_size=16,
        learning_rate=2e-5,
        ablation_rate=2e-5,
        dropout=0.1,
        corpus=None,
        trial_queries=None,
        second_queries=3_000,
        second_documents=4_000,
        rerank_queries=None,
        rerank_aside=1_000,
        pages=None,
        repeats=25,
        turns=9,
        processes=5,
    ),
}


def current() -> Profile:
    """Return the profile that ``SBERT_LAB_PROFILE`` names; the default is laptop.

    Fields named in ``SBERT_LAB_SET`` have the values given there.
    """
    name = os.environ.get(VARIABLE, "laptop")
    if name not in PROFILES:
        raise ValueError(f"{VARIABLE}={name!r}: choose one of {', '.join(PROFILES)}")
    told = json.loads(os.environ.get(CHANGES) or "{}")
    changes = {key: tuple(v) if isinstance(v, list) else v for key, v in told.items()}
    return dataclasses.replace(PROFILES[name], **changes)
