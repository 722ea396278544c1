"""Train bert-mini on SICK's entailment, then on the STS Benchmark: the paper's table 2.

    python benchmarks/nli_then_sts.py [--seeds 3]

Needs both sets (SBERT_LAB_DATA_HOME, see README). Measured is Spearman's correlation on
the test pairs of the STS Benchmark, next to the untrained poolings and to each training
alone. Writes data/results/nli_then_sts.json.

SICK and the STS Benchmark share captions of pictures: pairs of the test set that stand
in SICK's training pairs too are counted and left out of training.
"""

import argparse
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from sbert_lab._utils import project_root, write_json
from sbert_lab.datasets.nli import LABELS, Inference, sick_entailment
from sbert_lab.datasets.pairs import plain
from sbert_lab.datasets.sts import ScoredPairs, stsb
from sbert_lab.evaluation.metrics import pairwise_cosine
from sbert_lab.evaluation.statistics import Interval
from sbert_lab.experiments.profiles import PROFILES, Profile
from sbert_lab.experiments.runs import (
    Items,
    Yardstick,
    labelled,
    raw_encoder,
    regression,
    train,
)
from sbert_lab.losses import CosineSimilarityLoss, SoftmaxLoss
from sbert_lab.models.probing import encode_all_poolings
from sbert_lab.models.sentence_encoder import SentenceEncoder

log = logging.getLogger(__name__)

WAYS = ("cls", "max", "mean")


def main() -> None:
    """Train, measure, print a table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="train on this many pairs of each set")
    parser.add_argument(
        "--out",
        type=Path,
        default=project_root() / "data" / "results" / "nli_then_sts.json",
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    test = stsb("test")
    entailment, similarity, left_out = training_sets(test)
    found = measured(
        PROFILES["laptop"],
        entailment[: options.rows],
        first(similarity, options.rows),
        test,
        options.seeds,
    )
    for name, value in found.items():
        print(f"{name:32} {value}")
    print(f"left out of training, since test has them too: {left_out} pairs")
    write_json(
        options.out,
        {
            "test": f"STS Benchmark test, {len(test):,} pairs, Spearman",
            "seeds": options.seeds,
            "left_out": left_out,
            "results": {name: dataclasses.asdict(v) for name, v in found.items()},
        },
    )


def training_sets(test: ScoredPairs) -> tuple[list[Inference], ScoredPairs, int]:
    """Return the labelled and the scored pairs that test has not, how many it had."""
    judged = {
        frozenset(map(plain, two)) for two in zip(test.first, test.second, strict=True)
    }
    labelled = sick_entailment("train")
    kept = [
        pair
        for pair in labelled
        if frozenset((plain(pair.premise), plain(pair.hypothesis))) not in judged
    ]
    scored = stsb("train")
    new = [
        frozenset((plain(a), plain(b))) not in judged
        for a, b in zip(scored.first, scored.second, strict=True)
    ]
    out = len(labelled) - len(kept) + len(new) - sum(new)
    return kept, scored.only(new), out


def first(pairs: ScoredPairs, rows: int | None) -> ScoredPairs:
    """Return the first rows of a set; all for None."""
    count = len(pairs) if rows is None else rows
    return pairs.only([row < count for row in range(len(pairs))])


def measured(
    profile: Profile,
    entailment: Sequence[Inference],
    similarity: ScoredPairs,
    test: ScoredPairs,
    seeds: int,
) -> dict[str, Interval]:
    """Return Spearman's correlation of each way, over all seeds."""
    yard = Yardstick({"stsb": test})
    ways = encode_all_poolings(raw_encoder(profile), test.first + test.second)
    n = len(test)
    runs: dict[str, list[Items]] = {
        f"untrained, {way}": [{"stsb": pairwise_cosine(ways[way][:n], ways[way][n:])}]
        for way in WAYS
    }
    names = ("SICK entailment", "STS Benchmark", "SICK, then STS Benchmark")
    runs |= {name: [] for name in names}
    labels, scores = labelled(entailment), regression(similarity)
    for seed in range(seeds):
        nli = train(profile, labels, _softmax, seed=seed).encoder
        runs[names[0]].append(yard.measure(nli))
        both = train(profile, scores, _regression, seed=seed, encoder=nli).encoder
        runs[names[2]].append(yard.measure(both))
        alone = train(profile, scores, _regression, seed=seed).encoder
        runs[names[1]].append(yard.measure(alone))
    return {name: yard.score("stsb", found) for name, found in runs.items()}


def _softmax(encoder: SentenceEncoder) -> SoftmaxLoss:
    return SoftmaxLoss(encoder.dimension, len(LABELS))


def _regression(_: SentenceEncoder) -> CosineSimilarityLoss:
    return CosineSimilarityLoss()


if __name__ == "__main__":
    main()
