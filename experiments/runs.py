"""The trainings of the notebooks: many that differ in one thing, each kept on disk.

A raw BERT that is trained (06), one base adapted in many ways (07, 08), what they are
measured with, and the one store of trained models.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import torch
from numpy.typing import NDArray

from experiments.profiles import Profile
from experiments.timing import timed
from sbert_lab._utils import random_state_kept, release_memory, write_json
from sbert_lab.adaptation.recipe import RECIPES, Recipe, sha256_of
from sbert_lab.adaptation.supervised import mine_negatives, train_on_pairs
from sbert_lab.adaptation.unsupervised import train_on_texts
from sbert_lab.datasets.domains import Domain
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.nli import LABELS, Inference
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.evaluators import search_quality
from sbert_lab.evaluation.metrics import pairwise_cosine
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean
from sbert_lab.evaluation.tasks import similarity_score
from sbert_lab.losses import Objective
from sbert_lab.models.averaging import average
from sbert_lab.models.checkpoint import Layout, load_transformer
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.embedding_cache import EmbeddingCache
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


@dataclass(frozen=True)
class Trial:
    """An adapted model, what it gives item by item, and how long training took."""

    folder: str
    items: Items = field(repr=False)
    seconds: float = 0.0


class Study:
    """Adapt one base to one domain in many ways, all measured alike.

    `general` are scored pairs of no domain, by name. `before` is the base itself as a
    trial; `new` counts the models that were trained and not found in the store.
    """

    def __init__(
        self, base: str, domain: Domain, general: Mapping[str, ScoredPairs]
    ) -> None:
        self.domain, self.new = domain, 0
        self._yardstick = Yardstick(dict(general), domain.test, domain.group)
        self._base = SentenceEncoder.from_pretrained(base)  # never trained itself
        self.before = Trial(base, self._measured(self._base))

    def adapted(
        self,
        recipe: Recipe,
        count: int | None = None,
        *,
        guarded: bool = True,
        shuffled: bool = False,
    ) -> Trial:
        """Adapt the base to `count` pairs, which the recipe's seed draws.

        `guarded` keeps relatives from being mined, where the domain knows them;
        `shuffled` deals the answers out anew: a control, which teaches style alone.
        """
        plain, domain = replace(recipe, base_weight=0.0), self.domain
        if not guarded or shuffled:
            domain = replace(domain, codes=())
        pairs, guard = domain.some(count, recipe.seed)
        if shuffled:
            order = np.random.default_rng(recipe.seed).permutation(len(pairs))
            pairs = replace(pairs, positive=tuple(pairs.positive[i] for i in order))

        def teach(encoder: SentenceEncoder) -> None:
            candidates, cache = domain.candidates, EmbeddingCache()
            mined = mine_negatives(encoder, pairs, plain, candidates, guard, cache)
            train_on_pairs(encoder, pairs, plain, mined)

        told = pair_recipe(self._base, domain, pairs, plain)
        return self.mixed(self._taught("pairs", told, teach), recipe.base_weight)

    def adapted_to_texts(
        self,
        method: str,
        texts: Sequence[str],
        teacher: SentenceEncoder | CrossEncoder | None = None,
    ) -> Trial:
        """Adapt the base to texts alone; see `train_on_texts`."""
        recipe = RECIPES[method]
        told = _training_key(self._base, recipe, list(texts))
        told["teacher"] = "" if teacher is None else teacher.fingerprint()

        def teach(encoder: SentenceEncoder) -> None:
            train_on_texts(method, encoder, texts, recipe, teacher=teacher)

        return self.mixed(self._taught(method, told, teach), 0.0)

    def mixed(self, trained: Stored | Trial, base_weight: float) -> Trial:
        """Average weights with the base's, by its share (Wortsman et al. 2022)."""
        folder, base = trained.folder, self._base
        encoder = SentenceEncoder.from_pretrained(folder)
        if base_weight:
            adapted = Path(folder).name  # which holds the hash of its recipe
            told = {"base": base.fingerprint(), adapted: base_weight}
            mix = partial(average, base, encoder, base_weight)
            folder = get_or_train("averaged", told, mix).folder
            encoder = SentenceEncoder.from_pretrained(folder)
        return Trial(folder, self._measured(encoder), trained.seconds)

    def score(
        self, trials: Sequence[Trial], over: Sequence[Trial] = (), on: str = RETRIEVAL
    ) -> Interval:
        """Return nDCG@10 of one condition's seeds, or their gain over others.

        `on` a general set it is Spearman's correlation.
        """
        ours, others = ([one.items for one in each] for each in (trials, over))
        return self._yardstick.score(on, ours, others)

    def _taught(
        self,
        name: str,
        told: Mapping[str, object],
        teach: Callable[[SentenceEncoder], None],
    ) -> Stored:
        def make() -> SentenceEncoder:
            encoder = deepcopy(self._base)
            teach(encoder)
            return encoder

        stored = get_or_train(f"adapted-{name}", told, make)
        release_memory()
        self.new += stored.new
        return stored

    def _measured(self, encoder: SentenceEncoder) -> Items:
        memory = joblib.Memory(cache_home() / "measured", verbose=0)
        measure = memory.cache(_measure, ignore=["encoder"])
        items: Items = measure(encoder, encoder.fingerprint(), self._yardstick)
        return items


def pair_recipe(
    base: SentenceEncoder, domain: Domain, pairs: Pairs, recipe: Recipe
) -> dict[str, object]:
    """Return what decides the weights of a training on pairs, for the store's key."""
    guard = [domain.codes, domain.candidate_codes] if domain.codes else None
    mined = [domain.candidates, guard] if recipe.negatives else None
    return _training_key(base, recipe, [pairs.anchor, pairs.positive, mined])


def _training_key(
    base: SentenceEncoder, recipe: Recipe, data: Sequence[object]
) -> dict[str, object]:
    return {
        "base": base.fingerprint(),
        "data": sha256_of(data),
        "recipe": asdict(recipe),
        "bf16": has_fast_bfloat16(),
    }


def _measure(encoder: SentenceEncoder, weights: str, yardstick: Yardstick) -> Items:
    del weights  # with the yardstick it is the key of what is kept
    return yardstick.measure(encoder)
