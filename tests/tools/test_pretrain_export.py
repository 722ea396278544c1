"""The exported folder, and the command line from packages to it."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_pretraining import PLAN, SHAPE, fresh, prepared
from transformers import AutoModelForMaskedLM, AutoTokenizer

from sbert_lab import SentenceEncoder
from tools.pretraining.__main__ import main
from tools.pretraining.checkpoints import State
from tools.pretraining.export import export
from tools.pretraining.vocabulary import CLS, MASK, SEP

MEASURE = {
    "step": 3,
    "tokens": 384,
    "loss": 3.0,
    "accuracy": 0.25,
    "unigram_loss": 4.0,
    "unigram_accuracy": 0.1,
    "masked": 100,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("export"))


def test_exported_folder_loads_in_float32(data, tmp_path):
    model = fresh(data).model
    state = State(step=3, tokens=384, history=(MEASURE,))
    for _ in range(2):  # the second takes the first one's place
        export(model, data, tmp_path, PLAN, state)
    loaded, report = AutoModelForMaskedLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert loaded.config.hidden_dropout_prob == 0.1
    for name, parameter in model.named_parameters():
        found = dict(loaded.named_parameters())[name]
        assert torch.equal(found, parameter.half().float())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("The old RIVER")["input_ids"]
    assert ids[0] == CLS
    assert ids[-1] == SEP
    assert tokenizer.mask_token_id == MASK
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the old river"
    card = (tmp_path / "README.md").read_text()
    assert "| alpha | alpha-doc |" in card
    assert "0.250" in card
    assert {p.name for p in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"


def test_exported_folder_is_a_sentence_encoder(data, tmp_path):
    export(fresh(data).model, data, tmp_path, PLAN, State())
    encoder = SentenceEncoder.from_pretrained(tmp_path, device="cpu")
    assert encoder.encode(["The old river", "a door"]).shape == (2, SHAPE.hidden)


def test_command_line_trains_cools_down_and_exports(data, tmp_path, monkeypatch):
    run, branch, out = tmp_path / "run", tmp_path / "branch", tmp_path / "out"
    monkeypatch.setattr(
        "tools.pretraining.model.Shape",
        lambda positions: replace(SHAPE, positions=positions),
    )
    common = ["--data", str(data), "--device", "cpu"]
    size = ["--rows", "8", "--length", "16"]
    assert (
        main(["train", *common, *size, "--run", str(run), "--max-tokens", "512"]) == 0
    )
    more = ["train", *common, *size, "--run", str(run), "--max-tokens", "1024"]
    assert main(more) == 0
    assert (run / "latest").read_text() == "step-0000008"
    cooldown = ["--run", str(run), "--branch", str(branch), "--tokens", "500"]
    for _ in range(2):
        assert main(["cooldown", *common, *cooldown]) == 0
        assert (branch / "latest").read_text() == "step-0000012"
    snapshots = sorted(p.name for p in (run / "snapshots").iterdir())
    assert snapshots == ["0000.00M", "static_vectors"]
    shipped = ["--data", str(data), "--run", str(branch), "--out", str(out)]
    assert main(["export", *shipped]) == 0
    start = ["--run", str(tmp_path / "next"), "--init", str(out)]
    assert main(["train", *common, *size, *start, "--max-tokens", "128"]) == 0


def test_command_line_builds_and_prepares(data, tmp_path, capsys):
    assert main(["corpus", "--list"]) == 0
    assert "dict-wn" in capsys.readouterr().out.split()
    page = tmp_path / "packages/angband-data/usr/share/angband/help/x.txt"
    page.parent.mkdir(parents=True)
    page.write_text("The old river crosses the quiet garden.\n")
    out = tmp_path / "corpus"
    packages = ["--packages", str(tmp_path / "packages")]
    assert main(["corpus", *packages, "--out", str(out)]) == 0
    (row,) = json.loads((out / "sources.json").read_text())
    assert (row["source"], row["documents"]) == ("angband", 1)
    prepared_again = tmp_path / "data"
    small = ["--vocab-size", "200", "--vector-size", "16", "--window", "3"]
    folders = ["--corpus", str(data.parent / "corpus"), "--data", str(prepared_again)]
    assert main(["prepare", *folders, *small]) == 0
    for path in data.iterdir():
        assert (prepared_again / path.name).read_bytes() == path.read_bytes()


def test_command_line_says_what_is_missing(data, tmp_path):
    with pytest.raises(SystemExit, match="--packages and --out"):
        main(["corpus"])
    nothing = ["--data", str(data), "--run", str(tmp_path), "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="no checkpoint yet"):
        main(["export", *nothing])
