"""From pairs to a saved model, stopped anywhere, and what is refused before."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adapt_cases import (
    RECIPE,
    STAGES,
    general,
    make_base,
    names,
    own_pairs,
    run,
    sentences,
    unequal,
    weights,
)
from transformers import TrainerCallback

from sbert_lab import SentenceEncoder
from sbert_lab.adaptation import stages
from sbert_lab.adaptation.adapt import adapt_texts
from sbert_lab.adaptation.outcome import read_outcome
from sbert_lab.adaptation.stages import is_large, objective, training_data
from sbert_lab.datasets.pairs import DataError, plain, split_pairs
from sbert_lab.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sbert_lab.models.averaging import average
from sbert_lab.models.checkpoint import CheckpointError, Layout

FINISHED = {"model", "outcome.json", "report.html"}


@pytest.fixture(scope="module", autouse=True)
def _quick(one_thread):
    """Tiny products on one thread."""


@pytest.fixture(autouse=True)
def _no_page(monkeypatch):
    """A page takes seconds and has tests of its own; `whole` has made one before."""
    monkeypatch.setattr("sbert_lab.adaptation.job.report", lambda outcome: "a page")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """An adaptation that was never stopped, and its outcome."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, run(base, out)


@pytest.fixture(scope="module")
def begun(base, tmp_path_factory):
    """An adaptation that was stopped early."""
    out = tmp_path_factory.mktemp("begun") / "out"
    with pytest.raises(Stop):
        run(base, out, watch=stop_at("mine"))
    return out


class Stop(Exception):
    """A power cut."""


class StopAt(TrainerCallback):
    def __init__(self, step, event):
        self.step, self.event = step, event

    def on_step_end(self, args, state, control, **_):
        if self.event == "step" and state.global_step == self.step:
            raise Stop

    def on_save(self, args, state, control, **_):
        if self.event == "save" and state.global_step == self.step:
            raise Stop


def stop_at(stage):
    def watch(name):
        if name == stage:
            raise Stop

    return watch


def alike(first, second):
    """Whether two outcomes say the same, but for their seconds."""
    return replace(first, seconds={}) == replace(second, seconds={})


def test_it_leaves_a_model_an_outcome_and_a_page(base, whole):
    out, outcome = whole
    assert names(out) == FINISHED
    assert read_outcome(out / "outcome.json").fingerprint == outcome.fingerprint
    model = SentenceEncoder.from_pretrained(out / "model", device="cpu")
    assert model.fingerprint() == outcome.fingerprint
    first = SentenceEncoder.from_pretrained(base, device="cpu").fingerprint()
    assert outcome.base_fingerprint == first != outcome.fingerprint
    assert "own.csv" in (out / "report.html").read_text()
    assert [*outcome.seconds] == ["check", *STAGES]
    assert outcome.recipe == RECIPE.as_json()
    assert outcome.method == "pairs"
    assert outcome.data["rows"] == 120
    assert outcome.data["train"] + outcome.data["test"] == 120
    assert 96 <= outcome.data["negatives"] <= 2 * outcome.data["train"]
    assert outcome.mined["known"] > 0
    assert {"torch", "python", "machine", "sha256 of pairs"} <= outcome.about.keys()


def test_it_learns_what_it_was_shown(base, whole):
    """In training the answers come nearer; the curve falls."""
    out, outcome = whole
    steps, losses = zip(*outcome.curve, strict=True)
    assert steps == tuple(range(1, 13))
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1
    pairs = own_pairs()
    train = pairs.pick(split_pairs(pairs)[0])
    found = []
    for folder in (base, out / "model"):
        encoder = SentenceEncoder.from_pretrained(folder, device="cpu")
        a = encoder.encode(train.anchor, normalize=True)
        p = encoder.encode(train.positive, normalize=True)
        scores = a @ p.T
        found.append(np.mean(np.diag(scores)[:, None] >= scores))
    assert found[1] > found[0] + 0.05


def test_what_is_reported_can_be_measured_again(base, whole):
    """By hand: split, encode, sort."""
    out, outcome = whole
    pairs = own_pairs()
    test = pairs.pick(split_pairs(pairs)[1])
    corpus = list(dict.fromkeys(pairs.positive))
    answers = dict(zip(test.anchor, test.positive, strict=True))
    for folder, side in ((base, "before"), (out / "model", "after")):
        encoder = SentenceEncoder.from_pretrained(folder, device="cpu")
        q = encoder.encode([*answers], normalize=True)
        scores = q @ encoder.encode(corpus, normalize=True).T
        right = [corpus.index(p) for p in answers.values()]
        ranks = 1 + (scores > scores[np.arange(len(q)), right][:, None]).sum(1)
        expected = {
            "nDCG@10": np.mean((ranks <= 10) / np.log2(ranks + 1)),
            "recall@1": np.mean(ranks <= 1),
            "recall@10": np.mean(ranks <= 10),
        }
        for one in outcome.domain:
            found = getattr(one, side).mean
            assert found == pytest.approx(expected[one.metric], abs=1e-6)
            assert one.items == len(answers) == outcome.data["queries"]
    assert outcome.data["corpus"] == len(corpus)
    assert [one.name for one in outcome.general] == ["made up"]


def test_the_share_kept_is_the_bases(base, whole, tmp_path):
    out, _ = whole
    run(base, tmp_path / "all new", recipe=replace(RECIPE, keep=0))
    encoders = [
        SentenceEncoder.from_pretrained(folder, device="cpu")
        for folder in (base, tmp_path / "all new" / "model", out / "model")
    ]
    mixed = average(encoders[0], encoders[1], RECIPE.keep)
    assert mixed.fingerprint() == encoders[2].fingerprint()
    assert encoders[1].fingerprint() != encoders[2].fingerprint()
    kept = run(base, tmp_path / "all old", recipe=replace(RECIPE, keep=1))
    assert kept.fingerprint == kept.base_fingerprint
    assert all(one.difference.mean == 0 for one in (*kept.domain, *kept.general))
    assert kept.better == kept.worse == ()


def test_sentence_transformers_loads_it(whole):
    from sentence_transformers import SentenceTransformer

    out, _ = whole
    texts = sentences(20, seed=5)
    ours = SentenceEncoder.from_pretrained(out / "model", device="cpu").encode(texts)
    theirs = SentenceTransformer(str(out / "model"), device="cpu").encode(texts)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_stopped_before_every_stage_it_ends_in_the_same(base, whole, tmp_path):
    out = tmp_path / "out"
    for stage in STAGES:
        with pytest.raises(Stop):
            run(base, out, watch=stop_at(stage))
        assert not FINISHED & names(out)
        torch.rand(3)  # what is drawn in between does not matter
    outcome = run(base, out)
    assert unequal(out, whole[0]) == []
    assert alike(outcome, whole[1])
    assert names(out) == FINISHED


def test_stopped_while_training_it_ends_in_the_same(base, whole, tmp_path):
    out, seconds = tmp_path / "out", 0.0
    for step, event in (
        (1, "step"),  # before there is a checkpoint
        (5, "step"),
        (6, "save"),  # at the end of an epoch
        (7, "step"),
        (12, "step"),
    ):
        with pytest.raises(Stop):
            run(base, out, callbacks=[StopAt(step, event)])
        spent = json.loads((out / "work" / "seconds.json").read_text())
        assert spent["train"] > seconds
        seconds = spent["train"]
    outcome = run(base, out)
    assert unequal(out, whole[0]) == []
    assert alike(outcome, whole[1])
    assert outcome.seconds["train"] > seconds


def test_stopped_while_encoding_it_ends_in_the_same(base, whole, tmp_path, monkeypatch):
    """Before a call of `encode`; what the calls before it gave is cached by then."""
    out, left = tmp_path / "out", 0
    real = SentenceEncoder.encode

    def encode(self, texts, **options):
        nonlocal left
        left -= 1
        if not left:
            raise Stop
        return real(self, texts, **options)

    # Three calls measure the base, two mine, three measure what was trained.
    seen = []
    for call in (1, 2, 3, 4, 2, 3, 2, 3):
        left = call
        with monkeypatch.context() as patch:
            patch.setattr(SentenceEncoder, "encode", encode)
            with pytest.raises(Stop):
                run(base, out, watch=seen.append)
    stages = [seen.count(stage) for stage in STAGES]
    assert stages == [4, 5, 3, 3, 3, 0]
    assert alike(run(base, out), whole[1])
    assert unequal(out, whole[0]) == []


def test_stopped_twice_and_at_the_very_end(base, whole, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for step in (3, 8):
        with pytest.raises(Stop):
            run(base, out, callbacks=[StopAt(step, "step")])
    for name in ("write_outcome", "report"):

        def cut(*_):
            raise Stop

        with monkeypatch.context() as patch:
            patch.setattr(f"sbert_lab.adaptation.job.{name}", cut)
            with pytest.raises(Stop):
                run(base, out)
        assert (out / "work").is_dir()
    assert not (out / "report.html").exists()
    assert (out / "outcome.json").is_file()
    assert alike(run(base, out), whole[1])
    assert names(out) == FINISHED
    assert unequal(out, whole[0]) == []


@pytest.fixture(scope="module")
def adapting(base):
    """A process that begins an adaptation for each folder it is told, in a child."""
    tests = Path(__file__).resolve().parents[1]
    script = tests / "adaptation" / "adapt_cases.py"
    paths = os.pathsep.join([str(tests), str(tests.parent)])
    with subprocess.Popen(
        [sys.executable, str(script), str(base)],
        env=os.environ | {"PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        process.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "when",
    ["work/plan.json", "work/before.json", "work/checkpoints/checkpoint-4", "model"],
)
def test_killed_it_ends_in_the_same(base, whole, adapting, tmp_path, when):
    """A real SIGKILL, as soon as something is there."""
    out = tmp_path / "out"
    adapting.stdin.write(f"{out}\n")
    adapting.stdin.flush()
    child = int(adapting.stdout.readline())
    try:
        until = time.monotonic() + 300
        while not (out / when).exists():
            assert time.monotonic() < until
            os.kill(child, 0)  # an error if it has ended
            time.sleep(0.002)
    finally:
        os.kill(child, signal.SIGKILL)
    assert int(adapting.stdout.readline()) == -signal.SIGKILL  # not finished before
    outcome = run(base, out)
    assert unequal(out, whole[0]) == []
    assert alike(outcome, whole[1])
    assert names(out) == FINISHED


def test_a_finished_folder_is_not_computed_again(base, whole, tmp_path):
    out, outcome = whole
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    again = run(base, out, watch=stop_at("measure the base"))
    assert again == read_outcome(out / "outcome.json")
    assert alike(again, outcome)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"recipe": replace(RECIPE, epochs=3)}, "epochs"),
        ({"recipe": replace(RECIPE, seed=1, rate=1e-3)}, "pairs, test, rate, seed"),
        ({"pairs": own_pairs(120, seed=1)}, "pairs, test"),
        ({"known": [("ba", "ko")]}, "known pairs"),
        ({"general": general(10)}, "general pairs"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_plan_is_refused(base, whole, begun, change, named, finished):
    out = whole[0] if finished else begun
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    with pytest.raises((ValueError, OSError), match="another ") as caught:
        run(base, out, **change)
    for word in named.split(", "):
        assert word in str(caught.value).partition("another ")[2]
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before


def test_another_base_is_refused(base, whole, tmp_path):
    other = SentenceEncoder.from_pretrained(base, device="cpu")
    with torch.no_grad():
        next(other.parameters()).mul_(1.5)
    other.save(tmp_path / "other")
    with pytest.raises(FileExistsError, match="another base"):
        run(tmp_path / "other", whole[0])


def test_somebody_elses_folder_is_left_alone(base, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"other files \(thesis\.tex\)"):
        run(base, tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="is a file"):
        run(base, tmp_path / "file")
    (tmp_path / "half" / "work").mkdir(parents=True)
    (tmp_path / "half" / "work" / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match="other files"):
        run(base, tmp_path / "half")
    assert names(tmp_path) == {"out", "file", "half"}


def test_a_damaged_plan_is_named(base, tmp_path):
    with pytest.raises(Stop):
        run(base, tmp_path / "out", watch=stop_at("mine"))
    (tmp_path / "out" / "work" / "plan.json").write_text("{")
    with pytest.raises(ValueError, match=r"plan\.json is damaged"):
        run(base, tmp_path / "out")


def leaking():
    pairs = own_pairs(60)
    return {"pairs": pairs, "test": pairs.pick(range(30, 60))}


def apart(count=60, tested=30):
    """Return training and test that share no text."""
    pairs = own_pairs(count + tested)
    return {
        "pairs": pairs.pick(range(count)),
        "test": pairs.pick(range(count, count + tested)),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": own_pairs(30)}, "30 pairs are too few"),
        (leaking(), "is also in own.csv"),
        (apart(tested=12), "12 pairs to test on"),
        (apart(count=16), "16 pairs to train on"),
        ({"recipe": replace(RECIPE, batch=500)}, "a batch of 500 is larger than"),
        ({"corpus": ["one text", "another"]}, "is not in the corpus"),
        (
            {"pairs": replace(own_pairs(), label=(0.0, *[1.0] * 119))},
            "its labels go from 0 to 1",
        ),
    ],
)
def test_data_are_refused_before_anything_is_there(base, tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        run(base, tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_a_base_is_refused_before_anything_is_there(base, tmp_path):
    with pytest.raises(FileNotFoundError, match="no model"):
        run("no-such-model", tmp_path / "out")
    with pytest.raises(CheckpointError):
        run("wordllama-256", tmp_path / "out")
    with pytest.raises(ValueError, match="give corpus"):
        run(base, tmp_path / "out", guard=lambda a, b: a == b)
    assert not (tmp_path / "out").exists()


def test_a_test_of_its_own_and_a_corpus(base, tmp_path):
    parts = apart()
    corpus = [*parts["pairs"].positive, *parts["test"].positive, *sentences(40, 7)]
    outcome = run(base, tmp_path / "out", corpus=corpus, **parts)
    assert (outcome.data["train"], outcome.data["test"]) == (60, 30)
    assert outcome.data["corpus"] == len({plain(text) for text in corpus})
    assert "sha256 of corpus" in outcome.about


def test_a_guard_hears_of_rows_of_the_whole_file(base, tmp_path):
    pairs, asked = own_pairs(), set()
    corpus = list(dict.fromkeys(pairs.positive))
    test = set(split_pairs(pairs)[1])

    def guard(rows, columns):
        asked.update(rows.tolist())
        return np.isin(columns, [0, 1])

    outcome = run(base, tmp_path / "out", corpus=corpus, guard=guard)
    # One row stands for all of an anchor.
    assert asked == set(range(120)) - test
    assert outcome.mined["guard"] > 0


def test_known_positives_are_neither_mined_nor_wrong(base):
    pairs = own_pairs(40)
    known = [(pairs.anchor[0], pairs.positive[9])]
    loss = objective(RECIPE, known, ("", ""))
    encoder = SentenceEncoder.from_pretrained(base, device="cpu")
    data = training_data(encoder, pairs, [])
    loss.bind(encoder, data.numbers)
    numbers = data.numbers
    expected = {numbers[pairs.anchor[0]]: {numbers[pairs.positive[9]]}}
    assert dict(loss._known) == expected


def test_rows_hold_their_own_negative_and_the_mined_ones(base):
    encoder = SentenceEncoder.from_pretrained(base, device="cpu")
    encoder.prompts = {"query": "ask ", "document": "", "passage": "read "}
    pairs = replace(own_pairs(40), negative=tuple(sentences(40, 8)))
    mined = [[pairs.positive[(i + 2) % 40], pairs.negative[i]] for i in range(40)]
    data = training_data(encoder, pairs, mined)
    data.tokenize(encoder)
    batch = data.__getitems__([3])
    assert batch.texts == {
        "anchor": ["ask " + pairs.anchor[3]],
        "positive": ["read " + pairs.positive[3]],
        "negative": ["read " + pairs.negative[3], "read " + pairs.positive[5]],
    }


def test_a_batch_of_many_tokens_is_cut_into_parts(base):
    encoder = SentenceEncoder.from_pretrained(base, device="cpu")
    pairs = own_pairs(40)
    mined = [[pairs.positive[(i + 2) % 40]] for i in range(40)]
    data = training_data(encoder, pairs, mined)
    every = [*pairs.anchor, *pairs.positive, *(own[0] for own in mined)]
    tokens = sum(map(len, encoder.token_ids(every))) / 40
    fits = int(stages.PLAIN_TOKENS["cpu"] / tokens)
    assert not is_large(encoder, data, fits)
    assert is_large(encoder, data, fits + 1)


@pytest.mark.parametrize("large", [False, True])
def test_the_loss_knows_whether_it_is(base, tmp_path, monkeypatch, large):
    taken = []

    def train(encoder, data, loss, *_, **__):
        taken.append(type(loss))
        return ()

    monkeypatch.setattr("sbert_lab.adaptation.adapt.train", train)
    if large:
        monkeypatch.setitem(stages.PLAIN_TOKENS, "cpu", 100)
    run(base, tmp_path / "out")
    cached = CachedMultipleNegativesRankingLoss
    assert taken == [cached if large else MultipleNegativesRankingLoss]


def test_without_mined_negatives(base, tmp_path):
    outcome = run(base, tmp_path / "out", recipe=replace(RECIPE, negatives=0))
    assert outcome.mined == {}
    assert outcome.data["negatives"] == 0
    assert "mine" not in outcome.seconds


def test_a_base_that_knows_nothing_is_trained_without(base, tmp_path, caplog):
    recipe = replace(RECIPE, relative_margin=1.0)
    outcome = run(base, tmp_path / "out", recipe=recipe)
    assert "trained without mined negatives: no negative is left" in caplog.text
    assert outcome.data["negatives"] == 0
    assert outcome.fingerprint != outcome.base_fingerprint


def test_checkpoints_are_ten_at_least(base, tmp_path):
    saved = []

    class Count(TrainerCallback):
        def on_save(self, args, state, control, **_):
            saved.append(state.global_step)

    run(base, tmp_path / "out", recipe=replace(RECIPE, epochs=8), callbacks=[Count()])
    assert 10 <= len(saved) <= 30
    assert saved[-1] == 48


def texts_run(base, out, method, **options):
    given = {"batch": 16, "general": general(), "show_progress": False} | options
    return adapt_texts(base, sentences(80, 3), out, method=method, **given)


@pytest.mark.parametrize("method", ["simcse", "tsdae", "pseudo-labels"])
def test_without_pairs_it_goes_on_too(base, tmp_path, method, monkeypatch):
    from sbert_lab.adaptation.pseudo_labels import similarity_judge
    from sbert_lab.training import SentenceTrainer

    options = {}
    if method == "pseudo-labels":
        other = SentenceEncoder.from_pretrained(base, device="cpu")
        with torch.no_grad():
            next(other.parameters()).mul_(1.5)
        options["judge"] = similarity_judge(other)
    options["test"] = own_pairs(30, seed=4)
    options["keep"] = 0.5
    expected = texts_run(base, tmp_path / "whole", method, **options)
    assert expected.fingerprint != expected.base_fingerprint
    assert expected.method == method
    assert expected.data["queries"] == 30
    assert expected.data["made up" if method == "pseudo-labels" else "train"]
    assert expected.curve
    real, count = SentenceTrainer.training_step, 0

    def step(self, *arguments):
        nonlocal count
        count += 1
        if count == 4:
            raise Stop
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SentenceTrainer, "training_step", step)
        with pytest.raises(Stop):
            texts_run(base, tmp_path / "out", method, **options)
    assert list((tmp_path / "out" / "work" / "checkpoints").glob("checkpoint-*"))
    assert alike(texts_run(base, tmp_path / "out", method, **options), expected)
    assert unequal(tmp_path / "out", tmp_path / "whole") == []
    assert names(tmp_path / "out") == FINISHED
    again = texts_run(base, tmp_path / "out", method, watch=stop_at("train"), **options)
    assert alike(again, expected)
    with pytest.raises(FileExistsError, match="another recipe"):
        texts_run(base, tmp_path / "out", method, **options | {"seed": 1})


def test_without_pairs_and_without_a_test_only_the_rest_is_measured(base, tmp_path):
    outcome = texts_run(base, tmp_path / "out", "simcse")
    assert outcome.domain == outcome.better == ()
    assert len(outcome.general) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "one of simcse, tsdae"),
        ({"method": "pseudo-labels"}, "need a judge"),
        ({"method": "simcse", "ratio": 0.5}, "no option 'ratio'"),
        ({"method": "simcse", "batch": 100}, "a batch of 100 is larger than the 80"),
        ({"method": "simcse", "keep": 2}, "keep=2: from 0 to 1"),
        ({"method": "simcse", "rate": -1}, "rate=-1: above 0"),
        ({"method": "simcse", "corpus": ["x"]}, "only searched by a test"),
    ],
)
def test_nonsense_without_pairs_is_refused(base, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        texts_run(base, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_query_of_the_test_among_the_texts_is_a_leak(base, tmp_path):
    test = own_pairs(30, seed=4)
    texts = [*sentences(40, 3), test.anchor[2].upper()]
    with pytest.raises(DataError, match="is also in texts"):
        adapt_texts(base, texts, tmp_path / "out", method="simcse", test=test)


def test_an_encoder_that_has_no_decoder_is_refused_at_once(base, tmp_path):
    first = SentenceEncoder.from_pretrained(base, device="cpu")
    layout = replace(first.layout, pooling=("cls", "mean"))
    wide = SentenceEncoder(first.transformer, first.tokenizer, layout)
    wide.save(tmp_path / "wide")
    assert isinstance(wide.layout, Layout)
    with pytest.raises(ValueError, match="TSDAE needs them equal"):
        texts_run(tmp_path / "wide", tmp_path / "out", "tsdae")
    assert not (tmp_path / "out").exists()


def test_weights_of_two_models_are_told_apart(base, whole, tmp_path):
    """`unequal`, by which the tests here stand or fall, sees a single bit."""
    tensors = weights(whole[0])
    first = SentenceEncoder.from_pretrained(whole[0] / "model", device="cpu")
    with torch.no_grad():
        first.transformer.embeddings.word_embeddings.weight[5, 3] += 1e-6
    first.save(tmp_path / "model")
    assert len(unequal(tmp_path, whole[0])) == 1 < len(tensors)
