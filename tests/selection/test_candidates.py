"""Every candidate is an encoder, by its name, from a folder, or made once and kept."""

import dataclasses

import numpy as np
import pytest
from conftest import tiny_encoder

from sbert_lab.models.onnx import load_onnx
from sbert_lab.models.registry import BY_NAME
from sbert_lab.models.sentence_encoder import Encoder, SentenceEncoder
from sbert_lab.selection import candidates
from sbert_lab.selection.candidates import CANDIDATES, candidate

CORPUS = [f"the {i % 7} red cats sat on {i} mats" for i in range(36)]

EXPORTED = "all-MiniLM-L6-v2-onnx"


def check(encoder):
    assert isinstance(encoder, Encoder)
    rows = encoder.encode(["a red cat", "two dogs sat"])
    assert rows.shape == (2, encoder.dimension)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    assert np.abs(rows).sum() > 0


@pytest.mark.parametrize("name", [name for name in CANDIDATES if name != EXPORTED])
def test_loads_what_fulfils_the_interface(name):
    if name not in candidates.names_here():
        pytest.skip(f"{name} is not on this machine")
    found = candidate(name).load(CORPUS)
    if name == "bm25":
        assert len(found) == len(CORPUS)
    else:
        check(found)


def test_a_graph_is_exported_once_and_gives_the_same_vectors(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path))
    encoder = tiny_encoder(head=("normalize",))
    monkeypatch.setattr(
        candidates.SentenceEncoder, "from_pretrained", lambda *_, **__: encoder
    )
    monkeypatch.setattr(
        candidates, "load_onnx", lambda folder: load_onnx(folder, tokenizer=own)
    )
    own = tmp_path / "own"
    encoder.save(own)
    for _ in range(2):  # as the second time nothing is exported
        found = candidate(EXPORTED).load(CORPUS).encode(CORPUS)
        np.testing.assert_allclose(found, encoder.encode(CORPUS), atol=1e-5)
        monkeypatch.setattr(candidates, "export_onnx", None)


@pytest.mark.parametrize("name", candidates.PROMPTS)
def test_a_retrieval_encoder_of_the_hub_gets_its_prompts(name, tmp_path, monkeypatch):
    """A tiny folder laid out as the hub's: prompts of its own are left alone."""
    folder = tmp_path / "tiny"
    tiny_encoder(head=("normalize",)).save(folder)
    monkeypatch.setattr(candidates, "resolve", lambda _: folder)
    found = candidate(name).load(CORPUS)
    plain = SentenceEncoder.from_pretrained(folder)
    prompts = {"query": "", "document": ""} | candidates.PROMPTS[name]
    assert found.prompts == prompts
    asked = plain.encode([prompts["query"] + CORPUS[0]])
    np.testing.assert_allclose(found.encode_query(CORPUS[:1]), asked, atol=1e-6)
    read = plain.encode([prompts["document"] + CORPUS[0]])
    np.testing.assert_allclose(found.encode_document(CORPUS[:1]), read, atol=1e-6)
    tiny_encoder(head=("normalize",), prompts={"query": "q : "}).save(folder)
    assert candidate(name).load(CORPUS).prompts["query"] == "q : "


def test_a_folder_of_the_reader(tmp_path):
    encoder = tiny_encoder(head=("normalize",))
    encoder.save(tmp_path)
    found = candidate(str(tmp_path)).load(CORPUS).encode(CORPUS)
    np.testing.assert_allclose(found, encoder.encode(CORPUS), rtol=0, atol=1e-6)


def test_an_unknown_name_gives_those_there_are():
    with pytest.raises(FileNotFoundError, match="give a folder.*all-mpnet-base-v2"):
        candidate("all-MiniLM-L6")


def test_names_here_are_those_that_are(monkeypatch):
    absent = "no-such-package==1"
    entry = dataclasses.replace(BY_NAME["all-mpnet-base-v2"], parts=(), package=absent)
    monkeypatch.setitem(BY_NAME, "all-mpnet-base-v2", entry)
    assert candidates.names_here()[0] == "bm25"
    assert "all-mpnet-base-v2" not in candidates.names_here()
    assert "all-MiniLM-L6-v2-int8" in candidates.names_here()
    monkeypatch.setattr(candidates, "find_spec", lambda _: None)
    assert "all-MiniLM-L6-v2-int8" not in candidates.names_here()
