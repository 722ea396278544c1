"""Starts: three BERTs of one shape that know different things.

Whether pre-training taught more than which word is which can only be seen against
models that lack exactly that. All three have the same configuration and vocabulary.
"""

from pathlib import Path

import torch
from safetensors.numpy import load_file
from transformers import BertConfig, BertModel

from sbert_lab.pretrain.model import Shape, load_model, make_model

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def pretrained(folder: Path) -> BertModel:
    """Return exported weights, which know words and contexts."""
    model: BertModel = load_model(folder).bert
    return model


def static_only(statics: Path, shape: Shape, seed: int) -> BertModel:
    """Return what pre-training began with: static token vectors, the rest random.

    Parameters
    ----------
    statics
        Folder that holds ``static_vectors.safetensors``.
    shape
        Of the model.
    seed
        Of all that is not an embedding.
    """
    model: BertModel = make_model(
        shape, load_file(statics / "static_vectors.safetensors"), seed
    ).bert
    return model


def untrained(config: BertConfig, seed: int) -> BertModel:
    """Return weights as transformers draws them; they know nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertModel(
            BertConfig.from_dict(config.to_dict() | NO_DROPOUT),
            add_pooling_layer=False,
        )


def shape_of(config: BertConfig) -> Shape:
    """Return the shape that a configuration describes."""
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        intermediate=config.intermediate_size,
        positions=config.max_position_embeddings,
    )
