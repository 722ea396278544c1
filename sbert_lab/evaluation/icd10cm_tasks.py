"""ICD-10-CM as a benchmark of mteb: six real task classes that need no network.

The data are those of `sbert_lab.datasets.icd10cm_tasks`, from the installed package;
metrics and protocols are mteb's own. Nothing is asked of the hub, and the revision of
each task is the sha256 of its data, so that a score tells which edition it was measured
on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sbert_lab.datasets import icd10cm_tasks as data
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.icd10cm_tasks import RerankingTask, content_hash
from sbert_lab.datasets.sts import LabelledTexts, ScoredPairs
from sbert_lab.evaluation.mteb import using_mteb

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb import AbsTask, Benchmark
    from mteb.abstasks.task_metadata import TaskType

#: Under which the benchmark and its results go.
NAME = "ICD-10-CM(eng)"


def _table(columns: dict[str, Sequence[Any]]) -> "Dataset":
    from datasets import Dataset

    return Dataset.from_dict({name: list(column) for name, column in columns.items()})


def _graded(pairs: ScoredPairs) -> dict[str, "Dataset"]:
    columns = {"sentence1": pairs.first, "sentence2": pairs.second}
    return {"test": _table(columns | {"score": pairs.score})}


def _paired(pairs: ScoredPairs) -> dict[str, "Dataset"]:
    columns: dict[str, Any] = {"sentence1": pairs.first, "sentence2": pairs.second}
    return {"test": _table(columns | {"labels": [int(s) for s in pairs.score]})}


def _classes(sides: dict[str, LabelledTexts]) -> dict[str, "Dataset"]:
    numbers = {name: i for i, name in enumerate(sorted(set(sides["train"].labels)))}
    return {
        split: _table({"text": s.texts, "label": [numbers[n] for n in s.labels]})
        for split, s in sides.items()
    }


def _clusters(texts: LabelledTexts) -> dict[str, "Dataset"]:
    return {"test": _table({"sentences": texts.texts, "labels": texts.labels})}


def _search(
    task: RetrievalTask, candidates: Sequence[Sequence[str]] | None = None
) -> dict[str, Any]:
    """Return terms and codes as mteb wants them: the codes are the documents' names."""
    names = [f"term-{row}" for row in range(len(task.queries))]
    chosen = None if candidates is None else dict(zip(names, candidates, strict=True))
    split = {
        "corpus": _table({"id": task.corpus_codes, "text": task.corpus_texts}),
        "queries": _table({"id": names, "text": task.queries}),
        "relevant_docs": {
            name: {code: 1} for name, code in zip(names, task.relevant, strict=True)
        },
        "top_ranked": chosen and {name: list(codes) for name, codes in chosen.items()},
    }
    return {"default": {"test": split}}


def _rerank(task: RerankingTask) -> dict[str, Any]:
    return _search(task.task, task.candidates)


@dataclass(frozen=True)
class _Recipe:
    """How one task is made.

    Parameters
    ----------
    name, kind, metric, about
        What mteb shall call it, the type of task, the main score, one line.
    base
        The class of `mteb.abstasks` whose protocol it follows.
    make
        Returns the data, of a given size or in full (None).
    shape
        Brings them into the columns that mteb reads.
    options
        Attributes of the class that set the protocol.
    """

    name: str
    kind: "TaskType"
    metric: str
    about: str
    base: str
    make: Callable[[int | None], Any]
    shape: Callable[[Any], dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)


_RECIPES = (
    _Recipe(
        "ICD10CMTermRetrieval",
        "Retrieval",
        "ndcg_at_10",
        "Find the code that an inclusion term, what a clinician writes, belongs to.",
        "AbsTaskRetrieval",
        data.term_retrieval,
        _search,
    ),
    _Recipe(
        "ICD10CMHierarchySTS",
        "STS",
        "cosine_spearman",
        "Pairs of descriptions, 5 (synonym) to 0 (another chapter) by the hierarchy.",
        "AbsTaskSTS",
        data.graded_hierarchy,
        _graded,
        {"min_score": 0, "max_score": 5},
    ),
    _Recipe(
        "ICD10CMChapterClassification",
        "Classification",
        "accuracy",
        "The chapter of a description; no category is in both training and test.",
        "AbsTaskClassification",
        data.chapter_classes,
        _classes,
        {"samples_per_label": 8, "n_experiments": 10},
    ),
    _Recipe(
        "ICD10CMChapterClustering",
        "Clustering",
        "v_measure",
        "Descriptions, to be clustered by chapter.",
        "AbsTaskClustering",
        data.chapter_clusters,
        _clusters,
        {  # every text is embedded; mteb would take 4 %
            "max_fraction_of_documents_to_embed": None,
            "max_document_to_embed": None,
            "max_documents_per_cluster": 2048,
            "n_clusters": 10,
        },
    ),
    _Recipe(
        "ICD10CMSynonymPairClassification",
        "PairClassification",
        "max_ap",
        "Does a term belong to this code, or to a sibling under the same heading?",
        "AbsTaskPairClassification",
        data.synonym_pairs,
        _paired,
    ),
    _Recipe(
        "ICD10CMCandidateReranking",
        "Reranking",
        "map_at_1000",
        "The code of a term among 19 others that are near it or share its words.",
        "AbsTaskRetrieval",
        data.candidate_reranking,
        _rerank,
    ),
)

#: The names of the tasks, in the order of the benchmark.
TASKS = tuple(recipe.name for recipe in _RECIPES)


def benchmark(size: int | None = None) -> "Benchmark":
    """Return the six tasks as a `mteb.Benchmark`, freshly made.

    Parameters
    ----------
    size
        For a quick look: so many queries, anchors or terms a task, or descriptions a
        chapter (16 or more). Scores of another size are not comparable, and the
        revision of the data says so. None is the benchmark.

    Raises
    ------
    ModuleNotFoundError
        mteb is not installed; says what to type.
    FileNotFoundError
        ICD-10-CM is not installed; says what to type.
    """
    made = [task(name, size) for name in TASKS]
    with using_mteb() as mteb:
        whole: Benchmark = mteb.Benchmark(
            name=NAME if size is None else f"{NAME[:-1]}, size {size})",
            tasks=made,
            description="Medical codes of ICD-10-CM, April 2026, test split by "
            "category: retrieval, similarity, classification, clustering, pair "
            "classification and reranking, with no network.",
        )
    return whole


def task(name: str, size: int | None = None) -> "AbsTask":
    """Return one task of the benchmark by its name, freshly made; see `benchmark`."""
    recipe = next((recipe for recipe in _RECIPES if recipe.name == name), None)
    if recipe is None:
        raise ValueError(f"no task {name!r}: one of {', '.join(TASKS)}")
    with using_mteb():
        made: AbsTask = _task_class(recipe.name, size)()
    return made


@lru_cache(maxsize=32)
def _task_class(name: str, size: int | None) -> "type[AbsTask]":
    """Return the class of a task: mteb's protocol, our data and their hash."""
    from mteb import TaskMetadata, abstasks

    recipe = next(recipe for recipe in _RECIPES if recipe.name == name)
    content = recipe.make(size)

    def load_data(self: "AbsTask", num_proc: int | None = None, **_: object) -> None:
        """Hand the task its data; they are in memory already."""
        del num_proc
        if not self.data_loaded:
            self.dataset = recipe.shape(content)
            self.data_loaded = True

    metadata = TaskMetadata(
        name=recipe.name,
        description=recipe.about,
        type=recipe.kind,
        category="t2c" if recipe.kind in ("Classification", "Clustering") else "t2t",
        main_score=recipe.metric,
        dataset={
            "path": f"sbert-lab/{recipe.name}",
            "revision": content_hash(content),
        },
        reference="https://www.cdc.gov/nchs/icd/icd-10-cm/index.html",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        domains=["Medical"],
        annotations_creators="derived",
        sample_creation="found",
    )
    members = {
        "__doc__": recipe.about,
        "__module__": __name__,
        "metadata": metadata,
        "load_data": load_data,
        **recipe.options,
    }
    return type(recipe.name, (getattr(abstasks, recipe.base),), members)
