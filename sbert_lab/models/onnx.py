"""Models that come as ONNX graphs, run on the CPU: pip install 'sbert-lab[onnx]'."""

import warnings
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sbert_lab._utils import sha256_file, write_bytes
from sbert_lab.models.checkpoint import Layout, explained, load_tokenizer, read
from sbert_lab.models.registry import resolve
from sbert_lab.models.sentence_encoder import SentenceEncoder

#: Graphs that are not pooled as the folder of their tokenizer says: as published.
_LAYOUTS = {
    "paraphrase-MiniLM-L3-v2-onnx": Layout(dimension=384, max_seq_length=128),
}


def load_onnx(
    name: str | Path, *, tokenizer: str = "all-MiniLM-L6-v2"
) -> SentenceEncoder:
    """Load a registered graph, or a folder with one ``.onnx`` file, as an encoder.

    Only its transformer is the graph; the rest is of `tokenizer`, the model that it was
    made from. 8-bit weights are a quarter of the size on disk, no faster, and vectors
    have a cosine of 0.9996 with the float model's on average. Where activations have 8
    bits too, their scale is of the whole batch, and a vector changes with its company,
    unless ``encode(…, token_budget=1)`` encodes each text alone.
    """
    folder, words = resolve(name), resolve(tokenizer)
    with explained(folder):
        (file,) = folder.glob("*.onnx")
    graph: Any = _Graph(file)
    layout = _LAYOUTS.get(str(name)) or read(words)
    return SentenceEncoder(graph, load_tokenizer(words), layout).eval()


def export_onnx(encoder: SentenceEncoder, file: Path) -> None:
    """Write the transformer of an encoder as a float32 graph, for `load_onnx`."""
    names = ["input_ids", "attention_mask", "token_type_ids"]
    tokens = encoder.tokenizer(
        ["one", "one and two"], padding=True, return_tensors="pt"
    )
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    gives, buffer = "last_hidden_state", BytesIO()
    any_size = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings(action="ignore"):  # the tracer's, of shapes
        torch.onnx.export(
            _Bare(encoder.transformer).eval(),
            (ids, mask, torch.zeros_like(ids)),
            buffer,
            input_names=names,
            output_names=[gives],
            dynamic_axes=dict.fromkeys([*names, gives], any_size),
            dynamo=False,
        )
    write_bytes(file, buffer.getvalue())


class _Bare(nn.Module):
    """A transformer that gives its token vectors alone."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        """Return token vectors ``[B, L, D]``."""
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        tokens: Tensor = self.transformer(**given).last_hidden_state
        return tokens


class _Graph(nn.Module):
    """An ONNX graph that is called as a transformers model is."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        with explained(file):
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
            # Of token vectors [B, L, D]: others may be there, such as a pooler's.
            outputs = self._session.get_outputs()
            (self._gives,) = [out.name for out in outputs if len(out.shape) == 3]
        self._inputs = {item.name for item in self._session.get_inputs()}
        sha256 = sha256_file(file)
        # For the fingerprint.
        self.config = SimpleNamespace(to_diff_dict=lambda: {"onnx": sha256})
        # A module is where its parameters are: on the CPU, as the graph is.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """Return ``last_hidden_state`` ``[B, L, D]`` for int64 ``[B, L]``."""
        given = {
            "input_ids": input_ids.numpy(),
            "attention_mask": attention_mask.numpy(),
            "token_type_ids": np.zeros(input_ids.shape, np.int64),
        }
        feed = {name: given[name] for name in self._inputs}
        (tokens,) = self._session.run([self._gives], feed)
        return SimpleNamespace(last_hidden_state=torch.from_numpy(tokens))
