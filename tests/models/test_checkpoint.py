"""The folder format: both spellings, both directions, and every kind of damage."""

import json
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from conftest import tiny_encoder, tiny_parts

from sbert_lab import SentenceEncoder, _utils
from sbert_lab.models.checkpoint import CheckpointError, Dense, read

TEXTS = ["the cat sat on the mat", "a quick brown fox", "", "dog", "red bird flew " * 9]


def dense() -> Dense:
    generator = torch.Generator().manual_seed(1)
    weights = {
        "linear.weight": torch.randn(6, 32, generator=generator),
        "linear.bias": torch.randn(6, generator=generator),
    }
    return Dense(weights, "gelu")


LAYOUTS = {
    "mean": {"truncate_dim": 4},
    "normalize": {"head": ("normalize",), "max_seq_length": 20},
    "dense": {"pooling": ("cls", "mean"), "head": (dense(), "normalize")},
    "prompts": {
        "pooling": ("weightedmean",),
        "prompts": {"query": "query : "},
        "default_prompt": "query",
    },
}


def load(folder):
    return SentenceEncoder.from_pretrained(folder, device="cpu", allow_hub=False)


@pytest.mark.parametrize("name", LAYOUTS)
def test_folders_go_both_ways_in_both_spellings(tmp_path, name):
    """We write the older spelling, the installed sentence-transformers the new."""
    from sentence_transformers import SentenceTransformer

    ours = tiny_encoder(**LAYOUTS[name])
    ours.save(tmp_path / "ours")
    wanted = ours.encode(TEXTS)
    again = load(tmp_path / "ours")
    np.testing.assert_array_equal(again.encode(TEXTS), wanted)
    assert again.fingerprint() == ours.fingerprint()
    assert again.prompts == ours.prompts
    theirs = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    np.testing.assert_allclose(theirs.encode(TEXTS), wanted, atol=1e-5)
    theirs.save(str(tmp_path / "theirs"))
    types = json.loads((tmp_path / "theirs" / "modules.json").read_text())
    assert ".base." in types[0]["type"]
    back = load(tmp_path / "theirs").encode(TEXTS)
    np.testing.assert_allclose(back, wanted, atol=1e-5)


def test_writes_the_older_spelling(tmp_path):
    tiny_encoder(max_seq_length=20).save(tmp_path / "m")
    modules = json.loads((tmp_path / "m" / "modules.json").read_text())
    assert modules[1]["type"] == "sentence_transformers.models.Pooling"
    pooling = json.loads((tmp_path / "m" / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 16
    assert pooling["pooling_mode_mean_tokens"] is True


def test_half_precision_loads_as_float32(tmp_path):
    encoder = tiny_encoder()
    encoder.transformer.half()
    encoder.save(tmp_path / "half")
    assert {p.dtype for p in load(tmp_path / "half").parameters()} == {torch.float32}


def test_lower_case_asked_for_by_the_folder(tmp_path):
    """Of a tokenizer that tells cases apart."""
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "m"
    tiny_encoder().save(folder)
    (folder / "sbert_lab.json").unlink()
    edit(folder / "tokenizer_config.json", do_lower_case=False)
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    theirs = SentenceTransformer(str(folder), device="cpu")
    upper = [text.upper() for text in TEXTS]
    found = load(folder)
    np.testing.assert_array_equal(found.encode(upper), found.encode(TEXTS))
    np.testing.assert_allclose(found.encode(upper), theirs.encode(upper), atol=1e-5)
    found.save(tmp_path / "again")
    again = load(tmp_path / "again")
    assert again.fingerprint() == found.fingerprint()
    np.testing.assert_array_equal(again.encode(upper), found.encode(TEXTS))


def test_plain_transformers_folder_is_mean_pooling(tmp_path, caplog):
    model, tokenizer = tiny_parts()
    model.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    plain = load(tmp_path / "bert")
    assert "mean pooling" in caplog.text
    np.testing.assert_array_equal(plain.encode(TEXTS), tiny_encoder().encode(TEXTS))


def test_masked_language_model_gives_an_encoder_without_random_pooler(tmp_path):
    from transformers import BertForMaskedLM

    model, tokenizer = tiny_parts()
    BertForMaskedLM(model.config).save_pretrained(tmp_path / "mlm")
    tokenizer.save_pretrained(tmp_path / "mlm")
    assert load(tmp_path / "mlm").transformer.pooler is None


def cut(path, keep=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def other_weights(folder):
    other, _ = tiny_parts(seed=5, hidden=8)
    other.save_pretrained(folder / "other")
    shutil.move(folder / "other" / "model.safetensors", folder / "model.safetensors")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def add_module(folder, kind, path="2_X"):
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 9, "name": "9", "path": path, "type": kind})
    (folder / "modules.json").write_text(json.dumps(modules))


DAMAGE = {
    "weights cut short": (lambda f: cut(f / "model.safetensors"), "copy it again"),
    "weights of another model": (other_weights, "copy it again"),
    "weights pickled": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "A pickle",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
    "config not JSON": (lambda f: cut(f / "config.json"), "copy it again.*JSON"),
    "two poolings": (
        lambda f: add_module(f, "sentence_transformers.models.Pooling"),
        "one Pooling",
    ),
    "module of elsewhere": (lambda f: add_module(f, "os.Dense"), "os.Dense.*no code"),
    "module outside": (
        lambda f: add_module(f, "sentence_transformers.models.Dense", "../other"),
        "nothing outside it is opened",
    ),
    "no module": (
        lambda f: (f / "modules.json").write_text("[]"),
        "start with a Transformer",
    ),
    "activation imported": (
        lambda f: edit(f / "2_Dense" / "config.json", activation_function="os.system"),
        r"os\.system.*no code",
    ),
    "length out of range": (
        lambda f: edit(f / "sentence_bert_config.json", max_seq_length=999),
        "32 positions",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_explained(tmp_path, name):
    folder = tmp_path / "model"
    tiny_encoder(**LAYOUTS["dense"]).save(folder)
    (folder / "sbert_lab.json").unlink()  # a folder from elsewhere has no checksums
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_checksums_tell_a_flipped_bit_and_a_missing_file(tmp_path):
    folder = tmp_path / "model"
    tiny_encoder().save(folder)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="sha256 differs"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        load(folder)
    with pytest.raises(CheckpointError, match="not a folder"):
        read(tmp_path / "none")


def test_killed_save_leaves_the_previous_folder_whole(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    tiny_encoder().save(folder)
    other = tiny_encoder(seed=9)

    def die(_):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(_utils, "sha256_file", die)
    process = multiprocessing.get_context("fork").Process(
        target=other.save, args=[folder]
    )
    process.start()
    process.join(60)
    monkeypatch.undo()
    assert process.exitcode == -signal.SIGKILL
    assert load(folder).fingerprint() == tiny_encoder().fingerprint()


def test_saving_keeps_what_an_earlier_save_did_not_write(tmp_path):
    clone, own = tmp_path / "clone", {".git/HEAD": "ref", "LICENSE": "", "thesis": "t"}
    tiny_encoder(**LAYOUTS["dense"]).save(clone)
    for name, text in own.items():
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text(text)
    tiny_encoder(seed=9).save(clone)
    assert load(clone).fingerprint() == tiny_encoder(seed=9).fingerprint()
    assert {name: (clone / name).read_text() for name in own} == own
    assert not (clone / "2_Dense").exists()
    (clone / "sbert_lab.json").unlink()  # as if another program had written the rest
    with pytest.raises(FileExistsError, match="is not of an earlier save"):
        tiny_encoder().save(clone)
    assert load(clone).fingerprint() == tiny_encoder(seed=9).fingerprint()
