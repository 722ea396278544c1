"""Static vectors: the plain mean, and wordllama's own."""

import numpy as np
import pytest
from conftest import tiny_parts
from safetensors.numpy import save_file

from sbert_lab.datasets.sts import ladder
from sbert_lab.evaluation.metrics import pairwise_cosine
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


def test_special_tokens_are_left_out(folder):
    encoder = StaticEncoder.from_pretrained(folder)
    row = encoder.tokenizer.token_to_id("dog")
    np.testing.assert_array_equal(encoder.encode(["dog"])[0], encoder.vectors[row])


def test_company_and_order_do_not_matter(folder):
    encoder = StaticEncoder.from_pretrained(folder)
    texts = ["the cat", "a quick brown fox jumps over the lazy dog " * 20, "dog"]
    alone = [encoder.encode([text])[0] for text in texts]
    np.testing.assert_array_equal(encoder.encode(texts), alone)
    np.testing.assert_allclose(
        encoder.encode(["cat the"]), encoder.encode(["the cat"]), atol=1e-7
    )


def test_nothing_gives_zeros(folder):
    encoder = StaticEncoder.from_pretrained(folder)
    np.testing.assert_array_equal(encoder.encode(["", " \n"]), np.zeros((2, 8)))
    assert encoder.encode([]).shape == (0, encoder.dimension) == (0, 8)


def test_wordllama_is_the_peers():
    from wordllama import WordLlama

    folder = locate(BY_NAME["wordllama-256"])
    peer = WordLlama.load(cache_dir=folder, disable_download=True)
    texts = ladder().second[:200]
    texts += ["", "naïve café – 北京 🙂", "a" * 300]
    ours = StaticEncoder.from_pretrained("wordllama-256").encode(texts)
    np.testing.assert_allclose(ours, peer.embed(texts), atol=1e-6)


def test_our_own_vectors_are_here():
    encoder = StaticEncoder.from_pretrained("bert-mini-static")
    assert encoder.dimension == 256
    river, *others = encoder.encode(["the river", "the stream", "seven"])
    near, far = pairwise_cosine(np.stack([river, river]), np.stack(others))
    assert near > far


def test_saves_and_loads(folder, tmp_path):
    encoder = StaticEncoder.from_pretrained(folder)
    texts = ["the cat", "Two DOGS ran", ""]
    target = tmp_path / "saved"
    for table in (
        encoder.vectors[:, ::-1],
        encoder.vectors,
    ):  # not contiguous, replaced
        StaticEncoder(table, encoder.tokenizer).save(target)
        again = StaticEncoder.from_pretrained(target)
        np.testing.assert_array_equal(again.vectors, table)
        np.testing.assert_allclose(
            again.encode(texts),
            StaticEncoder(table, encoder.tokenizer).encode(texts),
            atol=1e-7,
        )
    assert {path.name for path in target.iterdir()} == {FILE, "tokenizer.json"}


def test_saving_spares_other_folders(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "letters.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="letters.txt"):
        StaticEncoder.from_pretrained(folder).save(other)


def test_missing_file_is_named(folder):
    (folder / FILE).unlink()
    with pytest.raises(CheckpointError, match=f"no static vectors: {FILE}"):
        StaticEncoder.from_pretrained(folder)


@pytest.mark.parametrize("file", [FILE, "tokenizer.json"])
def test_damaged_file_says_so(folder, file):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cannot be read.*copy the files again"):
        StaticEncoder.from_pretrained(folder)


def test_other_tensors_are_no_vectors(folder):
    save_file({"weights": np.zeros((2, 2), np.float32)}, folder / FILE)
    with pytest.raises(CheckpointError, match="cannot be read"):
        StaticEncoder.from_pretrained(folder)


@pytest.mark.parametrize("shape", [(10, 8), (5_000,)])
def test_every_token_needs_a_row(folder, shape):
    save_file({"vectors": np.zeros(shape, np.float32)}, folder / FILE)
    with pytest.raises(CheckpointError, match="one row a token is needed"):
        StaticEncoder.from_pretrained(folder)
