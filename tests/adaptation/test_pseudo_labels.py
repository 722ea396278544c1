"""Pseudo-labels: whose query, which negative, what margin, and what is learnt of it."""

import numpy as np
import pytest
import torch
from conftest import states, tiny_encoder
from tiny_cross_encoder import WORDS as CROSS_WORDS
from tiny_cross_encoder import tiny_cross_encoder
from unlabelled_cases import domain, encoder, same, weights

from sbert_lab.adaptation.generators import CropGenerator
from sbert_lab.adaptation.pseudo_labels import (
    CrossEncoderJudge,
    SimilarityJudge,
    gpl,
    margin_scale,
    pseudo_labels,
    similarity_judge,
    train_on_margins,
)
from sbert_lab.datasets.pairs import DataError, plain
from sbert_lab.losses import MarginMSELoss
from sbert_lab.training import (
    SentenceTrainer,
    SentenceTrainingArguments,
    TrainingData,
    set_dropout,
)

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


def by_words(pairs):
    """Judge a pair by hand: shared words, less a tenth of the second text's length."""
    return [
        len(set(a.split()) & set(b.split())) - 0.1 * len(b.split()) for a, b in pairs
    ]


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
    again = pseudo_labels(
        model,
        texts,
        CropGenerator(delete=0),
        by_words,
        per_text=2,
        negatives=3,
        rank=(2, 8),
        seed=5,
    )
    assert again.negative != found.negative


def test_queries_without_news_are_dropped_and_counted():
    texts = ["a red cat", "a dog", "A  dog", "one bird"]
    queries = {
        "a red cat": ["Red", "red", " ", "A red  CAT", "cat"],
        "a dog": ["dog"],
        "one bird": [],
    }
    found = pseudo_labels(encoder(), texts, Fixed(queries), by_words)
    assert list(zip(found.anchor, found.positive, strict=True)) == [
        ("Red", "a red cat"),
        ("cat", "a red cat"),
        ("dog", "a dog"),
    ]
    assert (found.texts, found.duplicates) == (3, 1)
    assert dict(found.counts) == {"queries": 3, "same": 3, "silent": 1, "without": 0}


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


def test_an_encoder_that_judges_itself_learns_next_to_nothing(caplog):
    """What `SimilarityJudge` says: the loss begins at 0, only noise moves weights."""
    model = encoder()
    set_dropout(model, 0)
    before = weights(model)
    found = gpl(
        model,
        domain(),
        judge=SimilarityJudge(model),
        batch_size=8,
        optim="sgd",
        rate=0.1,
        logging_steps=1,
    )
    assert "the judge is the encoder itself" in caplog.text
    assert found.recipe["scale"] == pytest.approx(1, abs=1e-5)
    assert max(loss for _, loss in found.curve) < 1e-10
    after = weights(model)
    assert max(float((after[n] - before[n]).abs().max()) for n in before) < 1e-6
    caplog.clear()
    pseudo_labels(encoder(), domain(), CropGenerator(), similarity_judge(encoder(3)))
    assert "itself" not in caplog.text


# -- training -------------------------------------------------------------------------


def gaps(model, columns):
    q, p, n = (
        model.encode(columns[role]).astype(np.float64)
        for role in ("anchor", "positive", "negative")
    )
    return np.array([a @ b - a @ c for a, b, c in zip(q, p, n, strict=True)])


def labelled(seed=0):
    """Return rows whose margins are twelve times those of another encoder."""
    found = pseudo_labels(
        encoder(), domain(seed=seed), CropGenerator(), similarity_judge(encoder(5))
    ).columns()
    return found | {"label": [12 * margin for margin in found["label"]]}


def test_the_scale_of_unit_vectors_by_hand():
    columns, model = labelled(), encoder()
    own, wanted = gaps(model, columns), np.array(columns["label"])
    scale = margin_scale(model, columns)
    assert scale == pytest.approx(((own**2).sum() / (wanted**2).sum()) ** 0.5)
    assert margin_scale(tiny_encoder(max_seq_length=24), columns) == 1
    still = columns | {"label": [0.0] * len(wanted)}
    with pytest.raises(ValueError, match="the judge scores every positive like its"):
        margin_scale(model, still)
    alike = columns | {"negative": columns["positive"]}
    with pytest.raises(ValueError, match="the encoder scores every positive"):
        margin_scale(model, alike)


@pytest.mark.parametrize("scale", [None, 0.05])
def test_it_is_the_trainer_with_scaled_margins(scale, tmp_path):
    columns, one, other = labelled(), encoder(), encoder()
    found = train_on_margins(
        one, columns, scale=scale, batch_size=8, rate=1e-3, seed=2, epochs=2
    )
    factor = margin_scale(other, columns) if scale is None else scale
    label = [factor * margin for margin in columns["label"]]
    args = SentenceTrainingArguments(
        str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        warmup_steps=0.1,
        seed=2,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
    )
    data = TrainingData(columns | {"label": label})
    SentenceTrainer(other, args, data, MarginMSELoss()).train()
    assert same(weights(one), weights(other))
    assert found.output.global_step == 2 * -(-len(label) // 8)


def test_it_learns_what_the_judge_knows():
    """Margins of texts it has not seen come nearer to the teacher's."""
    model, held_out = encoder(), labelled(seed=11)
    found = {}
    for moment in ("before", "after"):
        if moment == "after":
            train_on_margins(model, labelled(), epochs=10, batch_size=8, rate=3e-3)
        found[moment] = np.corrcoef(gaps(model, held_out), held_out["label"])[0, 1]
    assert found["after"] > found["before"] + 0.2


def test_what_is_done_is_recorded():
    labels = pseudo_labels(
        encoder(), domain(), CropGenerator(), by_words, per_text=2, seed=3
    )
    one, other = encoder(), encoder()
    found = gpl(one, domain(), judge=by_words, per_text=2, seed=3, rate=1e-3)
    train_on_margins(other, labels, seed=3, rate=1e-3)
    assert same(weights(one), weights(other))
    assert found.recipe == {
        "epochs": 1,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "seed": 3,
        "bf16": False,
        "per_text": 2,
        "negatives": 1,
        "rank": [0, 50],
        "scale": margin_scale(encoder(), labels.columns()),
        "generator": f"CropGenerator {CropGenerator().fingerprint()}",
        "judge": "function",
    }
    assert found.mined == labels.mined
    assert found.counts == labels.counts
    assert found.rows == len(labels)


# -- refusals -------------------------------------------------------------------------


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="need a judge: judge=CrossEncoder"):
        gpl(encoder(), domain())
    with pytest.raises(DataError, match="'cat', is one word and cannot be cropped"):
        gpl(encoder(), ["a dog", "cat"], judge=by_words)
    for name in ("per_text", "negatives"):
        with pytest.raises(ValueError, match=f"{name}=0: one or more"):
            gpl(encoder(), domain(), judge=by_words, **{name: 0})
    with pytest.raises(ValueError, match="scale=0"):
        train_on_margins(encoder(), labelled(), scale=0)
    with pytest.raises(DataError, match="needs a column 'label'"):
        columns = {role: ["a", "b"] for role in ("anchor", "positive", "negative")}
        train_on_margins(encoder(), columns)


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
