"""Print what the dictionary's rows are, and how far shallow cues tell their labels.

    python studies/dictionary_rows.py [--seed 0] [--sample FOLDER]

Cues are word overlap and, by logistic regression on a bag of words, the hypothesis
alone; they learn from train and are measured on test. ``--sample`` writes rows of
train to be read by eye: 200 of each label, also mixed, their labels in a file apart.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import dictionary_tasks
import numpy as np
from material import word_overlap
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from sbert_lab.datasets import dictionary
from sbert_lab.datasets.nli import LABELS, Inference, nli_triplets

SPLITS = ("train", "dev", "test")
NOTHING: frozenset[str] = frozenset()


def accuracies(
    train: Sequence[Inference], test: Sequence[Inference]
) -> dict[str, float]:
    """Return the label accuracy of each cue on test."""
    labels = [[row.label for row in rows] for rows in (train, test)]
    overlap = [
        np.array([[word_overlap(row.premise, row.hypothesis)] for row in rows])
        for rows in (train, test)
    ]
    words = CountVectorizer(min_df=2)
    bags = [
        words.fit_transform([row.hypothesis for row in train]),
        words.transform([row.hypothesis for row in test]),
    ]
    found = {"largest label": max(Counter(labels[1]).values()) / len(test)}
    for name, (known, asked) in {"word overlap": overlap, "hypothesis": bags}.items():
        model = LogisticRegression(max_iter=1000).fit(known, labels[0])
        found[name] = float(model.score(asked, labels[1]))
    return found


def write_sample(rows: Sequence[Inference], folder: Path, seed: int) -> None:
    """Write 200 rows of each label, and all of them mixed with the key apart."""
    rng = np.random.default_rng(seed)
    mixed: list[Inference] = []
    for label in LABELS:
        some = [row for row in rows if row.label == label]
        drawn = [some[at] for at in rng.permutation(len(some))[:200]]
        _write(folder / f"{label}.csv", drawn)
        mixed += drawn
    mixed = [mixed[at] for at in rng.permutation(len(mixed))]
    _write(folder / "mixed.csv", mixed)
    with (folder / "key.csv").open("w", newline="", encoding="utf-8") as file:
        key = [(n, row.label) for n, row in enumerate(mixed, 1)]
        csv.writer(file).writerows([("n", "label"), *key])


def _write(path: Path, rows: Sequence[Inference]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        told = [(n, row.premise, row.hypothesis) for n, row in enumerate(rows, 1)]
        csv.writer(file).writerows([("n", "premise", "hypothesis"), *told])


def main() -> None:
    """Print everything, or write the sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=Path, help="write rows to read, and stop")
    options = parser.parse_args()
    train, *_ = sets = [
        dictionary_tasks.entailment(name, options.seed) for name in SPLITS
    ]
    if options.sample:
        write_sample(train, options.sample, options.seed)
        return
    for kind in dictionary.KINDS:
        one = [kind]
        pairs = dictionary.ranking_pairs("train", one)
        every = dictionary.ranking_pairs("train", one, without=NOTHING)
        print(f"{kind}: {len(pairs):,} train pairs, {len(every) - len(pairs)} leaks")
    for name, rows in zip(SPLITS, sets, strict=True):
        every = dictionary_tasks.entailment(name, options.seed, NOTHING)
        counts = dict(Counter(row.label for row in rows))
        print(f"entailment, {name}: {len(rows):,} rows, {counts}")
        print(f"  {len({row.premise for row in rows}):,} premises, ", end="")
        print(f"{len(nli_triplets(rows)):,} triplets, {len(every) - len(rows)} leaks")
    for cue, accuracy in accuracies(train, sets[2]).items():
        print(f"label accuracy of {cue}: {accuracy:.3f}")
    for name in SPLITS:
        scored = dictionary_tasks.graded(name, options.seed)
        every = dictionary_tasks.graded(name, options.seed, NOTHING)
        overlap = list(map(word_overlap, scored.first, scored.second))
        counts = dict(sorted(Counter(scored.score).items()))
        print(f"graded, {name}: {len(scored):,} rows, {counts}, ", end="")
        print(f"{len(every) - len(scored)} leaks, ", end="")
        print(f"Spearman of overlap {spearmanr(overlap, scored.score)[0]:.3f}")


if __name__ == "__main__":
    main()
