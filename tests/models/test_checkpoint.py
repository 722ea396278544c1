"""The folder format: both spellings, both directions, and every kind of damage."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import tiny_encoder, tiny_parts

from sbert_lab import SentenceEncoder
from sbert_lab.models.checkpoint import CheckpointError, DenseSpec, read, validate

TEXTS = ["the cat sat on the mat", "a quick brown fox", "", "dog", "red bird flew " * 9]
GELU = "torch.nn.modules.activation.GELU"


def dense_spec(seed: int = 1) -> DenseSpec:
    generator = torch.Generator().manual_seed(seed)
    weights = {
        "linear.weight": torch.randn(6, 32, generator=generator),
        "linear.bias": torch.randn(6, generator=generator),
    }
    return DenseSpec(32, 6, GELU, weights)


LAYOUTS = {
    "mean": {},
    "normalize": {"head": ("normalize",), "max_seq_length": 20},
    "cls+max": {"pooling": ("cls", "max")},
    "dense": {"pooling": ("cls", "mean"), "head": (dense_spec(), "normalize")},
    "weighted, lower case": {"pooling": ("weightedmean",), "do_lower_case": True},
    "prompts": {"prompts": {"query": "query : "}, "default_prompt": "query"},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_sentence_transformers_loads_what_we_write(tmp_path, name):
    from sentence_transformers import SentenceTransformer

    ours = tiny_encoder(**LAYOUTS[name])
    ours.save(tmp_path / "model")
    theirs = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=1e-5)
    again = SentenceEncoder.from_pretrained(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(ours.encode(TEXTS), again.encode(TEXTS))
    assert again.fingerprint() == ours.fingerprint()


@pytest.mark.parametrize("name", LAYOUTS)
def test_we_load_what_sentence_transformers_writes(tmp_path, name):
    from sentence_transformers import SentenceTransformer

    tiny_encoder(**LAYOUTS[name]).save(tmp_path / "ours")
    theirs = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    theirs.save(str(tmp_path / "theirs"))
    types = json.loads((tmp_path / "theirs" / "modules.json").read_text())
    assert ".base." in types[0]["type"], "the installed release writes the new spelling"
    assert validate(tmp_path / "theirs") == []
    ours = SentenceEncoder.from_pretrained(tmp_path / "theirs", device="cpu")
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=1e-5)


def test_writes_the_legacy_spelling(tmp_path):
    tiny_encoder(head=("normalize",), max_seq_length=20).save(tmp_path / "m")
    modules = json.loads((tmp_path / "m" / "modules.json").read_text())
    assert [m["type"] for m in modules] == [
        f"sentence_transformers.models.{kind}"
        for kind in ("Transformer", "Pooling", "Normalize")
    ]
    pooling = json.loads((tmp_path / "m" / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 16
    assert pooling["pooling_mode_mean_tokens"] is True
    length = json.loads((tmp_path / "m" / "sentence_bert_config.json").read_text())
    assert length == {"max_seq_length": 20, "do_lower_case": False}
    tokenizer = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    assert tokenizer["model_max_length"] == 20


def test_half_precision_loads_as_float32(tmp_path):
    encoder = tiny_encoder()
    encoder.transformer.half()
    encoder.save(tmp_path / "half")
    again = SentenceEncoder.from_pretrained(tmp_path / "half", device="cpu")
    assert {p.dtype for p in again.parameters()} == {torch.float32}


def test_plain_transformers_folder_is_mean_pooling(tmp_path, caplog):
    model, tokenizer = tiny_parts()
    model.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    plain = SentenceEncoder.from_pretrained(tmp_path / "bert", device="cpu")
    assert "mean pooling" in caplog.text
    np.testing.assert_array_equal(plain.encode(TEXTS), tiny_encoder().encode(TEXTS))


def test_masked_language_model_gives_an_encoder_without_random_pooler(tmp_path):
    from transformers import BertForMaskedLM

    model, tokenizer = tiny_parts()
    BertForMaskedLM(model.config).save_pretrained(tmp_path / "mlm")
    tokenizer.save_pretrained(tmp_path / "mlm")
    first = SentenceEncoder.from_pretrained(tmp_path / "mlm", device="cpu")
    second = SentenceEncoder.from_pretrained(tmp_path / "mlm", device="cpu")
    assert first.fingerprint() == second.fingerprint()


def cut(path, keep=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def other_weights(folder):
    other, _ = tiny_parts(seed=5, hidden=8)
    other.save_pretrained(folder / "other")
    shutil.move(folder / "other" / "model.safetensors", folder / "model.safetensors")
    shutil.rmtree(folder / "other")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = {
    "weights cut short": (lambda f: cut(f / "model.safetensors"), "copy it again"),
    "weights header cut": (lambda f: cut(f / "model.safetensors", 0.001), "cut short"),
    "one bit flipped": (lambda f: flip(f / "model.safetensors"), "sha256 differs"),
    "weights swapped": (other_weights, "swapped"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "copy"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "config not JSON": (lambda f: cut(f / "config.json"), "not valid JSON"),
    "modules damaged": (lambda f: (f / "modules.json").write_text("[{}]"), "damaged"),
    "no pooling": (lambda f: shutil.rmtree(f / "1_Pooling"), "missing"),
    "unknown pooling": (
        lambda f: edit(f / "1_Pooling" / "config.json", pooling_mode="median"),
        "median",
    ),
    "pooling of another model": (
        lambda f: edit(f / "1_Pooling" / "config.json", word_embedding_dimension=99),
        "mixes two models",
    ),
    "length out of range": (
        lambda f: edit(f / "sentence_bert_config.json", max_seq_length=999),
        "positions|sha256",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "foreign"])
def test_damage_is_explained(tmp_path, name, ours):
    folder = tmp_path / "model"
    tiny_encoder(head=("normalize",), max_seq_length=20).save(folder)
    if not ours:  # a folder from elsewhere carries no checksums
        (folder / "sbert_lab.json").unlink()
        if name == "one bit flipped":
            pytest.skip("without checksums a flipped bit in the weights cannot be seen")
    damage, message = DAMAGE[name]
    damage(folder)
    if not ours:
        message = {"weights swapped": "do not belong"}.get(name, message)
    with pytest.raises(CheckpointError, match=message):
        SentenceEncoder.from_pretrained(folder, device="cpu")


def test_validate_lists_every_problem_at_once(tmp_path):
    folder = tmp_path / "model"
    tiny_encoder().save(folder)
    assert validate(folder) == []
    (folder / "sbert_lab.json").unlink()
    (folder / "tokenizer.json").unlink()
    cut(folder / "model.safetensors")
    problems = " ".join(validate(folder))
    assert "tokenizer" in problems
    assert "model.safetensors" in problems


def test_empty_folder_and_missing_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty"):
        read(tmp_path / "empty")
    assert "not a folder" in validate(tmp_path / "none")[0]


def test_pickled_weights_are_refused(tmp_path):
    folder = tmp_path / "model"
    tiny_encoder().save(folder)
    (folder / "sbert_lab.json").unlink()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        read(folder)


@pytest.mark.parametrize(
    "module",
    ["custom_code.Model", "sentence_transformers.models.CNN", "os.system"],
)
def test_foreign_modules_are_refused(tmp_path, module):
    folder = tmp_path / "model"
    tiny_encoder().save(folder)
    (folder / "sbert_lab.json").unlink()
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_X", "type": module})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match="no code from a model folder"):
        read(folder)


def test_dense_activation_is_not_imported(tmp_path):
    folder = tmp_path / "model"
    tiny_encoder(**LAYOUTS["dense"]).save(folder)
    (folder / "sbert_lab.json").unlink()
    edit(folder / "2_Dense" / "config.json", activation_function="os.system")
    with pytest.raises(CheckpointError, match=r"os\.system"):
        read(folder)


def test_killed_save_leaves_the_previous_folder_whole(tmp_path):
    folder = tmp_path / "model"
    encoder = tiny_encoder()
    encoder.save(folder)
    script = (
        "import os, signal, sys; sys.path.insert(0, 'tests');"
        "from conftest import tiny_encoder; from sbert_lab import checkpoint;"
        "checkpoint.sha256_file = lambda p: os.kill(os.getpid(), signal.SIGKILL);"
        f"tiny_encoder(seed=9).save({str(folder)!r})"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -9
    assert validate(folder) == []
    again = SentenceEncoder.from_pretrained(folder, device="cpu")
    assert again.fingerprint() == encoder.fingerprint()


def test_layout_survives_the_round_trip(tmp_path):
    for name, options in LAYOUTS.items():
        folder = tmp_path / name.replace(" ", "_")
        encoder = tiny_encoder(**options)
        encoder.save(folder)
        expected = dataclasses.replace(
            encoder.layout,
            head=(),
            max_seq_length=encoder.max_seq_length,
            prompts=encoder.prompts,
        )
        assert dataclasses.replace(read(folder), head=()) == expected
