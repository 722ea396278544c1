"""The models of a search in two stages, trained once and kept.

A reranker that learnt from the first stage's own mistakes, and an encoder that learnt
from the reranker; and categories kept aside, to choose by.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from sbert_lab._utils import write_json
from sbert_lab.adaptation.data import sha256
from sbert_lab.adaptation.margins import train_on_margins
from sbert_lab.adaptation.pseudo_labels import CrossEncoderJudge
from sbert_lab.datasets.domains import Domain
from sbert_lab.experiments.kept import trained
from sbert_lab.losses.pair_scores import OBJECTIVES
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training.data import TrainingData
from sbert_lab.training.hard_negatives import Mined, mine
from sbert_lab.training.trainer import fit, has_fast_bfloat16


@dataclass(frozen=True)
class RerankerRecipe:
    """How a cross-encoder is trained to rerank what an encoder finds.

    Parameters
    ----------
    objective
        ``"listwise"`` or ``"binary"``.
    negatives, rank
        Hard negatives of each pair, and the ranks that they are drawn from.
    epochs, batch, rate
        How often each pair is seen, pairs in a step, and the highest learning rate.
    seed
        Of the head's first weights, the draws and the batches.
    """

    objective: str = "listwise"
    negatives: int = 4
    rank: tuple[int, int] = (0, 20)
    epochs: float = 2
    batch: int = 16
    rate: float = 1.5e-4
    seed: int = 0


@dataclass(frozen=True)
class DistillationRecipe:
    """How an encoder learns a cross-encoder's margins; see `train_on_margins`."""

    negatives: int = 4
    rank: tuple[int, int] = (0, 50)
    epochs: float = 1
    batch: int = 32
    rate: float = 2e-5
    seed: int = 0


@dataclass(frozen=True)
class Taught:
    """A trained model on disk.

    Parameters
    ----------
    folder
        Where it is kept.
    seconds
        Mining and training, when it was trained.
    new
        Whether that was just now.
    """

    folder: str
    seconds: float
    new: bool


def reranker(
    found_by: str,
    domain: Domain,
    recipe: RerankerRecipe | None = None,
    *,
    count: int | None = None,
    start: str | None = None,
    show_progress: bool | None = None,
) -> Taught:
    """Train a cross-encoder on the pairs of a domain, once for each recipe.

    Parameters
    ----------
    found_by
        Folder of the encoder whose nearest wrong answers are the negatives.
    domain
        Pairs, candidates, and the guard against relatives.
    recipe
        How; None for the defaults.
    count
        How many pairs; None for all.
    start
        Folder of the weights to begin with, a new head on top; None for `found_by`.
    show_progress
        Bars; by default for long work on a terminal.
    """
    recipe = recipe or RerankerRecipe()
    encoder = SentenceEncoder.from_pretrained(found_by)
    begin = found_by if start is None else start
    start_hash = SentenceEncoder.from_pretrained(begin).fingerprint()
    about = {"recipe": asdict(recipe), "start": start_hash}

    def make() -> CrossEncoder:
        mined = _mined(encoder, domain, count, recipe, show_progress)
        model = CrossEncoder.from_pretrained(begin, head_seed=recipe.seed)
        fit(
            model,
            rows_for(mined, recipe.objective),
            OBJECTIVES[recipe.objective](),
            epochs=recipe.epochs,
            batch_size=recipe.batch,
            learning_rate=recipe.rate,
            seed=recipe.seed,
            bf16=has_fast_bfloat16(),
            show_progress=show_progress,
        )
        return model

    return _kept("reranker", about | _told(encoder, domain, count, recipe.seed), make)


def distilled(
    student: str,
    judge: CrossEncoder,
    domain: Domain,
    recipe: DistillationRecipe | None = None,
    *,
    count: int | None = None,
    show_progress: bool | None = None,
) -> Taught:
    """Train an encoder on the margins of a cross-encoder, once for each recipe.

    Nothing guards the negatives: that a found text answers as well is for the judge to
    say, by a margin near 0.

    Parameters
    ----------
    student
        Folder of the encoder to begin with, whose neighbours are judged.
    judge
        The cross-encoder.
    domain, recipe, count, show_progress
        As for `reranker`.

    Source: Hofstätter et al. 2020.
    """
    recipe = recipe or DistillationRecipe()
    encoder = SentenceEncoder.from_pretrained(student)
    about = {"recipe": asdict(recipe), "judge": judge.fingerprint()}
    domain = replace(domain, codes=None)

    def make() -> SentenceEncoder:
        model = SentenceEncoder.from_pretrained(student)
        mined = _mined(model, domain, count, recipe, show_progress)
        train_on_margins(
            model,
            margins(mined, judge),
            epochs=recipe.epochs,
            batch_size=recipe.batch,
            rate=recipe.rate,
            seed=recipe.seed,
            bf16=has_fast_bfloat16(),
            show_progress=show_progress,
        )
        return model

    return _kept("distilled", about | _told(encoder, domain, count, recipe.seed), make)


def rows_for(mined: Mined, objective: str) -> TrainingData:
    """Return what was mined as a pair objective reads it."""
    columns: dict[str, Sequence[Any]]
    if objective == "listwise":
        listed = mined.columns()
        columns = {
            role: [column[row] for row in mined.rows] for role, column in listed.items()
        }
    elif objective == "binary":
        one = mined.triplets()
        right = dict.fromkeys(zip(one["anchor"], one["positive"], strict=True))
        wrong = list(zip(one["anchor"], one["negative"], strict=True))
        anchor, text = zip(*right, *wrong, strict=True)
        label = [1.0] * len(right) + [0.0] * len(wrong)
        columns = {"anchor": anchor, "text": text, "label": label}
    else:
        raise ValueError(f"objective={objective!r}: 'listwise' or 'binary'")
    return TrainingData(columns, source="mined pairs")


def margins(mined: Mined, judge: CrossEncoder) -> dict[str, list[Any]]:
    """Return mined triplets with a judge's margins as their labels."""
    rows = mined.triplets()
    anchor = rows["anchor"]
    pairs = [
        *zip(anchor, rows["positive"], strict=True),
        *zip(anchor, rows["negative"], strict=True),
    ]
    different = list(dict.fromkeys(pairs))
    of = dict(zip(different, CrossEncoderJudge(judge)(different).tolist(), strict=True))
    half = len(anchor)
    gaps = [of[a] - of[b] for a, b in zip(pairs[:half], pairs[half:], strict=True)]
    return {**rows, "label": gaps}


def _mined(
    encoder: SentenceEncoder,
    domain: Domain,
    count: int | None,
    recipe: RerankerRecipe | DistillationRecipe,
    show: bool | None,
) -> Mined:
    pairs, guard = domain.some(count, recipe.seed)
    return mine(
        encoder,
        pairs.anchor,
        pairs.positive,
        corpus=domain.candidates,
        per_anchor=recipe.negatives,
        rank=recipe.rank,
        guard=guard,
        sampling="random",
        seed=recipe.seed,
        cache=EmbeddingCache(),
        show_progress=show,
    )


def _told(
    encoder: SentenceEncoder, domain: Domain, count: int | None, seed: int
) -> dict[str, object]:
    pairs, guard = domain.some(count, seed)
    return {
        "encoder": encoder.fingerprint(),
        "pairs": sha256([pairs.anchor, pairs.positive]),
        "candidates": sha256(domain.candidates),
        "guard": guard.fingerprint() if guard is not None else "",
    }


def _kept(
    name: str,
    told: Mapping[str, object],
    make: Callable[[], SentenceEncoder | CrossEncoder],
) -> Taught:
    """Train a model, or find it; say how long it took."""
    started = perf_counter()
    folder, new = trained(name, told, make)
    clock = Path(f"{folder}.json")
    if new:
        write_json(clock, {"seconds": perf_counter() - started})
    seconds = json.loads(clock.read_bytes())["seconds"] if clock.is_file() else 0.0
    return Taught(str(folder), float(seconds), new)
