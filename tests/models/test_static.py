"""Static vectors: the plain mean, and wordllama's own."""

import numpy as np
import pytest
from conftest import tiny_parts
from safetensors.numpy import save_file

from sbert_lab.datasets.sts import ladder
from sbert_lab.models.checkpoint import CheckpointError
from sbert_lab.models.registry import BY_NAME, locate
from sbert_lab.models.static import StaticEncoder

FILE = "static_vectors.safetensors"


@pytest.fixture
def folder(tmp_path):
    """Return a folder of static vectors, eight dimensions."""
    _, tokenizer = tiny_parts()
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(tokenizer), 8)).astype(np.float16)
    save_file({"vectors": vectors}, tmp_path / FILE)
    return tmp_path


def test_is_the_mean_of_the_vectors(folder):
    encoder = StaticEncoder.from_pretrained(folder)
    ids = [encoder.tokenizer.token_to_id(word) for word in "the the cat ##s".split()]
    naive = sum(encoder.vectors[i].astype(float) for i in ids) / 4
    found = encoder.encode(["The the CATs"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], naive, atol=1e-6)
    np.testing.assert_array_equal(encoder.encode(["", " \n"]), np.zeros((2, 8)))
    assert encoder.encode([]).shape == (0, encoder.dimension) == (0, 8)


def test_wordllama_is_the_peers():
    from wordllama import WordLlama

    folder = locate(BY_NAME["wordllama-256"])
    peer = WordLlama.load(cache_dir=folder, disable_download=True)
    texts = [*ladder().second[:200], "", "naïve café – 北京 🙂", "a" * 300]
    ours = StaticEncoder.from_pretrained("wordllama-256").encode(texts)
    np.testing.assert_allclose(ours, peer.embed(texts), atol=1e-6)


def test_damaged_and_missing_files_are_named(folder):
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=f"{FILE} is missing, damaged"):
        StaticEncoder.from_pretrained(folder)
    (folder / FILE).unlink()
    with pytest.raises(CheckpointError, match=f"{FILE} is missing, damaged"):
        StaticEncoder.from_pretrained(folder)
