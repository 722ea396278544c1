"""ONNX graphs: the same vectors as onnxruntime, and weights found by what they do."""

import sys
from functools import cache

import numpy as np
import pytest
from conftest import states, tiny_parts

from sbert_lab import EmbeddingCache, SentenceEncoder
from sbert_lab.datasets.sts import ladder
from sbert_lab.evaluation.metrics import pairwise_cosine
from sbert_lab.models.checkpoint import CheckpointError, Layout
from sbert_lab.models.onnx import OnnxEncoder, encoder_from_onnx
from sbert_lab.models.registry import resolve

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

PARAPHRASE = "paraphrase-MiniLM-L3-v2-onnx"
INT8 = "all-MiniLM-L6-v2-int8-onnx"
TEXTS = list(dict.fromkeys(ladder(anchors=5).first + ladder(anchors=5).second))[:27]
TEXTS += ["", "naïve café – 北京 🙂", "fracture of the wrist " * 100]


@pytest.fixture(scope="module")
def graph_file():
    (file,) = resolve(PARAPHRASE).glob("*.onnx")
    return file


@pytest.fixture(scope="module")
def paraphrase():
    return encoder_from_onnx(PARAPHRASE)


@pytest.fixture(scope="module")
def int8():
    return OnnxEncoder.from_pretrained(INT8, threads=1)


@pytest.fixture(scope="module")
def dynamic(graph_file, tmp_path_factory):
    """Return the paraphrase model with 8-bit activations too."""
    from onnxruntime.quantization import quantize_dynamic

    target = tmp_path_factory.mktemp("dynamic") / "model.onnx"
    quantize_dynamic(graph_file, target)
    layout = Layout(dimension=384, max_seq_length=128)
    return OnnxEncoder.from_pretrained(target, layout=layout, threads=1)


@pytest.fixture
def small(graph_file):
    """Return the graph with a vocabulary of 67 words, to be spoilt and written."""
    model = onnx.load(graph_file)
    words = named(model, "word_embeddings.weight")
    values = onnx.numpy_helper.to_array(words)[:67]
    words.CopyFrom(onnx.numpy_helper.from_array(values, words.name))
    return model


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Return the folder of a tokenizer with 67 words."""
    folder = tmp_path_factory.mktemp("words")
    tiny_parts()[1].save_pretrained(folder)
    return folder


def named(model, end):
    (found,) = [item for item in model.graph.initializer if item.name.endswith(end)]
    return found


@cache
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve("all-MiniLM-L6-v2"))


def padded(texts, longest):
    """Tokenise into one padded batch."""
    return dict(
        tokenizer()(
            list(texts),
            padding=True,
            truncation=True,
            max_length=longest,
            return_tensors="np",
        )
    )


def naive(session, texts, longest):
    """Encode one text after the other: mean over tokens, then unit length."""
    rows = []
    for text in texts:
        feed = padded([text], longest)
        feed = {i.name: feed[i.name].astype(np.int64) for i in session.get_inputs()}
        tokens = next(out for out in session.run(None, feed) if out.ndim == 3)
        rows.append(tokens[0].mean(0))
    return np.stack(rows)


def test_paraphrase_is_onnxruntimes(paraphrase, graph_file):
    session = runtime.InferenceSession(graph_file)
    feed = padded(TEXTS, 128)
    lengths = feed["attention_mask"].sum(1)
    assert len(TEXTS) == 30
    assert lengths.min() == 2
    assert lengths.max() == 128
    feed.pop("token_type_ids")
    (pooled,) = [
        out
        for out in session.run(None, {k: v.astype(np.int64) for k, v in feed.items()})
        if out.shape == (30, 384) and out.dtype == np.float32
    ]
    np.testing.assert_allclose(paraphrase.encode(TEXTS), pooled, atol=1e-5)


def test_sizes_are_the_published_ones(paraphrase, graph_file):
    config = paraphrase.transformer.config
    assert (config.num_hidden_layers, config.num_attention_heads) == (3, 12)
    assert (config.hidden_size, config.intermediate_size) == (384, 1536)
    assert (config.vocab_size, config.max_position_embeddings) == (30522, 512)
    assert config.layer_norm_eps == 1e-12
    assert paraphrase.max_seq_length == 128
    stored = sum(np.prod(i.dims) for i in onnx.load(graph_file).graph.initializer)
    assert sum(p.numel() for p in paraphrase.parameters()) == stored


def test_saves_and_loads(paraphrase, tmp_path):
    paraphrase.save(tmp_path / "model")
    again = SentenceEncoder.from_pretrained(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(again.encode(TEXTS[:5]), paraphrase.encode(TEXTS[:5]))
    assert again.fingerprint() == paraphrase.fingerprint()


def test_names_of_matrices_and_their_order_do_not_matter(paraphrase, small, words):
    anonymous = [i.name for i in small.graph.initializer if "::" in i.name]
    assert len(anonymous) == 18
    new = {name: f"w{(7 * i) % 18}" for i, name in enumerate(anonymous)}
    for tensor in small.graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    for node in small.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
    tensors = list(small.graph.initializer)[::-1]
    del small.graph.initializer[:]
    small.graph.initializer.extend(tensors)
    onnx.save(small, words / "renamed.onnx")
    before = states()
    found = encoder_from_onnx(words / "renamed.onnx", tokenizer=words)
    assert states() == before
    wanted = paraphrase.transformer.state_dict()
    for name, value in found.transformer.state_dict().items():
        assert value.equal(wanted[name][: len(value)]), name


def spoil_shared(model):
    first, second = [n for n in model.graph.node if n.op_type == "MatMul"][:2]
    second.input[1] = first.input[1]


def spoil_unused(model):
    values = np.ones((3, 3), np.float32)
    name = named(model, "word_embeddings.weight").name
    name = name.replace("word_embeddings", "more")
    model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))


def spoil_other_name(model):
    named(model, "word_embeddings.weight").name = "table"


def spoil_activation(model):
    for node in model.graph.node:
        if node.op_type == "Erf":
            node.op_type = "Tanh"


def spoil_scale(model):
    node = next(n for n in model.graph.node if n.op_type == "Div")
    node.op_type = "Mul"


def spoil_shape(model):
    tensor = named(model, "layer.1.output.dense.bias")
    values = np.ones(383, np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def spoil_bias(model):
    bias = named(model, "layer.0.attention.self.query.bias").name
    for node in model.graph.node:
        if bias in node.input:
            node.op_type = "Sub"


def spoil_width(model):
    tensor = named(model, "layer.0.attention.self.query.bias")
    values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_shared, "is used 2 times"),
        (spoil_unused, "is used 0 times"),
        (spoil_other_name, "is not a BERT: 0 of its tensors"),
        (spoil_activation, "3 layers with 0 exact GELUs"),
        (spoil_scale, "heads of width 0"),
        (spoil_shape, r"layer.1.output.dense.bias: \(383,\) and not \(384,\)"),
        (spoil_bias, "is not that of a linear layer with"),
        (spoil_width, "holds float16, not float32"),
    ],
)
def test_other_graphs_are_refused(small, words, spoil, says):
    spoil(small)
    onnx.save(small, words / "spoilt.onnx")
    with pytest.raises(CheckpointError, match=says):
        encoder_from_onnx(words / "spoilt.onnx", tokenizer=words)


def test_quantised_graph_is_no_plain_bert():
    with pytest.raises(CheckpointError, match="is not a BERT"):
        encoder_from_onnx(INT8)


def test_another_models_tokenizer_is_refused(words):
    with pytest.raises(CheckpointError, match="give the model's own tokenizer"):
        encoder_from_onnx(PARAPHRASE, tokenizer=words)


@pytest.mark.parametrize("load", [encoder_from_onnx, OnnxEncoder.from_pretrained])
def test_damaged_and_missing_files_say_so(load, tmp_path):
    with pytest.raises(CheckpointError, match="holds 0 .onnx files"):
        load(tmp_path)
    (tmp_path / "half.onnx").write_bytes(b"\x08\x07\x12\x07pytorch\x1a")
    with pytest.raises(CheckpointError, match="cannot be read.*copy it again"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("load", "name", "library"),
    [
        (encoder_from_onnx, PARAPHRASE, "onnx"),
        (OnnxEncoder.from_pretrained, INT8, "onnxruntime"),
    ],
)
def test_missing_library_says_what_to_type(load, name, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf"{library} is missing.*'sbert-lab\[onnx\]'"
    ):
        load(name)


def test_int8_is_a_naive_loop(int8):
    session = runtime.InferenceSession(resolve(INT8) / "model.onnx")
    means = naive(session, TEXTS, 256)
    wanted = means / np.linalg.norm(means, axis=1, keepdims=True)
    found = int8.encode(TEXTS)
    assert found.dtype == np.float32
    assert found.shape == (30, int8.dimension) == (30, 384)
    # Its activations are float32: whoever shares the batch does not matter.
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(int8.encode(TEXTS, token_budget=1), found, atol=1e-6)


def test_int8_is_near_the_float_model(int8, minilm):
    cosines = pairwise_cosine(int8.encode(TEXTS), minilm.encode(TEXTS))
    assert cosines[:27].mean() > 0.999  # 0.9996 measured on sentences
    assert cosines.min() > 0.99  # the empty text is worst: 0.9963 measured
    assert cosines.max() < 1 - 1e-6  # and it is not the float model


def test_eight_bit_activations_feel_their_company(dynamic):
    session = runtime.InferenceSession(dynamic.file)
    alone = naive(session, TEXTS, 128)
    careful = dynamic.encode(TEXTS, token_budget=1)
    np.testing.assert_allclose(careful, alone, atol=1e-5)
    together = pairwise_cosine(dynamic.encode(TEXTS), alone)
    assert 0.98 < together.min() < 0.9999  # 0.991 measured on other texts
    shuffled = dynamic.encode(TEXTS[::-1], token_budget=1)[::-1]
    np.testing.assert_array_equal(shuffled, careful)


def test_order_and_duplicates(int8):
    seen = []
    hook = int8._encoder.transformer.register_forward_hook(
        lambda _, inputs, kwargs, out: seen.append(kwargs["input_ids"].shape),
        with_kwargs=True,
    )
    texts = [TEXTS[1], TEXTS[2], TEXTS[1], TEXTS[0], TEXTS[1]]
    found = int8.encode(texts, token_budget=64)
    hook.remove()
    assert sum(shape[0] for shape in seen) == 3
    assert all(shape[0] * shape[1] <= 64 for shape in seen)
    np.testing.assert_array_equal(found[[0, 2, 4]], found[[0, 0, 0]])
    np.testing.assert_allclose(found, [int8.encode(t) for t in texts], atol=1e-6)


def test_nothing_and_no_string(int8):
    assert int8.encode([]).shape == (0, 384)
    with pytest.raises(TypeError, match=r"texts\[1\] is None .*not a string"):
        int8.encode(["a", None])


def test_cache_is_asked_first(int8, tmp_path):
    cache = EmbeddingCache(tmp_path)
    first = int8.encode(TEXTS[:4], cache=cache)
    np.testing.assert_array_equal(int8.encode(TEXTS[:4], cache=cache), first)
    assert (cache.hits, cache.misses) == (4, 4)


def test_normalize_and_layout(dynamic):
    raw = dynamic.encode(TEXTS[:3])
    unit = dynamic.encode(TEXTS[:3], normalize=True)
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1, atol=0.1)
    np.testing.assert_allclose(
        unit, raw / np.linalg.norm(raw, axis=1)[:, None], atol=1e-6
    )


def test_long_texts_are_cut(int8):
    short = OnnxEncoder.from_pretrained(INT8, max_seq_length=8, threads=1)
    assert (short.max_seq_length, int8.max_seq_length) == (8, 256)
    text = "the cat sat on the mat"  # six tokens and two
    np.testing.assert_array_equal(short.encode(text), short.encode(text + " quietly"))
    assert not np.allclose(int8.encode(text), int8.encode(text + " quietly"))


def test_names_and_bytes(int8, dynamic, graph_file):
    layout = Layout(dimension=384, max_seq_length=128)
    exact = OnnxEncoder.from_pretrained(graph_file, layout=layout)
    assert exact.fingerprint() != dynamic.fingerprint()  # only the graph differs
    again = OnnxEncoder.from_pretrained(INT8)
    assert again.fingerprint() == int8.fingerprint() != dynamic.fingerprint()
    assert len(int8.fingerprint()) == 64
    assert int8.nbytes == (resolve(INT8) / "model.onnx").stat().st_size == 22_928_619


def test_layout_of_another_width_is_refused():
    with pytest.raises(CheckpointError, match="width 384, pooling expects 256"):
        OnnxEncoder.from_pretrained(INT8, layout=Layout(dimension=256))


def test_graph_of_another_kind_is_refused(small, tmp_path):
    del small.graph.output[2]  # the token vectors
    onnx.save(small, tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match="gives 0 outputs of token vectors"):
        OnnxEncoder.from_pretrained(tmp_path)
