"""The sentences written for this project: balanced, unrepeated, and not too easy."""

import re
from collections import Counter

import numpy as np
import pytest

from sbert_lab.datasets import nli
from sbert_lab.datasets.similarity import similarity_ladder
from sbert_lab.evaluation.error_analysis import content_words as content
from sbert_lab.evaluation.error_analysis import word_overlap as overlap
from sbert_lab.evaluation.metrics import pairwise_cosine, spearman

LADDER = similarity_ladder()
PREMISES = nli.authored()


def test_ladder_is_balanced():
    assert len(LADDER) == 720
    rungs = Counter(pair.anchor_id for pair in LADDER)
    assert set(rungs.values()) == {6}
    assert len(rungs) == 120
    for anchor in rungs:
        scores = [pair.score for pair in LADDER if pair.anchor_id == anchor]
        assert sorted(scores) == [0, 1, 2, 3, 4, 5]
    firsts = {pair.anchor_id: pair for pair in LADDER}.values()
    assert set(Counter(p.topic for p in firsts).values()) == {10}
    assert set(Counter(p.grammar for p in firsts).values()) == {24}
    assert set(Counter(p.length for p in firsts).values()) == {40}


def test_ladder_lengths_are_what_they_say():
    limits = {"short": (1, 8), "medium": (9, 15), "long": (16, 28)}
    for pair in LADDER:
        low, high = limits[pair.length]
        assert low <= len(pair.anchor.split()) <= high, pair.anchor


def test_no_sentence_occurs_twice():
    sentences = [pair.partner.lower() for pair in LADDER]
    sentences += {pair.anchor_id: pair.anchor.lower() for pair in LADDER}.values()
    assert len(set(sentences)) == len(sentences) == 840
    hypotheses = [item.hypothesis.lower() for item in PREMISES]
    premises = {item.premise.lower() for item in PREMISES}
    assert len(set(hypotheses) | premises) == 1_600


def test_traps_are_many():
    traps = Counter(pair.trap for pair in LADDER)
    for trap in ("negation", "swapped_roles", "number", "antonym"):
        assert traps[trap] >= 40, trap
    bare = [p for p in LADDER if p.trap == "no_shared_word"]
    assert len(bare) >= 100
    assert all(p.score >= 4 for p in bare)
    assert not [p for p in bare if content(p.anchor) & content(p.partner)]


def test_word_overlap_is_not_enough():
    scores = np.array([pair.score for pair in LADDER], float)
    shared = np.array([overlap(pair.anchor, pair.partner) for pair in LADDER])
    assert 0.2 < spearman(shared, scores) < 0.55


def test_a_real_encoder_climbs_the_ladder(minilm):
    scores = np.array([pair.score for pair in LADDER], float)
    cosines = pairwise_cosine(
        minilm.encode([pair.anchor for pair in LADDER]),
        minilm.encode([pair.partner for pair in LADDER]),
    )
    assert spearman(cosines, scores) >= 0.80


def test_inferences_are_balanced():
    assert len(PREMISES) == 1_200
    for label in nli.LABELS:
        mine = [item for item in PREMISES if item.label == label]
        assert len(mine) == len({item.premise_id for item in mine}) == 400
        words = np.mean([len(item.hypothesis.split()) for item in mine])
        assert 7.8 < words < 9.2
        denied = sum(
            bool(re.search(r"\b(not|no|never|cannot)\b|n't", item.hypothesis.lower()))
            for item in mine
        )
        assert 50 < denied < 80


@pytest.mark.parametrize("by", ["premise_id", "topic"])
def test_hypothesis_alone_does_not_give_the_label_away(by):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline

    accuracy = cross_val_score(
        make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1_000)),
        [item.hypothesis for item in PREMISES],
        [item.label for item in PREMISES],
        groups=[getattr(item, by) for item in PREMISES],
        cv=GroupKFold(5),
    ).mean()
    assert accuracy < 0.45
