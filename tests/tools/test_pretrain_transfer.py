"""Three starts, the same fine-tuning, and what is said about the difference."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_pretraining import NOUNS, PLAN, SHAPE, VERBS, fresh, prepared, statics
from torch.nn import functional as F
from transformers import AutoConfig

from sbert_lab.datasets import icd10cm, similarity
from sbert_lab.datasets.sts import LadderPair, ScoredPairs
from sbert_lab.evaluation.metrics import pairwise_cosine
from sbert_lab.models.layers import untrained_bert
from tools.pretraining import advantage, starts, transfer
from tools.pretraining.advantage import (
    AFTER,
    AFTER_UNSHARED,
    LADDER,
    RANDOM,
    STATIC,
    STSB,
    TERMS,
    UNSHARED,
)
from tools.pretraining.checkpoints import State
from tools.pretraining.export import export

SCORES = np.random.default_rng(0).integers(0, 6, 40)


def sentence(i: int) -> str:
    return f"The {NOUNS[i % 8]} {VERBS[i % 6]} the {NOUNS[(i // 8 + 3) % 8]}"


PAIRS = ScoredPairs(
    first=tuple(sentence(i) for i in range(40)),
    second=tuple(sentence(i if s > 2 else 7 * i + 3) for i, s in enumerate(SCORES)),
    score=tuple(map(float, SCORES)),
)
RUNGS = tuple(
    LadderPair(f"a{i % 8}", "", "", "", a, NOUNS[i % 5] if i % 2 else b, int(s), "none")
    for i, (a, b, s) in enumerate(zip(PAIRS.first, PAIRS.second, SCORES, strict=True))
)
pytestmark = pytest.mark.usefixtures("one_thread")
CODES = [
    SimpleNamespace(code=f"{noun} {verb}", category=noun, description=f"{noun} {verb}")
    for noun in NOUNS[:4]
    for verb in VERBS[:3]
]
TASK = icd10cm.RetrievalTask(  # a term shares no word with its code
    queries=tuple(f"{noun} {verb}" for noun in NOUNS[4:] for verb in VERBS[3:]),
    relevant=tuple(c.code for c in CODES),
    corpus_codes=tuple(c.code for c in CODES),
    corpus_texts=tuple(c.description for c in CODES),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("transfer"))


@pytest.fixture
def weights(data, tmp_path):
    state = State(step=3, tokens=2_500_000)
    export(fresh(data).model, data, tmp_path / "weights", PLAN, state)
    return tmp_path / "weights"


@pytest.fixture(autouse=True)
def small_sets(monkeypatch):
    for module in (transfer, advantage):
        monkeypatch.setattr(module, "stsb", lambda split: PAIRS)
    monkeypatch.setattr(similarity, "similarity_ladder", lambda: RUNGS)
    pairs = list(zip(TASK.queries, CODES, strict=True))
    monkeypatch.setattr(icd10cm, "split_pairs", lambda split: pairs)
    monkeypatch.setattr(icd10cm, "retrieval_task", lambda split: TASK)
    monkeypatch.setattr(transfer, "SIMILARITY", transfer.Recipe(8, 4, 3e-3))
    monkeypatch.setattr(transfer, "LADDER", transfer.Recipe(8, 2, 3e-3))
    monkeypatch.setattr(transfer, "RETRIEVAL", transfer.Recipe(6, 20, 3e-3))


@pytest.fixture
def start(data):
    """Make a start: the static vectors, the rest random."""
    return lambda: transfer.encoder_of(starts.static_only(data, SHAPE, 0), data)


def test_starts_are_seeded_and_leave_the_global_state(data, weights):
    config = fresh(data).model.config
    state = torch.get_rng_state()
    shipped = starts.pretrained(weights)
    for make in (
        lambda seed: starts.static_only(data, SHAPE, seed),
        lambda seed: untrained_bert(config, seed),
    ):
        first, again, other = (make(seed).state_dict() for seed in (1, 1, 2))
        assert first.keys() == shipped.state_dict().keys()
        assert all(torch.equal(first[name], again[name]) for name in first)
        layer = "encoder.layer.0.attention.self.query.weight"
        assert not torch.equal(first[layer], other[layer])
    assert torch.equal(state, torch.get_rng_state())


def test_starts_know_different_things(data, weights):
    trained = fresh(data).model
    vectors = torch.from_numpy(statics(data)["vectors"].astype(np.float32))[5:]
    known = vectors.norm(dim=1) > 0.1

    def likeness(model):
        table = model.embeddings.word_embeddings.weight.detach()
        return F.cosine_similarity(table[5:, :16], vectors)[known]

    assert likeness(starts.static_only(data, SHAPE, 3)).min() > 0.999
    assert likeness(untrained_bert(trained.config, 3)).mean().abs() < 0.2
    layer = "encoder.layer.1.output.dense.weight"
    shipped = starts.pretrained(weights).state_dict()[layer]
    assert torch.equal(shipped, trained.bert.state_dict()[layer].half().float())


def test_starts_have_one_shape_and_no_dropout(data, weights):
    config = AutoConfig.from_pretrained(weights)
    assert starts.shape_of(config) == SHAPE
    assert config.hidden_dropout_prob > 0
    for model in (
        starts.pretrained(weights),
        starts.static_only(data, SHAPE, 0),
        untrained_bert(config, 0),
    ):
        model.train()
        ids = torch.arange(10)[None]
        first, again = (model(input_ids=ids).last_hidden_state for _ in range(2))
        assert torch.equal(first, again)


def test_training_and_encoding_see_the_same_vectors(start):
    encoder = start()
    texts = [" ".join(NOUNS[: 1 + i % 7]) for i in range(40)]
    ids = encoder.tokenizer(texts)["input_ids"]
    with torch.no_grad():
        found = transfer._forward(encoder, ids)
    np.testing.assert_allclose(found, encoder.encode(texts), atol=2e-6)


def error(encoder):
    cosines = pairwise_cosine(encoder.encode(PAIRS.first), encoder.encode(PAIRS.second))
    return np.mean((cosines - SCORES / 5) ** 2)


def test_similarity_is_learned(start):
    assert error(transfer.finetuned_for_similarity(start(), 0)) < error(start()) / 2


def test_retrieval_is_learned(start):
    before, after = start(), transfer.finetuned_for_retrieval(start(), 0)
    quality = [transfer._retrieval(encoder).mean() for encoder in (before, after)]
    assert quality[0] < 0.5 < 0.9 < quality[1]


def test_training_is_seeded(start):
    state = torch.get_rng_state()
    first, again, other = (
        transfer.finetuned_for_similarity(start(), seed).encode(PAIRS.first)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert torch.equal(state, torch.get_rng_state())


def test_long_texts_are_cut(start, monkeypatch):
    long = ScoredPairs((sentence(1) * 30,) * 8, PAIRS.second[:8], PAIRS.score[:8])
    monkeypatch.setattr(transfer, "stsb", lambda split: long)
    trained = transfer.finetuned_for_similarity(start(), 0)
    assert np.isfinite(trained.encode(long.first)).all()


SIMILARITIES = (STSB, LADDER, UNSHARED, AFTER, AFTER_UNSHARED)


def never():
    raise AssertionError("trained again")


def test_predictions_are_kept(start, tmp_path):
    for measure, shapes in (
        (transfer.measure_similarity, {"stsb": (40,), "ladder": (40,)}),
        (transfer.measure_ladder, {"ladder_folds": (40,)}),
        (transfer.measure_retrieval, {"icd10cm": (12,)}),
    ):
        out = tmp_path / "deep" / measure.__name__
        found = measure(start, 0, out)
        assert {name: values.shape for name, values in found.items()} == shapes
        for name, values in measure(never, 0, out).items():
            np.testing.assert_array_equal(values, found[name])


def test_similarities_are_cosines_of_the_trained_encoder(start, tmp_path):
    found = transfer.measure_similarity(start, 3, tmp_path / "similarity")
    encoder = transfer.finetuned_for_similarity(start(), 3)
    for row in (0, 17):
        u, v = encoder.encode([PAIRS.first[row], PAIRS.second[row]]).astype(float)
        cosine = u @ v / np.sqrt((u @ u) * (v @ v))
        assert found["stsb"][row] == pytest.approx(cosine, abs=1e-6)


def test_each_anchor_is_judged_by_a_model_that_did_not_see_it(
    start, tmp_path, monkeypatch
):
    seen, judged = [], []

    def finetune(encoder, columns, *_):
        seen.append(set(columns[0]))
        return encoder

    def cosines(_, first, second):
        judged.append((set(first), len(second)))
        return np.zeros(len(first))

    monkeypatch.setattr(transfer, "_finetune", finetune)
    monkeypatch.setattr(transfer, "_cosines", cosines)
    transfer.measure_ladder(start, 0, tmp_path / "ladder")
    assert len(seen) == transfer.FOLDS
    assert sum(count for _, count in judged) == 40
    everything = {rung.anchor for rung in RUNGS}
    for trained, (held, _) in zip(seen, judged, strict=True):
        assert not trained & held
        assert trained | held == everything


def made_up(seed, quality):
    """Return predictions of a start that is right to this degree."""
    rng = np.random.default_rng(seed)
    return {
        "stsb": quality * SCORES + rng.normal(size=40),
        "ladder": quality * SCORES + rng.normal(size=40),
        "ladder_folds": quality * SCORES + rng.normal(size=40),
        "icd10cm": np.clip(quality + 0.1 * rng.normal(size=12), 0, 1),
    }


def test_a_better_start_is_better_in_every_measure():
    good, bad = ([made_up(seed, q) for seed in range(3)] for q in (0.9, 0.1))
    found = advantage.compare(good, bad)
    assert set(found) == {*SIMILARITIES, TERMS}
    assert all(interval.low > 0 for interval in found.values())
    turned = advantage.compare(bad, good)
    assert all(interval.high < 0 for interval in turned.values())
    for name, interval in advantage.compare(good).items():
        difference = interval.mean - advantage.compare(bad)[name].mean
        assert found[name].mean == pytest.approx(difference)


def test_a_start_has_no_advantage_over_itself():
    runs = [made_up(seed, 0.5) for seed in range(2)]
    for interval in advantage.compare(runs, runs).values():
        assert (interval.mean, interval.low, interval.high) == (0, 0, 0)


def test_unshared_pairs_are_those_without_a_common_word():
    shared = [set(r.anchor.split()) & set(r.partner.split()) for r in RUNGS]
    bare = np.array([words <= {"the", "The"} for words in shared])
    run = made_up(0, 0.9)
    for key, whole, part in (
        ("ladder", AFTER, AFTER_UNSHARED),
        ("ladder_folds", LADDER, UNSHARED),
    ):
        run[key][bare] = -SCORES[bare]
        found = advantage.compare([run])
        assert 5 < bare.sum() == found[part].n < found[whole].n == 40
        assert found[part].mean == pytest.approx(-1)


def test_what_was_not_measured_is_not_compared():
    runs = [made_up(0, 0.5)]
    del runs[0]["icd10cm"]
    assert set(advantage.compare(runs)) == set(SIMILARITIES)
    assert set(advantage.compare([{"icd10cm": made_up(0, 0.5)["icd10cm"]}])) == {TERMS}


def test_starts_are_trained_once_and_written_into_the_card(
    data, weights, tmp_path, monkeypatch
):
    monkeypatch.setattr(transfer, "RETRIEVAL", transfer.Recipe(6, 1, 3e-3))
    out, curve = tmp_path / "out", {1.5: weights}
    record = advantage.run(weights, curve, data, out, seeds=2)
    assert len(list(out.iterdir())) == 3 * 2 * 3 + 2
    monkeypatch.setattr(transfer, "_finetune", never)
    assert advantage.run(weights, curve, data, out, seeds=2) == record
    assert set(record["starts"]) == {advantage.SHIPPED, STATIC, RANDOM}
    assert record["tokens"] == 2.5
    # The curve's one point is the shipped weights, so its advantage is theirs.
    (point,) = record["curve"]
    for other in (STATIC, RANDOM):
        for name in (STSB, AFTER, AFTER_UNSHARED):
            assert point[other][name] == record["advantage"][other][name]
    advantage.write_card(record, weights)
    assert json.loads((weights / advantage.RECORD).read_text()) == record


def record_of(mean):
    interval = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 40}
    measures = dict.fromkeys((*SIMILARITIES, TERMS), interval)
    starts_of = dict.fromkeys((advantage.SHIPPED, STATIC, RANDOM), measures)
    over = {STATIC: measures, RANDOM: measures}
    return {
        "seeds": 3,
        "starts": starts_of,
        "advantage": over,
        "tokens": 30.0,
        "curve": [{"tokens": 1.0, **over}],
    }


def test_card_is_replaced_not_repeated(tmp_path):
    card = tmp_path / "README.md"
    card.write_text("# Ours\n\nA model.\n\n## Corpus\n\n| a | b |\n", encoding="utf-8")
    advantage.write_card(record_of(0.25), tmp_path)
    once = card.read_text(encoding="utf-8")
    assert once.startswith(f"# Ours\n\nA model.\n\n{advantage.SECTION}\n\n")
    assert once.endswith("\n\n## Corpus\n\n| a | b |\n")
    assert f"| {STSB} | 0.250 [0.150, 0.350] |" in once
    assert once.count("| +0.250 [+0.150, +0.350] | +0.250 [+0.150, +0.350] |") == 6
    advantage.write_card(record_of(0.5), tmp_path)
    twice = card.read_text(encoding="utf-8")
    for old, new in (("0.250", "0.500"), ("0.150", "0.400"), ("0.350", "0.600")):
        twice = twice.replace(new, old)
    assert twice == once
    advantage.write_card(record_of(0.25), tmp_path)
    assert card.read_text(encoding="utf-8") == once
    assert (tmp_path / advantage.FIGURE).read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / advantage.RECORD).read_text()) == record_of(0.25)


def test_tokens_are_read_off_the_card(weights):
    assert advantage.tokens_seen(weights) == 2.5
    (weights / "README.md").write_text("# A model\n", encoding="utf-8")
    with pytest.raises(ValueError, match="README.md states no tokens seen"):
        advantage.tokens_seen(weights)


def test_command_says_what_is_missing(data, weights, tmp_path, monkeypatch):
    from tools.pretraining.__main__ import main

    def absent(split):
        raise FileNotFoundError("stsb is not on this machine; to get it: do this")

    monkeypatch.setattr(transfer, "stsb", absent)
    folders = ["--weights", str(weights), "--statics", str(data)]
    with pytest.raises(SystemExit, match="to get it: do this"):
        main(["transfer", *folders, "--out", str(tmp_path / "out")])
