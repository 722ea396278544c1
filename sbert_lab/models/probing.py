"""A raw BERT seen from all sides: every pooling, attention, and random weights."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbert_lab._utils import Vectors
from sbert_lab.models.batching import evaluating, in_batches
from sbert_lab.models.pooling import cls_pooling, max_pooling, mean_pooling
from sbert_lab.models.sentence_encoder import SentenceEncoder

if TYPE_CHECKING:
    from transformers import BertConfig, BertModel

#: From all hidden states (input embeddings first) and the mask to a vector a text.
POOLINGS: dict[str, Callable[[Sequence[Tensor], Tensor], Tensor]] = {
    "cls": lambda layers, mask: cls_pooling(layers[-1], mask),
    "mean": lambda layers, mask: mean_pooling(layers[-1], mask),
    "max": lambda layers, mask: max_pooling(layers[-1], mask),
    # Su et al. 2021; Gao et al. 2021, table 1.
    "first_last": lambda layers, mask: mean_pooling(
        (layers[1].float() + layers[-1].float()) / 2, mask
    ),
}


def encode_all_poolings(
    encoder: SentenceEncoder, texts: Sequence[str]
) -> dict[str, Vectors]:
    """Return the vectors of all texts, float32 ``[n, D]``, for each of `POOLINGS`.

    All come from one pass of the transformer.
    """
    joined = in_batches(
        encoder.transformer,
        encoder.token_ids(texts),
        lambda output, mask: torch.cat(
            [pool(output.hidden_states, mask) for pool in POOLINGS.values()], dim=1
        ),  # [B, len(POOLINGS) · D]
        pad=encoder.pad_id,
        output_hidden_states=True,
    )
    parts = np.split(joined, len(POOLINGS), axis=1)
    return dict(zip(POOLINGS, parts, strict=True))


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
