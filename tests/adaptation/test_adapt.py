"""From pairs to a saved model, killed anywhere, and what is refused before."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from adapt_cases import (
    RECIPE,
    general,
    load,
    make_base,
    names,
    own_pairs,
    run,
    same_weights,
)

from sbert_lab.adaptation import adapt as module
from sbert_lab.adaptation import supervised
from sbert_lab.adaptation.recipe import RECIPES, Recipe
from sbert_lab.adaptation.supervised import mine_negatives, train_on_pairs
from sbert_lab.datasets.pairs import Pairs, split_pairs
from sbert_lab.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sbert_lab.models.averaging import average

FINISHED = {
    "model",
    "plan.json",
    "outcome.json",
    "report.md",
}


pytestmark = pytest.mark.usefixtures("one_thread")


class Stop(Exception):
    """A power cut."""


@pytest.fixture(scope="module", autouse=True)
def _made_up():
    """General similarity of made-up pairs, which takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "general_sets", general)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """An adaptation that was never stopped, and its outcome."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, run(base, out)


@pytest.fixture
def encoder(base):
    return load(base)


def test_it_leaves_a_model_an_outcome_and_a_report(base, whole, encoder):
    out, outcome = whole
    assert names(out) == FINISHED
    assert json.loads((out / "outcome.json").read_text()) == outcome
    assert load(out / "model").fingerprint() == outcome["fingerprint"]
    plan = json.loads((out / "plan.json").read_text())
    assert plan == outcome["plan"]
    assert plan["base"] == encoder.fingerprint() != outcome["fingerprint"]
    assert plan["learning_rate"] == RECIPE.learning_rate
    train, test = split_pairs(own_pairs())
    facts = outcome["facts"]
    assert (facts["trained on"], facts["queries"]) == (len(train), len(test))
    assert facts["passed over, known"] > 0


def test_it_learns_what_it_was_shown(whole):
    steps, losses = zip(*whole[1]["curve"], strict=True)
    assert steps == tuple(range(1, 13))
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1


def test_what_is_reported_can_be_measured_again(base, whole):
    """By hand: split, encode, sort."""
    out, outcome = whole
    pairs = own_pairs()
    test = pairs.pick(split_pairs(pairs)[1])
    corpus = list(dict.fromkeys(pairs.positive))
    right = [corpus.index(answer) for answer in test.positive]
    one = outcome["comparisons"][0]
    assert one["items"] == len(test)
    for folder, side in ((base, "before"), (out / "model", "after")):
        encoder = load(folder)
        q = encoder.encode(test.anchor, normalize=True)
        scores = q @ encoder.encode(corpus, normalize=True).T
        ranks = 1 + (scores > scores[np.arange(len(q)), right][:, None]).sum(1)
        gains = (ranks <= 10) / np.log2(ranks + 1)
        assert one[side]["mean"] == pytest.approx(np.mean(gains), abs=1e-6)
        gain_of = dict(zip(test.anchor, gains, strict=True))
        for shown in (*outcome["better"], *outcome["worse"]):
            assert shown[side] == pytest.approx(gain_of[shown["query"]], abs=1e-3)


def test_the_share_of_the_base(base, whole, encoder, tmp_path):
    run(base, tmp_path / "new", recipe=replace(RECIPE, base_weight=0))
    new = load(tmp_path / "new" / "model")
    mixed = average(encoder, new, RECIPE.base_weight)
    assert mixed.fingerprint() == whole[1]["fingerprint"] != new.fingerprint()


def test_killed_twice_it_ends_in_the_same(base, whole, tmp_path):
    """Real SIGKILLs, as soon as something is there."""
    out, script = tmp_path / "out", Path(__file__).with_name("adapt_cases.py")
    paths = os.pathsep.join(map(str, script.parents[1:3]))
    subprocess.run(
        [sys.executable, script, base, out],
        env=os.environ | {"PYTHONPATH": paths},
        check=True,
        timeout=300,
    )
    assert (out / "plan.json").is_file()
    assert not (out / "outcome.json").exists()
    found = run(base, out)
    assert same_weights(out, whole[0])
    for outcome in (found, whole[1]):
        outcome["facts"]["seconds"] = 0
    assert found == whole[1]
    assert names(out) == FINISHED


@pytest.mark.parametrize("part", ["measure", "write_json"])
def test_stopped_after_training_it_ends_in_the_same(
    base, whole, tmp_path, monkeypatch, part
):
    """Where nothing is trained anew, for the last checkpoint is at the end."""

    def stop(*_):
        raise Stop

    with monkeypatch.context() as patch:
        target = "report" if part == "write_json" else "adapt"
        patch.setattr(f"sbert_lab.adaptation.{target}.{part}", stop)
        with pytest.raises(Stop):
            run(base, tmp_path / "out")
    monkeypatch.setattr(MultipleNegativesRankingLoss, "forward", stop)
    run(base, tmp_path / "out")
    assert same_weights(tmp_path / "out", whole[0])
    assert names(tmp_path / "out") == FINISHED


def test_when_all_is_done_nothing_is_done_again(base, whole, monkeypatch):
    monkeypatch.setattr(module, "train_on_pairs", None)
    found = run(base, whole[0])
    assert found["fingerprint"] == whole[1]["fingerprint"]


def test_another_adaptation_is_refused(base, whole):
    for changes, named in (
        ({"recipe": replace(RECIPE, learning_rate=1e-3)}, "another learning_rate:"),
        ({"pairs": own_pairs(119)}, "another data, test:"),
        ({"corpus": own_pairs().positive}, "another corpus:"),
    ):
        with pytest.raises(FileExistsError, match=named):
            run(base, whole[0], **changes)


def test_a_folder_of_something_else_is_refused(base, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="other files"):
        run(base, tmp_path)
    assert names(tmp_path) == {"thesis.tex"}
    with pytest.raises(NotADirectoryError):
        run(base, tmp_path / "thesis.tex")


def test_a_folder_that_is_being_filled_is_refused(base, tmp_path, monkeypatch):
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    with (
        module._alone(tmp_path / "x" / ".." / "out"),
        pytest.raises(FileExistsError, match="being filled by another run"),
    ):
        run(base, out)
    assert not out.exists()


def test_data_that_cannot_be_used_is_refused(base, tmp_path):
    pairs = own_pairs()
    labelled = replace(pairs, label=(0.0,) + (1.0,) * 119)
    for data, options, message in (
        (labelled, {}, "labels go from 0 to 1"),
        (pairs, {"test": own_pairs(30, source="t.csv")}, "t.csv, row 1.*is also in"),
        (own_pairs(30), {}, "too few"),
        (pairs, {"corpus": ("a", "b")}, "not in the corpus"),
        (pairs, {"method": "simcse"}, "method='simcse'"),
        (pairs.anchor, {}, "method='pairs'"),
    ):
        with pytest.raises(ValueError, match=message):
            run(base, tmp_path / "out", data, **options)
    assert not (tmp_path / "out").exists()


def test_test_and_corpus_of_its_own(base, encoder, tmp_path):
    """Negatives come from the corpus, but where a guard forbids."""
    pairs, test = own_pairs(60), own_pairs(40, seed=8)
    corpus = [*pairs.positive, *test.positive, "balan komor", "mitis balan"]
    found = run(base, tmp_path / "out", pairs, test=test, corpus=corpus)
    assert found["facts"]["queries"] == 40
    free, safe = (
        mine_negatives(encoder, pairs, RECIPE, corpus, guard)
        for guard in (None, lambda rows, others: (rows + others) % 2 == 0)
    )
    assert found["facts"]["passed over, known"] == free.removed["known"]
    assert free.negatives.max() >= 60
    row, place = np.nonzero(safe.negatives >= 0)
    assert safe.removed["guard"] > 0
    assert ((row + safe.negatives[row, place]) % 2 == 1).all()


@pytest.fixture
def trained_with(monkeypatch):
    """What `train` is called with, instead of a training."""
    calls = []
    monkeypatch.setattr(supervised, "train", lambda *given: calls.append(given) or ())
    return calls


def test_rows_are_prompted_and_hold_all_negatives(encoder, trained_with):
    encoder.prompts = {"query": "ask: ", "passage": "text: "}
    pairs = replace(own_pairs(40), negative=("komor balan",) * 40)
    mined = mine_negatives(encoder, pairs, RECIPE)
    train_on_pairs(encoder, pairs, RECIPE, mined)
    ((_, data, *_),) = trained_with
    wrong = mined.columns()["negative"]
    for row, texts in enumerate(wrong):
        assert data.row_texts()[row] == [
            f"ask: {pairs.anchor[row]}",
            f"text: {pairs.positive[row]}",
            "text: komor balan",
            *(f"text: {text}" for text in texts),
        ]
    assert sum(map(len, wrong)) > 40


def test_no_answer_of_an_anchor_is_a_wrong_one(encoder, trained_with):
    """In whatever spelling the anchor stands."""
    pairs = Pairs(
        ("balan komor", "Balan  komor", "mitis"), ("komor", "rumor", "mitis balan")
    )
    train_on_pairs(encoder, pairs, RECIPE)
    known = set(trained_with[0][2]._known_texts)
    assert known >= {("balan komor", "rumor"), ("Balan  komor", "komor")}
    assert ("mitis", "rumor") not in known


def test_a_large_batch_goes_in_parts(encoder, trained_with, monkeypatch):
    for most in (8_192, 1):
        monkeypatch.setitem(supervised.PLAIN_TOKENS, "cpu", most)
        train_on_pairs(encoder, own_pairs(32), RECIPE)
    kinds = [type(loss) for _, _, loss, *_ in trained_with]
    assert kinds == [MultipleNegativesRankingLoss, CachedMultipleNegativesRankingLoss]


def test_a_base_that_finds_no_negative_is_trained_without(encoder):
    pairs = own_pairs(40)
    strict = replace(RECIPE, relative_margin=1.0)
    assert mine_negatives(encoder, pairs, strict) is None
    assert mine_negatives(encoder, pairs, replace(RECIPE, negatives=0)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": float("nan")},
        {"negatives": 11},
        {"base_weight": -0.1},
        {"rank": (5, 5)},
    ],
)
def test_a_recipe_out_of_range_is_refused(change):
    with pytest.raises(ValueError, match=f"(rank|{next(iter(change))})="):
        Recipe(**change)
    assert RECIPES["pairs"] == Recipe()
