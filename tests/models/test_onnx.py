"""ONNX graphs: the same vectors as onnxruntime, one text after the other."""

import sys

import numpy as np
import pytest
from transformers import AutoTokenizer

from sbert_lab.evaluation.metrics import pairwise_cosine
from sbert_lab.models.checkpoint import CheckpointError, Layout
from sbert_lab.models.onnx import OnnxEncoder
from sbert_lab.models.registry import resolve

runtime = pytest.importorskip("onnxruntime")

PARAPHRASE = "paraphrase-MiniLM-L3-v2-onnx"
INT8 = "all-MiniLM-L6-v2-int8-onnx"
TEXTS = [
    "the cat sat on the mat",
    "A fracture of the left femur, initial encounter",
    "naïve café – 北京 🙂",
    "one two three four five six seven eight nine ten " * 20,
    "dog",
    "",
]


LAYOUT = Layout(dimension=384, max_seq_length=128)


def graph(name):
    (file,) = resolve(name).glob("*.onnx")
    return file


@pytest.fixture(scope="module")
def int8():
    return OnnxEncoder.from_pretrained(INT8)


@pytest.fixture(scope="module")
def paraphrase():
    return OnnxEncoder.from_pretrained(PARAPHRASE)


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory):
    """Return the file of the small graph with 8-bit activations too."""
    pytest.importorskip("onnx")
    from onnxruntime.quantization import quantize_dynamic

    target = tmp_path_factory.mktemp("dynamic") / "model.onnx"
    quantize_dynamic(graph(PARAPHRASE), target)
    return target


def naive(file, texts, longest):
    """Encode one text after the other: mean over tokens."""
    session = runtime.InferenceSession(file)
    tokenizer = AutoTokenizer.from_pretrained(resolve("all-MiniLM-L6-v2"))
    rows = []
    for text in texts:
        feed = tokenizer(
            [text], truncation=True, max_length=longest, return_tensors="np"
        )
        feed = {i.name: feed[i.name].astype(np.int64) for i in session.get_inputs()}
        tokens = next(out for out in session.run(None, feed) if out.ndim == 3)
        rows.append(tokens[0].mean(0))
    return np.stack(rows)


def test_float_graph_is_a_naive_loop_as_published(paraphrase):
    """Mean pooling, nothing after it, 128 tokens."""
    found = paraphrase.encode(TEXTS)
    assert found.shape == (len(TEXTS), paraphrase.dimension) == (len(TEXTS), 384)
    assert found.dtype == np.float32
    wanted = naive(graph(PARAPHRASE), TEXTS, 128)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    unit = paraphrase.encode(TEXTS, normalize=True)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, found / lengths, atol=1e-6)


def test_int8_is_a_naive_loop(int8):
    means = naive(graph(INT8), TEXTS, 256)
    wanted = means / np.linalg.norm(means, axis=1, keepdims=True)
    # Its activations are float32: whoever shares the batch does not matter.
    np.testing.assert_allclose(int8.encode(TEXTS), wanted, atol=1e-6)


def test_int8_is_near_the_float_model(int8, minilm):
    cosines = pairwise_cosine(int8.encode(TEXTS), minilm.encode(TEXTS))
    assert cosines[:3].mean() > 0.999  # 0.9996 measured on sentences
    assert cosines.min() > 0.99  # the empty text is worst: 0.9963 measured
    assert cosines.max() < 1 - 1e-6  # and it is not the float model


def test_eight_bit_activations_feel_their_company(dynamic):
    alone = naive(dynamic, TEXTS, 128)
    encoder = OnnxEncoder.from_pretrained(dynamic, layout=LAYOUT)
    careful = encoder.encode(TEXTS, token_budget=1)
    np.testing.assert_allclose(careful, alone, atol=1e-5)
    together = pairwise_cosine(encoder.encode(TEXTS), alone)
    assert 0.98 < together.min() < 0.9999


def test_fingerprint_names_graph_and_pooling(paraphrase, dynamic):
    load, file = OnnxEncoder.from_pretrained, graph(PARAPHRASE)
    assert load(file, layout=LAYOUT).fingerprint() == paraphrase.fingerprint()
    assert load(dynamic, layout=LAYOUT).fingerprint() != paraphrase.fingerprint()
    assert load(file).fingerprint() != paraphrase.fingerprint()  # the tokenizer's


def test_says_what_is_wrong(tmp_path, monkeypatch):
    load = OnnxEncoder.from_pretrained
    with pytest.raises(CheckpointError, match="width 384, pooling expects 256"):
        load(INT8, layout=Layout(dimension=256))
    with pytest.raises(CheckpointError, match="holds 0 .onnx files"):
        load(tmp_path)
    (tmp_path / "half.onnx").write_bytes(b"\x08\x07\x12\x07pytorch\x1a")
    with pytest.raises(CheckpointError, match="cannot be read.*copy it again"):
        load(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"'sbert-lab\[onnx\]'"):
        load(INT8)


def test_graph_without_token_vectors_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(graph(PARAPHRASE))
    for output in list(model.graph.output):
        if len(output.type.tensor_type.shape.dim) == 3:
            model.graph.output.remove(output)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match="gives 0 outputs of token vectors"):
        OnnxEncoder.from_pretrained(tmp_path)
