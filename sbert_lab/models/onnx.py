"""Models that come as ONNX graphs, run by onnxruntime on the CPU."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
      faster. A text's vector does not depend on its company in the batch, and its
      cosine with the float model's is 0.9996 on average.
    - 8-bit activations too (``DynamicQuantizeLinear`` in the graph). Their scale is
      worked out over the whole batch, so a vector changes with its company: cosines
      between batches of 1 and of 32 of 0.996 on average and 0.991 at worst. Where one
      text must have one vector (a cache, an index that grows), encode with
      ``token_budget=1``: every text is then a batch of its own.
    """

    def __init__(
        self,
        file: str | Path,
        tokenizer: "PreTrainedTokenizerBase",
        layout: Layout,
        *,
        threads: int | None = None,
    ) -> None:
        self.file = Path(file)
        graph = _Graph(self.file, threads or torch.get_num_threads())
        if graph.config.hidden_size != layout.dimension:
            raise CheckpointError(
                f"the graph gives token vectors of width {graph.config.hidden_size}, "
                f"pooling expects {layout.dimension}; give a layout=… of that width"
            )
        model = cast("PreTrainedModel", graph)
        self._encoder = SentenceEncoder(model, tokenizer, layout).eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        tokenizer: str | Path = "all-MiniLM-L6-v2",
        max_seq_length: int | None = None,
        layout: Layout | None = None,
        threads: int | None = None,
        allow_hub: bool = True,
    ) -> Self:
        """Load ``"all-MiniLM-L6-v2-int8-onnx"``, or a graph of your own.

        Parameters
        ----------
        name
            Catalogue name, folder with one ``.onnx`` file, or such a file.
        tokenizer
            The model that the graph was made from; its tokenizer is used.
        layout
            Pooling and what follows it; the default is that of the `tokenizer`'s
            folder, for the packaged graphs the published one.
        threads
            Of onnxruntime; the default is PyTorch's number.
        """
        from transformers import AutoTokenizer

        file = _graph_file(name, allow_hub)
        folder = resolve(tokenizer, allow_hub=allow_hub)
        layout = layout or _LAYOUTS.get(str(name)) or checkpoint.read(folder)
        if max_seq_length is not None:
            layout = replace(layout, max_seq_length=max_seq_length)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet_transformers():
                words = AutoTokenizer.from_pretrained(folder, **options)
        except Exception as error:  # whatever a damaged file raises
            raise CheckpointError(
                f"the tokenizer in {folder} cannot be read: {error}; copy it again"
            ) from error
        return cls(file, words, layout, threads=threads)

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return self._encoder.dimension

    @property
    def max_seq_length(self) -> int:
        """Longest text in tokens, special tokens included; longer ones are cut."""
        return self._encoder.max_seq_length

    @property
    def nbytes(self) -> int:
        """Bytes of the graph on disk; in memory its weights may stand widened."""
        return self.file.stat().st_size

    def fingerprint(self) -> str:
        """Return the sha256 that names this model: graph, tokenizer, pooling."""
        return self._encoder.fingerprint()

    def encode(self, texts: Sequence[str] | str, **options: Any) -> Vectors:  # noqa: ANN401
        """Turn texts into vectors, float32 ``[n, d]``, in their order.

        Options and errors are those of `SentenceEncoder.encode`. With 8-bit activations
        ``token_budget`` changes the result too: see the class.
        """
        return self._encoder.encode(texts, **options)


@dataclass(frozen=True)
class _GraphConfig:
    """What `SentenceEncoder` asks a transformer's configuration for."""

    hidden_size: int
    sha256: str

    def to_diff_dict(self) -> dict[str, Any]:
        """Return what names the graph in a fingerprint."""
        return {"onnx": self.sha256}


class _Graph(nn.Module):
    """An ONNX graph that is called as a transformers model is."""

    def __init__(self, file: Path, threads: int) -> None:
        super().__init__()
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "onnxruntime is missing; type: pip install 'sbert-lab[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
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
        self.config = _GraphConfig(int(outputs[0].shape[2]), sha256_file(file))
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


def _graph_file(name: str | Path, allow_hub: bool) -> Path:
    path = Path(name).expanduser()
    if path.suffix == ".onnx" and path.is_file():
        return path
    folder = resolve(name, allow_hub=allow_hub)
    found = sorted(folder.glob("*.onnx"))
    if len(found) != 1:
        raise CheckpointError(
            f"{folder} holds {len(found)} .onnx files; give the path of the one to read"
        )
    return found[0]
