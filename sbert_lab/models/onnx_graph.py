"""The weights of a BERT, read out of its ONNX graph.

A graph is a model without its code: numbers, and the operations between them. Which
number is which weight stands partly in its name and partly in what is done with it.
"""

import re
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sbert_lab._utils import random_state_kept
from sbert_lab.models.checkpoint import CheckpointError

if TYPE_CHECKING:
    from transformers import BertModel

_WORDS = "embeddings.word_embeddings.weight"
_WHOLE = "export the model again from transformers, opset 17 or later"


def bert_from_graph(file: Path) -> "BertModel":
    """Return the BERT, without a pooler, whose ONNX graph a file holds.

    Every size is read from the graph: layers, widths, vocabulary and positions from
    the shapes of its tensors, the number of heads from the divisor of the attention
    scores, which is the square root of a head's width.

    Raises
    ------
    CheckpointError
        The file is damaged, or not a BERT of the kind that transformers exports.
    ModuleNotFoundError
        The library onnx is missing.

    Source: Devlin et al. 2019 for the architecture, Vaswani et al. 2017, equation 1,
    for the divisor.
    """
    from transformers import BertConfig, BertModel

    onnx = library("onnx")
    try:
        graph = onnx.load(file).graph
    except Exception as error:  # whatever a damaged file raises
        raise CheckpointError(
            f"{file} cannot be read: {error}; copy it again"
        ) from error
    weights = _weights(graph, onnx.numpy_helper.to_array, file)
    config = BertConfig(**_sizes(graph, onnx.numpy_helper.to_array, weights, file))
    with random_state_kept():  # the library draws weights first, replaced at once
        model: BertModel = BertModel(config, add_pooling_layer=False)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in weights.items()}
    wrong = sorted(
        key for key in wanted.keys() | given if wanted.get(key) != given.get(key)
    )
    if wrong:
        raise CheckpointError(
            f"{file} is not a BERT of this kind: {len(wrong)} weights are missing, too "
            f"many, or of another shape, first {wrong[0]}: {given.get(wrong[0])} and "
            f"not {wanted.get(wrong[0])}; {_WHOLE}"
        )
    model.load_state_dict(weights)
    model.eval()
    return model


def library(name: str) -> Any:  # noqa: ANN401
    """Import onnx or onnxruntime on first use."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} is missing; type: pip install 'sbert-lab[onnx]'", name=name
        ) from error


def _weights(graph: Any, array: Any, file: Path) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the graph's tensors under BERT's own names, each used exactly once.

    Exporters keep the names of biases and embeddings. They fold the transposition of a
    linear layer into its matrix, which loses its name: that one is found by following
    the product to the addition of its bias.
    """
    tensors = {item.name: item for item in graph.initializer}
    words = [name for name in tensors if name.endswith(_WORDS)]
    if len(words) != 1:
        raise CheckpointError(
            f"{file} is not a BERT: {len(words)} of its tensors are named …{_WORDS}, "
            "where one is needed"
        )
    prefix = words[0].removesuffix(_WORDS)
    uses = Counter(name for node in graph.node for name in node.input)
    biases = {
        out: name
        for node in graph.node
        if node.op_type == "Add"
        for name, out in (tuple(node.input), tuple(node.input)[::-1])
        if name in tensors
    }
    found: dict[str, str] = {}  # tensor to BERT's name for it
    turned = set()
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            matrix, bias = node.input[1], biases.get(node.output[0], "")
            if not bias.endswith(".bias"):
                raise CheckpointError(
                    f"{file}: the matrix {matrix} is not that of a linear layer with "
                    f"a bias, as all of BERT's are; {_WHOLE}"
                )
            found[matrix] = f"{bias.removesuffix('.bias')}.weight"
            turned.add(matrix)
    found |= {name: name for name in tensors if name not in found}
    for name, meaning in found.items():
        if uses[name] != 1 or not meaning.startswith(prefix):
            raise CheckpointError(
                f"{file}: the tensor {name} is used {uses[name]} times, as "
                f"{meaning!r}; in a BERT's graph each weight is used once, under "
                f"{prefix!r}; {_WHOLE}"
            )
    weights = {}
    for name, meaning in found.items():
        value = array(tensors[name])
        if value.dtype != np.float32:
            raise CheckpointError(
                f"{file}: {name} holds {value.dtype}, not float32; OnnxEncoder runs "
                "quantised graphs"
            )
        value = np.array(value.T if name in turned else value)  # contiguous, writable
        weights[meaning.removeprefix(prefix)] = torch.from_numpy(value)
    if len(weights) != len(found):
        raise CheckpointError(f"{file}: two tensors are one weight; {_WHOLE}")
    return weights


def _sizes(
    graph: Any,  # noqa: ANN401
    array: Any,  # noqa: ANN401
    weights: Mapping[str, Tensor],
    file: Path,
) -> dict[str, Any]:
    """Return what `BertConfig` needs to know, read from tensors and operations."""
    made = {out: node for node in graph.node for out in node.output}
    constants = {
        node.output[0]: array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    counts = Counter(node.op_type for node in graph.node)
    numbers = [re.match(r"encoder\.layer\.(\d+)\.", key) for key in weights]
    layers = len({match[1] for match in numbers if match})
    epsilons = {
        attribute.f
        for node in graph.node
        if node.op_type == "LayerNormalization"
        for attribute in node.attribute
        if attribute.name == "epsilon"
    }
    # Scores are divided, the mask is added, and the softmax follows.
    divisors = []
    for node in graph.node:
        if node.op_type == "Softmax":
            added = made.get(node.input[0])
            for name in added.input if added is not None else ():
                scores = made.get(name)
                if scores is not None and scores.op_type == "Div":
                    divisors.append(
                        float(constants.get(scores.input[1], np.array(0.0)))
                    )
    wide = f"encoder.layer.{layers - 1}.intermediate.dense.bias"
    words = weights[_WORDS]
    alike = len(divisors) == layers and len(set(divisors)) == 1
    head = round(divisors[0] ** 2) if alike else 0
    if (
        counts["Erf"] != layers
        or counts["Softmax"] != layers
        or len(epsilons) != 1
        or wide not in weights
        or not head
        or words.shape[1] % head
    ):
        raise CheckpointError(
            f"{file} is not a BERT of this kind: {layers} layers with {counts['Erf']} "
            f"exact GELUs, {counts['Softmax']} attentions, heads of width {head} and "
            f"LayerNormalization with epsilon {sorted(epsilons)}; {_WHOLE}"
        )
    (epsilon,) = epsilons
    return {
        "vocab_size": words.shape[0],
        "hidden_size": words.shape[1],
        "num_hidden_layers": layers,
        "num_attention_heads": words.shape[1] // head,
        "intermediate_size": weights[wide].shape[0],
        "hidden_act": "gelu",
        "max_position_embeddings": len(
            weights.get("embeddings.position_embeddings.weight", ())
        ),
        "type_vocab_size": len(
            weights.get("embeddings.token_type_embeddings.weight", ())
        ),
        # float32 has it as 9.999999960041972e-13
        "layer_norm_eps": float(f"{epsilon:.6g}"),
    }
