"""Training without pairs: three methods, and the way to a teacher's margins."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from adapt_cases import general, load, make_base, own_pairs, sentences
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert_lab.adaptation import adapt as module
from sbert_lab.adaptation import unsupervised
from sbert_lab.adaptation.adapt import adapt
from sbert_lab.adaptation.recipe import RECIPES
from sbert_lab.adaptation.unsupervised import (
    crops,
    different_texts,
    margin_columns,
    margin_scale,
    pseudo_labels,
    teacher_scores,
    train_margin_mse,
    train_on_texts,
)
from sbert_lab.datasets.pairs import DataError
from sbert_lab.models.cross_encoder import CrossEncoder

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = ("simcse", "tsdae", "pseudo-labels")
TEXTS = [*sentences(48, 3), "balan"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Another encoder, that knows nothing the base knows."""
    return load(make_base(tmp_path_factory.mktemp("teacher") / "other", seed=5))


def recipe_for(method, **changes):
    return replace(RECIPES[method], batch_size=16, learning_rate=2e-3, **changes)


def state(encoder):
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def triplets_of(texts):
    return {
        "anchor": texts[:20],
        "positive": texts[20:40],
        "negative": [*texts[21:40], texts[20]],
    }


@pytest.mark.parametrize("method", METHODS)
def test_each_method_trains_and_is_repeated_to_the_bit(
    base, teacher, monkeypatch, method
):
    given = {"teacher": teacher} if method == "pseudo-labels" else {}
    real, drawn, trained = unsupervised.train, [], []

    def noted(encoder, data, objective, *rest):
        drawn.append(state(objective))
        return real(encoder, data, objective, *rest)

    monkeypatch.setattr(unsupervised, "train", noted)
    for seed in (0, 0, 1):
        encoder = load(base)
        torch.rand(3)  # the global state plays no part
        curve = train_on_texts(
            method, encoder, TEXTS, recipe_for(method, seed=seed), **given
        )
        assert not encoder.training
        trained.append(state(encoder))
    assert curve[-1][0] >= 3
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])
    assert not same(trained[0], state(load(base)))
    assert same(drawn[0], drawn[1])
    assert same(drawn[0], drawn[2]) == (method != "tsdae")  # it has a decoder


@pytest.mark.parametrize("method", METHODS[1:])
def test_into_a_folder_and_on_from_a_stop(base, teacher, tmp_path, monkeypatch, method):
    monkeypatch.setattr(module, "general_sets", general)
    told = {
        "method": method,
        "recipe": recipe_for(method, epochs=2),
        "teacher": teacher if method == "pseudo-labels" else None,
    }
    whole = adapt(base, TEXTS, tmp_path / "whole", **told)
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_report", None)  # a stop after the training
        with pytest.raises(TypeError):
            adapt(base, TEXTS, tmp_path / "out", **told)
    found = adapt(base, TEXTS, tmp_path / "out", **told)
    assert found["fingerprint"] == whole["fingerprint"]
    assert found["curve"] == whole["curve"]
    assert [one["name"] for one in found["comparisons"]] == ["made up"]
    assert "Not measured" in (tmp_path / "out" / "report.md").read_text()


def test_a_test_is_searched_and_its_queries_may_not_be_learnt(
    base, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "general_sets", general)
    test = own_pairs(40, seed=7)
    told = {"method": "simcse", "recipe": recipe_for("simcse"), "test": test}
    with pytest.raises(DataError, match=r"row 3.*also in"):
        adapt(base, [*TEXTS, test.anchor[2]], tmp_path / "out", **told)
    found = adapt(base, [*TEXTS, test.positive[2]], tmp_path / "out", **told)
    assert found["facts"]["queries"] == 40
    assert found["comparisons"][0]["metric"] == "nDCG@10"


def test_what_is_refused(base, teacher, tmp_path):
    for texts, options, message in (
        (TEXTS[:10], {"method": "simcse"}, "10 different texts"),
        (TEXTS, {"method": "magic"}, "method='magic'"),
        (TEXTS, {"method": "tsdae", "teacher": teacher}, "a teacher go together"),
    ):
        with pytest.raises(ValueError, match=message):
            adapt(base, texts, tmp_path / "out", **options)
    with pytest.raises(DataError, match="two words"):
        pseudo_labels(
            load(base), [f"w{i}" for i in range(30)], RECIPES["pseudo-labels"], teacher
        )
    assert different_texts(["A b", "a  B", *TEXTS])[0] == "A b"


@settings(max_examples=30)
@given(
    words=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30),
    seed=st.integers(0, 5),
)
def test_crops_are_parts_of_their_text(words, seed):
    text = " ".join(words)
    found = crops(text, 4, seed)
    assert found == crops(text, 4, seed)
    for query in found:
        left = iter(words)
        assert all(word in left for word in query.split())  # in their order
        assert 1 <= len(query.split()) <= max(1, round(0.5 * len(words)))


def test_a_long_text_has_different_crops_with_words_left_out():
    text = " ".join(f"w{i}" for i in range(200))
    found = crops(text, 50, 0)
    assert len(set(found)) > 45
    assert crops(text, 50, 1) != found
    gaps = 0
    for query in found:
        places = [int(word[1:]) for word in query.split()]
        span = places[-1] - places[0] + 1
        assert 10 <= span <= 100
        gaps += span - len(places)
    assert 0.05 < gaps / sum(len(query.split()) for query in found) < 0.16
    assert crops("one", 3, 0) == []


def test_pseudo_labels_are_near_misses_with_the_margins_of_the_teacher(base, teacher):
    encoder = load(base)
    recipe = recipe_for("pseudo-labels", rank=(0, 5))
    rows = pseudo_labels(encoder, TEXTS, recipe, teacher)
    assert len(rows["anchor"]) > 2 * len(TEXTS)
    scores = encoder.encode(rows["anchor"]) @ encoder.encode(TEXTS).T
    for row, query in enumerate(rows["anchor"]):
        right, wrong = rows["positive"][row], rows["negative"][row]
        assert query in crops(right, 3, 0)
        assert query != right != wrong
        above = np.argsort(-scores[row])[:6]  # of the nearest five but the right one
        assert TEXTS.index(wrong) in above
        q, p, n = teacher.encode([query, right, wrong]).astype(np.float64)
        assert rows["label"][row] == pytest.approx(q @ p - q @ n, abs=1e-6)


def test_teacher_scores_of_both_kinds_of_teacher(base, teacher):
    pairs = [*zip(TEXTS[:20], TEXTS[20:40], strict=True), (TEXTS[0], TEXTS[1])]
    naive = [float(a @ b) for a, b in (teacher.encode(list(p)) for p in pairs)]
    np.testing.assert_allclose(teacher_scores(teacher, pairs), naive, atol=1e-6)
    cross = CrossEncoder.from_pretrained(base, head_seed=0)
    naive = [float(cross.predict([a], [b], activation=None)[0]) for a, b in pairs]
    np.testing.assert_allclose(teacher_scores(cross, pairs), naive, atol=1e-5)
    triplets = triplets_of(TEXTS)
    rows = margin_columns(cross, triplets)
    for a, p, n, label in zip(*rows.values(), strict=True):
        right, wrong = cross.predict([a, a], [p, n], activation=None)
        assert label == pytest.approx(float(right) - float(wrong), abs=1e-5)


def test_labels_are_scaled_and_texts_prompted(base, teacher, monkeypatch):
    """So that the root mean square of the margins is the encoder's own."""
    encoder, columns = load(base), margin_columns(teacher, triplets_of(TEXTS))
    columns["label"] = [40 * label for label in columns["label"]]
    encoder.prompts = {"query": "ask: ", "document": "text: "}
    calls = []
    monkeypatch.setattr(unsupervised, "train", lambda *given: calls.append(given))
    train_margin_mse(encoder, columns, RECIPES["pseudo-labels"])
    data = calls[0][1]
    texts = list(zip(*data.row_texts(), strict=True))
    assert texts[0][3] == f"ask: {columns['anchor'][3]}"
    assert texts[2][3] == f"text: {columns['negative'][3]}"
    a, p, n = map(encoder.encode, texts)
    own = np.sqrt(np.mean(((a * (p - n)).sum(1)) ** 2))
    assert np.sqrt(np.mean(np.square(data.label))) == pytest.approx(own, rel=1e-5)
    ratio = np.array(data.label) / np.array(columns["label"])
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_margins_stay_where_vectors_have_no_unit_length(base):
    encoder = load(base)
    encoder.head = torch.nn.Sequential()
    triplets = triplets_of(TEXTS)
    assert margin_scale(encoder, triplets, [1.0] * 20) == 1.0
