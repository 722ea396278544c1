"""A BERT so small that a training takes a second, which knows bert-mini's words."""

import dataclasses
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from sbert_lab.catalogue import BY_NAME, locate
from sbert_lab.lab.profiles import PROFILES, Profile

WIDTH = 32


def make_raw(folder: Path, seed: int = 0) -> Path:
    """Save a random two-layer BERT of width 32, without a pooler, as bert-mini is."""
    tokenizer = AutoTokenizer.from_pretrained(locate(BY_NAME["bert-mini"]))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_profile(folder: Path, **changes) -> Profile:
    """Return the smoke profile with this model, and batches of eight rows."""
    options = {"raw_model": str(folder), "rows": 8, "rate": 1e-3} | changes
    return dataclasses.replace(PROFILES["smoke"], **options)
