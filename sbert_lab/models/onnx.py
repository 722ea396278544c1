"""Models that come as ONNX graphs, run by onnxruntime on the CPU."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from sbert_lab._utils import Vectors, quiet_transformers, sha256_file
from sbert_lab.models import checkpoint
from sbert_lab.models.checkpoint import CheckpointError, Layout
from sbert_lab.models.registry import resolve
from sbert_lab.models.sentence_encoder import SentenceEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Known graphs that are not pooled as the folder of their tokenizer says: as published.
_LAYOUTS = {
    "paraphrase-MiniLM-L3-v2-onnx": Layout(dimension=384, max_seq_length=128),
}


class OnnxEncoder:
    """A transformer's ONNX graph as a sentence encoder; use `from_pretrained`.

    Tokenising, batches by length, pooling and what follows are `SentenceEncoder`'s;
    only the transformer is the graph: ``input_ids``, ``attention_mask`` and, if it
    likes, ``token_type_ids``, int64 ``[B, L]``, to token vectors ``[B, L, D]``.

    "int8" names two kinds of graph:

    - 8-bit weights, widened to float32 before they are multiplied, as the packaged
      ``all-MiniLM-L6-v2-int8-onnx``: a quarter of the float model's size on disk, no
      faster. A vector's cosine with the float model's is 0.9996 on average.
    - 8-bit activations too, whose scale is worked out over the whole batch: a vector
      changes with its company, by a cosine of 0.991 at worst between batches of 1 and
      of 32. ``encode(…, token_budget=1)`` makes every text a batch of its own.
    """

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        tokenizer: str | Path = "all-MiniLM-L6-v2",
        layout: Layout | None = None,
    ) -> Self:
        """Load a registered graph, a folder with one ``.onnx`` file, or such a file.

        `tokenizer` is the model that the graph was made from; its tokenizer is used,
        and its layout too unless the graph has a published one or `layout` is given.
        """
        from transformers import AutoTokenizer

        file, folder = _graph_file(name), resolve(tokenizer)
        layout = layout or _LAYOUTS.get(str(name)) or checkpoint.read(folder)
        try:
            with quiet_transformers():
                words = AutoTokenizer.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False
                )
        except Exception as error:  # whatever a damaged file raises
            raise CheckpointError(
                f"the tokenizer in {folder} cannot be read: {error}; copy it again"
            ) from error
        graph = _Graph(file)
        if graph.config.hidden_size != layout.dimension:
            raise CheckpointError(
                f"the graph gives token vectors of width {graph.config.hidden_size}, "
                f"pooling expects {layout.dimension}; give a layout=… of that width"
            )
        model = cast("PreTrainedModel", graph)
        return cls(SentenceEncoder(model, words, layout).eval())

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return self._encoder.dimension

    def fingerprint(self) -> str:
        """Return the sha256 that names this model: graph, tokenizer, pooling."""
        return self._encoder.fingerprint()

    def encode(self, texts: Sequence[str] | str, **options: Any) -> Vectors:  # noqa: ANN401
        """Turn texts into vectors, float32 ``[n, d]``, in their order.

        Options and errors are those of `SentenceEncoder.encode`.
        """
        return self._encoder.encode(texts, **options)


class _Graph(nn.Module):
    """An ONNX graph that is called as a transformers model is."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "onnxruntime is missing; type: pip install 'sbert-lab[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # whatever a damaged file raises
            raise CheckpointError(
                f"{file} cannot be read: {error}; copy it again"
            ) from error
        self._inputs = {item.name for item in self._session.get_inputs()}
        outputs = [
            item
            for item in self._session.get_outputs()
            if len(item.shape) == 3 and isinstance(item.shape[2], int)
        ]
        known = {"input_ids", "attention_mask", "token_type_ids"}
        if not {"input_ids", "attention_mask"} <= self._inputs <= known or (
            len(outputs) != 1
        ):
            raise CheckpointError(
                f"{file} takes {sorted(self._inputs)} and gives {len(outputs)} outputs "
                "of token vectors [B, L, D]; a transformer takes input_ids and "
                "attention_mask and gives one: export it for feature extraction"
            )
        self._gives = outputs[0].name
        sha256 = sha256_file(file)
        self.config = SimpleNamespace(
            hidden_size=int(outputs[0].shape[2]),
            to_diff_dict=lambda: {"onnx": sha256},  # for the fingerprint
        )
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


def _graph_file(name: str | Path) -> Path:
    path = Path(name).expanduser()
    if path.suffix == ".onnx" and path.is_file():
        return path
    folder = resolve(name)
    found = sorted(folder.glob("*.onnx"))
    if len(found) != 1:
        raise CheckpointError(
            f"{folder} holds {len(found)} .onnx files; give the path of the one to read"
        )
    return found[0]
