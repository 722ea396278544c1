"""ONNX graphs: the same vectors as onnxruntime, one text after the other."""

import shutil

import numpy as np
import pytest
from transformers import AutoTokenizer

from sbert_lab.evaluation.metrics import pairwise_cosine
from sbert_lab.models.checkpoint import CheckpointError
from sbert_lab.models.onnx import load_onnx
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


def graph(name):
    (file,) = resolve(name).glob("*.onnx")
    return file


def naive(file, longest):
    """Encode one text after the other: mean over tokens."""
    session = runtime.InferenceSession(file)
    tokenizer = AutoTokenizer.from_pretrained(resolve("all-MiniLM-L6-v2"))
    rows = []
    for text in TEXTS:
        feed = tokenizer(
            [text], truncation=True, max_length=longest, return_tensors="np"
        )
        feed = {i.name: feed[i.name].astype(np.int64) for i in session.get_inputs()}
        tokens = next(out for out in session.run(None, feed) if out.ndim == 3)
        rows.append(tokens[0].mean(0))
    return np.stack(rows)


def test_float_graph_is_a_naive_loop_as_published():
    """Mean pooling, nothing after it, 128 tokens."""
    paraphrase = load_onnx(PARAPHRASE)
    found = paraphrase.encode(TEXTS)
    assert found.shape == (len(TEXTS), paraphrase.dimension) == (len(TEXTS), 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, naive(graph(PARAPHRASE), 128), atol=1e-5)


def test_int8_is_a_naive_loop_and_near_the_float_model(minilm):
    means = naive(graph(INT8), 256)
    wanted = means / np.linalg.norm(means, axis=1, keepdims=True)
    # Its activations are float32: whoever shares the batch does not matter.
    found = load_onnx(INT8).encode(TEXTS)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    cosines = pairwise_cosine(found, minilm.encode(TEXTS))
    assert cosines[:3].mean() > 0.999  # 0.9996 measured on sentences
    assert cosines.min() > 0.99  # the empty text is worst: 0.9963 measured
    assert cosines.max() < 1 - 1e-6  # and it is not the float model


def test_fingerprint_names_graph_and_pooling():
    # Not by its name, a graph is pooled as the tokenizer's folder says.
    graphs = (PARAPHRASE, PARAPHRASE, INT8, resolve(PARAPHRASE))
    one, same, *others = (load_onnx(name).fingerprint() for name in graphs)
    assert one == same
    assert len({one, *others}) == 3


def test_says_what_is_wrong(tmp_path):
    onnx = pytest.importorskip("onnx")
    with pytest.raises(CheckpointError, match="missing"):
        load_onnx(tmp_path)
    model = onnx.load(graph(PARAPHRASE))
    for output in list(model.graph.output):
        if len(output.type.tensor_type.shape.dim) == 3:
            model.graph.output.remove(output)
    onnx.save(model, tmp_path / "pooled.onnx")
    with pytest.raises(CheckpointError, match="pooled.onnx .*not what it should be"):
        load_onnx(tmp_path)
    (tmp_path / "pooled.onnx").write_bytes(b"\x08\x07\x12\x07pytorch\x1a")
    with pytest.raises(CheckpointError, match="copy it again"):
        load_onnx(tmp_path)
    shutil.copy(graph(PARAPHRASE), tmp_path / "second.onnx")
    with pytest.raises(CheckpointError, match="too many values"):
        load_onnx(tmp_path)
