"""Training on margins: which ones, of which texts, and what is learnt of a judge."""

import numpy as np
import pytest
from conftest import tiny_encoder
from unlabelled_cases import by_words, domain, encoder, same, weights

from sbert_lab.adaptation.generators import CropGenerator
from sbert_lab.adaptation.margins import gpl, margin_scale, train_on_margins
from sbert_lab.adaptation.pseudo_labels import (
    SimilarityJudge,
    pseudo_labels,
    similarity_judge,
)
from sbert_lab.datasets.pairs import DataError
from sbert_lab.losses import MarginMSELoss
from sbert_lab.training import (
    SentenceTrainer,
    SentenceTrainingArguments,
    TrainingData,
    set_dropout,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def gaps(model, columns):
    q, p, n = (
        model.encode(columns[role]).astype(np.float64)
        for role in ("anchor", "positive", "negative")
    )
    return np.array([a @ b - a @ c for a, b, c in zip(q, p, n, strict=True)])


def labelled(seed=0):
    """Return rows whose margins are twelve times those of another encoder."""
    found = pseudo_labels(
        encoder(), domain(seed=seed), CropGenerator(), similarity_judge(encoder(5))
    ).columns()
    return found | {"label": [12 * margin for margin in found["label"]]}


def test_the_scale_of_unit_vectors_by_hand():
    columns, model = labelled(), encoder()
    own, wanted = gaps(model, columns), np.array(columns["label"])
    scale = margin_scale(model, columns)
    assert scale == pytest.approx(((own**2).sum() / (wanted**2).sum()) ** 0.5)
    assert margin_scale(tiny_encoder(max_seq_length=24), columns) == 1
    still = columns | {"label": [0.0] * len(wanted)}
    with pytest.raises(ValueError, match="the judge scores every positive like its"):
        margin_scale(model, still)
    alike = columns | {"negative": columns["positive"]}
    with pytest.raises(ValueError, match="the encoder scores every positive"):
        margin_scale(model, alike)


@pytest.mark.parametrize("scale", [None, 0.05])
def test_it_is_the_trainer_with_scaled_margins(scale, tmp_path):
    columns, one, other = labelled(), encoder(), encoder()
    found = train_on_margins(
        one, columns, scale=scale, batch_size=8, rate=1e-3, seed=2, epochs=2
    )
    factor = margin_scale(other, columns) if scale is None else scale
    label = [factor * margin for margin in columns["label"]]
    args = SentenceTrainingArguments(
        str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        warmup_steps=0.1,
        seed=2,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
    )
    data = TrainingData(columns | {"label": label})
    SentenceTrainer(other, args, data, MarginMSELoss()).train()
    assert same(weights(one), weights(other))
    assert found.output.global_step == 2 * -(-len(label) // 8)


def test_texts_are_trained_on_as_they_are_read_in_use():
    """An encoder with prompts is the one without them, on texts that have them."""
    marks = {"query": "query : ", "passage": "passage : "}
    columns, one, other = labelled(), encoder(prompts=marks), encoder()
    written = {
        role: [("query : " if role == "anchor" else "passage : ") + t for t in column]
        for role, column in columns.items()
        if role != "label"
    }
    written["label"] = columns["label"]
    assert margin_scale(one, columns) == margin_scale(other, written)
    for model, rows in ((one, columns), (other, written)):
        train_on_margins(model, rows, batch_size=8, rate=1e-3)
    assert same(weights(one), weights(other))
    hidden = encoder(prompts=marks, include_prompt=False)
    with pytest.raises(ValueError, match="load it with include_prompt"):
        train_on_margins(hidden, columns)


def test_it_learns_what_the_judge_knows():
    """Margins of texts it has not seen come nearer to the teacher's."""
    model, held_out = encoder(), labelled(seed=11)
    found = {}
    for moment in ("before", "after"):
        if moment == "after":
            train_on_margins(model, labelled(), epochs=10, batch_size=8, rate=3e-3)
        found[moment] = np.corrcoef(gaps(model, held_out), held_out["label"])[0, 1]
    assert found["after"] > found["before"] + 0.2


def test_what_is_done_is_recorded():
    labels = pseudo_labels(
        encoder(), domain(), CropGenerator(), by_words, per_text=2, seed=3
    )
    one, other = encoder(), encoder()
    found = gpl(one, domain(), judge=by_words, per_text=2, seed=3, rate=1e-3)
    train_on_margins(other, labels, seed=3, rate=1e-3)
    assert same(weights(one), weights(other))
    assert found.recipe == {
        "epochs": 1,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "seed": 3,
        "bf16": False,
        "per_text": 2,
        "negatives": 1,
        "rank": [0, 50],
        "scale": margin_scale(encoder(), labels.columns()),
        "generator": f"CropGenerator {CropGenerator().fingerprint()}",
        "judge": "function",
    }
    assert found.mined == labels.mined
    assert found.counts == labels.counts
    assert found.rows == len(labels)


def test_an_encoder_that_judges_itself_learns_next_to_nothing(caplog):
    """What `SimilarityJudge` says: the loss begins at 0, only noise moves weights."""
    model = encoder()
    set_dropout(model, 0)
    before = weights(model)
    found = gpl(
        model,
        domain(),
        judge=SimilarityJudge(model),
        batch_size=8,
        optim="sgd",
        rate=0.1,
        logging_steps=1,
    )
    assert "the judge is the encoder itself" in caplog.text
    assert found.recipe["scale"] == pytest.approx(1, abs=1e-5)
    assert max(loss for _, loss in found.curve) < 1e-10
    after = weights(model)
    assert max(float((after[n] - before[n]).abs().max()) for n in before) < 1e-6
    caplog.clear()
    pseudo_labels(encoder(), domain(), CropGenerator(), similarity_judge(encoder(3)))
    assert "itself" not in caplog.text


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="need a judge: judge=CrossEncoder"):
        gpl(encoder(), domain())
    with pytest.raises(DataError, match="'cat', is one word and cannot be cropped"):
        gpl(encoder(), ["a dog", "cat"], judge=by_words)
    for name in ("per_text", "negatives"):
        with pytest.raises(ValueError, match=f"{name}=0: one or more"):
            gpl(encoder(), domain(), judge=by_words, **{name: 0})
    with pytest.raises(ValueError, match="scale=0"):
        train_on_margins(encoder(), labelled(), scale=0)
    with pytest.raises(DataError, match="needs a column 'label'"):
        columns = {role: ["a", "b"] for role in ("anchor", "positive", "negative")}
        train_on_margins(encoder(), columns)
