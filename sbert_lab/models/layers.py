"""Inside a transformer: one pass, and the sentence vectors of every way to pool it.

`SentenceEncoder` gives the one vector that a model was trained to give. Here a raw
model is looked at from all sides: its first token, its pooler, averages of the last
layer and of others.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbert_lab._utils import progress
from sbert_lab.models.batching import (
    TOKEN_BUDGET,
    evaluating,
    pad_right,
    token_budget_batches,
)
from sbert_lab.models.pooling import (
    cls_pooling,
    first_last_average_pooling,
    max_pooling,
    mean_pooling,
)
from sbert_lab.models.sentence_encoder import SentenceEncoder

if TYPE_CHECKING:
    from transformers import BertConfig, BertModel

Vectors = NDArray[np.float32]
Pooler = Callable[[Tensor], Tensor]

#: From all hidden states (input embeddings first) and the mask to a vector a text.
WAYS: dict[str, Callable[[Sequence[Tensor], Tensor], Tensor]] = {
    "cls": lambda layers, mask: cls_pooling(layers[-1], mask),
    "mean": lambda layers, mask: mean_pooling(layers[-1], mask),
    "max": lambda layers, mask: max_pooling(layers[-1], mask),
    "first-last": first_last_average_pooling,
    "input": lambda layers, mask: mean_pooling(layers[0], mask),
}


def untrained_pooler(dimension: int, generator: torch.Generator) -> Pooler:
    """Return a pooler as a library makes one up where the checkpoint has none.

    ``tanh(W x)`` with W drawn from a normal of deviation 0.02 and no bias, which is
    how transformers fills in weights that it does not find.

    Source: Devlin et al. 2019 trained theirs with next-sentence prediction.
    """
    weight = torch.empty(dimension, dimension).normal_(0.0, 0.02, generator=generator)
    return lambda first: torch.tanh(first @ weight.T)


def encode_ways(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    *,
    pooler: Pooler | None = None,
    show_progress: bool | None = None,
) -> dict[str, Vectors]:
    """Return the vectors of all texts for each of `WAYS`, from one pass.

    Parameters
    ----------
    encoder
        Its transformer is used; its own pooling and head are not.
    texts
        What to encode.
    pooler
        What stands for the pooler where the model has none; without it such a model
        has no ``"pooler"`` among the results. BERT's own takes the first token's last
        hidden state ``[B, D]`` through a linear layer and a tanh.
    show_progress
        A bar on standard error; by default for long work on a terminal.

    Returns
    -------
    dict
        Name of the way to float32 ``[n, D]``.
    """
    model, device = encoder.transformer, encoder.device
    own: nn.Module | None = getattr(model, "pooler", None)
    if own is not None:
        pooler = lambda first: own(first.unsqueeze(1))  # noqa: E731  (takes [B, L, D])
    limit = encoder.max_seq_length
    ids: list[list[int]] = []
    if len(texts):  # the tokenizer takes no empty list
        tokens = encoder.tokenizer(list(texts), truncation=True, max_length=limit)
        ids = tokens["input_ids"]
    pad = encoder.tokenizer.pad_token_id or 0
    lengths = np.array([len(row) for row in ids], np.int64)
    names = [*WAYS, *(["pooler"] if pooler is not None else [])]
    width = model.config.hidden_size
    out: dict[str, Vectors] = {
        name: np.empty((len(ids), width), np.float32) for name in names
    }
    budget = TOKEN_BUDGET.get(device.type, TOKEN_BUDGET["cpu"])
    with evaluating(model), progress(len(ids), "encode", show=show_progress) as go:
        for rows in token_budget_batches(lengths, budget):
            padded, mask = pad_right([ids[i] for i in rows], pad)
            seen = torch.from_numpy(mask).to(device)
            layers = model(
                input_ids=torch.from_numpy(padded).to(device),
                attention_mask=seen,
                output_hidden_states=True,
            ).hidden_states
            for name, way in WAYS.items():
                out[name][rows] = way(layers, seen).float().cpu().numpy()
            if pooler is not None:
                first = cls_pooling(layers[-1], seen)
                out["pooler"][rows] = pooler(first).float().cpu().numpy()
            go(len(rows))
    return out


def first_token_attention(
    encoder: SentenceEncoder, texts: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return where the first token looks in the last layer, mean over heads.

    Parameters
    ----------
    encoder
        Its transformer is used, which must be able to return attentions.
    texts
        One pass each.

    Returns
    -------
    dict
        ``"itself"``, ``"end"`` and ``"words"``: shares of its attention, ``[n]`` each,
        which add up to 1. ``"evenness"``, ``[n]``: over how many of the words it is
        spread (the exponential of the entropy), as a share of them; 1 is an average.

    Source: Vaswani et al. 2017, equation 1, for the attention weights.
    """
    model = encoder.transformer
    used = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the fused kernels keep no weights
    rows = []
    try:
        with evaluating(model):
            for text in texts:
                batch = encoder.tokenizer(
                    text,
                    truncation=True,
                    max_length=encoder.max_seq_length,
                    return_tensors="pt",
                ).to(encoder.device)
                found = model(**batch, output_attentions=True).attentions[-1]
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
    """Return a BERT of this shape with weights as transformers draws them.

    It has no dropout; the global random state stays as it was.
    """
    from transformers import BertConfig, BertModel

    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertModel(
            BertConfig.from_dict(config.to_dict() | still), add_pooling_layer=False
        )
