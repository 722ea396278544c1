"""A study: one thing changed at a time, all kept, everything compared in pairs."""

from dataclasses import replace

import numpy as np
import pytest
from adapt_cases import RECIPE, general, make_base, own_pairs

from sbert_lab import SentenceEncoder
from sbert_lab.datasets.domains import Domain
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.evaluation.metrics import ndcg_at_k
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.experiments.study import RETRIEVAL, Study
from sbert_lab.index.exact import exact_search
from sbert_lab.models.averaging import average

ONE = replace(RECIPE, epochs=1, keep=0.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("cache")
        patch.setenv("SBERT_LAB_CACHE", str(home))
        yield home


@pytest.fixture(scope="module")
def domain():
    pairs, asked = own_pairs(60), own_pairs(24, seed=5)
    corpus = tuple(dict.fromkeys([*asked.positive, *pairs.positive]))
    names = {text: f"d{i}" for i, text in enumerate(corpus)}
    test = RetrievalTask(
        asked.anchor,
        tuple(names[text] for text in asked.positive),
        tuple(names.values()),
        corpus,
    )
    return Domain("made up", pairs, test, test.relevant)


@pytest.fixture(scope="module")
def study(cache, domain):
    base = make_base(cache / "base")
    return Study(str(base), domain, general(), show_progress=False)


def test_the_base_is_measured_as_by_hand(study, domain):
    encoder = SentenceEncoder.from_pretrained(study.base)
    task = domain.test
    _, rows = exact_search(
        encoder.encode(task.queries), encoder.encode(task.corpus_texts), 10, "cosine"
    )
    found = [[task.corpus_codes[i] for i in row] for row in rows]
    ndcg = ndcg_at_k(found, [{code} for code in task.relevant])
    np.testing.assert_allclose(study.before.items[RETRIEVAL], ndcg)
    assert study.before.ndcg == pytest.approx(ndcg.mean())
    pairs = general()["made up"]
    a, b = encoder.encode(pairs.first), encoder.encode(pairs.second)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(study.before.items["made up"], cosine, atol=1e-6)


def test_a_training_is_paid_for_once(study, cache):
    before = study.new
    first = study.adapted(ONE, 40)
    assert study.new == before + 1
    assert first.seconds > 0
    kept = set((cache / "measured").iterdir())
    again = Study(study.base, study.domain, general(), show_progress=False)
    same = again.adapted(ONE, 40)
    assert again.new == 0
    assert (same.folder, same.seconds) == (first.folder, first.seconds)
    assert all(np.array_equal(same.items[n], first.items[n]) for n in first.items)
    assert set((cache / "measured").iterdir()) == kept


def test_everything_that_decides_makes_another_model(study):
    trials = [
        study.adapted(ONE, 40),
        study.adapted(ONE, 48),
        study.adapted(replace(ONE, seed=1), 40),
        study.adapted(replace(ONE, temperature=0.1), 40),
        study.adapted(replace(ONE, negatives=0), 40),
        study.adapted(ONE, 40, shuffled=True),
    ]
    assert len({trial.folder for trial in trials}) == len(trials)
    cosines = np.stack([trial.items["made up"] for trial in trials])
    gaps = np.abs(cosines[:, None] - cosines[None]).max(2)
    assert (gaps[~np.eye(len(trials), dtype=bool)] > 1e-5).all()


def test_the_average_is_of_the_same_training(study):
    bare = study.adapted(ONE, 40)
    new = study.new
    mixed = study.adapted(replace(ONE, keep=0.25), 40)
    assert study.new == new
    assert study.mixed(bare, 0.0) is bare
    by_hand = average(
        SentenceEncoder.from_pretrained(study.base),
        SentenceEncoder.from_pretrained(bare.folder),
        0.25,
    )
    loaded = SentenceEncoder.from_pretrained(mixed.folder)
    assert loaded.fingerprint() == by_hand.fingerprint()
    expected = study.measured(by_hand)
    assert np.array_equal(mixed.items[RETRIEVAL], expected[RETRIEVAL])
    assert mixed.seconds == bare.seconds


def test_texts_alone(study):
    texts = [*study.domain.pairs.positive]
    trial = study.adapted_to_texts("simcse", texts, batch_size=8, seed=3)
    assert trial.folder != study.adapted_to_texts("simcse", texts, batch_size=8).folder
    assert not np.allclose(trial.items["made up"], study.before.items["made up"])


def test_scores_are_paired_by_query_and_seed(study, domain):
    rng = np.random.default_rng(0)
    size = len(domain.test.queries)

    def made(items):
        return replace(study.before, items={RETRIEVAL: items})

    ours, theirs = rng.uniform(size=(2, 3, size))
    trials, others = [made(x) for x in ours], [made(x) for x in theirs]
    groups = domain.group
    for found, expected in (
        (study.score(trials), ours),
        (study.score(trials, others), ours - theirs),
        (study.score(trials, others[:1]), ours - theirs[0]),
    ):
        assert found == bootstrap_mean(expected, groups=groups)
    with pytest.raises(ValueError, match="3 seeds against 2"):
        study.score(trials, others[:2])


def test_general_similarity_against_itself_has_not_changed(study):
    gap = study.general("made up", [study.before] * 2, [study.before])
    assert (gap.mean, gap.low, gap.high) == (0, 0, 0)
    alone = study.general("made up", [study.before])
    assert alone.low <= alone.mean <= alone.high
