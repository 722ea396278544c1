"""A raw BERT seen from all sides: every pooling, two texts read together, attention.

`SentenceEncoder` gives the one vector that a model was trained to give. Here one pass
gives those of its first token, its pooler, and averages of the last layer and others.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbert_lab._utils import Vectors, progress
from sbert_lab.models.batching import evaluating, in_batches
from sbert_lab.models.pooling import (
    cls_pooling,
    first_last_average_pooling,
    max_pooling,
    mean_pooling,
)
from sbert_lab.models.sentence_encoder import SentenceEncoder

if TYPE_CHECKING:
    from transformers import BertConfig, BertModel

Pooler = Callable[[Tensor], Tensor]

#: From all hidden states (input embeddings first) and the mask to a vector a text.
POOLINGS: dict[str, Callable[[Sequence[Tensor], Tensor], Tensor]] = {
    "cls": lambda layers, mask: cls_pooling(layers[-1], mask),
    "mean": lambda layers, mask: mean_pooling(layers[-1], mask),
    "max": lambda layers, mask: max_pooling(layers[-1], mask),
    "first-last": first_last_average_pooling,
    "input": lambda layers, mask: mean_pooling(layers[0], mask),
}


def untrained_pooler(dimension: int, generator: torch.Generator) -> Pooler:
    """Return a pooler as transformers makes one up where the checkpoint has none.

    ``tanh(W x)`` with W drawn from a normal of deviation 0.02 and no bias.
    """
    weight = torch.empty(dimension, dimension).normal_(0.0, 0.02, generator=generator)
    return lambda first: torch.tanh(first @ weight.T)


def encode_all_poolings(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    *,
    pooler: Pooler | None = None,
) -> dict[str, Vectors]:
    """Return the vectors of all texts, float32 ``[n, D]``, for each of `POOLINGS`.

    All come from one pass of the transformer. ``"pooler"`` is the model's own: the
    first token's last hidden state through a linear layer and a tanh. `pooler`, from
    ``[B, D]`` to ``[B, D]``, stands for it where the model has none.
    """
    model = encoder.transformer
    own: nn.Module | None = getattr(model, "pooler", None)
    if own is not None:
        pooler = lambda first: own(first.unsqueeze(1))  # noqa: E731  (takes [B, L, D])
    names = [*POOLINGS, *(["pooler"] if pooler is not None else [])]

    def read(output: Any, mask: Tensor) -> Tensor:  # noqa: ANN401
        layers = output.hidden_states
        found = [pool(layers, mask) for pool in POOLINGS.values()]
        if pooler is not None:
            found.append(pooler(cls_pooling(layers[-1], mask)))
        return torch.cat(found, dim=1)  # [B, len(names) · D]

    joined = in_batches(
        model,
        encoder.token_ids(texts),
        read,
        pad=encoder.tokenizer.pad_token_id or 0,
        output_hidden_states=True,
    )
    joined = joined.reshape(len(texts), len(names) * model.config.hidden_size)
    return dict(zip(names, np.split(joined, len(names), axis=1), strict=True))


def encode_pairs_cls(
    encoder: SentenceEncoder,
    first: Sequence[str],
    second: Sequence[str],
    *,
    show_progress: bool | None = None,
) -> Vectors:
    """Run the transformer over ``[CLS] first [SEP] second [SEP]``, pair by pair.

    Every token of one text sees every token of the other. Returns the last hidden state
    at ``[CLS]``, float32 ``[n, D]``, where a cross-encoder puts its score. A pair is
    cut to the model's limit, the longer text first.

    Source: Devlin et al. 2019, section 4 (sentence pairs).
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} first texts and {len(second)} second ones")
    if not len(first):
        return np.empty((0, encoder.transformer.config.hidden_size), np.float32)
    tokens = encoder.tokenizer(
        list(first),
        list(second),
        truncation="longest_first",
        max_length=encoder.max_seq_length,
        return_token_type_ids=True,
    )
    with progress(len(first), "read", show=show_progress) as move:
        return in_batches(
            encoder.transformer,
            tokens["input_ids"],
            lambda output, _: output.last_hidden_state[:, 0],
            token_type_ids=tokens["token_type_ids"],
            pad=encoder.tokenizer.pad_token_id or 0,
            advance=lambda rows: move(len(rows)),
        )


def first_token_attention(
    encoder: SentenceEncoder, texts: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return where the first token looks in the last layer, mean over heads.

    ``"itself"``, ``"end"`` and ``"words"`` are shares of its attention, ``[n]`` each,
    which add up to 1. ``"evenness"``, ``[n]``, says over how many of the words it is
    spread (the exponential of the entropy), as a share of them; 1 is an average.
    """
    model = encoder.transformer
    used = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the fused kernels keep no weights
    rows = []
    try:
        with evaluating(model):
            for ids in encoder.token_ids(texts):
                tokens = torch.from_numpy(ids)[None].to(encoder.device)
                found = model(input_ids=tokens, output_attentions=True).attentions[-1]
                rows.append(found[0, :, 0].mean(0).double().cpu().numpy())  # [L]
    finally:
        model.set_attn_implementation(used)
    words = [row[1:-1] / row[1:-1].sum() for row in rows]
    return {
        "itself": np.array([row[0] for row in rows]),
        "end": np.array([row[-1] for row in rows]),
        "words": np.array([row[1:-1].sum() for row in rows]),
        "evenness": np.array([np.exp(-(w * np.log(w)).sum()) / len(w) for w in words]),
    }


def untrained_bert(config: "BertConfig", seed: int) -> "BertModel":
    """Return a BERT without dropout, its weights as transformers draws them."""
    from transformers import BertConfig, BertModel

    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertModel(
            BertConfig.from_dict(config.to_dict() | still), add_pooling_layer=False
        )
