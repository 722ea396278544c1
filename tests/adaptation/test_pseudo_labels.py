"""Pseudo-labels: whose query, which negative, what margin, and what is learnt of it."""

import numpy as np
import pytest
import torch
from conftest import states
from tiny_cross_encoder import WORDS as CROSS_WORDS
from tiny_cross_encoder import tiny_cross_encoder
from unlabelled_cases import by_words, domain, encoder

from sbert_lab.adaptation.generators import CropGenerator
from sbert_lab.adaptation.pseudo_labels import (
    CrossEncoderJudge,
    pseudo_labels,
    similarity_judge,
)
from sbert_lab.datasets.pairs import plain

pytestmark = pytest.mark.usefixtures("one_thread")


class Fixed:
    """A generator that says what it is told to."""

    def __init__(self, queries):
        self.queries = queries

    def generate(self, texts, per_text, seed):
        del per_text, seed
        return [self.queries[text] for text in texts]


class Plane:
    """An encoder whose vectors stand in a table."""

    dimension = 2
    metric = "dot"

    def __init__(self, table):
        self.table = table

    def encode(self, texts):
        return np.array([self.table[text] for text in texts], np.float32)


def test_margins_by_hand():
    texts = ["red cat", "red dog", "blue bird"]
    queries = {"red cat": ["cat"], "red dog": ["dog"], "blue bird": ["bird", "blue"]}
    table = {
        "red cat": (1, 0),
        "red dog": (0.9, 0.1),
        "blue bird": (0, 1),
        "cat": (1, 0),  # nearest other text: red dog
        "dog": (0.8, 0.3),  # red cat
        "bird": (0.2, 1),  # red dog
        "blue": (0.5, 0.1),  # red cat
    }
    scores = {
        ("cat", "red cat"): 5.0,
        ("cat", "red dog"): 1.5,
        ("dog", "red dog"): 4.0,
        ("dog", "red cat"): 6.0,
        ("bird", "blue bird"): 2.0,
        ("bird", "red dog"): -3.0,
        ("blue", "blue bird"): 0.25,
        ("blue", "red cat"): 0.25,
    }
    asked = []

    def judge(pairs):
        asked.extend(pairs)
        return [scores[pair] for pair in pairs]

    found = pseudo_labels(Plane(table), texts, Fixed(queries), judge, rank=(0, 1))
    assert found.columns() == {
        "anchor": ["cat", "dog", "bird", "blue"],
        "positive": ["red cat", "red dog", "blue bird", "blue bird"],
        "negative": ["red dog", "red cat", "red dog", "red cat"],
        "label": [3.5, -2.0, 5.0, 0.0],
    }
    assert sorted(asked) == sorted(scores)  # each once
    assert len(found) == 4
    assert dict(found.counts) == {"queries": 4, "same": 0, "silent": 0, "without": 0}


def test_rows_are_what_they_should_be():
    """Against a loop: own text, hard negatives of the ranks asked for, margins."""
    model, texts = encoder(), domain(30)
    before = states()
    found = pseudo_labels(
        model,
        texts,
        CropGenerator(delete=0),
        by_words,
        per_text=2,
        negatives=3,
        rank=(2, 8),
        seed=4,
    )
    assert states() == before
    vectors = dict(zip(texts, model.encode(texts), strict=True))
    made = {}
    for query, right, wrong, margin in zip(
        found.anchor, found.positive, found.negative, found.margin, strict=True
    ):
        made.setdefault((query, right), []).append(wrong)
        assert f" {query} " in f" {right} "
        (first,), (second,) = by_words([(query, right)]), by_words([(query, wrong)])
        assert margin == pytest.approx(first - second, abs=1e-12)
    owners = {}
    for query, right in made:
        owners.setdefault(query, set()).add(right)
    for (query, _), wrong in made.items():
        own = model.encode([query])[0]
        others = [text for text in texts if text not in owners[query]]
        near = sorted(others, key=lambda text: -float(own @ vectors[text]))
        assert len(set(wrong)) == 3
        assert set(wrong) <= set(near[2:8])
    ranks = {tuple(wrong) for wrong in made.values()}
    assert len(ranks) > 20
    assert len(made) == found.counts["queries"] == 60 - found.counts["same"]


def test_a_generator_is_told_how_many_and_from_which_seed():
    told = []

    class Told:
        def generate(self, texts, per_text, seed):
            told.append((list(texts), per_text, seed))
            return [[text.split()[0]] for text in texts]

    texts = ["a cat", "the dog", "The  dog"]
    pseudo_labels(encoder(), texts, Told(), by_words, per_text=4, seed=9)
    assert told == [(["a cat", "the dog"], 4, 9)]


def test_negatives_are_drawn_from_the_seed():
    texts = domain(30)
    queries = {text: [text.split()[0]] for text in texts}
    found = [
        pseudo_labels(encoder(), texts, Fixed(queries), by_words, seed=seed)
        for seed in (4, 4, 5)
    ]
    assert found[0].negative == found[1].negative
    assert found[0].anchor == found[2].anchor
    assert found[0].negative != found[2].negative


def test_queries_without_news_are_dropped_and_counted():
    texts = ["a red cat", "a dog", "A  dog", "one bird", "two hills"]
    queries = {
        "a red cat": ["Red", "red", " ", "A red  CAT", "cat"],
        "a dog": ["dog"],
        "one bird": [],
        "two hills": ["Two  hills"],
    }
    found = pseudo_labels(encoder(), texts, Fixed(queries), by_words)
    assert list(zip(found.anchor, found.positive, strict=True)) == [
        ("Red", "a red cat"),
        ("cat", "a red cat"),
        ("dog", "a dog"),
    ]
    assert (found.texts, found.duplicates) == (4, 1)
    assert dict(found.counts) == {"queries": 3, "same": 4, "silent": 2, "without": 0}


# -- judges ---------------------------------------------------------------------------


def test_a_cross_encoder_judges_before_its_activation():
    cross = tiny_cross_encoder(activation="sigmoid")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(CROSS_WORDS, 5)) for _ in range(12)]
    plain_judge = CrossEncoderJudge(cross)
    found = [
        pseudo_labels(encoder(), texts, CropGenerator(), judge)
        for judge in (cross, plain_judge)
    ]
    rows = zip(
        found[0].anchor,
        found[0].positive,
        found[0].negative,
        found[0].margin,
        strict=True,
    )
    for query, right, wrong, margin in rows:
        with torch.no_grad():
            first, second = (
                cross.transformer(
                    **cross.tokenizer(query, text, return_tensors="pt")
                ).logits.item()
                for text in (right, wrong)
            )
        assert margin == pytest.approx(first - second, abs=1e-5)
    assert found[0].columns() == found[1].columns()
    assert plain_judge.fingerprint().endswith(cross.fingerprint())


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_similarity_is_the_encoders_own(metric):
    class Sides(Plane):
        def encode_query(self, texts):
            return self.encode(texts) + 1

        def encode_document(self, texts):
            return self.encode(texts) * 2

    rng = np.random.default_rng(0)
    model = Sides({name: rng.normal(size=2) for name in "abcdef"})
    model.metric = metric
    pairs = [("a", "b"), ("a", "c"), ("d", "b"), ("e", "f"), ("b", "a")]
    wanted = []
    for first, second in pairs:
        q, d = model.table[first] + 1, model.table[second] * 2
        score = q @ d
        if metric == "cosine":
            score /= np.sqrt(q @ q) * np.sqrt(d @ d)
        wanted.append(score)
    found = similarity_judge(model)(pairs)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


# -- refusals -------------------------------------------------------------------------


def test_what_a_generator_and_a_judge_must_give():
    texts = ["a cat", "a dog"]

    def made(queries, judge=by_words):
        class Given:
            def generate(self, texts, per_text, seed):
                return queries

        return pseudo_labels(encoder(), texts, Given(), judge)

    with pytest.raises(ValueError, match="1 lists of queries for 2 texts"):
        made([["cat"]])
    with pytest.raises(ValueError, match="Given, text 1: 'dog' is not a list"):
        made([["cat"], "dog"])
    with pytest.raises(ValueError, match="text 0: .* is not a list of texts"):
        made([[None], ["dog"]])
    with pytest.raises(ValueError, match="made no query that differs from its text"):
        made([["A cat"], [""]])
    with pytest.raises(ValueError, match="one finite number a pair"):
        made([["cat"], ["dog"]], lambda pairs: [[0.0, 1.0] for _ in pairs])
    with pytest.raises(ValueError, match="one finite number a pair"):
        made([["cat"], ["dog"]], lambda pairs: [float("nan") for _ in pairs])


def test_nothing_is_kept_of_a_text_twice():
    found = pseudo_labels(encoder(), domain(20), CropGenerator(), by_words, per_text=9)
    rows = list(zip(map(plain, found.anchor), found.positive, strict=True))
    assert len(set(rows)) == len(rows)
    assert not any(plain(a) == plain(p) for a, p in rows)
