"""Trainings, their data, their yardstick, and the store of models."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_encoder
from tiny_raw_bert import make_raw, tiny_profile
from torch import nn

from experiments import runs
from experiments.runs import RETRIEVAL, Yardstick, get_or_train
from sbert_lab import SentenceEncoder
from sbert_lab.datasets import nli
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.nli import LABELS
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.evaluation.tasks import similarity_score
from sbert_lab.losses import SoftmaxLoss

AUTHORED = nli.authored()
FEW = AUTHORED[:48]  # of 16 premises


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tiny_profile(make_raw(tmp_path_factory.mktemp("raw") / "bert"))


@pytest.fixture
def raw(profile):
    return runs.raw_encoder(profile)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def softmax(encoder):
    return SoftmaxLoss(encoder.dimension, len(LABELS))


def columns(data, encoder):
    data.tokenize(encoder)
    return data.__getitems__(range(len(data))).texts


def test_rows_to_train_on(raw):
    data = runs.labelled(FEW)
    assert columns(data, raw) == {
        "first": [pair.premise for pair in FEW],
        "second": [pair.hypothesis for pair in FEW],
    }
    assert [LABELS[int(number)] for number in data.label] == [p.label for p in FEW]


def test_a_raw_encoder_has_its_pooling_and_dropout(profile):
    encoder = runs.raw_encoder(profile.but(dropout=0.25), "max")
    tokens = torch.from_numpy(encoder.token_ids(["a cat sat on the mat"])[0])
    with torch.no_grad():
        hidden = encoder.transformer(tokens[None]).last_hidden_state[0]
    got = encoder.encode("a cat sat on the mat")
    np.testing.assert_allclose(got, hidden.amax(0), atol=1e-5)
    assert {p.p for p in encoder.modules() if isinstance(p, nn.Dropout)} == {0.25}


def scored(group=(), start=0):
    pairs = AUTHORED[start : start + 30]
    score = np.random.default_rng(start).integers(0, 6, 30).astype(float)
    texts = zip(*((pair.premise, pair.hypothesis) for pair in pairs), strict=True)
    return ScoredPairs(*texts, tuple(score), group)


SETS = {"plain": scored(), "grouped": scored(tuple(str(i // 5) for i in range(30)), 60)}
CODES = tuple(f"A{i // 2:02}.{i % 2}" for i in range(40))  # two a category
TEXTS = AUTHORED[:120:3]
TASK = RetrievalTask(
    queries=tuple(pair.hypothesis for pair in TEXTS),
    relevant=CODES,
    corpus_codes=CODES,
    corpus_texts=tuple(pair.premise for pair in TEXTS),
)
YARD = Yardstick(SETS, TASK, tuple(code[:3] for code in CODES))


def unit(rows):
    return rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)


def test_measured_are_cosines_and_gains_by_hand(raw):
    found = YARD.measure(raw)
    assert list(found) == ["plain", "grouped", RETRIEVAL]
    for name, pairs in SETS.items():
        u, v = (unit(raw.encode(texts)) for texts in (pairs.first, pairs.second))
        np.testing.assert_allclose(found[name], (u * v).sum(1), atol=1e-6)
    q, c = (unit(raw.encode(texts)) for texts in (TASK.queries, TASK.corpus_texts))
    place = [1 + sum(row > row[i]) for i, row in enumerate(q @ c.T)]
    assert max(place) > 10 > min(place)
    gains = [1 / np.log2(p + 1) if p <= 10 else 0 for p in place]
    np.testing.assert_allclose(found[RETRIEVAL], gains)


def test_sets_are_scored_by_spearman_and_queries_by_their_mean():
    """Paired by seed and by item; one of the others counts for all seeds."""
    rng = np.random.default_rng(0)
    sizes = {"plain": 30, "grouped": 30, RETRIEVAL: 40}
    each = [{k: rng.uniform(size=n) for k, n in sizes.items()} for _ in range(6)]
    for name in sizes:
        found = YARD.score(name, each[:3], each[3:])
        ours, theirs = np.array([run[name] for run in each]).reshape(2, 3, -1)
        if name == RETRIEVAL:
            expected = bootstrap_mean(ours - theirs, groups=np.arange(40) // 2)
        else:
            expected = similarity_score(SETS[name], ours, baseline=theirs)
            part = similarity_score(SETS[name], ours, baseline=theirs, cells=3)
            assert YARD.score(name, each[:3], each[3:], cells=3) == part != found
        assert found == expected
        one = YARD.score(name, each[:3], each[3:4])
        assert one == YARD.score(name, each[:3], each[3:4] * 3) != found


def test_a_model_is_trained_once_a_recipe(cache):
    made = []

    def make():
        made.append(1)
        return tiny_encoder(seed=len(made))

    first = get_or_train("tiny", {"pairs": 5, "rate": 0.1}, make)
    again = get_or_train("tiny", {"rate": 0.1, "pairs": 5}, make)
    assert first.new
    assert again == replace(first, new=False)
    other = get_or_train("tiny", {"pairs": 6, "rate": 0.1}, make)
    assert (other.new, len(made)) == (True, 2)
    vectors = [
        SentenceEncoder.from_pretrained(one.folder).encode("a cat")
        for one in (first, other)
    ]
    assert not np.allclose(*vectors)


def kept(profile, seed=0, rows=24):
    data = runs.labelled(FEW[:rows])
    return runs.train_and_keep(profile, "softmax", data, softmax, seed=seed)


def test_whatever_a_training_is_told_makes_another_model(profile, cache, monkeypatch):
    found = [kept(profile), kept(profile, seed=1), kept(profile, rows=32)]
    for change in (
        {"batch_size": 4},
        {"ablation_rate": 1e-4},
        {"dropout": 0.1},
        {"raw_model": str(make_raw(cache / "other", seed=1))},
    ):
        found.append(kept(profile.but(**change)))
    monkeypatch.setattr(runs, "TRAINING_VERSION", runs.TRAINING_VERSION + 1)
    found.append(kept(profile))
    assert all(one.new for one in found)
    assert len({one.folder for one in found}) == len(found)
    *made, last = (
        SentenceEncoder.from_pretrained(one.folder).fingerprint() for one in found
    )
    assert len({*made}) == len(made)
    assert last == made[0]
