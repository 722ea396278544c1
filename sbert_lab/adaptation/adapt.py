"""Adapt a model: train, average with the base, measure, save.

The folder that is filled holds ``plan.json`` (what decides the weights) from the start,
then ``model``, ``report.md`` with its pictures, and at last ``outcome.json``. Until
then ``work`` holds checkpoints, from which a run that was killed goes on.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from sbert_lab._utils import write_json
from sbert_lab.adaptation.measuring import compare, examples, general_sets, measure
from sbert_lab.adaptation.recipe import RECIPES, Recipe, sha256_of
from sbert_lab.adaptation.report import OUTCOME, Outcome, read_outcome, write_report
from sbert_lab.adaptation.supervised import mine_negatives, train_on_pairs
from sbert_lab.adaptation.unsupervised import Teacher, different_texts, train_on_texts
from sbert_lab.datasets.pairs import (
    LEAST,
    DataError,
    Pairs,
    check_labels,
    check_no_leak,
    find_leaks,
    retrieval_from_pairs,
    split_pairs,
)
from sbert_lab.datasets.similarity import ScoredPairs
from sbert_lab.models.averaging import average
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.registry import cache_home
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training.hard_negatives import Flags, Guard, Rows
from sbert_lab.training.trainer import Curve

log = logging.getLogger(__name__)

PLAN = "plan.json"


def adapt(
    base: str | Path,
    data: Pairs | Sequence[str],
    out: str | Path,
    *,
    method: str = "pairs",
    recipe: Recipe | None = None,
    teacher: Teacher | None = None,
    test: Pairs | None = None,
    corpus: Sequence[str] | None = None,
    guard: Guard | None = None,
    general: Mapping[str, ScoredPairs] | None = None,
    show_progress: bool | None = None,
) -> Outcome:
    """Adapt a model to a field, and measure what that brought and what it cost.

    Called again after an interruption, with the same arguments, it goes on and ends in
    the same weights; called again when all is done, it returns what was found.

    Parameters
    ----------
    base
        A model's name, folder or hub repository.
    data
        Pairs that belong together, e.g. queries and answers, from `read_pairs`; or,
        where there are none, texts of the field.
    out
        The folder to fill: new, empty, or that of an earlier call.
    method
        For texts ``"simcse"``, ``"tsdae"`` or ``"pseudo-labels"``.
    recipe
        How; None for the method's own of `RECIPES`.
    teacher
        Of pseudo-labels; see `train_on_texts`.
    test
        Other pairs, to test on. None keeps some of the pairs aside, whole groups that
        share no text with the rest, and tests nothing where there are only texts.
    corpus
        What is searched, and where hard negatives of pairs come from. By default the
        answers of training and test are searched, and negatives are those of training.
    guard
        A function of rows of the pairs and rows of `corpus` to bool, True where the two
        must not meet, as in `hard_negatives.mine`. Needs a corpus.
    general
        Scored pairs by name, to see what is lost elsewhere; None takes `general_sets`.
    show_progress
        Bars on standard error; by default for long work on a terminal.

    Raises
    ------
    DataError, ValueError, OSError, CheckpointError
        Data, recipe, folder or base cannot be used; says what to change.

    Sources: Henderson et al. 2017 (in-batch negatives), Karpukhin et al. 2020 (mined
    ones), Wortsman et al. 2022 (the average with the base).
    """
    started = perf_counter()
    if method not in RECIPES or (method == "pairs") != isinstance(data, Pairs):
        raise ValueError(f"method={method!r}: for texts one of {', '.join(RECIPES)}")
    if (teacher is None) == (method == "pseudo-labels"):
        raise ValueError("pseudo-labels and a teacher go together: it is learnt from")
    if guard is not None and corpus is None:
        raise ValueError("guard speaks of rows of the corpus; give corpus=… too")
    recipe = recipe or RECIPES[method]
    train, test, rows = _train_and_test(data, test, recipe)
    facts: dict[str, Any] = {"trained on": len(train)}
    search = None
    if test is not None:
        answers = [*(train.positive if isinstance(train, Pairs) else ()), *test.positive]
        search = retrieval_from_pairs(test, answers if corpus is None else corpus)
        facts |= {"queries": len(search.queries), "searched": len(search.corpus)}
    sets = general_sets() if general is None else general
    plan = {
        "method": method,
        **asdict(recipe),
        "teacher": _name(teacher),
        "guard": _name(guard),
        "data": _hash(train),
        "test": _hash(test),
        "corpus": sha256_of(corpus and list(corpus)),
        "general": sha256_of([[s.first, s.second, s.score] for s in sets.values()]),
    }

    def of_file(pair_rows: Rows, corpus_rows: Rows) -> Flags:
        assert guard is not None
        return guard(rows[pair_rows], corpus_rows)

    def teach(encoder: SentenceEncoder, work: Path) -> Curve:
        cache, checkpoints = EmbeddingCache(work / "cache"), work / "checkpoints"
        if not isinstance(train, Pairs):
            return train_on_texts(
                method,
                encoder,
                train,
                recipe,
                teacher=teacher,
                cache=cache,
                folder=checkpoints,
                show_progress=show_progress,
            )
        asks = None if guard is None else of_file
        mined = mine_negatives(
            encoder, train, recipe, corpus, asks, cache, show_progress
        )
        if mined is not None:
            facts["negatives"] = len(mined)
            facts.update({f"passed over, {w}": n for w, n in mined.removed.items()})
        return train_on_pairs(
            encoder, train, recipe, mined, checkpoints, show_progress
        )

    folder = Path(out).expanduser()
    with _alone(folder):
        encoder = SentenceEncoder.from_pretrained(str(base))
        plan["base"] = encoder.fingerprint()
        outcome = _begin(folder, plan)
        if outcome is None:
            log.info("training …")
            curve = teach(encoder, folder / "work")
            before = SentenceEncoder.from_pretrained(str(base))
            if recipe.base_weight:
                encoder = average(before, encoder, recipe.base_weight)
            log.info("measuring …")
            old, new = (
                measure(model, search, sets, show_progress)
                for model in (before, encoder)
            )
            better, worse = examples(search, old, new)
            encoder.save(folder / "model")
            outcome = Outcome(
                str(base),
                plan,
                encoder.fingerprint(),
                facts,
                compare(search, sets, old, new),
                curve,
                better,
                worse,
                perf_counter() - started,
            )
            write_report(folder, outcome)
        shutil.rmtree(folder / "work", ignore_errors=True)
    return outcome


def _train_and_test(
    data: Pairs | Sequence[str], test: Pairs | None, recipe: Recipe
) -> tuple[Pairs | list[str], Pairs | None, Rows]:
    """Return what to train on and to test on, checked, and the rows of the former."""
    train: Pairs | list[str]
    rows = np.arange(len(data))
    if isinstance(data, Pairs):
        check_labels(data)
        train = data
        if test is None:
            in_train, in_test = split_pairs(data, recipe.test_share, recipe.seed)
            train, test = data.pick(in_train), data.pick(in_test)
            rows = np.array(in_train)
        check_no_leak(train, test)
    else:
        train = different_texts(data)
        asked = () if test is None else test.anchor
        leaks = find_leaks([[text] for text in train], [[text] for text in asked])
        if leaks:
            raise DataError(
                [f"{asked[i]!r} is tested, and among the texts" for i, _ in leaks]
            )
    for part in (train, test):
        if part is not None and len(part) < LEAST:
            raise DataError([f"{len(part)} to train or test on; bring {LEAST} or more"])
    return train, test, rows


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second run of this user out of a folder; a killed one lets go of it.

    The lock lies with the cache, for the folder is to hold what was asked for alone.
    """
    path = cache_home() / "locks" / f"{sha256_of(str(folder.resolve()))[:16]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path).acquire(timeout=0)
    except Timeout:
        raise FileExistsError(
            f"{folder} is being filled by another run; wait for its end, or give "
            "another folder"
        ) from None
    with lock:
        yield


def _begin(folder: Path, plan: Mapping[str, Any]) -> Outcome | None:
    """Write the plan, or compare it; return the outcome of a run that is finished."""
    path, plan = folder / PLAN, json.loads(json.dumps(plan))
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        differs = [key for key in plan if known.get(key) != plan[key]]
        if differs:
            raise FileExistsError(
                f"{folder} holds an adaptation with another {', '.join(differs)}: take "
                "back the change, give another folder, or delete this one"
            )
    elif folder.exists():
        others = [o for o in folder.iterdir() if not o.name.startswith(f".{PLAN}.")]
        if others:
            raise FileExistsError(
                f"{folder} holds other files, and no adaptation; give a new folder"
            )
    write_json(path, plan)
    return read_outcome(folder) if (folder / OUTCOME).is_file() else None


def _hash(data: Pairs | Sequence[str] | None) -> str:
    if isinstance(data, Pairs):
        return sha256_of([data.anchor, data.positive, data.negative])
    return sha256_of(data)


def _name(thing: object) -> str | None:
    """Name a teacher or a guard by its fingerprint, if it has one."""
    if thing is None:
        return None
    named = getattr(thing, "fingerprint", None)
    return str(named()) if callable(named) else type(thing).__name__
