"""A BERT so small that a training takes a second, which knows bert-mini's words."""

from pathlib import Path

from conftest import random_bert
from transformers import AutoTokenizer

from experiments.profiles import PROFILES, Profile
from sbert_lab.models.registry import BY_NAME, locate


def make_raw(folder: Path, seed: int = 0) -> Path:
    """Save a random two-layer BERT of width 32, without a pooler, as bert-mini is."""
    tokenizer = AutoTokenizer.from_pretrained(locate(BY_NAME["bert-mini"]))
    shape = {"max_position_embeddings": 64, "add_pooling_layer": False}
    random_bert(len(tokenizer), 32, seed, **shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_profile(folder: Path, **changes) -> Profile:
    """Return the smoke profile with this model, and batches of eight rows."""
    options = {"raw_model": str(folder), "batch_size": 8}
    return PROFILES["smoke"].but(**options | changes)
