"""Adapt a model: train, average with the base, measure, save.

The folder that is filled holds ``plan.json`` (what decides the weights) from the start,
then ``model``, ``report.md``, and at last ``outcome.json``. Until then ``work`` holds
checkpoints, from which a run that was killed goes on.
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from sbert_lab._utils import write_json
from sbert_lab.adaptation.recipe import RECIPES, Recipe, sha256_of
from sbert_lab.adaptation.report import OUTCOME, compare, measure, write_report
from sbert_lab.adaptation.supervised import mine_negatives, train_on_pairs
from sbert_lab.adaptation.unsupervised import different_texts, train_on_texts
from sbert_lab.datasets import pairs
from sbert_lab.datasets.leaks import check_no_leak
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.datasets.sts import ScoredPairs, everyday, stsb
from sbert_lab.models.averaging import average
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.registry import BY_NAME, locate
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of

log = logging.getLogger(__name__)

PLAN = "plan.json"


def adapt(
    base: str | Path,
    data: Pairs | Sequence[str],
    out: str | Path,
    *,
    method: str = "pairs",
    recipe: Recipe | None = None,
    test: Pairs | None = None,
    corpus: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Adapt a model to a field, and measure what that brought and what it cost.

    Called again after an interruption, with the same arguments, it goes on and ends in
    the same weights; called again when all is done, it returns what was found.

    `data` are pairs that belong together, e.g. queries and answers, or texts of the
    field, for which `method` is that of `train_on_texts`. `out` is a folder to fill:
    new, empty, or that of an earlier call. A `recipe` of None is the method's own.
    `test` are other pairs; None keeps some of the pairs aside, whole groups that share
    no text with the rest, and tests nothing where there are only texts. `corpus` is
    what is searched, by default the answers of training and test; hard negatives of
    pairs come from it, or else from the answers of training. The answers of the test
    are none.

    Returns what is in ``outcome.json``: ``base``, ``fingerprint`` of the adapted
    weights, ``plan``, ``facts``, ``curve`` (step and loss), and those of
    `report.compare`. Errors of data, recipe, folder or base say what to change.

    Sources: Henderson et al. 2017 (in-batch negatives), Karpukhin et al. 2020 (mined
    ones), Wortsman et al. 2022 (the average with the base).
    """
    if method not in RECIPES or (method == "pairs") != isinstance(data, Pairs):
        raise ValueError(f"method={method!r}: for texts one of {', '.join(RECIPES)}")
    recipe = recipe or RECIPES[method]
    train, test = _train_and_test(data, test, recipe)
    # To learn that answers of the test are wrong would spoil it.
    hidden = set() if test is None else set(map(pairs.plain, test.positive))
    mined_from = [t for t in corpus or () if pairs.plain(t) not in hidden] or None
    facts = {"trained on": len(train)}
    search = None
    if test is not None:
        answers = train.positive if isinstance(train, Pairs) else ()
        search = pairs.retrieval_from_pairs(test, corpus or (*answers, *test.positive))
        facts |= {"queries": len(search.queries), "searched": len(search.corpus)}
    folder = Path(out).expanduser()
    work = folder / "work"
    encoder = SentenceEncoder.from_pretrained(str(base))
    metric_of(encoder)  # it is measured by that in the end
    plan = {
        "base": encoder.fingerprint(),
        "method": method,
        **asdict(recipe),
        "data": _hash(train),
        "test": _hash(test),
        "corpus": _hash(corpus),
    }
    _begin(folder, plan)
    with FileLock(work / "lock", timeout=0):  # a killed run lets go of it
        if not (folder / OUTCOME).is_file():
            log.info("training …")
            stops = work / "checkpoints"
            if isinstance(train, Pairs):
                cache = EmbeddingCache(work / "cache")
                mined = mine_negatives(encoder, train, recipe, mined_from, cache=cache)
                curve = train_on_pairs(encoder, train, recipe, mined, stops)
            else:
                curve = train_on_texts(method, encoder, train, recipe, stops)
            before = SentenceEncoder.from_pretrained(str(base))
            if recipe.base_weight:
                encoder = average(before, encoder, recipe.base_weight)
            log.info("measuring …")
            sets = general_sets()
            old, new = (measure(model, search, sets) for model in (before, encoder))
            encoder.save(folder / "model")
            outcome = {
                "base": str(base),
                "fingerprint": encoder.fingerprint(),
                "plan": plan,
                "facts": facts,
                "curve": curve,
                **compare(search, sets, old, new),
            }
            write_report(folder, outcome)
        killed = folder.glob(".model." + 8 * "[0-9a-f]")  # saves, see new_folder
        for left_over in (work / "checkpoints", work / "cache", *killed):
            shutil.rmtree(left_over, ignore_errors=True)
        (work / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # not empty: what else is there is not ours
            work.rmdir()
    return dict(json.loads((folder / OUTCOME).read_text("utf-8")))


def general_sets() -> dict[str, ScoredPairs]:
    """Return everyday sentences: STS Benchmark where it is, else the project's own."""
    if locate(BY_NAME["stsb"]) is not None:
        return {"STSBenchmark": stsb("test")}
    return {"everyday": everyday()}


def _train_and_test(
    data: Pairs | Sequence[str], test: Pairs | None, recipe: Recipe
) -> tuple[Pairs | tuple[str, ...], Pairs | None]:
    """Return what to train on and to test on, with nothing that is on both sides."""
    if not isinstance(data, Pairs):
        texts = different_texts(data)
        if test is not None:  # its answers may be known, its queries not
            asked = replace(test, positive=test.anchor, negative=None)
            check_no_leak(Pairs(texts, texts), asked)
        return texts, test
    pairs.check_labels(data)
    if test is None:
        in_train, in_test = pairs.split_pairs(data, recipe.test_share, recipe.seed)
        return data.pick(in_train), data.pick(in_test)
    check_no_leak(data, test)
    return data, test


def _begin(folder: Path, plan: Mapping[str, Any]) -> None:
    """Write the plan, or compare it with that of an earlier start."""
    path, plan = folder / PLAN, json.loads(json.dumps(plan))
    if path.is_file():
        try:
            known = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):  # somebody else's
            known = {}
        if differs := [key for key in plan if known.get(key) != plan[key]]:
            raise FileExistsError(
                f"{folder} holds an adaptation with another {', '.join(differs)}: take "
                "back the change, give another folder, or delete this one"
            )
    elif folder.exists() and any(
        not other.name.startswith(f".{PLAN}.") for other in folder.iterdir()
    ):
        raise FileExistsError(
            f"{folder} holds other files, and no adaptation; give a new folder"
        )
    write_json(path, plan)


def _hash(data: Pairs | Sequence[str] | None) -> str:
    if isinstance(data, Pairs):
        return sha256_of([data.anchor, data.positive, data.negative])
    return sha256_of(data)
