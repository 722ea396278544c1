"""Static vectors: the plain mean, and wordllama's own."""

import numpy as np
import pytest
import torch
from conftest import states, tiny_encoder, tiny_parts
from safetensors.numpy import save_file

from sbert_lab import SentenceEncoder
from sbert_lab.datasets.sts import ladder
from sbert_lab.models.checkpoint import CheckpointError, Layout
from sbert_lab.models.registry import BY_NAME, locate
from sbert_lab.models.static import StaticEncoder, distil

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


def test_saves_and_loads(folder, tmp_path):
    encoder = StaticEncoder.from_pretrained(folder)
    texts = ["the cat", "Two DOGS ran", ""]
    target = tmp_path / "saved"
    for table in (encoder.vectors[:, ::-1], encoder.vectors):  # turned, then replaced
        made = StaticEncoder(table, encoder.tokenizer)
        made.save(target)
        again = StaticEncoder.from_pretrained(target)
        np.testing.assert_array_equal(again.vectors, table)
        np.testing.assert_allclose(again.encode(texts), made.encode(texts), atol=1e-7)
    listed = {FILE, "tokenizer.json", "static_vectors.json"}
    assert {path.name for path in target.iterdir()} == listed
    (target / FILE).write_bytes((folder / FILE).read_bytes())  # sound, of another
    with pytest.raises(CheckpointError, match="its sha256 differs"):
        StaticEncoder.from_pretrained(target)


def test_damaged_and_missing_files_are_named(folder):
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=f"{FILE} is missing, damaged"):
        StaticEncoder.from_pretrained(folder)
    (folder / FILE).unlink()
    with pytest.raises(CheckpointError, match=f"{FILE} is missing, damaged"):
        StaticEncoder.from_pretrained(folder)


ENCODER = tiny_encoder(head=("normalize",), max_seq_length=24)


def token(text, encoder=ENCODER):
    return encoder.tokenizer.convert_tokens_to_ids(text)


def gram(vectors):
    """Return all inner products, which no turn or mirror changes."""
    return vectors.astype(np.float64) @ vectors.T.astype(np.float64)


def naive_vectors(encoder):
    """Run the transformer on one framed token after the other."""
    rows = []
    for i in range(5, len(encoder.tokenizer)):
        ids = torch.tensor([[token("[CLS]"), i, token("[SEP]")]])
        with torch.no_grad():
            states = encoder.transformer(input_ids=ids).last_hidden_state
        mean = states[0].mean(0).numpy().astype(np.float64)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


def naive_shares(encoder):
    """Zipf's law over tokens of two characters and more; the others share rank 1."""
    shares, rank = [], 0
    for i in range(5, len(encoder.tokenizer)):
        word = encoder.tokenizer.convert_ids_to_tokens(i).replace("##", "")
        if len(word) > 1:
            rank += 1
        shares.append(1 / rank if len(word) > 1 else 1)
    return np.array(shares) / sum(1 / r for r in range(1, rank + 1))


def test_distilled_equals_linear_algebra_by_hand():
    vectors = naive_vectors(ENCODER)
    centred = vectors - vectors.mean(0)
    variances, axes = np.linalg.eigh(centred.T @ centred / (len(centred) - 1))
    best = np.argsort(variances)[::-1][:6]
    wanted = centred @ axes[:, best] / variances[best] ** 0.25
    wanted *= (1e-3 / (1e-3 + naive_shares(ENCODER)))[:, None]
    made = distil(ENCODER, dimension=6)
    assert made.vectors.dtype == np.float32
    assert made.vectors.shape == (len(ENCODER.tokenizer), 6)
    assert not made.vectors[:5].any()  # special tokens
    np.testing.assert_allclose(
        gram(made.vectors[5:]), gram(wanted), atol=1e-5 * np.abs(gram(wanted)).max()
    )


def test_unused_tokens_are_left_out():
    model, tokenizer = tiny_parts()
    tokenizer.add_tokens(["[unused7]", "beyond"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    encoder = SentenceEncoder(model, tokenizer, Layout(dimension=16)).eval()
    made = distil(encoder, dimension=4)
    assert len(made.vectors) == len(tokenizer)
    assert not made.vectors[token("[unused7]", encoder)].any()
    assert made.vectors[token("beyond", encoder)].any()


def test_distilled_the_same_every_time_and_nothing_else_changes():
    encoder = tiny_encoder(truncate_dim=8).train()  # with dropout, were it on
    before = states()
    first = distil(encoder, dimension=4)
    again = distil(encoder, dimension=4)
    assert states() == before
    assert encoder.training
    np.testing.assert_array_equal(first.vectors, again.vectors)
    # The layer norm leaves 15 directions: what PCA finds beside them is rounding.
    assert not distil(tiny_encoder(), dimension=16).vectors[:, 15].any()
