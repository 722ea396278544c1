"""What studies train and measure with: one store of trained models, one yardstick.

A model is trained once for each recipe and kept on disk. Trained here is a raw BERT
(06); the adaptations of 07 and 08 are in ``studies/``.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.profiles import Profile
from experiments.timing import timed
from sbert_lab._utils import random_state_kept, write_json
from sbert_lab.adaptation.recipe import sha256_of
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.nli import LABELS, Inference
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.evaluators import search_quality
from sbert_lab.evaluation.metrics import pairwise_cosine
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean
from sbert_lab.evaluation.tasks import similarity_score
from sbert_lab.losses import Objective
from sbert_lab.models.checkpoint import Layout, load_transformer
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.registry import cache_home, resolve
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of
from sbert_lab.training import TrainingData, fit, set_dropout
from sbert_lab.training.trainer import has_fast_bfloat16

#: Raise it by one when a change to the losses, the trainer, mining or adaptation
#: changes the weights that a recipe gives: all models are then trained anew.
TRAINING_VERSION = 3

#: One number an item: a cosine a pair, or an nDCG@10 a query under `RETRIEVAL`.
Items = dict[str, NDArray[np.float64]]
RETRIEVAL = "retrieval"


@dataclass(frozen=True)
class Stored:
    """A trained model's folder, how long training took, and if that was just now."""

    folder: str
    seconds: float
    new: bool


def get_or_train(
    name: str,
    recipe: Mapping[str, object],
    make: Callable[[], SentenceEncoder | CrossEncoder],
) -> Stored:
    """Return the model that a recipe gives: from the store, or trained now by `make`.

    The recipe is all that decides the weights, as plain data: hashes of the training
    data and of the base model, and every setting of the training. Together with
    `TRAINING_VERSION` it is the key; `name` is how the folder's name begins.
    """
    key = sha256_of([dict(recipe), TRAINING_VERSION])[:12]
    folder = cache_home() / "trained" / f"{name}-{key}"
    about = folder.with_name(f"{folder.name}.json")
    new = not folder.is_dir()
    if new:
        model, seconds = timed(make)
        write_json(about, {"seconds": seconds, "recipe": dict(recipe)})
        model.save(folder)
    return Stored(str(folder), json.loads(about.read_bytes())["seconds"], new)


def raw_encoder(profile: Profile, pooling: str = "mean") -> SentenceEncoder:
    """Return the profile's raw BERT with a pooling and the profile's dropout."""
    transformer, tokenizer = load_transformer(resolve(profile.raw_model))
    layout = Layout(dimension=transformer.config.hidden_size, pooling=(pooling,))
    encoder = SentenceEncoder(transformer, tokenizer, layout)
    set_dropout(encoder, profile.dropout)
    return encoder.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def train_and_keep(
    profile: Profile,
    name: str,
    data: TrainingData,
    objective: Callable[[SentenceEncoder], Objective],
    *,
    seed: int = 0,
) -> Stored:
    """Train a raw BERT for an epoch, at an ablation's rate, once.

    `objective` makes the objective for an encoder, and `name` says what it is.
    """
    with random_state_kept():  # loading draws a pooler, where there is none
        encoder = raw_encoder(profile)
    settings: dict[str, Any] = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": profile.batch_size,
        "learning_rate": profile.ablation_rate,
        "warmup_steps": 0.1,
        "bf16": has_fast_bfloat16(),
        "seed": seed,
    }
    told = {
        "objective": name,
        "data": data.fingerprint(),
        "base": encoder.fingerprint(),
        "dropout": profile.dropout,
        **settings,
    }

    def make() -> SentenceEncoder:
        with random_state_kept():
            torch.manual_seed(seed)  # it may draw weights of its own
            made = objective(encoder)
        fit(encoder, data, made, **settings)
        return encoder

    return get_or_train(name, told, make)


def labelled(pairs: Sequence[Inference]) -> TrainingData:
    """Return labelled pairs as columns ``first``, ``second``, ``label``."""
    first, second = zip(*((p.premise, p.hypothesis) for p in pairs), strict=True)
    label = [LABELS.index(pair.label) for pair in pairs]
    columns = {"first": first, "second": second, "label": label}
    return TrainingData(columns, source="entailment")


@dataclass(frozen=True)
class Yardstick:
    """Scored pairs by name, and a search, to measure every model with.

    Queries of one `group` are drawn together.
    """

    sets: dict[str, ScoredPairs]
    retrieval: RetrievalTask | None = None
    group: Sequence[str] | None = None

    def measure(self, encoder: SentenceEncoder) -> Items:
        """Return the cosine of every pair, and the nDCG@10 of every query."""
        encode = partial(encoder.encode, show_progress=False)
        found: Items = {}
        for name, pairs in self.sets.items():
            both = encode([*pairs.first, *pairs.second])
            found[name] = pairwise_cosine(both[: len(pairs)], both[len(pairs) :])
        if (task := self.retrieval) is not None:
            rows = {code: row for row, code in enumerate(task.corpus_codes)}
            right = [[rows[code]] for code in task.relevant]
            texts = task.queries, task.corpus_texts
            metric = metric_of(encoder)
            found[RETRIEVAL] = search_quality(encode, encode, *texts, right, metric)[0]
        return found

    def score(
        self,
        name: str,
        runs: Sequence[Items],
        over: Sequence[Items] = (),
        **options: Any,  # noqa: ANN401
    ) -> Interval:
        """Return the mean score of runs, or their paired difference from others.

        A set is judged by Spearman's correlation, `RETRIEVAL` by nDCG@10. `runs` and
        `over` are what `measure` gave, one for each seed, the outer level of the
        bootstrap; one in `over` counts for all. `options`: see `similarity_score`.
        """
        ours = np.stack([run[name] for run in runs])
        theirs = np.stack([run[name] for run in over]) if over else None
        if name == RETRIEVAL:
            gains = ours if theirs is None else ours - theirs
            return bootstrap_mean(gains, groups=self.group)
        if theirs is not None:
            theirs = np.broadcast_to(theirs, ours.shape)
        return similarity_score(self.sets[name], ours, baseline=theirs, **options)
