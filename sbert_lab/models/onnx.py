"""Models that come as ONNX graphs: run as they are, or read back into PyTorch.

A graph is a model without its code: numbers, and the operations between them.
`OnnxEncoder` hands it to onnxruntime. `encoder_from_onnx` takes the numbers out of a
BERT's graph and puts them into a `BertModel`, which can then be trained, saved and
looked into like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbert_lab._utils import Vectors, quiet_transformers, sha256_file
from sbert_lab.models import checkpoint
from sbert_lab.models.checkpoint import CheckpointError, Layout
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.onnx_graph import bert_from_graph, library
from sbert_lab.models.registry import resolve
from sbert_lab.models.sentence_encoder import SentenceEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def encoder_from_onnx(
    name: str | Path = "paraphrase-MiniLM-L3-v2-onnx",
    *,
    tokenizer: str | Path = "all-MiniLM-L6-v2",
    layout: Layout | None = None,
    allow_hub: bool = True,
) -> SentenceEncoder:
    """Build a sentence encoder from the weights inside a BERT's ONNX graph.

    Parameters
    ----------
    name
        Catalogue name, folder with one ``.onnx`` file, or such a file.
    tokenizer
        Folder or name that the tokenizer is read from. The graph has none; uncased
        BERTs share one vocabulary, and its size is compared.
    layout
        Pooling, and what follows it. The default is mean pooling, nothing after it,
        and texts cut at 128 tokens, as published for paraphrase-MiniLM-L3-v2.
    allow_hub
        False never asks the network.

    Returns
    -------
    SentenceEncoder
        On the CPU. Its vectors are onnxruntime's own on the same graph, to 1e-5.

    Raises
    ------
    CheckpointError
        The graph is not a BERT of this kind, or the tokenizer is another model's.
    ModuleNotFoundError
        The library onnx is missing.
    """
    model = bert_from_graph(_graph_file(name, allow_hub))
    words = _tokenizer(tokenizer, allow_hub)
    if len(words) != model.config.vocab_size:
        raise CheckpointError(
            f"the tokenizer of {tokenizer} has {len(words)} tokens, the graph a row "
            f"for each of {model.config.vocab_size}; give the model's own tokenizer=…"
        )
    layout = layout or Layout(dimension=model.config.hidden_size, max_seq_length=128)
    return SentenceEncoder(model, words, layout).eval()


class OnnxEncoder:
    """A transformer's ONNX graph as a sentence encoder, run by onnxruntime on the CPU.

    Tokenising, batches by length, pooling and what follows are `SentenceEncoder`'s;
    only the transformer is the graph.

    "int8" names two kinds of graph:

    - 8-bit weights, widened to float32 before they are multiplied. The packaged
      ``all-MiniLM-L6-v2-int8-onnx`` is one: a quarter of the float model's size on
      disk, and no faster (1.6 times its time, 400 sentences on one thread). A text's
      vector does not depend on its company in the batch (measured: no bit differs
      between batches of 1 and of 32), and its cosine with the float model's is 0.9996
      on average.
    - 8-bit activations too (``DynamicQuantizeLinear`` in the graph). Their scale is
      worked out over the whole batch, so a vector changes with its company: cosines
      between batches of 1 and of 32 of 0.996 on average and 0.991 at worst, measured on
      192 sentences and a three-layer MiniLM quantised so. Where one text must have one
      vector (a cache, an index that grows, a test), encode with ``token_budget=1``:
      every text is then a batch of its own.

    Parameters
    ----------
    file
        The graph. It takes ``input_ids``, ``attention_mask`` and, if it likes,
        ``token_type_ids``, int64 ``[B, L]``, and gives token vectors ``[B, L, D]``.
    tokenizer
        Its fast tokenizer.
    layout
        Pooling, layers after it, length limit: see `Layout`.
    threads
        Threads of onnxruntime; the default is PyTorch's number, so that two models are
        compared on the same.
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
            The model that the graph was made from, a name or a folder; its tokenizer
            is used.
        max_seq_length
            Longest text in tokens; the default is the layout's (256 for
            all-MiniLM-L6-v2).
        layout
            Pooling and what follows it; the default is that of the `tokenizer`'s
            folder (mean pooling and unit length for all-MiniLM-L6-v2).
        threads
            Of onnxruntime; the default is PyTorch's number.
        allow_hub
            False never asks the network.

        Raises
        ------
        FileNotFoundError, ChecksumError, CheckpointError
            Each with what to do.
        ModuleNotFoundError
            The library onnxruntime is missing.
        """
        file = _graph_file(name, allow_hub)
        if layout is None:
            layout = checkpoint.read(resolve(tokenizer, allow_hub=allow_hub))
        if max_seq_length is not None:
            layout = replace(layout, max_seq_length=max_seq_length)
        return cls(file, _tokenizer(tokenizer, allow_hub), layout, threads=threads)

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

    def encode(
        self,
        texts: Sequence[str] | str,
        *,
        normalize: bool = False,
        token_budget: int | None = None,
        show_progress: bool | None = None,
        cache: EmbeddingCache | None = None,
    ) -> Vectors:
        """Turn texts into vectors, float32 ``[n, d]``, in their order.

        Options and errors are those of `SentenceEncoder.encode`. With 8-bit activations
        `token_budget` changes the result too: see the class.
        """
        return self._encoder.encode(
            texts,
            normalize=normalize,
            token_budget=token_budget,
            show_progress=show_progress,
            cache=cache,
        )


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
        runtime = library("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # whatever a damaged file raises
            raise CheckpointError(
                f"{file} cannot be read: {error}; copy it again"
            ) from error
        inputs = {item.name for item in self._session.get_inputs()}
        outputs = [
            item
            for item in self._session.get_outputs()
            if len(item.shape) == 3 and isinstance(item.shape[2], int)
        ]
        known = {"input_ids", "attention_mask", "token_type_ids"}
        if not {"input_ids", "attention_mask"} <= inputs <= known or len(outputs) != 1:
            raise CheckpointError(
                f"{file} takes {sorted(inputs)} and gives {len(outputs)} outputs of "
                "token vectors [B, L, D]; a transformer takes input_ids and "
                "attention_mask and gives one: export it for feature extraction"
            )
        self._takes_types = "token_type_ids" in inputs
        self._gives = outputs[0].name
        self.config = _GraphConfig(int(outputs[0].shape[2]), sha256_file(file))
        # A module is where its parameters are: on the CPU, as the graph is.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """Return ``last_hidden_state`` ``[B, L, D]`` for int64 ``[B, L]``."""
        feed: dict[str, NDArray[np.int64]] = {
            "input_ids": input_ids.numpy(),
            "attention_mask": attention_mask.numpy(),
        }
        if self._takes_types:
            feed["token_type_ids"] = np.zeros_like(feed["input_ids"])
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


def _tokenizer(name: str | Path, allow_hub: bool) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    folder = resolve(name, allow_hub=allow_hub)
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_transformers():
            words: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, **options
            )
    except Exception as error:  # whatever a damaged file raises
        raise CheckpointError(
            f"the tokenizer in {folder} cannot be read: {error}; copy it again"
        ) from error
    return words
