"""Starts: three BERTs of one shape that know different things.

Whether pre-training taught more than which word is which can only be seen against
models that lack exactly that. All three have the same configuration and vocabulary.
"""

from pathlib import Path

from safetensors.numpy import load_file
from transformers import BertConfig, BertModel

from tools.pretraining.model import Shape, load_model, make_model


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


def shape_of(config: BertConfig) -> Shape:
    """Return the shape that a configuration describes."""
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        intermediate=config.intermediate_size,
        positions=config.max_position_embeddings,
    )
