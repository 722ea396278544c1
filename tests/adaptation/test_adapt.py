"""From pairs to a saved model, killed anywhere, and what is refused before."""

import json
import multiprocessing
import time
from dataclasses import replace

import numpy as np
import pytest
from adapt_cases import RECIPE, general, load, make_base, names, own_pairs, run

from sbert_lab.adaptation import adapt as module
from sbert_lab.adaptation import supervised
from sbert_lab.adaptation.recipe import RECIPES, Recipe
from sbert_lab.adaptation.report import compare, measure
from sbert_lab.adaptation.supervised import mine_negatives, train_on_pairs
from sbert_lab.datasets.pairs import Pairs, retrieval_from_pairs, split_pairs
from sbert_lab.losses import MultipleNegativesRankingLoss
from sbert_lab.models.averaging import average
from sbert_lab.training.trainer import set_dropout

FINISHED = set("model plan.json outcome.json report.md".split())


class Stop(Exception):
    """A power cut."""


def stop(*_, **__):
    raise Stop


@pytest.fixture(scope="module", autouse=True)
def _quick(one_thread):
    """Tiny products on one thread, and made-up pairs of general similarity."""
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


def hits(encoder, pairs):
    """Share of pairs whose answer beats that of another one."""
    a = encoder.encode(pairs.anchor, normalize=True)
    scores = a @ encoder.encode(pairs.positive, normalize=True).T
    return np.mean(np.diag(scores)[:, None] >= scores)


def test_it_leaves_a_model_that_learned_an_outcome_and_a_report(whole, encoder):
    out, outcome = whole
    assert names(out) == FINISHED
    assert json.loads((out / "outcome.json").read_text()) == outcome
    adapted = load(out / "model")
    assert adapted.fingerprint() == outcome["fingerprint"]
    plan = json.loads((out / "plan.json").read_text())
    assert plan == outcome["plan"]
    assert plan["base"] == encoder.fingerprint() != outcome["fingerprint"]
    train, test = map(own_pairs().pick, split_pairs(own_pairs()))
    searched = len(set(train.positive + test.positive))
    wanted = {"trained on": len(train), "queries": len(test), "searched": searched}
    assert outcome["facts"] == wanted
    steps, losses = zip(*outcome["curve"], strict=True)
    assert steps == tuple(range(1, 13))
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1
    assert hits(adapted, train) > hits(encoder, train) + 0.05


def test_what_is_reported_can_be_measured_again(base, whole):
    out, outcome = whole
    train, test = map(own_pairs().pick, split_pairs(own_pairs()))
    search = retrieval_from_pairs(test, (*train.positive, *test.positive))
    measured = (measure(load(f), search, general()) for f in (base, out / "model"))
    found = compare(search, general(), *measured)
    assert found == {name: outcome[name] for name in found}
    assert found["better"]
    assert found["worse"]


def test_the_share_of_the_base(base, whole, encoder, tmp_path):
    run(base, tmp_path / "new", recipe=replace(RECIPE, base_weight=0))
    new = load(tmp_path / "new" / "model")
    mixed = average(encoder, new, RECIPE.base_weight)
    assert mixed.fingerprint() == whole[1]["fingerprint"] != new.fingerprint()


def test_killed_it_ends_in_the_same(base, whole, tmp_path):
    """A real SIGKILL in the middle of the training."""
    out = tmp_path / "out"
    process = multiprocessing.get_context("fork").Process(target=run, args=(base, out))
    process.start()
    try:
        until = time.monotonic() + 300
        while not (out / "work" / "checkpoints" / "checkpoint-2").exists():
            assert time.monotonic() < until
            assert process.is_alive()
            time.sleep(0.002)
    finally:
        process.kill()
        process.join()
    assert not (out / "outcome.json").exists()
    assert run(base, out) == whole[1]
    assert load(out / "model").fingerprint() == whole[1]["fingerprint"]
    assert names(out) == FINISHED


def test_stopped_at_every_stage_it_ends_in_the_same(base, whole, tmp_path, monkeypatch):
    """Nothing is trained anew, for the last checkpoint is at the end."""
    out = tmp_path / "out"
    for stage in (
        "adapt.mine_negatives",
        "adapt.average",
        "adapt.measure",
        "adapt.write_report",
        "report.write_json",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"sbert_lab.adaptation.{stage}", stop)
            with pytest.raises(Stop):
                run(base, out)
        if stage == "adapt.average":
            monkeypatch.setattr(MultipleNegativesRankingLoss, "forward", stop)
    assert run(base, out) == whole[1]
    assert load(out / "model").fingerprint() == whole[1]["fingerprint"]
    assert names(out) == FINISHED


def test_when_all_is_done_nothing_is_done_again(base, whole, monkeypatch):
    monkeypatch.setattr(module, "train_on_pairs", stop)
    assert run(base, whole[0]) == whole[1]
    assert names(whole[0]) == FINISHED
    kept = whole[0] / "work" / "notes", whole[0] / ".model.backup"
    for path in kept:
        path.mkdir(parents=True)
    run(base, whole[0])
    assert names(whole[0]) == FINISHED | {"work", ".model.backup"}
    assert names(whole[0] / "work") == {"notes"}
    for path in (*kept, whole[0] / "work"):
        path.rmdir()


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
    for text in ("[1]", "to do:"):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(FileExistsError, match="another base, method"):
            run(base, tmp_path)
        assert (tmp_path / "plan.json").read_text() == text
    with pytest.raises(NotADirectoryError):
        run(base, tmp_path / "thesis.tex")


def test_a_folder_that_is_being_filled_is_refused(base, tmp_path, monkeypatch):
    def second(*_, **__):
        with pytest.raises(TimeoutError, match=str(tmp_path)):
            run(base, tmp_path)
        raise Stop

    monkeypatch.setattr(module, "mine_negatives", second)
    with pytest.raises(Stop):
        run(base, tmp_path)


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
    other = load(base)
    other.layout = replace(other.layout, similarity="euclidean")
    other.save(tmp_path / "base")
    with pytest.raises(ValueError, match="'euclidean'.*similarity_fn_name"):
        run(tmp_path / "base", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_test_and_corpus_of_its_own(base, tmp_path):
    """What answers a query of the test is never taught as wrong."""
    pairs, test = own_pairs(60), own_pairs(40, seed=8)
    corpus = [*pairs.positive, *test.positive, "balan komor", "mitis balan"]
    seen = []

    def spy(encoder, pairs, recipe, candidates, **options):
        seen.append(candidates)
        return mine_negatives(encoder, pairs, recipe, candidates, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "mine_negatives", spy)
        facts = run(base, tmp_path / "a", pairs, test=test, corpus=corpus)["facts"]
        run(base, tmp_path / "c", pairs, test=test)
        run(base, tmp_path / "d", pairs, test=test, corpus=test.positive)
    assert facts == {"trained on": 60, "queries": 40, "searched": len(set(corpus))}
    right = set(test.positive)
    allowed = [text for text in corpus if text not in right]
    assert len(allowed) < len(corpus)
    assert seen == [allowed, None, None]


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
    anchors = "balan komor", "Balan  komor", "mitis"
    pairs = Pairs(anchors, ("komor", "rumor", "mitis balan"))
    train_on_pairs(encoder, pairs, RECIPE)
    known = set(trained_with[0][2]._known_texts)
    assert known >= {("balan komor", "rumor"), ("Balan  komor", "komor")}
    assert ("mitis", "rumor") not in known


def test_a_large_batch_goes_in_parts_and_learns_the_same(base, monkeypatch):
    plain, parts = load(base), load(base)
    recipe = replace(RECIPE, negatives=0, epochs=1)
    pairs = own_pairs(32)
    for encoder in (plain, parts):
        set_dropout(encoder, 0.0)
    train_on_pairs(plain, pairs, recipe)
    monkeypatch.setitem(supervised.PLAIN_TOKENS, "cpu", 1)
    train_on_pairs(parts, pairs, recipe)
    texts = pairs.anchor[:5]
    np.testing.assert_allclose(plain.encode(texts), parts.encode(texts), atol=1e-4)


def test_a_base_that_finds_no_negative_is_trained_without(encoder):
    pairs = own_pairs(40)
    strict = replace(RECIPE, relative_margin=1.0)
    assert mine_negatives(encoder, pairs, strict) is None
    assert mine_negatives(encoder, pairs, replace(RECIPE, negatives=0)) is None


def test_a_recipe_out_of_range_is_refused():
    for change in (
        {"batch_size": 1},
        {"learning_rate": float("nan")},
        {"base_weight": -0.1},
        {"rank": (5, 5)},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(change))}="):
            Recipe(**change)
    with pytest.raises(ValueError, match="no room for 11 negatives"):
        Recipe(negatives=11)
    assert RECIPES["pairs"] == Recipe()
