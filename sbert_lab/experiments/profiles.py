"""How large an experiment is: one frozen set of numbers for each purpose.

``SBERT_LAB_PROFILE`` picks one. A notebook reads the fields and never asks for the
name, so that the code that a test runs is the code that a reader runs.
``SBERT_LAB_SET`` changes single fields of it: ``"queries=100 sbert=/my/model"``.
"""

import dataclasses
import os
import shlex
from dataclasses import dataclass

VARIABLE = "SBERT_LAB_PROFILE"
CHANGES = "SBERT_LAB_SET"


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
    raw_model
        A BERT that was never trained for similarity.
    sbert
        The trained sentence encoder that it is compared with.
    sts
        Similarity sets to measure on, besides the project's own.
    ladder_anchors
        Anchors of the project's own scored pairs, six pairs each; None for all.
    anchors
        Anchors of the graded ICD-10-CM pairs, six pairs each; None for all.
    nli
        Labelled pairs to train on: ``authored``, ``icd10cm``, ``all-nli``.
    premises, authored_premises
        Premises of ICD-10-CM to train on, and of the project's own sentences, three
        pairs each; None for all.
    ablation_premises, ablation_rate
        Premises, of any source, for each of the many trainings of an ablation; and its
        learning rate, higher since they are few.
    graded_anchors
        Anchors of graded ICD-10-CM pairs to train on, and to measure a training on, six
        pairs each; None for all.
    scored
        Scored pairs to train on: ``icd10cm`` (graded by the hierarchy) or ``stsb``.
    rows, rate, dropout
        Rows in a batch, highest learning rate, and dropout of a training.
    runs
        How many seeds each training is repeated with.
    corpus
        Entries to search in after a training; None for all.
    benchmark
        Size of each task of the ICD-10-CM benchmark; None for all of it.
    mteb
        Tasks of MTEB to measure on, from the hub, beside it.
    candidates
        Models to choose among, by the names of `sbert_lab.selection`.
    kinds
        Kinds of task to measure them on.
    turns, processes
        How often their timings are repeated, and in how many fresh processes their
        memory is looked at.
    index_mb
        Size of the index whose search is timed.
    timed_texts
        Short and long texts of one timed call.
    domain_pairs
        Pairs of ICD-10-CM, terms and descriptions, to train on; None for all.
    training_run_s
        Seconds a notebook may take whose subject is training, while its models are not
        kept yet.
    base
        The sentence encoder that is adapted to a field.
    known_pairs, known_codes
        Pairs of ICD-10-CM that are there to learn from, and codes to take wrong
        answers from; None for all.
    pair_counts
        Numbers of pairs to adapt a model with, the steps of a learning curve.
    trial_pairs, trial_runs
        Pairs, one of `pair_counts`, for each of the many adaptations that differ in one
        thing; and with how many seeds.
    domain_queries, domain_codes
        Queries and corpus to measure an adaptation with; None for all.
    trial_queries, trial_codes
        The same for those that differ in one thing.
    texts
        Texts to adapt to where there are no pairs.
    libraries
        Whose documentation is the second domain; None for all.
    second_pairs, second_queries, second_documents
        Its size.
    rerank_queries, rerank_aside
        Test queries to rerank; and queries kept aside to choose a mixture with.
    rerank_depths
        How many candidates are reranked.
    pages, typed
        Longer documents to cite from, and questions to ask of them; None for all.
    titles
        Titles among which the most similar pair is looked for, and how many pairs a
        BERT reads together to see how long one takes.
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
    raw_model: str = "bert-mini"
    sbert: str = "all-MiniLM-L6-v2"
    sts: tuple[str, ...] = ()
    ladder_anchors: int | None = None
    anchors: int | None = None
    benchmark: int | None = None
    mteb: tuple[str, ...] = ()
    candidates: tuple[str, ...] = (
        "bm25",
        "tfidf-lsa",
        "wordllama-256",
        "all-MiniLM-L6-v2-static",
        "bert-mini",
        "paraphrase-MiniLM-L3-v2",
        "all-MiniLM-L6-v2-int8",
        "all-MiniLM-L6-v2",
    )
    kinds: tuple[str, ...] = ("Retrieval", "STS", "Classification", "Reranking")
    turns: int = 5
    processes: int = 3
    index_mb: float = 320
    timed_texts: tuple[int, int] = (256, 48)
    domain_pairs: int | None = 6_000
    training_run_s: int = 5_400
    base: str = "all-MiniLM-L6-v2"
    known_pairs: int | None = None
    known_codes: int | None = None
    pair_counts: tuple[int, ...] = (100, 1_000, 3_000, 10_000)
    trial_pairs: int = 1_000
    trial_runs: int = 3
    domain_queries: int | None = None
    domain_codes: int | None = None
    trial_queries: int | None = 800
    trial_codes: int | None = 3_000
    texts: int = 4_000
    libraries: tuple[str, ...] = ()
    second_pairs: int = 1_000
    second_queries: int = 600
    second_documents: int = 2_000
    rerank_queries: int | None = 600
    rerank_aside: int | None = 200
    rerank_depths: tuple[int, ...] = (5, 10, 20, 50, 100, 200)
    pages: int | None = 80
    typed: int | None = None
    titles: int = 2_000
    nli: tuple[str, ...] = ("authored", "icd10cm")
    premises: int | None = 300
    authored_premises: int | None = None
    ablation_premises: int | None = 240
    ablation_rate: float = 3e-4
    graded_anchors: int | None = 200
    scored: str = "icd10cm"
    rows: int = 32
    rate: float = 1e-4
    dropout: float = 0.0
    runs: int = 3
    corpus: int | None = 3_000
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
            ladder_anchors=30,
            anchors=60,
            benchmark=16,
            candidates=(
                "bm25",
                "wordllama-256",
                "paraphrase-MiniLM-L3-v2",
                "all-MiniLM-L6-v2-int8",
                "all-MiniLM-L6-v2",
            ),
            kinds=("Retrieval", "STS", "Reranking"),
            turns=1,
            index_mb=40,
            timed_texts=(40, 8),
            processes=1,
            domain_pairs=128,
            training_run_s=60,
            base="bert-mini",
            known_pairs=40,
            known_codes=150,
            pair_counts=(24, 40),
            trial_pairs=24,
            trial_runs=1,
            domain_queries=30,
            domain_codes=150,
            trial_queries=30,
            trial_codes=150,
            texts=64,
            libraries=("tornado", "fsspec", "pillow"),
            second_pairs=24,
            second_queries=20,
            second_documents=60,
            rerank_queries=24,
            rerank_aside=12,
            rerank_depths=(5, 10, 20),
            pages=4,
            typed=3,
            titles=200,
            premises=16,
            authored_premises=16,
            ablation_premises=16,
            graded_anchors=16,
            runs=2,
            corpus=300,
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
            budget_s=21_600,
            first_run_s=36_000,
            budget_mb=16_000,
            model="all-mpnet-base-v2",
            codes=None,
            queries=2_000,
            repeats=25,
            build_effort=400,
            raw_model="bert-base-uncased",
            sbert="sentence-transformers/bert-base-nli-mean-tokens",
            sts=("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sick"),
            candidates=(
                "bm25",
                "tfidf-lsa",
                "wordllama-256",
                "all-MiniLM-L6-v2-static",
                "bert-mini",
                "paraphrase-MiniLM-L3-v2",
                "all-MiniLM-L6-v2-int8",
                "all-MiniLM-L6-v2",
                "all-mpnet-base-v2",
            ),
            kinds=(
                "Retrieval",
                "STS",
                "Classification",
                "Clustering",
                "PairClassification",
                "Reranking",
            ),
            turns=9,
            processes=5,
            domain_pairs=None,
            training_run_s=86_400,
            base="all-mpnet-base-v2",
            trial_queries=None,
            trial_codes=None,
            texts=100_000,
            second_pairs=10_000,
            second_queries=3_000,
            second_documents=4_000,
            rerank_queries=None,
            rerank_aside=1_000,
            pages=None,
            mteb=("STSBenchmark", "SICK-R", "STS12", "Banking77Classification"),
            nli=("all-nli",),
            premises=None,
            ablation_premises=None,
            ablation_rate=2e-5,
            graded_anchors=None,
            scored="stsb",
            rows=16,
            rate=2e-5,
            dropout=0.1,
            corpus=None,
        ),
    )
}


def current() -> Profile:
    """Return the profile that ``SBERT_LAB_PROFILE`` names; the default is laptop.

    Fields named in ``SBERT_LAB_SET`` have the values given there.
    """
    name = os.environ.get(VARIABLE, "laptop")
    if name not in PROFILES:
        raise ValueError(f"{VARIABLE}={name!r}: choose one of {', '.join(PROFILES)}")
    return changed(PROFILES[name], os.environ.get(CHANGES, ""))


def changed(profile: Profile, changes: str) -> Profile:
    """Return a profile with some fields changed.

    Parameters
    ----------
    profile
        Where to start.
    changes
        ``field=value`` as often as wanted, a space between, quoted as in a shell; a
        list has commas, ``none`` is None, ``true`` and ``false`` are what they say.

    Raises
    ------
    ValueError
        There is no such field, or the value is of another kind.
    """
    fields = {f.name: f.type for f in dataclasses.fields(Profile)}
    values: dict[str, object] = {}
    for part in shlex.split(changes):
        name, equals, text = part.partition("=")
        if name not in fields or name in ("name", "about") or not equals:
            raise ValueError(
                f"{CHANGES}: {part!r}: give field=value, field one of "
                f"{', '.join(f for f in fields if f not in ('name', 'about'))}"
            )
        try:
            values[name] = _value(text, str(fields[name]))
        except ValueError as error:
            raise ValueError(f"{CHANGES}: {part!r}: {error}") from error
    if not values:
        return profile
    about = f"{profile.about}; changed: {changes}"
    return dataclasses.replace(profile, about=about, **values)  # type: ignore[arg-type]


def _value(text: str, kind: str) -> object:
    """Read a value of a field from its annotation."""
    if "tuple" in kind:
        items = [item for item in text.split(",") if item]
        return tuple(map(int, items)) if "int" in kind else tuple(items)
    if "bool" in kind:
        if text.lower() not in ("true", "false"):
            raise ValueError("true or false")
        return text.lower() == "true"
    if "float" in kind:
        return float(text)
    if "int" in kind:
        if "None" in kind and text.lower() == "none":
            return None
        return int(text)
    return text
