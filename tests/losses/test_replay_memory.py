"""What a cached objective keeps in memory: one mini-batch, whatever the batch."""

import weakref

import numpy as np
import torch
from batches import batch_of
from conftest import tiny_encoder, tiny_parts
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BertConfig, BertModel

from sbert_lab import SentenceEncoder
from sbert_lab.losses import (
    Batch,
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sbert_lab.models.checkpoint import Layout
from sbert_lab.training.trainer import encode_tokens


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that operations have made and that still live.

    A storage is counted once however many tensors look at it, and until it is freed.
    Weights are there before; all else is counted: activations, dropout masks,
    gradients, logits. (torch.profiler's allocations have the same peak to 0.1%.)
    """

    def __init__(self, before):
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in before}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return found

    def _count(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key, size):
        self.known.discard(key)
        self.now -= size


def test_live_bytes_are_counted_and_forgotten():
    before = torch.zeros(1000)
    with Live([before]) as live:
        kept = before + 1  # 4,000 bytes
        view = kept[:10]
        del kept
        assert live.now == 4000, "a view keeps its storage"
        other = view.repeat(100) * 2  # 4,000 twice, one of them for a moment
        assert live.now == 8000
        before.view(10, 100)
        del view
    assert live.now == other.nbytes
    assert live.peak == 12000


def test_memory_does_not_grow_with_the_batch():
    """A batch of 1,024 in the memory of one of 64, plain training in 16 times that.

    All texts have 32 tokens, so that 64 rows already fill two groups of 64 texts. A
    group's activations take 38 MB. Of a batch of 1,024 the logits and their masks,
    [1024, 1024] each, take 28 MB at their highest, and are gone before the first
    group is encoded again: they would show only in a model much smaller than this.
    """
    length, tokens = 32, 2048
    config = BertConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=256,
        max_position_embeddings=length,
    )
    model = BertModel(config, add_pooling_layer=False)
    layout = Layout(dimension=64, max_seq_length=length)
    encoder = SentenceEncoder(model, tiny_parts()[1], layout).train()

    def peak(objective, rows):
        rng = np.random.default_rng(0)
        roles = ("anchor", "positive")
        ids = {r: list(rng.integers(5, 100, (rows, length))) for r in roles}
        numbers = {r: np.arange(rows) + n * rows for n, r in enumerate(roles)}
        none = np.zeros(0, np.int64)
        batch = Batch(ids, ids, numbers, None, np.arange(rows), none)
        encoder.zero_grad(set_to_none=True)
        with Live(encoder.parameters()) as live:
            loss = objective(lambda x: encode_tokens(encoder, x, tokens), batch).loss
            loss.backward()
            del loss
        assert all(p.grad is not None for p in encoder.parameters())
        return live.peak

    cached = CachedMultipleNegativesRankingLoss(tokens=tokens)
    plain = MultipleNegativesRankingLoss()
    small = peak(cached, 64)
    assert small > 30e6
    assert peak(cached, 1024) <= 1.3 * small
    assert peak(plain, 1024) > 10 * peak(plain, 64)


def test_a_mini_batch_is_what_is_kept():
    """Half of the budget, half of the activations."""
    encoder = tiny_encoder(max_seq_length=24).train()
    batch = batch_of(
        {"anchor": ["the cat sat on a mat"] * 64, "positive": ["a dog ran to it"] * 64},
        None,
        encoder,
    )
    found = []
    for tokens in (64, 128, 256, 512):
        encoder.zero_grad(set_to_none=True)
        objective = CachedMultipleNegativesRankingLoss(tokens=tokens)
        with Live(encoder.parameters()) as live:
            objective(lambda x: encode_tokens(encoder, x, 10**6), batch).loss.backward()
        found.append(live.peak)
    assert found == sorted(found)
    assert found[3] > 1.7 * found[2] > 1.4 * 1.7 * found[1]
