"""Cached objectives: the gradient of one graph, dropout on, in less memory."""

import weakref

import numpy as np
import pytest
import torch
from batches import batch_of, encoding, numbers_of, sentences, trained, with_dropout
from conftest import states, tiny_parts
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BertConfig, BertModel

from sbert_lab import SentenceEncoder
from sbert_lab.losses import (
    Batch,
    CachedLoss,
    CachedMultipleNegativesRankingLoss,
    CoSENTLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
    TripletLoss,
    cached_loss,
    multiple_negatives_ranking_loss,
)
from sbert_lab.models.checkpoint import Layout

WIDTH = 32
ROWS = {
    "anchor": sentences(0, 4),
    "positive": sentences(1, 4),
    "negative": [sentences(2, 2), [], sentences(3, 1), sentences(4, 1)],
}
PAIRS = {"first": sentences(5, 6), "second": sentences(6, 6)}


def new_encoder():
    """Return a tiny BERT in training; a fresh one's vectors would all be alike."""
    model, tokenizer = tiny_parts(hidden=WIDTH)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(4)
    layout = Layout(dimension=WIDTH, max_seq_length=24)
    return with_dropout(SentenceEncoder(model, tokenizer, layout), 0.1)


def objectives():
    ranking = MultipleNegativesRankingLoss
    softmax = SoftmaxLoss(WIDTH, generator=torch.Generator().manual_seed(0))
    return {
        "ranking": (ranking(0.2, known=[(ROWS["anchor"][0], "x")]), ROWS, None),
        "matryoshka": (MatryoshkaLoss(ranking(0.2), [32, 8], [1, 2]), ROWS, None),
        "triplet": (TripletLoss(margin=5), ROWS, None),
        "cosent": (CoSENTLoss(), PAIRS, [0.1, 0.9, 0.4, 0.4, 1, 0]),
        "softmax": (softmax, PAIRS, [0, 1, 2, 0, 1, 2]),
    }


class Spy:
    """An `encode` that remembers what it was asked for."""

    def __init__(self, encoder):
        self.encode, self.calls = encoding(encoder), []

    def __call__(self, texts):
        self.calls.append(list(texts))
        return self.encode(texts)


def in_one_graph(encoder, calls, batch):
    """Encode the same mini-batches in the same order, and keep every activation."""
    rows = {}
    for texts in calls:
        for ids, row in zip(texts, encoding(encoder)(texts), strict=True):
            rows[id(ids)] = row
    return {
        role: torch.stack([rows[id(ids)] for ids in column])
        for role, column in batch.tokens.items()
    }


def taken_gradients(*modules):
    """Return the gradients that have been added up, and forget them."""
    found = {
        f"{number} {name}": p.grad.clone()
        for number, module in enumerate(modules)
        for name, p in module.named_parameters()
        if p.grad is not None
    }
    for module in modules:
        module.zero_grad(set_to_none=True)
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    largest = max(g.abs().max() for g in expected.values())
    assert largest > 0.1
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-4, atol=2e-6 * largest.item(), msg=name
        )


@pytest.mark.parametrize("name", objectives())
@pytest.mark.parametrize("budget", [1, 20, 40, 1000])
def test_cached_is_one_graph_whatever_the_budget(name, budget):
    """Value, every gradient and the random state, dropout on.

    Plain training draws dropout's numbers once, going forward, and none going
    backward. The cached loss draws them twice, and the second time leaves no trace in
    the global random state: what follows in a run is the same.
    """
    objective, columns, label = objectives()[name]
    encoder = new_encoder()
    batch = batch_of(columns, label, encoder)
    objective.bind(encoder, numbers_of(batch))
    spy = Spy(encoder)
    torch.manual_seed(budget)
    outcome = CachedLoss(objective, budget)(spy, batch)
    forward = len(spy.calls)
    assert sum(map(len, spy.calls)) == sum(map(len, batch.tokens.values()))
    for texts in spy.calls:
        assert len(texts) == 1 or len(texts) * max(map(len, texts)) <= budget
    torch.rand(3)  # something else is drawn in between
    (3 * outcome.loss).backward()
    assert spy.calls[:forward] == spy.calls[forward:]
    state, found = torch.get_rng_state(), taken_gradients(encoder, objective)

    torch.manual_seed(budget)
    texts = in_one_graph(encoder, spy.calls[:forward], batch)
    expected = objective.outcome(texts, batch)
    torch.rand(3)
    (3 * expected.loss).backward()
    assert torch.equal(state, torch.get_rng_state())
    assert outcome.loss.item() == expected.loss.item()
    assert_same(found, taken_gradients(encoder, objective))
    for key, value in expected.diagnostics.items():
        torch.testing.assert_close(outcome.diagnostics[key], value)


def test_dropout_matters_to_these_tests():
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    objective = CachedMultipleNegativesRankingLoss(0.2, tokens=20)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        objective(Spy(encoder), batch).loss.backward()
        found.append(taken_gradients(encoder))
    with pytest.raises(AssertionError):
        assert_same(*found)


def test_scaled_losses_add_up_and_may_wait_for_one_backward():
    """As a trainer does: each batch's loss divided, gradients added."""
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    objective = CachedMultipleNegativesRankingLoss(0.2, tokens=20)
    alone = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        objective(Spy(encoder), batch).loss.backward()
        alone.append(taken_gradients(encoder))
    losses = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        losses.append(objective(Spy(encoder), batch).loss / 2)
    sum(losses).backward()
    expected = {key: (alone[0][key] + alone[1][key]) / 2 for key in alone[0]}
    assert_same(taken_gradients(encoder), expected)


def test_without_gradients_nothing_is_kept_or_drawn_twice():
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    objective, spy = CachedMultipleNegativesRankingLoss(0.2, tokens=20), Spy(encoder)
    torch.manual_seed(0)
    with torch.no_grad():
        loss = objective(spy, batch).loss
        state = torch.get_rng_state()
    assert not loss.requires_grad
    torch.manual_seed(0)
    assert objective(Spy(encoder), batch).loss.item() == loss.item()
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(map(len, spy.calls)) == sum(map(len, batch.tokens.values()))


def test_other_generators_are_left_alone():
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    before = states()[:2]
    objective = CachedMultipleNegativesRankingLoss(0.2, tokens=20)
    objective(Spy(encoder), batch).loss.backward()
    assert states()[:2] == before


def test_cached_under_autocast_is_the_plain_objective_under_autocast():
    """Going backward, outside autocast, it encodes as narrow as before."""
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    objective = MultipleNegativesRankingLoss(0.2)
    widths = []
    encoder.transformer.encoder.layer[0].output.dense.register_forward_hook(
        lambda *given: widths.append(given[2].dtype)
    )
    with torch.autocast("cpu", torch.bfloat16):
        loss = trained(encoder, CachedLoss(objective, 10**6))(batch)["loss"]
    assert loss.dtype == torch.float32
    forward = len(widths)
    loss.backward()
    assert len(widths) == 2 * forward
    assert set(widths) == {torch.bfloat16}


def test_cached_has_the_gradient_of_small_steps():
    """Through the replay, in float64, down to the weights."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    weight.requires_grad_()

    def loss(rows):
        return multiple_negatives_ranking_loss(*rows.chunk(2), temperature=0.5)

    cached_loss(lambda part: part @ weight, inputs.split(2), loss).backward()
    (plain,) = torch.autograd.grad(loss(inputs @ weight), weight)
    torch.testing.assert_close(weight.grad, plain, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda w: loss(inputs @ w), weight)


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that operations have made and that still live.

    A storage is counted once however many tensors look at it, and until it is freed.
    Weights are there before; all else is counted: activations, gradients, logits.
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


def test_memory_does_not_grow_with_the_batch():
    """A batch of 256 in the memory of one of 32, plain training in 8 times that."""
    length, tokens = 32, 1024
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=length,
    )
    model = BertModel(config, add_pooling_layer=False)
    layout = Layout(dimension=32, max_seq_length=length)
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
            objective(encoding(encoder), batch).loss.backward()
        assert all(p.grad is not None for p in encoder.parameters())
        return live.peak

    cached = CachedMultipleNegativesRankingLoss(tokens=tokens)
    assert peak(cached, 256) <= 1.3 * peak(cached, 32)
    plain = MultipleNegativesRankingLoss()
    assert peak(plain, 256) > 6 * peak(plain, 32)
