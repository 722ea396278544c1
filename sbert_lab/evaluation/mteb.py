"""The bridge to mteb, the field's benchmark: our encoder in its task objects.

`evaluate` runs any task of mteb. Source: Muennighoff et al. 2023, "MTEB: Massive Text
Embedding Benchmark".
"""

import copy
import json
import random
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from sbert_lab._utils import Vectors, random_state_kept
from sbert_lab.datasets.icd10cm_tasks import TASKS, Task, content_hash
from sbert_lab.datasets.sts import LabelledTexts, ScoredPairs, banking77, sick, stsb
from sbert_lab.evaluation.tasks import as_search
from sbert_lab.models.batching import check_texts
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb import AbsTask
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.types import PromptType


@contextmanager
def using_mteb() -> Iterator[ModuleType]:
    """Yield the module mteb, and leave the global random state as it was.

    mteb seeds it when it is imported, when a task is made and when one is evaluated.
    """
    with random_state_kept():
        import mteb  # of the extra "mteb"

        yield mteb


def mteb_encoder(
    encoder: SentenceEncoder,
    name: str = "sbert-lab/encoder",
    cache: EmbeddingCache | None = None,
) -> "AbsEncoder":
    """Return an encoder as mteb wants it, with prompts looked up as mteb does."""
    with using_mteb():
        from mteb.models.abs_encoder import AbsEncoder
        from mteb.models.model_meta import ModelMeta, ScoringFunction

    class MtebEncoder(AbsEncoder):
        mteb_model_meta = ModelMeta.create_empty(
            {
                "name": name,
                "revision": encoder.fingerprint(),
                "similarity_fn_name": ScoringFunction(encoder.layout.similarity),
            }
        )
        model_prompts = encoder.prompts

        def encode(
            self,
            inputs: Iterable[Mapping[str, Any]],
            *,
            task_metadata: "TaskMetadata",
            prompt_type: "PromptType | None" = None,
            **_: object,
        ) -> Vectors:
            texts = [text for batch in inputs for text in check_texts(batch["text"])]
            key = self.get_prompt_name(task_metadata, prompt_type)
            side = "" if prompt_type is None else f"_{prompt_type.value}"
            options = {"prompt_name": key, "cache": cache, "show_progress": False}
            found: Vectors = getattr(encoder, f"encode{side}")(texts, **options)
            return found

    return MtebEncoder()


@dataclass(frozen=True)
class TaskScore:
    """What one model reached in one task, as mteb has it."""

    task: str
    kind: str
    metric: str
    score: float
    scores: dict[str, list[dict[str, Any]]]  #: all that mteb reports, by split
    seconds: float
    data_revision: str  #: a commit of the hub, or a hash


def evaluate(
    encoder: SentenceEncoder,
    tasks: "Iterable[str | AbsTask]",
    *,
    name: str = "sbert-lab/encoder",
    cache: EmbeddingCache | None = None,
) -> tuple[TaskScore, ...]:
    """Measure an encoder in tasks of mteb, one after the other.

    Tasks are names, whose data come from the hub, or objects (`with_local_data`, your
    own), of which each run takes a fresh copy. Vectors are kept in `cache`.
    """
    found = []
    with using_mteb() as mteb, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The task '.*' is superseded by")
        warnings.filterwarnings("ignore", ".* is ill-defined and being set to 0.0")
        model = mteb_encoder(encoder, name, cache)
        for given in tasks:
            task = mteb.get_task(given) if isinstance(given, str) else _fresh(given)
            started = time.perf_counter()
            (result,) = mteb.evaluate(
                model, task, cache=None, co2_tracker=False, show_progress_bar=False
            ).task_results
            found.append(
                TaskScore(
                    task=task.metadata.name,
                    kind=task.metadata.type,
                    metric=task.metadata.main_score,
                    score=float(result.get_score()),
                    scores=json.loads(result.model_dump_json())["scores"],
                    seconds=time.perf_counter() - started,
                    data_revision=task.metadata.revision,
                )
            )
    return tuple(found)


def with_local_data(task: str) -> "AbsTask":
    """Return one of `LOCAL_TASKS` with the data under ``$SBERT_LAB_DATA_HOME``."""
    with using_mteb() as mteb:
        from datasets import DatasetDict

        made: AbsTask = mteb.get_task(task)
        made.dataset, made.data_loaded = DatasetDict(LOCAL_TASKS[task]()), True
    return made


def icd10cm_benchmark(size: int | None = None) -> "list[AbsTask]":
    """Return six tasks of ICD-10-CM, freshly made, in mteb's own protocols.

    The revision of a task is the sha256 of its data; `size` is as in `tasks.measure`.
    """
    with using_mteb():
        return [_task(task, size) for task in TASKS]


def _task(task: Task, size: int | None) -> "AbsTask":
    """Return one of our tasks: mteb's protocol, our data and their hash."""
    from mteb import TaskMetadata, abstasks

    kind: Any = task.kind
    content = task.make(size)

    def load_data(self: "AbsTask", num_proc: int | None = None, **_: object) -> None:
        """Hand the task its data; they are in memory already."""
        self.dataset, self.data_loaded = _columns(kind, content), True

    metadata = TaskMetadata(
        name=task.name,
        description=task.description,
        type=kind,
        category="t2c" if kind in ("Classification", "Clustering") else "t2t",
        main_score=task.main_score,
        dataset={"path": f"sbert-lab/{task.name}", "revision": content_hash(content)},
        reference="https://www.cdc.gov/nchs/icd/icd-10-cm/index.html",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        domains=["Medical"],
        annotations_creators="derived",
        sample_creation="found",
    )
    base = getattr(abstasks, f"AbsTask{kind.replace('Reranking', 'Retrieval')}")
    members = {"metadata": metadata, "load_data": load_data, **task.options}
    made: AbsTask = type(task.name, (base,), members)()
    return made


def _columns(kind: str, content: Any) -> dict[str, Any]:  # noqa: ANN401  (by kind)
    """Bring a task's data into the columns that mteb reads."""
    if kind in ("Retrieval", "Reranking"):
        task, names, qrels, candidates = as_search(content)
        split: dict[str, Any] = {
            "corpus": _table(id=task.corpus_codes, text=task.corpus_texts),
            "queries": _table(id=names, text=task.queries),
            "relevant_docs": qrels,
            "top_ranked": candidates and {n: list(c) for n, c in candidates.items()},
        }
        return {"default": {"test": split}}
    if kind == "Classification":
        return _class_columns(content)
    if kind == "Clustering":
        return {"test": _table(sentences=content.texts, labels=content.labels)}
    return {"test": _pairs(content, "score" if kind == "STS" else "labels")}


def _class_columns(
    sides: Mapping[str, LabelledTexts], key: Callable[[str], str] | None = None
) -> dict[str, "Dataset"]:
    """Return texts with their label's number, in the order of the sorted labels."""
    names = sorted(set(sides["train"].labels), key=key)
    return {
        split: _table(text=side.texts, label=[names.index(n) for n in side.labels])
        for split, side in sides.items()
    }


def _pairs(pairs: ScoredPairs, column: str = "score") -> "Dataset":
    scores = [int(s) for s in pairs.score] if column == "labels" else pairs.score
    return _table(sentence1=pairs.first, sentence2=pairs.second, **{column: scores})


def _table(**columns: Sequence[Any]) -> "Dataset":
    from datasets import Dataset

    return Dataset.from_dict({name: list(column) for name, column in columns.items()})


def _fresh(task: "AbsTask") -> "AbsTask":
    """Return a copy that shares the data and has generators of its own.

    A clustering task draws from its own: measured twice, one object gives two scores.
    """
    made = copy.copy(task)
    made.rng_state = random.Random(task.seed)
    made.np_rng = np.random.default_rng(task.seed)
    return made


def _banking() -> dict[str, "Dataset"]:
    # The hub numbers its classes by name, whatever the case.
    return _class_columns({s: banking77(s) for s in ("train", "test")}, str.lower)


#: Tasks of mteb whose data can be read from this machine, and how.
LOCAL_TASKS: dict[str, Callable[[], dict[str, "Dataset"]]] = {
    "STSBenchmark": lambda: {"test": _pairs(stsb())},
    "SICK-R": lambda: {"test": _pairs(sick())},
    "Banking77Classification": _banking,
}
