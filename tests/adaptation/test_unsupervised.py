"""Training without pairs, by two methods."""

from dataclasses import replace

import pytest
import torch
from adapt_cases import general, load, make_base, own_pairs, sentences

from sbert_lab.adaptation import adapt as module
from sbert_lab.adaptation import unsupervised
from sbert_lab.adaptation.adapt import adapt
from sbert_lab.adaptation.recipe import RECIPES
from sbert_lab.adaptation.unsupervised import different_texts, train_on_texts
from sbert_lab.datasets.pairs import DataError
from sbert_lab.losses import DenoisingAutoEncoderLoss

TEXTS = [*sentences(48, 3), "balan"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("tiny") / "base")


def recipe_for(method, **changes):
    return replace(RECIPES[method], batch_size=16, learning_rate=2e-3, **changes)


@pytest.mark.parametrize("method", ["simcse", "tsdae"])
def test_into_a_folder_on_from_a_stop_and_to_the_bit(
    base, tmp_path, monkeypatch, method
):
    trained = []
    for seed in (0, 1):
        encoder = load(base)
        torch.rand(3)  # the global state plays no part
        recipe = recipe_for(method, seed=seed)
        curve = train_on_texts(method, encoder, TEXTS, recipe)
        assert not encoder.training
        assert curve[-1][0] >= 3
        trained.append(encoder.fingerprint())
    assert len({*trained, load(base).fingerprint()}) == 3
    monkeypatch.setattr(module, "general_sets", general)
    options = {"method": method, "recipe": recipe}
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


def test_what_is_refused(base, tmp_path):
    for texts, options, message in (
        (TEXTS[:10], {"method": "simcse"}, "10 different texts"),
        ([*TEXTS, " "], {"method": "simcse"}, "none empty"),
        (TEXTS, {"method": "magic"}, "method='magic'"),
    ):
        with pytest.raises(ValueError, match=message):
            adapt(base, texts, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="simcse or tsdae"):
        train_on_texts("magic", load(base), TEXTS, RECIPES["tsdae"])
    assert different_texts(["A b", "a  B", *TEXTS])[0] == "A b"
