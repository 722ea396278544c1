"""A tiny random cross-encoder that knows 150 words."""

import torch
from conftest import word_tokenizer

from sbert_lab.models.cross_encoder import CrossEncoder

HEAD = "ba ko mi ru te su la no pe vi do ga hu ji ze".split()
TAIL = "lan mor tis ket vun pol das rim sho ner".split()
WORDS = [f"{a}{b}" for a in HEAD for b in TAIL]


def pair_tokenizer(max_length: int = 32):
    """Return a tokenizer that joins two texts as BERT's does."""
    from tokenizers import processors

    tokenizer = word_tokenizer(WORDS, max_length)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def tiny_cross_encoder(seed: int = 0, **changes) -> CrossEncoder:
    """Return a random two-layer BERT of width 16 whose scores lie about 0, ± 1."""
    from transformers import BertConfig, BertForSequenceClassification

    names = {"activation", "max_seq_length"} & changes.keys()
    options = {name: changes.pop(name) for name in names}
    tokenizer = pair_tokenizer()
    shape = {"max_position_embeddings": 32, "initializer_range": 0.5, "num_labels": 1}
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        **shape | changes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForSequenceClassification(config)
    return CrossEncoder(model, tokenizer, **options).eval()
