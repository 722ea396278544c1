"""The pre-training tool from packages to a folder, and the shipped weights."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import EvalPrediction

from sbert_lab import SentenceEncoder
from sbert_lab._utils import project_root, sha256_file
from tools.pretraining import corpus
from tools.pretraining.__main__ import main
from tools.pretraining.prepare import SEP, prepare
from tools.pretraining.train import OBJECTIVES, make_model, train

NOUNS = "river stone garden winter letter window horse kitchen".split()
VERBS = "holds covers follows reaches leaves crosses".split()


def sentence(random):
    a, b = random.choice(NOUNS, 2)
    return f"The old {a} {random.choice(VERBS)} the quiet {b} near the {b} door."


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Prepare two sources of made-up pages; the corpus folder is beside it."""
    root = tmp_path_factory.mktemp("pretraining")
    random = np.random.default_rng(0)
    for package in ("alpha-doc", "beta-doc"):
        folder = root / "packages" / package
        folder.mkdir(parents=True)
        (folder / "VERSION").write_text("1.2-3\n")
        for page in range(150):
            parts = (f"{sentence(random)} {sentence(random)}" for _ in range(3))
            (folder / f"page{page:03d}.txt").write_text("\n\n".join(parts))
    sources = {
        "alpha": corpus.Source("alpha-doc", "text", ("*.txt",), "made up"),
        "beta": corpus.Source("beta-doc", "text", ("*.txt",), "made up", weight=0.5),
        "absent": corpus.Source("absent", "html", ("*",), "made up"),
    }
    corpus.build_corpus(root / "packages", root / "corpus", sources)
    prepare(root / "corpus", root / "data", 200, 16)
    return root / "data"


def small(data, kind=OBJECTIVES["mlm"][0]):
    statics = load_file(data / "static_vectors.safetensors")
    return make_model(statics, 0, layers=1, hidden=32, heads=2, positions=32, kind=kind)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_whole_chain(data, tmp_path, objective):
    """Train, be cut off, go on, export: it learns, and transformers loads it."""
    kind = OBJECTIVES[objective][0]
    options = {"objective": objective, "model": small(data, kind)}
    options |= {"rows": 8, "length": 16, "learning_rate": 5e-3, "save_steps": 20}
    options |= {"warmup_steps": 4, "cooldown_steps": 10}
    run = tmp_path / "run"
    first = train(data, run, max_tokens=20 * 128, **options)
    trainer = train(data, run, max_tokens=80 * 128, **options)
    losses = [e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e]
    assert trainer.state.log_history[0] == first.state.log_history[0]
    assert losses[-1] < losses[0]
    labels = (np.array([[5, 6, -100], [7, -100, -100]]), np.array([0, 1]))
    guesses = (np.array([[5, 6, 6], [6, 6, 6]]), np.array([0, 0]))
    found = trainer.compute_metrics(EvalPrediction(guesses, labels))
    assert found == {"masked_accuracy": 2 / 3, "nsp_accuracy": 0.5}
    arguments = ["--data", str(data), "--run", str(run), "--out", str(tmp_path / "m")]
    assert main(["export", *arguments]) == 0
    loaded = kind.from_pretrained(tmp_path / "m", dtype=torch.float32)
    assert loaded.config.hidden_dropout_prob == 0.1
    for name, parameter in trainer.model.named_parameters():
        found = dict(loaded.named_parameters())[name]
        assert torch.equal(found, parameter.detach().half().float())
    card = (tmp_path / "m" / "README.md").read_text()
    assert "| alpha | alpha-doc | 1.2-3 | made up |" in card
    assert f"held-out loss: {losses[-1]:.3f}" in card
    assert ("held-out nsp accuracy" in card) == (objective == "mlm+nsp")
    still = {"max_tokens": 1, "length": 16, "learning_rate": 0.0}
    on = train(data, tmp_path / "on", tmp_path / "m", objective="mlm+nsp", **still)
    first, second = on.model.bert.embeddings.token_type_embeddings.weight
    assert torch.equal(first, second) == (objective == "mlm")  # B reads as A at first
    (tmp_path / "m" / "vocab.txt").write_text("other\n")
    with pytest.raises(ValueError, match="different vocabularies"):
        train(data, tmp_path / "other", tmp_path / "m")


def test_prepared_text_is_split_by_document(data):
    streams = load_file(data / "train.safetensors")
    unseen = load_file(data / "heldout.safetensors")

    def documents(stream):
        parts = np.split(stream, np.flatnonzero(stream == SEP) + 1)
        return {tuple(part.tolist()) for part in parts if len(part)}

    for name in ("alpha", "beta"):
        assert documents(streams[name]).isdisjoint(documents(unseen[name]))
    # What was held out of finished weights must stay held out.
    held = [i for i in range(400) if corpus.is_held_out("wordnet", f"doc{i}")]
    assert held == [107, 246, 397]


FOLDER = project_root() / "data" / "models" / "bert-mini"
SHA256 = "45f667e831dcedc468b3da1d1033e1b2e78a75b749751855c3e93e2758ea21ad"


def test_the_weights_are_those_that_the_card_speaks_of():
    assert sha256_file(FOLDER / "model.safetensors") == SHA256
    encoder = SentenceEncoder.from_pretrained(FOLDER, device="cpu")
    assert encoder.encode(["a cat sat on the mat"]).shape == (1, 256)
    assert "version 0.1.0" in (FOLDER / "README.md").read_text("utf-8")
