"""A study: one thing changed at a time, all kept, everything compared in pairs."""

from dataclasses import replace

import numpy as np
import pytest
from coded_domain import coded_domain, word_encoder
from tiny_cross_encoder import WORDS

from sbert_lab import SentenceEncoder
from sbert_lab.adaptation.recipe import RECIPES, Recipe
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.experiments import runs
from sbert_lab.experiments.runs import RETRIEVAL, Study
from sbert_lab.models.averaging import average

ONE = Recipe(1, 16, 2e-3, negatives=2, rank=(0, 40), base_weight=0.0)
SCORED = ScoredPairs(tuple(WORDS[:12]), tuple(WORDS[12:24]), tuple(range(12)))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("cache")
        patch.setenv("SBERT_LAB_CACHE", str(home))
        word_encoder().save(home / "base")
        yield str(home / "base")


@pytest.fixture(scope="module")
def study(base):
    return Study(base, coded_domain(), {"made up": SCORED})


def test_a_training_is_paid_for_once(study, base, monkeypatch):
    before = study.new
    first = study.adapted(ONE, 40)
    assert study.new == before + 1
    assert first.seconds > 0
    monkeypatch.setattr(runs.Yardstick, "measure", lambda *_: pytest.fail("anew"))
    again = Study(base, study.domain, {"made up": SCORED})
    same = again.adapted(ONE, 40)
    assert again.new == 0
    assert (same.folder, same.seconds) == (first.folder, first.seconds)
    assert all(np.array_equal(same.items[n], first.items[n]) for n in first.items)


def test_everything_that_decides_makes_another_model(study, monkeypatch):
    trials = [
        study.adapted(ONE, 40),
        study.adapted(ONE, 48),
        study.adapted(replace(ONE, seed=1), 40),
        study.adapted(replace(ONE, warmup=0.5), 40),
        study.adapted(replace(ONE, negatives=0), 40),
        study.adapted(ONE, 40, guarded=False),
        study.adapted(ONE, 40, shuffled=True),
    ]
    assert len({trial.folder for trial in trials}) == len(trials)
    cosines = np.stack([trial.items["made up"] for trial in trials])
    gaps = np.abs(cosines[:, None] - cosines[None]).max(2)
    assert (gaps[~np.eye(len(trials), dtype=bool)] > 1e-5).all()
    monkeypatch.setattr(runs, "TRAINING_VERSION", -1)
    assert study.adapted(ONE, 40).folder != trials[0].folder


def test_the_average_is_of_the_same_training(study, base):
    bare = study.adapted(ONE, 40)
    new = study.new
    mixed = study.adapted(replace(ONE, base_weight=0.25), 40)
    assert study.new == new
    assert study.mixed(bare, 0.0).folder == bare.folder
    parts = (SentenceEncoder.from_pretrained(folder) for folder in (base, bare.folder))
    by_hand = average(*parts, 0.25)
    loaded = SentenceEncoder.from_pretrained(mixed.folder)
    assert loaded.fingerprint() == by_hand.fingerprint()
    assert mixed.seconds == bare.seconds


def test_texts_alone(study, monkeypatch):
    texts = [*study.domain.pairs.positive]
    usual = replace(RECIPES["simcse"], batch_size=8)
    monkeypatch.setitem(runs.RECIPES, "simcse", usual)
    trial = study.adapted_to_texts("simcse", texts)
    assert not np.allclose(trial.items["made up"], study.before.items["made up"])
    monkeypatch.setitem(runs.RECIPES, "simcse", replace(usual, learning_rate=1e-3))
    assert study.adapted_to_texts("simcse", texts).folder != trial.folder


def test_scores_are_those_of_the_yardstick(study):
    rng = np.random.default_rng(0)
    ours, theirs = rng.uniform(size=(2, 3, len(study.domain.group)))
    trials, others = (
        [replace(study.before, items={RETRIEVAL: row}) for row in rows]
        for rows in (ours, theirs)
    )
    expected = bootstrap_mean(ours - theirs, groups=study.domain.group)
    assert study.score(trials, others) == expected
    gap = study.score([study.before] * 2, [study.before], on="made up")
    assert (gap.mean, gap.low, gap.high) == (0, 0, 0)
