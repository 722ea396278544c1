"""Rows of the dictionary beside its pairs: sentences labelled and graded by rule.

What 02's study trains on for the objectives that read labels or scores.
"""

from collections import defaultdict
from itertools import chain, islice, pairwise, zip_longest

import numpy as np

from sbert_lab.datasets import dictionary
from sbert_lab.datasets.leaks import judged_texts
from sbert_lab.datasets.nli import LABELS, Inference, Label
from sbert_lab.datasets.pairs import plain
from sbert_lab.datasets.sts import ScoredPairs

#: By what a changed word is to the one it replaces: the labels of (sentence, changed)
#: and of (changed, sentence), and the score in `graded`.
_RULES: dict[dictionary.Relation, tuple[Label | None, Label | None, int | None]] = {
    "same": ("entailment", "entailment", 5),
    "near": ("entailment", None, 4),
    "wider": ("entailment", "neutral", 4),
    "narrower": ("neutral", "entailment", 3),
    "other": ("neutral", "neutral", None),
    "apart": ("contradiction", "contradiction", 2),
}
_Stratum = tuple[int, str, int]  # direction, part of speech, commonness


def entailment(
    split: str = "train", seed: int = 0, without: dictionary.Texts = None
) -> tuple[Inference, ...]:
    """Return sentences of WordNet and the same with one word changed, labelled.

    `dictionary.variants` says which. With a sentence as the premise and the changed one
    as the hypothesis (or, in brackets, the other way round):

    - a word of the same sense: entailment (entailment)
    - of the sense above (hypernym), or without an adjective: entailment (neutral)
    - of a sense below (hyponym), or with an adjective more: neutral (entailment)
    - of the central adjective of its kind, *huge* and *large*: entailment (not used)
    - another adjective that stands before the same noun elsewhere: neutral (neutral)
    - its antonym, or that of its central adjective: contradiction (contradiction)
    - another thing of its kind, only of animals, plants, food, objects, substances,
      parts of the body, movements and eating: contradiction (contradiction)

    At most two rows a label are drawn for a word. Of each commonness of the new word,
    part of speech and direction there are as many rows of each label; those whose
    sentence has a row of each come first. Rows stand in the split of their sense; of a
    text that stands in two, the rows of train are dropped, as are those with a text in
    `without`, by default `leaks.judged_texts`.
    """
    rng = np.random.default_rng(seed)
    out = dictionary.left_out(split, frozenset())
    # By texts: stratum, whether the sentence lacks a label, row; None if drawn twice.
    found: dict[tuple[str, str], tuple[_Stratum, bool, Inference] | None] = {}
    for sense, text, options in dictionary.variants(split):
        for way in (0, 1):
            drawn = _drawn(options, way, rng)
            lacks = len({label for label, *_ in drawn}) < len(LABELS)
            for label, other, count in drawn:
                two = (other, text) if way else (text, other)
                key = plain(two[0]), plain(two[1])
                row = Inference(sense.id, "wordnet", *two, label)
                stratum = way, sense.id[0], count.bit_length()
                found[key] = None if key in found else (stratum, lacks, row)
    single = [one for key, one in found.items() if one and out.isdisjoint(key)]
    single = [single[row] for row in rng.permutation(len(single))]
    strata: dict[_Stratum, dict[Label, list[Inference]]]
    strata = defaultdict(lambda: {label: [] for label in LABELS})
    for stratum, _, row in sorted(single, key=lambda one: one[1]):
        strata[stratum][row.label].append(row)
    rows: list[Inference] = []
    for by_label in strata.values():
        fewest = min(map(len, by_label.values()))
        rows += chain.from_iterable(some[:fewest] for some in by_label.values())
    rows = [rows[row] for row in rng.permutation(len(rows))]
    judged = judged_texts() if without is None else without
    return tuple(
        r for r in rows if judged.isdisjoint((plain(r.premise), plain(r.hypothesis)))
    )


def _drawn(
    options: dictionary.Options, way: int, rng: np.random.Generator, most: int = 2
) -> list[tuple[Label, str, int]]:
    """Return up to `most` options of each label, as common as one that is drawn."""
    found: dict[Label, list[tuple[str, int]]] = {name: [] for name in LABELS}
    for relation, texts in options.items():
        if label := _RULES[relation][:2][way]:
            found[label] += texts.items()
    fewest = min(filter(None, found.values()), key=len, default=[])
    if not fewest:
        return []
    target = np.log(fewest[rng.integers(len(fewest))][1])

    def gap(option: tuple[str, int]) -> float:
        return float(abs(np.log(option[1]) - target) + rng.random() / 2)

    return [
        (label, *option)
        for label, texts in found.items()
        for option in sorted(texts, key=gap)[:most]
    ]


def graded(
    split: str = "train",
    seed: int = 0,
    without: dictionary.Texts = None,
    size: int = 10_000,
) -> ScoredPairs:
    """Return pairs scored from 0 to 5, as many of each score, up to `size`.

    - 5: a sentence, and the same with a synonym; a definition, and its words
    - 4: the same with the word of the sense above (hypernym, central adjective)
    - 3: the same with a word of a sense below; a sentence, and its word's definition
    - 2: the same with the opposite or another thing of its kind, as in `entailment`;
      two sentences that show one sense
    - 1: texts of two senses of one topic, a file of WordNet's such as *noun.food*
    - 0: texts of two topics

    Texts of 1 and 0 are in equal parts two sentences, a definition and the words of
    another sense, and a sentence and the definition of another. `split`, `without` and
    which texts are left out are those of `entailment`; a group is a sense.
    """
    rng = np.random.default_rng(seed)
    senses = dictionary.senses_of(split)
    shown = [(sense, text) for sense in senses for text in sense.examples]
    # Of each grade some kinds, of which as many are drawn as there may be.
    kinds: dict[int, list[list[tuple[str, str, str]]]]
    kinds = {grade: [[], []] for grade in range(6)}
    for sense, text, options in dictionary.variants(split):
        for relation, (*_, grade) in _RULES.items():
            if grade and (texts := list(options[relation])):
                new = texts[rng.integers(len(texts))]
                kinds[grade][0].append((text, new, sense.id))
    for sense in senses:
        kinds[5][1].append((sense.definition, ", ".join(sense.lemmas), sense.id))
        for text, more in pairwise(sense.examples):
            kinds[2][1].append((text, more, sense.id))
    kinds[3][1] = [(text, sense.definition, sense.id) for sense, text in shown]
    shown = [shown[row] for row in rng.permutation(len(shown))]
    by_topic = sorted(shown, key=lambda one: one[0].topic)
    for grade, order in ((1, by_topic), (0, shown)):
        for at, ((sense, text), (other, partner)) in enumerate(pairwise(order)):
            same = other.topic == sense.topic
            # Adjectives and adverbs, files 0 to 2, are not told apart by topic.
            if other is not sense and (same and sense.topic > 2 if grade else not same):
                two = (
                    (text, partner),
                    (sense.definition, ", ".join(other.lemmas)),
                    (text, other.definition),
                )[at % 3]
                kinds[grade][0].append((*two, sense.id))
    found: dict[tuple[str, str], tuple[int, str]] = {}
    number = min(size, *(sum(map(len, pools)) for pools in kinds.values()))
    for grade, pools in kinds.items():
        mixed = [[pool[row] for row in rng.permutation(len(pool))] for pool in pools]
        drawn = chain.from_iterable(zip_longest(*mixed))
        for first, second, group in islice(filter(None, drawn), number):
            two = (first, second) if rng.random() < 0.5 else (second, first)
            if two[::-1] not in found and plain(first) != plain(second):
                found.setdefault(two, (grade, group))
    out = dictionary.left_out(split, without)
    rows = [row for row in found.items() if out.isdisjoint(map(plain, row[0]))]
    rows = [rows[row] for row in rng.permutation(len(rows))]
    firsts, seconds = zip(*(two for two, _ in rows), strict=True)
    return ScoredPairs(firsts, seconds, *zip(*(told for _, told in rows), strict=True))
