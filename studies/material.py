"""What the studies of 01 to 03 share: what is measured, and how one model is trained.

Scored pairs of three kinds (Spearman's correlation of cosine and score) and a search
(nDCG@10). No text that is measured is trained on.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import regex
from safetensors.torch import load, save
from torch import Tensor

from experiments.profiles import current
from experiments.runs import Items, Yardstick, get_or_train, raw_encoder
from sbert_lab._utils import write_bytes
from sbert_lab.adaptation.recipe import sha256_of
from sbert_lab.datasets import icd10cm, sts
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.losses import Objective
from sbert_lab.models.lexical import spelled
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training import TrainingData, fit

SETS = ("stsb", "sick", "everyday", "apart", "form", "retrieval")
UNIT = dict.fromkeys(SETS, "Spearman") | {"retrieval": "nDCG@10"}
RANKED = 256  # pairs of a batch for ranking: each is a wrong answer to all others

#: Words that say little about what a sentence is about.
STOP_WORDS = frozenset(
    """
    a an the and or but nor of to in on at for with from by as into onto over under up
    down out off about across through during within without against between around is
    are was were be been being am do does did done doing has have had having will would
    shall can could should may might must i you he she it we they me him her us them my
    your his its our their mine yours this that these those there here not no so if
    than then too very just also who whom whose what when where which how why while
    because before after until since all both each some any one s t don didn isn wasn
    doesn won couldn let please
    """.split()
)
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")


@cache
def yardstick() -> Yardstick:
    """Return STS Benchmark's test, SICK-R, our everyday pairs, and medical search.

    ``"apart"`` are the everyday pairs without a shared content word. In ``"form"`` the
    partners that mean something else also have the form of their anchor, a question
    for a question, so that form tells nothing.
    """
    profile = current()
    sets = {
        "stsb": sts.stsb("test"),
        "sick": sts.sick(),
        "everyday": sts.everyday(),
        "apart": sts.everyday(lures=False),
        "form": sts.everyday(same_form=True),
    }
    if profile.benchmark is not None:
        most = 10 * profile.benchmark
        sets = {n: p.only(np.arange(len(p)) < most) for n, p in sets.items()}
    task = icd10cm.retrieval_task("test", profile.trial_queries, profile.corpus)
    return Yardstick(sets, task)


def stsb_rows() -> ScoredPairs:
    """Return STS Benchmark's own training pairs."""
    pairs, few = sts.stsb("train"), current().benchmark
    return pairs if few is None else pairs.only(np.arange(len(pairs)) < 10 * few)


def judged(yard: Yardstick) -> str:
    """Return a hash of all that a yardstick measures on."""
    return sha256_of(asdict(yard))


def trained(
    name: str,
    data: TrainingData,
    objective: Callable[[SentenceEncoder], Objective],
    *,
    seed: int,
    learning_rate: float,
    batch_size: int,
    epochs: float = 1,
    pooling: str = "mean",
    start: str | None = None,
) -> str:
    """Return the folder of bert-mini, or of the encoder in `start`, after a training.

    `name` says what `objective` is; each training is done once and kept. The weights of
    the objective's own stand beside the folder, see `head_of`.
    """
    if start is None:
        encoder = raw_encoder(current(), pooling)
    else:
        encoder = SentenceEncoder.from_pretrained(start)
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    told = {"base": encoder.fingerprint(), "data": data.fingerprint(), **settings}
    made: list[Objective] = []

    def make() -> SentenceEncoder:
        made.append(objective(encoder))
        fit(encoder, data, made[0], **settings)
        return encoder

    folder = get_or_train(f"study-{name}", told, make).folder
    if made and (own := made[0].state_dict()):
        write_bytes(_head_file(folder), save(own))
    return folder


def _head_file(folder: str) -> Path:
    return Path(f"{folder}.objective.safetensors")


def head_of(folder: str) -> dict[str, Tensor]:
    """Return what the objective of a training had learnt, by name."""
    return load(_head_file(folder).read_bytes())


def regression(pairs: ScoredPairs) -> TrainingData:
    """Return scored pairs as ``first``, ``second``, ``label``, scores from 0 to 1."""
    label = [score / 5 for score in pairs.score]
    columns = {"first": pairs.first, "second": pairs.second, "label": label}
    return TrainingData(columns, source="scored pairs")


def measured(folder: str) -> Items:
    """Return the cosine of every pair and the nDCG@10 of every query."""
    return as_float32(yardstick().measure(SentenceEncoder.from_pretrained(folder)))


def as_float32(found: Items) -> Items:
    """Return the same in half the space."""
    return {name: values.astype(np.float32) for name, values in found.items()}


def word_overlap(first: str, second: str) -> float:
    """Return the share of words, but stop words, that two texts have in common."""
    a, b = (set(_WORD.findall(spelled(text))) - STOP_WORDS for text in (first, second))
    return len(a & b) / max(1, len(a | b))
