"""The models of two stages: what they learn from, and that they are kept."""

from dataclasses import replace

import numpy as np
import pytest
from coded_domain import coded_domain
from conftest import random_bert
from tiny_cross_encoder import WORDS, pair_tokenizer, tiny_cross_encoder

from sbert_lab import SentenceEncoder
from sbert_lab.datasets.domains import kept_aside
from sbert_lab.datasets.icd10cm import by_code
from sbert_lab.experiments.reranking_study import (
    DistillationRecipe,
    RerankerRecipe,
    distilled,
    margins,
    reranker,
    rows_for,
)
from sbert_lab.losses.pair_scores import OBJECTIVES
from sbert_lab.models.checkpoint import Layout
from sbert_lab.models.cross_encoder import CrossEncoder
from sbert_lab.training.data import TrainingData
from sbert_lab.training.hard_negatives import mine
from sbert_lab.training.trainer import fit, has_fast_bfloat16

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = RerankerRecipe(negatives=3, rank=(0, 20), epochs=1, batch=8, rate=3e-3)

#: Pairs to score.
ASKED = WORDS[:20], WORDS[20:40]


@pytest.fixture(scope="module")
def domain():
    return coded_domain()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SBERT_LAB_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def encoder(home):
    tokenizer = pair_tokenizer()
    layout = Layout(dimension=16, head=("normalize",))
    SentenceEncoder(random_bert(len(tokenizer), 16), tokenizer, layout).save(
        home / "base"
    )
    return str(home / "base")


# -- data -----------------------------------------------------------------------------


def test_what_was_mined_becomes_rows(domain, encoder):
    mined = mine(
        SentenceEncoder.from_pretrained(encoder),
        domain.pairs.anchor,
        domain.pairs.positive,
        per_anchor=2,
    )
    listed = rows_for(mined, "listwise")
    assert listed.roles == ("anchor", "positive", "negative")
    assert listed.fingerprint() == TrainingData(mined.columns()).fingerprint()
    right = dict.fromkeys(zip(domain.pairs.anchor, domain.pairs.positive, strict=True))
    wrong = mined.triplets()
    expected = {
        "anchor": [*(a for a, _ in right), *wrong["anchor"]],
        "text": [*(b for _, b in right), *wrong["negative"]],
        "label": [1.0] * len(right) + [0.0] * len(wrong["negative"]),
    }
    binary = rows_for(mined, "binary")
    assert binary.fingerprint() == TrainingData(expected).fingerprint()
    assert sum(binary.label) == len(right)
    with pytest.raises(ValueError, match="'listwise' or 'binary'"):
        rows_for(mined, "margin")


def test_margins_are_differences_of_scores(domain, encoder):
    mined = mine(
        SentenceEncoder.from_pretrained(encoder),
        domain.pairs.anchor,
        domain.pairs.positive,
        per_anchor=2,
    )
    judge = tiny_cross_encoder()
    rows = margins(mined, judge)
    own, other = (
        judge.predict(rows["anchor"], rows[role], activation=None)
        for role in ("positive", "negative")
    )
    np.testing.assert_allclose(rows["label"], own - other, atol=1e-5)
    assert np.abs(rows["label"]).max() > 1


# -- models ---------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["listwise", "binary"])
def test_a_reranker_is_the_trainer_on_what_was_mined(domain, encoder, objective):
    recipe = replace(RECIPE, objective=objective, seed=4)
    taught = reranker(encoder, domain, recipe, count=24, show_progress=False)
    pairs, guard = domain.some(24, 4)
    mined = mine(
        SentenceEncoder.from_pretrained(encoder),
        pairs.anchor,
        pairs.positive,
        corpus=domain.candidates,
        per_anchor=3,
        rank=(0, 20),
        guard=guard,
        sampling="random",
        seed=4,
    )
    by_hand = CrossEncoder.from_pretrained(encoder, head_seed=4)
    before = by_hand.predict(*ASKED, activation=None)
    fit(
        by_hand,
        rows_for(mined, objective),
        OBJECTIVES[objective](),
        epochs=1,
        batch_size=8,
        learning_rate=3e-3,
        seed=4,
        bf16=has_fast_bfloat16(),
    )
    judge = CrossEncoder.from_pretrained(taught.folder)
    scores = judge.predict(*ASKED, activation=None)
    np.testing.assert_allclose(
        scores, by_hand.predict(*ASKED, activation=None), atol=1e-5
    )
    assert np.abs(scores - before).max() > 1e-4  # ten times what may differ above


def test_a_reranker_is_kept(domain, encoder):
    recipe = replace(RECIPE, seed=5)
    taught, again = (
        reranker(encoder, domain, recipe, count=16, show_progress=False)
        for _ in range(2)
    )
    assert taught.new
    assert taught.seconds > 0
    assert again == replace(taught, new=False)


def test_another_recipe_is_another_model(domain, encoder):
    short = replace(RECIPE, seed=2)
    folders = [
        reranker(encoder, *given, count=count, show_progress=False).folder
        for given, count in (
            ((domain, short), 16),
            ((domain, replace(short, rate=1e-3)), 16),
            ((domain, short), 8),
            ((kept_aside(domain), short), 16),
        )
    ]
    assert len(set(folders)) == 4
    relaxed = replace(domain, codes=None)  # no guard: other negatives
    assert reranker(encoder, relaxed, short, count=16).folder not in folders


def test_negatives_of_a_reranker_are_no_relatives(domain, encoder, monkeypatch):
    from sbert_lab.experiments import reranking_study

    seen = []

    def watched(mined, objective):
        seen.append(mined)
        return rows_for(mined, objective)

    monkeypatch.setattr(reranking_study, "rows_for", watched)
    reranker(encoder, domain, replace(RECIPE, seed=9), show_progress=False)
    (mined,) = seen
    pairs = zip(mined.positives, mined.negatives.tolist(), strict=True)
    code = dict(zip(domain.candidates, domain.candidate_codes, strict=True))
    checked = 0
    for positive, rows in pairs:
        for row in (row for row in rows if row >= 0):
            line = {positive: [], mined.corpus[row]: []}
            for text in line:
                at = by_code()[code[text]]
                while at.kind != "block":
                    line[text].append(at.code)
                    at = by_code()[at.parent]
            one, other = line.values()
            assert one[0] not in other
            assert other[0] not in one
            checked += 1
    assert checked > len(domain.pairs)


def test_a_student_comes_nearer_to_its_judge(domain, encoder):
    judge = tiny_cross_encoder()
    recipe = DistillationRecipe(negatives=3, rank=(0, 20), epochs=8, rate=3e-3)
    taught = distilled(encoder, judge, domain, recipe, show_progress=False)
    assert taught.new
    assert not distilled(encoder, judge, domain, recipe, show_progress=False).new
    other = tiny_cross_encoder(seed=1)
    short = replace(recipe, epochs=1)
    folders = {distilled(encoder, one, domain, short).folder for one in (judge, other)}
    assert len({taught.folder, *folders}) == 3

    before, after = map(SentenceEncoder.from_pretrained, (encoder, taught.folder))
    mined = mine(
        before,
        domain.pairs.anchor,
        domain.pairs.positive,
        per_anchor=3,
        rank=(0, 20),
        sampling="random",
    )
    rows = margins(mined, judge)
    agreement = []
    for model in (before, after):
        a, p, n = (model.encode(rows[r]) for r in ("anchor", "positive", "negative"))
        gap = (a * p).sum(1) - (a * n).sum(1)
        agreement.append(np.corrcoef(gap, rows["label"])[0, 1])
    assert agreement[1] > agreement[0] + 0.2
