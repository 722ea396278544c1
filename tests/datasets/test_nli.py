"""Premises and hypotheses, and the triplets made of them."""

from sbert_lab.datasets.nli import LABELS, Inference, authored, nli_triplets


def test_triplets_pair_the_ith_of_each():
    def pair(premise, hypothesis, label):
        return Inference("", "", premise, hypothesis, label)

    pairs = [
        pair("a", "e1", "entailment"),
        pair("b", "e9", "entailment"),
        pair("a", "c1", "contradiction"),
        pair("a", "n1", "neutral"),
        pair("c", "c9", "contradiction"),
        pair("a", "e2", "entailment"),
        pair("a", "c2", "contradiction"),
        pair("a", "e3", "entailment"),
    ]
    assert nli_triplets(pairs) == [("a", "e1", "c1"), ("a", "e2", "c2")]
    assert len(nli_triplets(authored())) == 400


def test_authored_pairs_are_balanced_and_unrepeated():
    pairs = authored()
    assert len(pairs) == 1_200
    hypotheses = {item.hypothesis.lower() for item in pairs}
    assert len(hypotheses | {item.premise.lower() for item in pairs}) == 1_600
    for label in LABELS:
        mine = [item for item in pairs if item.label == label]
        assert len(mine) == len({item.premise_id for item in mine}) == 400
