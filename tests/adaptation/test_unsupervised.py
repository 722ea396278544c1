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
    train_margin_mse,
    train_on_texts,
)
from sbert_lab.datasets.pairs import DataError
from sbert_lab.losses import DenoisingAutoEncoderLoss
from sbert_lab.models.cross_encoder import CrossEncoder

TEXTS = [*sentences(48, 3), "balan"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A cross-encoder that knows nothing the base knows."""
    folder = make_base(tmp_path_factory.mktemp("teacher") / "other", seed=5)
    return CrossEncoder.from_pretrained(folder, head_seed=0, device="cpu")


def recipe_for(method, **changes):
    return replace(RECIPES[method], batch_size=16, learning_rate=2e-3, **changes)


def triplets_of(texts):
    wrong = [*texts[21:40], texts[20]]
    return {"anchor": texts[:20], "positive": texts[20:40], "negative": wrong}


@pytest.mark.parametrize("method", ["simcse", "tsdae", "pseudo-labels"])
def test_into_a_folder_on_from_a_stop_and_to_the_bit(
    base, teacher, tmp_path, monkeypatch, method
):
    teacher = teacher if method == "pseudo-labels" else None
    trained = []
    for seed in (0, 1):
        encoder = load(base)
        torch.rand(3)  # the global state plays no part
        recipe = recipe_for(method, seed=seed)
        curve = train_on_texts(method, encoder, TEXTS, recipe, teacher)
        assert not encoder.training
        assert curve[-1][0] >= 3
        trained.append(encoder.fingerprint())
    assert len({*trained, load(base).fingerprint()}) == 3
    monkeypatch.setattr(module, "general_sets", general)
    options = {"method": method, "recipe": recipe, "teacher": teacher}
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_report", None)  # a stop after the training
        with pytest.raises(TypeError):
            adapt(base, TEXTS, tmp_path / "out", **options)
    found = adapt(base, TEXTS, tmp_path / "out", **options)
    assert found["fingerprint"] == trained[1]
    assert found["curve"] == [list(point) for point in curve]
    assert [one["what"] for one in found["comparisons"]] == ["made up, Spearman"]
    assert "Not measured" in (tmp_path / "out" / "report.md").read_text()


@pytest.fixture
def trained_with(monkeypatch):
    """What `train` is called with, instead of a training."""
    calls = []
    monkeypatch.setattr(unsupervised, "train", lambda *given: calls.append(given))
    return calls


def test_the_decoder_is_drawn_from_the_seed_of_the_recipe(base, trained_with):
    encoder = load(base)
    train_on_texts("tsdae", encoder, TEXTS, recipe_for("tsdae", seed=3))
    found = trained_with[0][2].state_dict()
    for seed in (0, 3):
        wanted = DenoisingAutoEncoderLoss(encoder, seed=seed).state_dict()
        same = all(torch.equal(found[name], wanted[name]) for name in wanted)
        assert same == (seed == 3)


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
    assert found["comparisons"][0]["what"] == "your pairs, nDCG@10"


def test_texts_of_one_word_are_told(base, teacher, caplog):
    rows = pseudo_labels(load(base), TEXTS, RECIPES["pseudo-labels"], teacher)
    assert "1 of 49 texts have one word" in caplog.text
    assert {*rows["positive"]} == {*TEXTS[:-1]}


def test_what_is_refused(base, teacher, tmp_path):
    for texts, options, message in (
        (TEXTS[:10], {"method": "simcse"}, "10 different texts"),
        ([*TEXTS, " "], {"method": "simcse"}, "none empty"),
        (TEXTS, {"method": "magic"}, "method='magic'"),
        (TEXTS, {"method": "pseudo-labels"}, "a teacher go together"),
        (TEXTS, {"method": "tsdae", "teacher": teacher}, "a teacher go together"),
    ):
        with pytest.raises(ValueError, match=message):
            adapt(base, texts, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="of a teacher"):
        train_on_texts("pseudo-labels", load(base), TEXTS, RECIPES["pseudo-labels"])
    with pytest.raises(DataError, match="two words"):
        pseudo_labels(load(base), ["a", "b"], RECIPES["pseudo-labels"], teacher)
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
        near, far = teacher.predict([query] * 2, [right, wrong], activation=None)
        assert rows["label"][row] == pytest.approx(float(near - far), abs=1e-5)


def test_margins_of_a_cross_encoder_are_those_before_its_sigmoid(base):
    cross = CrossEncoder.from_pretrained(base, head_seed=0)
    rows = margin_columns(cross, triplets_of(TEXTS))
    for a, p, n, label in zip(*rows.values(), strict=True):
        right, wrong = cross.predict([a, a], [p, n], activation=None)
        assert label == pytest.approx(float(right) - float(wrong), abs=1e-5)


def test_labels_are_scaled_and_texts_prompted(base, teacher, trained_with):
    """So that the root mean square of the margins is the encoder's own."""
    encoder, columns = load(base), margin_columns(teacher, triplets_of(TEXTS))
    columns["label"] = [40 * label for label in columns["label"]]
    encoder.prompts = {"query": "ask: ", "document": "text: "}
    train_margin_mse(encoder, columns, RECIPES["pseudo-labels"])
    data = trained_with[0][1]
    assert data.row_texts()[3][:2] == [
        f"ask: {columns['anchor'][3]}",
        f"text: {columns['positive'][3]}",
    ]
    a, p, n = map(encoder.encode, zip(*data.row_texts(), strict=True))
    own = np.sqrt(np.mean(((a * (p - n)).sum(1)) ** 2))
    assert np.sqrt(np.mean(np.square(data.label))) == pytest.approx(own, rel=1e-5)
    ratio = np.array(data.label) / np.array(columns["label"])
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_margins_stay_where_vectors_have_no_unit_length(base):
    encoder = load(base)
    encoder.head = torch.nn.Sequential()
    triplets = triplets_of(TEXTS)
    assert margin_scale(encoder, triplets, [1.0] * 20) == 1.0
    equal = {**triplets, "negative": triplets["positive"]}
    with pytest.raises(ValueError, match="like its negative"):
        margin_scale(load(base), equal, [1.0] * 20)
