"""Trials: their data, trainings that differ by the seed alone, and their yardstick."""

import gc
import random
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from tiny_raw_bert import WIDTH, make_raw, tiny_profile
from torch import nn
from transformers import TrainerCallback

from sbert_lab import SentenceEncoder
from sbert_lab.datasets import nli
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.nli import LABELS, Inference
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.evaluation.tasks import similarity_score
from sbert_lab.experiments import trials
from sbert_lab.losses import CosineSimilarityLoss, MultipleNegativesRankingLoss
from sbert_lab.models.checkpoint import Dense, Layout

AUTHORED = nli.authored()
FEW = AUTHORED[:48]  # of 16 premises


@pytest.fixture(scope="module", autouse=True)
def little_to_collect():
    """Each training ends with a collection, which is slow after many other tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_raw(tmp_path_factory.mktemp("raw") / "bert")


@pytest.fixture(scope="module")
def profile(folder):
    return tiny_profile(folder)


@pytest.fixture
def raw(profile):
    return trials.raw_encoder(profile)


def inference(premise, hypothesis, label):
    return Inference("", "", premise, hypothesis, label)


def weights(encoder):
    return {name: p.detach().clone() for name, p in encoder.named_parameters()}


def differing(first, second):
    """Return the names of the weights that differ in any bit."""
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


def columns(data, encoder):
    """Return all rows of a training set, by role, as a batch has them."""
    data.tokenize(encoder)
    return data.__getitems__(range(len(data))).texts


# Labelled pairs


def made_pairs(count=300, seed=0):
    """Return pairs of 40 premises with labels missing and hypotheses to spare."""
    rng = np.random.default_rng(seed)
    return [
        inference(f"p{rng.integers(40)}", f"h{i}", LABELS[rng.integers(3)])
        for i in range(count)
    ]


def naive_complete(pairs):
    """Return the premises in order, and for each the first pair of every label."""
    premises = []
    for pair in pairs:
        if pair.premise not in premises:
            premises.append(pair.premise)
    found = {}
    for premise in premises:
        own = [pair for pair in pairs if pair.premise == premise]
        firsts = [next((p for p in own if p.label == lab), None) for lab in LABELS]
        if None not in firsts:
            found[premise] = firsts
    return found


@pytest.mark.parametrize("count", [90, 150, 600])
def test_complete_premises_against_a_loop(count):
    pairs = made_pairs(count)
    expected = naive_complete(pairs)
    assert len(expected) > 0
    assert trials.complete_premises(pairs, None) == tuple(
        pair for firsts in expected.values() for pair in firsts
    )


def test_some_premises_are_drawn_and_stay_in_order():
    pairs = made_pairs()
    all_of_them = list(naive_complete(pairs))
    drawn = {}
    for seed in (0, 1):
        found = trials.complete_premises(pairs, 10, seed)
        assert found == trials.complete_premises(pairs, 10, seed)
        assert [pair.label for pair in found] == list(LABELS) * 10
        premises = [pair.premise for pair in found[::3]]
        assert [p.premise for p in found] == [p for p in premises for _ in LABELS]
        places = [all_of_them.index(premise) for premise in premises]
        assert places == sorted(set(places))
        drawn[seed] = premises
    assert drawn[0] != drawn[1]
    assert drawn[0] != all_of_them[:10]
    assert trials.complete_premises(pairs, 10) == trials.complete_premises(pairs, 10, 0)


@pytest.mark.parametrize("beyond", [0, 1, 1_000])
def test_more_premises_than_there_are_is_all(beyond):
    pairs = made_pairs()
    count = len(naive_complete(pairs)) + beyond
    assert trials.complete_premises(pairs, count) == trials.complete_premises(
        pairs, None
    )


def test_premises_that_lack_a_label_are_left_out():
    pairs = [inference("a", "x", "entailment"), inference("a", "y", "neutral")]
    assert trials.complete_premises(pairs, None) == ()
    assert trials.complete_premises(pairs, 5) == ()


@pytest.fixture
def sources(monkeypatch):
    """Replace the large sources; return what was asked of them."""
    asked = []
    everything = tuple(made_pairs())

    def of(name):
        def read(split):
            asked.append((name, split))
            return everything

        return read

    monkeypatch.setattr(trials, "icd10cm_entailment", of("icd10cm"))
    monkeypatch.setattr(trials, "all_nli", of("all-nli"))
    return asked, everything


def test_authored_pairs_are_taken_as_they_are(folder, sources):
    profile = tiny_profile(folder, nli=("authored",), authored_premises=None)
    found = trials.inference_pairs(profile)
    assert sources[0] == []
    # Complete, as is said of them: none is lost.
    assert sorted(found, key=repr) == sorted(AUTHORED, key=repr)


def test_a_few_of_the_authored_premises_are_enough_for_a_test(folder):
    profile = tiny_profile(folder, nli=("authored",), authored_premises=5, seed=2)
    found = trials.inference_pairs(profile)
    assert found == trials.complete_premises(AUTHORED, 5, 2)
    assert len(found) == 15


def test_icd10cm_gives_complete_premises_of_its_training_split(folder, sources):
    asked, everything = sources
    for premises, seed in ((7, 0), (7, 3), (None, 0)):
        chosen = tiny_profile(folder, nli=("icd10cm",), premises=premises, seed=seed)
        expected = trials.complete_premises(everything, premises, seed)
        assert trials.inference_pairs(chosen) == expected
    assert set(asked) == {("icd10cm", "train")}


def test_all_nli_is_taken_whole(folder, sources):
    asked, everything = sources
    found = trials.inference_pairs(tiny_profile(folder, nli=("all-nli",), premises=2))
    assert found == everything
    assert asked == [("all-nli", "train")]


def test_sources_follow_each_other(folder, sources):
    names = ("icd10cm", "authored")
    found = trials.inference_pairs(
        tiny_profile(folder, nli=names, premises=4, authored_premises=6)
    )
    assert found[12:] == trials.complete_premises(AUTHORED, 6, 0)
    assert found[:12] == trials.complete_premises(sources[1], 4, 0)
    assert trials.inference_pairs(tiny_profile(folder, nli=())) == ()


def test_unknown_source_says_what_there_is(folder):
    with pytest.raises(ValueError, match="nli 'snli': authored, icd10cm, all-nli"):
        trials.inference_pairs(tiny_profile(folder, nli=("authored", "snli")))


def test_triplets_are_of_premises_with_both(raw):
    pairs = [
        inference("p", "e1", "entailment"),
        inference("q", "e2", "entailment"),
        inference("p", "n", "neutral"),
        inference("p", "c1", "contradiction"),
        inference("r", "c2", "contradiction"),
    ]
    assert columns(trials.triplets(pairs), raw) == {
        "anchor": ["p"],
        "positive": ["e1"],
        "negative": ["c1"],
    }
    found = columns(trials.triplets(FEW), raw)
    assert found["anchor"] == [pair.premise for pair in FEW[::3]]
    by_label = {lab: [p.hypothesis for p in FEW if p.label == lab] for lab in LABELS}
    assert found["positive"] == by_label["entailment"]
    assert found["negative"] == by_label["contradiction"]


def test_labelled_pairs_have_class_numbers(raw):
    data = trials.labelled(FEW)
    assert columns(data, raw) == {
        "first": [pair.premise for pair in FEW],
        "second": [pair.hypothesis for pair in FEW],
    }
    assert [LABELS[int(number)] for number in data.label] == [p.label for p in FEW]


def test_shuffling_deals_labels_out_anew_and_nothing_else(raw):
    true, control = trials.labelled(FEW), trials.shuffled(FEW, 1)
    assert columns(control, raw) == columns(true, raw)
    assert Counter(control.label) == Counter(true.label)
    assert 0.1 < np.mean(control.label == true.label) < 0.6  # chance is a third
    assert np.array_equal(control.label, trials.shuffled(FEW, 1).label)
    assert not np.array_equal(control.label, trials.shuffled(FEW, 2).label)
    assert np.array_equal(true.label, trials.labelled(FEW).label)


def test_scores_become_targets_from_0_to_1(raw):
    pairs = ScoredPairs(("a", "b", "c"), ("d", "e", "f"), (0.0, 2.5, 5.0), ("g",) * 3)
    data = trials.regression(pairs)
    assert columns(data, raw) == {"first": ["a", "b", "c"], "second": ["d", "e", "f"]}
    assert data.label.tolist() == [0, 0.5, 1]
    assert trials.regression(pairs, top=10).label.tolist() == [0, 0.25, 0.5]


def test_scored_pairs_to_train_on_are_those_of_the_profile(folder, monkeypatch):
    asked = []

    def graded(*arguments):
        asked.append(arguments)
        return SETS["grouped"]

    monkeypatch.setattr(trials.hierarchy, "scored_pairs", graded)
    monkeypatch.setattr(trials, "stsb", lambda split: (split, SETS["plain"]))
    own = tiny_profile(folder, graded_anchors=7, seed=3)
    assert trials.scored_pairs(own) == SETS["grouped"]
    assert asked == [("train", 7, 3)]
    benchmark = tiny_profile(folder, scored="stsb")
    assert trials.scored_pairs(benchmark) == ("train", SETS["plain"])
    with pytest.raises(ValueError, match="scored='sick': icd10cm or stsb"):
        trials.scored_pairs(tiny_profile(folder, scored="sick"))


# Encoders


@pytest.mark.parametrize("pooling", ["mean", "max", "cls", ("cls", "mean")])
def test_raw_encoder_has_the_pooling_asked_for(profile, folder, pooling):
    encoder = trials.raw_encoder(profile, pooling)
    modes = (pooling,) if isinstance(pooling, str) else pooling
    assert encoder.layout.pooling == modes
    assert encoder.dimension == WIDTH * len(modes)
    assert not encoder.training
    tokens = torch.from_numpy(encoder.token_ids(["a cat sat on the mat"])[0])
    with torch.no_grad():
        hidden = encoder.transformer(tokens[None]).last_hidden_state[0]
    ways = {"mean": hidden.mean(0), "max": hidden.amax(0), "cls": hidden[0]}
    expected = torch.cat([ways[mode] for mode in modes])
    got = encoder.encode("a cat sat on the mat")
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_raw_encoder_pools_by_the_mean_unless_told(raw):
    assert raw.layout.pooling == ("mean",)


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.25])
def test_raw_encoder_has_the_dropout_of_the_profile(folder, dropout):
    encoder = trials.raw_encoder(tiny_profile(folder, dropout=dropout))
    found = [part.p for part in encoder.modules() if isinstance(part, nn.Dropout)]
    assert len(found) > 4
    assert set(found) == {dropout}
    assert encoder.transformer.config.hidden_dropout_prob == dropout


def test_each_raw_encoder_has_weights_of_its_own(profile):
    one, other = trials.raw_encoder(profile), trials.raw_encoder(profile)
    with torch.no_grad():
        next(one.parameters()).add_(1)
    assert differing(weights(one), weights(other))


TEXTS = ["a cat sat on the mat", "two dogs", "the red bird flew over a hill and back"]


@pytest.mark.parametrize("pooling", ["cls", "max", "mean"])
def test_another_pooling_has_the_same_weights(folder, profile, tmp_path, pooling):
    encoder = trials.train(profile, trials.labelled(FEW), trials.softmax).encoder
    other = trials.with_pooling(encoder, pooling)
    assert encoder.layout.pooling == ("mean",)
    assert other.layout.pooling == (pooling,)
    assert not other.training
    own = dict(encoder.named_parameters())
    assert all(own[name] is weight for name, weight in other.named_parameters())
    encoder.transformer.save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    loaded = trials.raw_encoder(tiny_profile(tmp_path), pooling)
    np.testing.assert_array_equal(other.encode(TEXTS), loaded.encode(TEXTS))
    same = np.allclose(other.encode(TEXTS), encoder.encode(TEXTS))
    assert same == (pooling == "mean")


def test_another_pooling_keeps_what_was_set_and_learned(raw, tmp_path):
    weights = {"linear.weight": torch.randn(4, WIDTH), "linear.bias": torch.zeros(4)}
    dense = Dense(weights, "tanh")
    layout = Layout(dimension=WIDTH, head=(dense, "normalize"))
    encoder = SentenceEncoder(raw.transformer, raw.tokenizer, layout).eval()
    with torch.no_grad():
        encoder.head[0].linear.weight.mul_(3)  # as a training would
    encoder.max_seq_length = 5
    encoder.prompts["query"] = "query: "
    encoder.save(tmp_path / "mean")
    saved = SentenceEncoder.from_pretrained(tmp_path / "mean", device="cpu")
    other, same = (trials.with_pooling(e, "mean") for e in (encoder, saved))
    for way in (SentenceEncoder.encode, SentenceEncoder.encode_query):
        expected = way(saved, TEXTS)
        np.testing.assert_allclose(way(other, TEXTS), expected, atol=1e-6)
        np.testing.assert_array_equal(way(same, TEXTS), expected)
    assert not np.allclose(
        trials.with_pooling(encoder, "cls").encode(TEXTS), encoder.encode(TEXTS)
    )


# Trainings


class Watch(TrainerCallback):
    """Keeps the arguments of a training, and its steps."""

    def on_train_begin(self, args, state, control, **_):
        self.args, self.steps = args, state.max_steps


class Told:
    """An evaluator that counts how often it is asked."""

    name = "told"

    def __init__(self):
        self.asked = 0

    def __call__(self, encoder):
        self.asked += 1
        return {"count": float(self.asked)}

    def held_out(self):
        return []


def ranking(encoder):
    return MultipleNegativesRankingLoss()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_one_seed_is_one_training_to_the_bit(folder, dropout):
    profile, found = tiny_profile(folder, dropout=dropout), []
    for turn, seed in enumerate((3, 3, 4)):
        torch.manual_seed(turn)  # which must not matter
        trained = trials.train(profile, trials.labelled(FEW), trials.softmax, seed=seed)
        found.append(weights(trained.encoder))
        assert not trained.encoder.training
    assert differing(found[0], found[1]) == []
    assert differing(found[0], found[2])


def test_the_seed_orders_the_batches(profile):
    """With an objective that draws nothing, and no dropout."""
    data = trials.triplets(FEW)
    found = [
        weights(trials.train(profile, data, ranking, seed=seed).encoder)
        for seed in (0, 0, 1)
    ]
    assert differing(found[0], found[1]) == []
    assert differing(found[0], found[2])


def test_the_objectives_first_weights_follow_the_seed(profile):
    drawn = []

    def made(encoder):
        objective = trials.softmax(encoder)
        drawn.append(objective.weight.detach().clone())
        return objective

    for turn, seed in enumerate((0, 0, 1)):
        torch.manual_seed(turn)
        trials.train(profile, trials.labelled(FEW), made, seed=seed)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].shape == (3, 3 * WIDTH)


def test_regression_is_the_papers(raw):
    assert type(trials.regressed(raw)) is CosineSimilarityLoss


def test_the_parts_of_a_classification_can_be_chosen(raw):
    assert trials.softmax(raw).parts == ("u", "v", "|u-v|")
    objective = trials.softmax_of(["u*v", "u"])(raw)
    assert objective.parts == ("u*v", "u")
    assert objective.weight.shape == (3, 2 * WIDTH)


def random_states():
    """Return what the next draws of all global generators will be."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    return python, [str(part) for part in numpy], torch.random.get_rng_state().tolist()


def test_the_global_random_state_stays_as_it_was(profile, folder):
    """Although the model has no pooler, for which loading draws random numbers."""
    before = random_states()
    options = {"evaluators": [Told()], "evaluations": 2}
    for change in ({}, {"dropout": 0.1}):
        chosen = tiny_profile(folder, **change)
        trials.train(chosen, trials.labelled(FEW), trials.softmax, seed=5, **options)
    assert random_states() == before


def test_what_is_drawn_for_an_objective_is_given_back_whatever_it_draws_from(profile):
    def made(encoder):
        random.random()
        np.random.rand()  # noqa: NPY002
        return trials.softmax(encoder)

    before = random_states()
    trials.train(profile, trials.labelled(FEW), made)
    assert random_states() == before


def test_a_new_encoder_starts_from_the_profiles_weights(profile, raw):
    found = trials.train(profile, trials.labelled(FEW), trials.softmax, rate=0.0)
    assert differing(weights(found.encoder), weights(raw)) == []
    trained = trials.train(profile, trials.labelled(FEW), trials.softmax).encoder
    assert len(differing(weights(trained), weights(raw))) > 10


def test_training_goes_on_from_a_given_encoder_in_place(profile):
    first = trials.train(profile, trials.labelled(FEW), trials.softmax).encoder
    before = weights(first)
    scored = trials.regression(
        ScoredPairs(
            tuple(p.premise for p in FEW),
            tuple(p.hypothesis for p in FEW),
            tuple(float(i % 6) for i in range(len(FEW))),
        )
    )
    still = trials.train(profile, scored, trials.regressed, encoder=first, rate=0.0)
    assert still.encoder is first
    assert differing(weights(first), before) == []
    found = trials.train(
        profile, scored, trials.regressed, encoder=first, pooling="cls"
    )
    assert found.encoder is first
    assert first.layout.pooling == ("mean",)
    assert differing(weights(first), before)
    alone = trials.train(profile, scored, trials.regressed).encoder
    assert differing(weights(first), weights(alone))


def test_the_pooling_is_that_of_a_new_encoder(profile):
    found = trials.train(
        profile, trials.labelled(FEW), trials.softmax, pooling="max"
    ).encoder
    assert found.layout.pooling == ("max",)


@pytest.mark.parametrize(("rate", "used"), [(None, 1e-3), (2e-4, 2e-4), (0.0, 0.0)])
@pytest.mark.parametrize("fast", [False, True])
def test_arguments_are_the_profiles(profile, monkeypatch, tmp_path, rate, used, fast):
    monkeypatch.setattr(trials, "has_fast_bfloat16", lambda: fast)
    monkeypatch.chdir(tmp_path)
    watch = Watch()
    trials.train(
        profile, trials.labelled(FEW[:24]), trials.softmax, seed=7, rate=rate,
        callbacks=[watch],
    )  # fmt: skip
    args = watch.args
    assert (args.per_device_train_batch_size, args.num_train_epochs) == (8, 1)
    assert (args.learning_rate, args.seed, args.bf16) == (used, 7, fast)
    assert args.get_warmup_steps(100) == 10
    assert watch.steps == 3
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


@pytest.mark.parametrize(
    ("rows", "evaluations"), [(48, 2), (52, 5), (100, 5), (24, 9), (24, 3), (20, 1)]
)
def test_so_many_evaluations_are_spread_evenly(profile, rows, evaluations):
    told, watch = Told(), Watch()
    history = trials.train(
        profile, trials.labelled(AUTHORED[:rows]), trials.softmax,
        evaluators=[told], evaluations=evaluations, callbacks=[watch],
    ).history  # fmt: skip
    assert watch.steps == -(-rows // 8)
    at = [step for step, _ in trials.curve(history, "eval_told_count")]
    assert at[0] == 0
    assert at[-1] == watch.steps  # the trained model itself
    assert len(at) == told.asked == min(evaluations, watch.steps) + 1
    gaps = np.diff(at)
    assert gaps.max() - gaps.min() <= 1


def test_nothing_is_evaluated_unless_asked_for(profile):
    told = Told()
    found = trials.train(
        profile, trials.labelled(FEW), trials.softmax, evaluators=[told]
    )
    assert told.asked == 0
    assert trials.curve(found.history, "eval_told_count") == []


def test_history_has_the_loss_and_what_explains_it(profile):
    history = trials.train(profile, trials.labelled(FEW), trials.softmax).history
    for metric in ("loss", "accuracy"):
        found = trials.curve(history, metric)
        assert [step for step, _ in found] == [1, 2, 3, 4, 5, 6]
        assert np.isfinite([value for _, value in found]).all()


def test_curve_is_where_a_metric_was_logged():
    history = [
        {"step": 0, "eval_a": 0.5},
        {"step": 5, "loss": 2.0},
        {"step": 5, "eval_a": 0.0},
        {"step": 10.0, "loss": 1.0, "eval_a": 0.7},
    ]
    assert trials.curve(history, "loss") == [(5, 2.0), (10, 1.0)]
    assert trials.curve(history, "eval_a") == [(0, 0.5), (5, 0.0), (10, 0.7)]
    assert trials.curve(history, "eval") == trials.curve([], "loss") == []


# Precision


def test_whether_bfloat16_is_fast_is_a_plain_yes_or_no(monkeypatch):
    assert type(trials.has_fast_bfloat16()) is bool
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for found, fast in (
        ({"amx_bf16": 1}, True),
        ({"amx_bf16": False}, False),
        ({}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert trials.has_fast_bfloat16() is fast


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_decides_where_there_is_one(monkeypatch, supported):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"amx_bf16": not supported}
    )
    assert trials.has_fast_bfloat16() is supported


# Yardstick


def scored(group=(), start=0, count=30):
    pairs = AUTHORED[start : start + count]
    rng = np.random.default_rng(start)
    return ScoredPairs(
        tuple(pair.premise for pair in pairs),
        tuple(pair.hypothesis for pair in pairs),
        tuple(rng.integers(0, 6, len(pairs)).astype(float)),
        group,
    )


SETS = {
    "plain": scored(),
    "grouped": scored(tuple(str(i // 5) for i in range(30)), start=60),
}
TASK = RetrievalTask(
    queries=tuple(pair.hypothesis for pair in AUTHORED[:120:3]),
    relevant=tuple(f"A{i // 2:02}.{i % 2}" for i in range(40)),  # two a category
    corpus_codes=tuple(f"A{i // 2:02}.{i % 2}" for i in range(40)),
    corpus_texts=tuple(pair.premise for pair in AUTHORED[:120:3]),
)
YARD = trials.Yardstick(SETS, TASK)


def unit(rows):
    return rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)


def test_measured_are_cosines_and_gains_by_hand(raw):
    found = YARD.measure(raw)
    assert list(found) == ["plain", "grouped", "retrieval"]
    for name, pairs in SETS.items():
        u, v = (unit(raw.encode(texts)) for texts in (pairs.first, pairs.second))
        expected = [float(a @ b) for a, b in zip(u, v, strict=True)]
        np.testing.assert_allclose(found[name], expected, atol=1e-6)
    q, c = (unit(raw.encode(texts)) for texts in (TASK.queries, TASK.corpus_texts))
    place = [1 + sum(row > row[i]) for i, row in enumerate(q @ c.T)]
    assert max(place) > 10 > min(place)
    gains = [1 / np.log2(p + 1) if p <= 10 else 0 for p in place]
    np.testing.assert_allclose(found["retrieval"], gains)


def test_some_sets_only_and_then_no_query(raw):
    everything = YARD.measure(raw)
    some = YARD.measure(raw, only=["grouped"])
    assert list(some) == ["grouped"]
    np.testing.assert_array_equal(some["grouped"], everything["grouped"])
    assert YARD.measure(raw, only=[]) == {}
    assert list(YARD.measure(raw, only={"retrieval", "plain"})) == ["plain"]
    assert list(trials.Yardstick(SETS).measure(raw)) == ["plain", "grouped"]


def made_runs(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            "plain": rng.normal(size=30),
            "grouped": rng.normal(size=30),
            "retrieval": rng.uniform(size=40),
        }
        for _ in range(count)
    ]


RUNS, OTHERS = made_runs(3), made_runs(3, seed=1)


def rows(runs, name):
    return [run[name] for run in runs]


@pytest.mark.parametrize("name", SETS)
def test_sets_are_scored_by_spearman(name):
    pairs, kept = SETS[name], np.arange(30) % 3 > 0
    ours, theirs = rows(RUNS, name), rows(OTHERS, name)
    assert YARD.score(name, RUNS) == similarity_score(pairs, ours)
    assert YARD.score(name, RUNS, OTHERS) == similarity_score(
        pairs, ours, baseline=theirs
    )
    assert YARD.score(name, RUNS, kept=kept) == similarity_score(pairs, ours, kept=kept)
    both = YARD.score(name, RUNS, OTHERS, kept)
    assert both == similarity_score(pairs, ours, baseline=theirs, kept=kept)
    assert both.n == 20
    mean = np.mean([stats.spearmanr(row, pairs.score).statistic for row in ours])
    assert YARD.score(name, RUNS).mean == pytest.approx(mean, abs=1e-12)


def test_queries_are_scored_by_their_mean():
    ours, theirs = (np.array(rows(runs, "retrieval")) for runs in (RUNS, OTHERS))
    category = np.arange(40) // 2
    assert YARD.score("retrieval", RUNS) == bootstrap_mean(ours, groups=category)
    assert YARD.score("retrieval", RUNS) != bootstrap_mean(ours)
    assert YARD.score("retrieval", RUNS, OTHERS) == bootstrap_mean(
        ours - theirs, groups=category
    )
    kept = np.arange(40) < 15
    some = YARD.score("retrieval", RUNS, OTHERS, kept)
    assert some == bootstrap_mean((ours - theirs)[:, :15], groups=category[:15])
    assert YARD.score("retrieval", RUNS, kept=kept) == bootstrap_mean(
        ours[:, :15], groups=category[:15]
    )


@pytest.mark.parametrize("name", [*SETS, "retrieval"])
def test_one_run_to_compare_with_counts_for_every_seed(name):
    one = YARD.score(name, RUNS, OTHERS[:1])
    assert one == YARD.score(name, RUNS, OTHERS[:1] * 3)
    assert one != YARD.score(name, RUNS, OTHERS)
    assert YARD.score(name, RUNS[:1], OTHERS[:1]).mean == pytest.approx(
        -YARD.score(name, OTHERS[:1], RUNS[:1]).mean
    )
    same = YARD.score(name, RUNS, RUNS)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize("count", [2, 4])
def test_runs_are_compared_seed_by_seed(count):
    with pytest.raises(ValueError, match="shape"):
        YARD.score("plain", RUNS, made_runs(count))


def test_point_is_one_runs_correlation():
    for run in RUNS:
        expected = stats.spearmanr(run["plain"], SETS["plain"].score).statistic
        assert YARD.point("plain", run) == pytest.approx(expected, abs=1e-12)


def test_training_moves_the_yardstick(profile, raw):
    """All parts together: a ranking loss finds the premises it was trained on."""
    trained = trials.train(
        tiny_profile(profile.raw_model, rate=3e-3),
        trials.triplets(AUTHORED[:120]),
        ranking,
    ).encoder
    before, after = YARD.measure(raw), YARD.measure(trained)
    gain = YARD.score("retrieval", [after], [before])
    assert gain.low > 0
