"""The bridge to mteb, the field's benchmark: our encoder in its task objects.

`evaluate` runs any task of mteb: by name with data from the hub, on local copies
(`mteb_local`), or of one's own. mteb's pitfalls are met here: it seeds the global
random generators, a clustering task may be used once only, and two local models share
one name. Source: Muennighoff et al. 2023, "MTEB: Massive Text Embedding Benchmark".
"""

import copy
import difflib
import hashlib
import json
import logging
import random
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sbert_lab._utils import Vectors, random_state_kept
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder

if TYPE_CHECKING:
    from mteb import AbsTask
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.model_meta import ModelMeta
    from mteb.types import PromptType

log = logging.getLogger(__name__)

_SIDES = ("query", "document")

_DISTANCES = {"euclidean": 2.0, "manhattan": 1.0}  # the order of the norm


@contextmanager
def using_mteb() -> Iterator[ModuleType]:
    """Yield the module mteb, and afterwards leave the global random state as it was.

    mteb seeds `random`, NumPy and PyTorch when it is imported, when a task is made and
    when one is evaluated: all three belong into this block.

    Raises
    ------
    ModuleNotFoundError
        mteb is not installed; says what to type.
    """
    with random_state_kept():
        try:
            import mteb
        except ModuleNotFoundError as error:
            if error.name != "mteb":
                raise
            raise ModuleNotFoundError(
                "mteb is missing; type: pip install 'sbert-lab[mteb]'", name="mteb"
            ) from None
        yield mteb


class MtebEncoder:
    """A `SentenceEncoder` as mteb wants it (`mteb.EncoderProtocol`).

    Parameters
    ----------
    encoder
        Whose vectors are measured.
    name
        Under which mteb keeps results, ``"owner/model"``. The default is made from the
        hash of the weights.
    prompts
        Prefixes by what is encoded, beside those of the encoder and stronger than
        them; ``""`` switches one off. See `prompt_for` for the keys.
    cache
        Where vectors are looked up first, and new ones kept.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        *,
        name: str | None = None,
        prompts: Mapping[str, str] | None = None,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.encoder = encoder
        self.name = name
        own = {key: text for key, text in encoder.prompts.items() if text}
        self.prompts = own | dict(prompts or {})
        self.cache = cache

    def prompt_for(self, task: str, kind: str, side: str | None = None) -> str | None:
        """Return the prefix for the texts of a task, or None if no key speaks of it.

        Keys from strong to weak, the order in which mteb asks: ``"task-query"``,
        ``"task"``, ``"kind-query"``, ``"kind"``, ``"query"``.

        Parameters
        ----------
        task, kind
            Name and type of the task: ``"STSBenchmark"``, ``"STS"``.
        side
            ``"query"``, ``"document"``, or None where a task has no two sides.
        """
        keys = [task, kind]
        if side is not None:
            keys = [f"{task}-{side}", task, f"{kind}-{side}", kind, side]
        return next((self.prompts[key] for key in keys if key in self.prompts), None)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: "TaskMetadata",
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: "PromptType | None" = None,
        show_progress_bar: bool | None = False,
        precision: str | None = None,
        batch_size: int | None = None,
    ) -> Vectors:
        """Encode the texts of all batches.

        Parameters
        ----------
        inputs
            Batches; each maps ``"text"`` to a list of strings.
        task_metadata, prompt_type
            Of mteb: which prompt to use.
        hf_split, hf_subset, batch_size
            Of mteb, and without effect: batches are filled by tokens.
        show_progress_bar
            As `show_progress` of `SentenceEncoder.encode`.
        precision
            ``"float32"`` or None; another one is refused.

        Returns
        -------
        NDArray
            float32 ``[n, d]``.
        """
        del hf_split, hf_subset, batch_size
        if precision not in (None, "float32"):
            raise ValueError(f"precision={precision!r}: this encoder gives float32")
        texts: list[str] = []
        for batch in inputs:
            if "text" not in batch:
                raise ValueError(
                    f"{task_metadata.name} has no texts, only {sorted(batch)}: this "
                    "encoder reads text"
                )
            texts += batch["text"]
        side = None if prompt_type is None else str(prompt_type.value)
        prompt = self.prompt_for(task_metadata.name, task_metadata.type, side)
        encode = self.encoder.encode
        if prompt is None and side is not None:  # the model may have a default for it
            encode = getattr(self.encoder, f"encode_{side}")
        return encode(
            texts, prompt=prompt, show_progress=show_progress_bar, cache=self.cache
        )

    def similarity(
        self, embeddings1: ArrayLike | Tensor, embeddings2: ArrayLike | Tensor
    ) -> Tensor:
        """Compare every vector of ``[n, d]`` with each of ``[m, d]``: ``[n, m]``.

        By the measure that the model's folder names; distances are negative, so that
        more is more alike.
        """
        kind = self.encoder.layout.similarity
        a, b = _rows(embeddings1, kind), _rows(embeddings2, kind)
        if kind in _DISTANCES:
            return -torch.cdist(a, b, p=_DISTANCES[kind])
        products: Tensor = a @ b.T
        return products

    def similarity_pairwise(
        self, embeddings1: ArrayLike | Tensor, embeddings2: ArrayLike | Tensor
    ) -> Tensor:
        """Compare two ``[n, d]`` row by row, as `similarity` does: ``[n]``."""
        kind = self.encoder.layout.similarity
        a, b = _rows(embeddings1, kind), _rows(embeddings2, kind)
        if kind in _DISTANCES:
            lengths: Tensor = torch.linalg.vector_norm(a - b, _DISTANCES[kind], dim=1)
            return -lengths
        return (a * b).sum(1)

    @property
    def mteb_model_meta(self) -> "ModelMeta":
        """What mteb files results under: the name, and as revision the weights' hash.

        Prompts and a cut of dimensions change a score and not the weights; mteb keeps
        such runs apart by ``experiment_kwargs``.
        """
        with using_mteb():
            from mteb.models.model_meta import ModelMeta, ScoringFunction
        revision = self.encoder.fingerprint()
        name = self.name or f"encoder-{revision[:12]}"
        settings: dict[str, Any] = {}
        if self.prompts:
            written = json.dumps(self.prompts, sort_keys=True)
            settings["prompts"] = hashlib.sha256(written.encode()).hexdigest()[:12]
        if self.encoder.layout.truncate_dim:
            settings["truncate_dim"] = self.encoder.layout.truncate_dim
        return ModelMeta.create_empty(
            {
                "name": name if "/" in name else f"sbert-lab/{name}",
                "revision": revision,
                "n_parameters": sum(p.numel() for p in self.encoder.parameters()),
                "max_tokens": self.encoder.max_seq_length,
                "embed_dim": self.encoder.dimension,
                "similarity_fn_name": ScoringFunction(self.encoder.layout.similarity),
                "framework": ["PyTorch"],
                "use_instructions": bool(self.prompts),
                "experiment_kwargs": settings or None,
            }
        )


@dataclass(frozen=True)
class TaskScore:
    """What one model reached in one task.

    Parameters
    ----------
    task, kind
        Name and type, as mteb calls them.
    metric, score
        The task's main score: its name and value, the mean over splits and subsets.
    scores
        Every score mteb reports, by split, one entry a subset.
    seconds
        Wall-clock time, loading of the data included.
    data_revision
        Which edition of the data: a commit of the hub, or a hash.
    model, revision
        Name, and hash of the weights.
    """

    task: str
    kind: str
    metric: str
    score: float
    scores: Mapping[str, list[dict[str, Any]]]
    seconds: float
    data_revision: str
    model: str
    revision: str


def evaluate(
    encoder: SentenceEncoder,
    tasks: "Iterable[str | AbsTask]",
    *,
    name: str | None = None,
    prompts: Mapping[str, str] | None = None,
    cache_folder: str | Path | None = None,
    show_progress: bool = False,
) -> tuple[TaskScore, ...]:
    """Measure an encoder in tasks of mteb, one after the other.

    Nothing is kept in mteb's own cache of results. A task object may be used again:
    each run works on a fresh copy with a fresh generator, so that scores repeat.

    Parameters
    ----------
    encoder
        The model.
    tasks
        Names, whose data come from the hub, or task objects (`with_local_data`
        of `mteb_local`, a `mteb.Benchmark`, your own).
    name, prompts
        As in `MtebEncoder`; a key of `prompts` that no task asks for is an error.
    cache_folder
        Where to keep vectors: a second run of the same model then encodes nothing.
    show_progress
        Bars on standard error.

    Raises
    ------
    ModuleNotFoundError
        mteb is not installed; says what to type.
    KeyError
        mteb knows no task of that name.
    ValueError
        A key of `prompts` speaks of no task.
    """
    if isinstance(tasks, str):
        raise TypeError(f"tasks={tasks!r}: give a list of tasks, [{tasks!r}]")
    cache = EmbeddingCache(cache_folder) if cache_folder is not None else None
    found = []
    with using_mteb() as mteb:
        fresh = [
            mteb.get_task(task) if isinstance(task, str) else _fresh(task)
            for task in tasks
        ]
        _check_keys(prompts or {}, fresh)
        model = MtebEncoder(encoder, name=name, prompts=prompts, cache=cache)
        meta = model.mteb_model_meta
        for task in fresh:
            log.info("%s …", task.metadata.name)
            started = time.perf_counter()
            with _quiet(show_progress):
                (result,) = mteb.evaluate(
                    model,
                    task,
                    cache=None,
                    co2_tracker=False,
                    encode_kwargs={"show_progress_bar": show_progress},
                    show_progress_bar=show_progress,
                ).task_results
            found.append(
                TaskScore(
                    task=task.metadata.name,
                    kind=task.metadata.type,
                    metric=task.metadata.main_score,
                    score=float(result.get_score()),
                    scores=_plain(result.scores),
                    seconds=time.perf_counter() - started,
                    data_revision=task.metadata.revision,
                    model=str(meta.name),
                    revision=str(meta.revision),
                )
            )
    return tuple(found)


def _fresh(task: "AbsTask") -> "AbsTask":
    """Return a copy that shares the data and has generators of its own.

    A clustering task draws from the generator it was made with: measured twice, one
    object gives two scores.
    """
    made = copy.copy(task)
    made.rng_state = random.Random(task.seed)
    made.np_rng = np.random.default_rng(task.seed)
    return made


def _plain(value: Any) -> Any:  # noqa: ANN401  (nested scores)
    """Return mteb's nested scores as plain dicts and lists, which can be copied."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


@contextmanager
def _quiet(show_progress: bool) -> Iterator[None]:
    """Silence bars, and warnings of a task's successor or a class never named."""
    from datasets.utils import (
        disable_progress_bars,
        enable_progress_bars,
        is_progress_bar_enabled,
    )

    bars = is_progress_bar_enabled()
    if not show_progress:
        disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The task '.*' is superseded by")
            warnings.filterwarnings("ignore", ".* is ill-defined and being set to 0.0")
            yield
    finally:
        if bars:
            enable_progress_bars()


def _check_keys(prompts: Mapping[str, str], tasks: "list[AbsTask]") -> None:
    """Refuse a prompt that no task would ask for: most likely a slip of the pen."""
    names = [t.metadata.name for t in tasks] + [t.metadata.type for t in tasks]
    known = [*names, *(f"{name}-{side}" for name in names for side in _SIDES), *_SIDES]
    for key in prompts:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"prompt {key!r} belongs to none of these tasks{hint}; a key is the "
                "name or type of a task, 'query' or 'document', or both joined by '-'"
            )


def _rows(vectors: ArrayLike | Tensor, kind: str) -> Tensor:
    """Return vectors as float32 ``[n, d]`` on the CPU, of unit length for the cosine.

    A single vector ``[d]`` becomes a row.
    """
    given = vectors if isinstance(vectors, Tensor) else np.asarray(vectors)
    rows = torch.as_tensor(given).detach().float().cpu()
    rows = rows[None] if rows.ndim == 1 else rows
    return torch.nn.functional.normalize(rows, dim=1) if kind == "cosine" else rows
