"""Many adaptations of one base, alike in all but what is compared.

`run.adapt` is for a reader with one file and one wish. A study asks what each part of
its recipe is worth: one base, one test, one thing changed at a time. What was trained
is kept, and so is what was measured, so that a second run pays for neither.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from sbert_lab._utils import write_bytes, write_json
from sbert_lab.adaptation.adapt import hard_negatives, teach_pairs
from sbert_lab.adaptation.data import Data, sha256
from sbert_lab.adaptation.folder import Folder
from sbert_lab.adaptation.job import Place
from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.adaptation.stages import Clock
from sbert_lab.adaptation.without_pairs import adapt_without_pairs
from sbert_lab.datasets.domains import Domain
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean
from sbert_lab.experiments.kept import trained
from sbert_lab.experiments.trials import Items, Yardstick
from sbert_lab.models.averaging import average
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.registry import cache_home
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training.hard_negatives import Mined
from sbert_lab.training.trainer import has_fast_bfloat16

RETRIEVAL = "retrieval"


@dataclass(frozen=True)
class Trial:
    """One model, and what it is worth.

    Parameters
    ----------
    folder
        Where it is kept, or the base's name.
    items
        nDCG@10 of each query under `RETRIEVAL`, ``[q]``; the cosine of each pair of
        each general set under its name.
    seconds
        Mining and training, when it was trained.
    """

    folder: str
    items: Items = field(repr=False)
    seconds: float = 0.0

    @property
    def ndcg(self) -> float:
        """Mean nDCG@10."""
        return float(self.items[RETRIEVAL].mean())


class Study:
    """Trains and measures on one domain, from one base.

    Parameters
    ----------
    base
        Name or folder of the model to begin with.
    domain
        What is learnt and tested.
    general
        Scored pairs of no domain, by name.
    show_progress
        Bars; by default for long work on a terminal.

    Attributes
    ----------
    new
        How many models were trained, for want of kept ones.
    """

    def __init__(
        self,
        base: str,
        domain: Domain,
        general: Mapping[str, ScoredPairs],
        *,
        show_progress: bool | None = None,
    ) -> None:
        self.base, self.domain, self.show = base, domain, show_progress
        self.new = 0
        self._yardstick = Yardstick(dict(general), domain.test)
        task = domain.test
        self._measured_on = sha256(
            [
                [task.queries, task.relevant, task.corpus_codes, task.corpus_texts],
                {n: [s.first, s.second] for n, s in general.items()},
            ]
        )
        self._encoder = SentenceEncoder.from_pretrained(base)  # never trained itself
        self._fingerprint = self._encoder.fingerprint()
        self.before = Trial(base, self.measured(self._encoder))

    def adapted(
        self,
        recipe: Recipe,
        count: int | None = None,
        *,
        guarded: bool = True,
        shuffled: bool = False,
    ) -> Trial:
        """Adapt the base to pairs, and measure it.

        Parameters
        ----------
        recipe
            How; its seed also draws the pairs.
        count
            How many pairs; None for all.
        guarded
            Keep relatives from being mined, where the domain knows them.
        shuffled
            Deal the answers out anew, at random: a control, which can teach the style
            of the texts and no more.
        """
        pairs, guard = self.domain.some(count, recipe.seed)
        if shuffled:
            order = np.random.default_rng(recipe.seed).permutation(len(pairs))
            pairs = replace(pairs, positive=tuple(pairs.positive[i] for i in order))
        guard = guard if guarded and not shuffled and recipe.negatives else None
        plain = replace(recipe, keep=0.0)
        told = {
            "recipe": plain.as_json(),
            "pairs": sha256([pairs.anchor, pairs.positive]),
            "candidates": sha256(self.domain.candidates) if recipe.negatives else "",
            "guard": guard.fingerprint() if guard is not None else "",
        }

        def teach(encoder: SentenceEncoder, folder: Folder) -> None:
            clock = Clock(folder.work / "seconds.json", None)
            teach_pairs(
                encoder,
                self._data(pairs),
                plain,
                Place(folder, clock, EmbeddingCache(), self.show, checkpoints=False),
                guard=guard,
            )

        found, seconds = self._kept("pairs", told, teach)
        if recipe.keep:
            return self._averaged(found, seconds, recipe.keep)
        return Trial(found, self.measured(_load(found)), seconds)

    def mined(self, recipe: Recipe, count: int | None = None) -> Mined:
        """Return the hard negatives that `adapted` trains with, to be looked at."""
        pairs, guard = self.domain.some(count, recipe.seed)
        return hard_negatives(
            self._encoder,
            self._data(pairs),
            recipe,
            guard=guard,
            cache=EmbeddingCache(),
            show_progress=self.show,
        )

    def adapted_to_texts(
        self,
        method: str,
        texts: Sequence[str],
        **options: Any,  # noqa: ANN401
    ) -> Trial:
        """Adapt the base to texts alone; see `without_pairs.adapt_without_pairs`."""
        named = {
            key: value.fingerprint() if hasattr(value, "fingerprint") else value
            for key, value in options.items()
        }
        told = {"method": method, "texts": sha256(list(texts)), "options": named}

        def teach(encoder: SentenceEncoder, folder: Folder) -> None:
            del folder
            adapt_without_pairs(
                method,
                encoder,
                texts,
                bf16=has_fast_bfloat16(),
                show_progress=self.show,
                **options,
            )

        found, seconds = self._kept(method, told, teach)
        return Trial(found, self.measured(_load(found)), seconds)

    def mixed(self, trial: Trial, keep: float) -> Trial:
        """Average a trial's weights with the base's, of which `keep` is the share."""
        if not keep:
            return trial
        return self._averaged(trial.folder, trial.seconds, keep)

    def measured(self, encoder: SentenceEncoder) -> Items:
        """Return what a model gives, item by item; kept by weights and data."""
        key = sha256([encoder.fingerprint(), self._measured_on])[:16]
        path = cache_home() / "measured" / f"{key}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        items = self._yardstick.measure(encoder)
        content = io.BytesIO()
        np.savez(content, **items)  # type: ignore[arg-type]
        write_bytes(path, content.getvalue())
        return items

    def score(self, trials: Sequence[Trial], over: Sequence[Trial] = ()) -> Interval:
        """Return mean nDCG@10, or what it gained over others, query by query.

        Trials are seeds of one condition, the outer level of the bootstrap; one in
        `over` counts for every seed.
        """
        if len(over) > 1 and len(over) != len(trials):
            raise ValueError(f"{len(trials)} seeds against {len(over)}: as many, or 1")
        items = np.stack([one.items[RETRIEVAL] for one in trials])  # [seeds, q]
        if over:
            items = items - np.stack([one.items[RETRIEVAL] for one in over])
        return bootstrap_mean(items, groups=self.domain.group)

    def general(
        self, name: str, trials: Sequence[Trial], over: Sequence[Trial] = ()
    ) -> Interval:
        """Return Spearman's correlation on a general set, or its difference."""
        others = [one.items for one in over] or None
        return self._yardstick.score(name, [one.items for one in trials], others)

    def _averaged(self, of: str, seconds: float, keep: float) -> Trial:
        told = {"base": self._fingerprint, "keep": keep, "of": Path(of).name}
        folder, _ = trained(
            "averaged", told, lambda: average(self._encoder, _load(of), keep)
        )
        return Trial(str(folder), self.measured(_load(str(folder))), seconds)

    def _data(self, pairs: Pairs) -> Data:
        rows = tuple(range(len(pairs)))
        return Data(pairs, rows, candidates=self.domain.candidates)

    def _kept(
        self,
        name: str,
        told: Mapping[str, object],
        teach: Callable[[SentenceEncoder, Folder], None],
    ) -> tuple[str, float]:
        """Train a copy of the base, or find it; return its folder and the seconds."""
        took: list[float] = []

        def make() -> SentenceEncoder:
            encoder = deepcopy(self._encoder)
            with TemporaryDirectory() as home:
                folder = Folder(home)
                folder.work.mkdir()
                started = perf_counter()
                teach(encoder, folder)
                took.append(perf_counter() - started)
            return encoder

        folder, new = trained(
            f"adapted-{name}", {"base": self._fingerprint, **told}, make
        )
        clock = folder.with_suffix(".json")
        if new:
            write_json(clock, {"seconds": took[0]})
            self.new += 1
        seconds = json.loads(clock.read_bytes())["seconds"] if clock.is_file() else 0.0
        return str(folder), float(seconds)


def _load(folder: str) -> SentenceEncoder:
    """Load a model that was kept, and no other."""
    return SentenceEncoder.from_pretrained(folder, allow_hub=False)
