"""Cached objectives: the gradient of one graph, dropout on, in less memory."""

import weakref

import pytest
import torch
from batches import batch_of, encoding, numbers_of, sentences, trained, with_dropout
from conftest import tiny_parts

from sbert_lab import SentenceEncoder
from sbert_lab.losses import (
    CachedLoss,
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
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
        "matryoshka": (MatryoshkaLoss(ranking(0.2), [32, 8]), ROWS, None),
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
@pytest.mark.parametrize("budget", [1, 40, 1000])
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
    loss = CachedLoss(objective, budget)(spy, batch)
    forward = len(spy.calls)
    assert sum(map(len, spy.calls)) == sum(map(len, batch.tokens.values()))
    for texts in spy.calls:
        assert len(texts) == 1 or len(texts) * max(map(len, texts)) <= budget
    torch.rand(3)  # something else is drawn in between
    (3 * loss).backward()
    assert spy.calls[:forward] == spy.calls[forward:]
    state, found = torch.get_rng_state(), taken_gradients(encoder, objective)

    torch.manual_seed(budget)
    texts = in_one_graph(encoder, spy.calls[:forward], batch)
    expected = objective.value(texts, batch)
    torch.rand(3)
    (3 * expected).backward()
    assert torch.equal(state, torch.get_rng_state())
    assert loss.item() == expected.item()
    assert_same(found, taken_gradients(encoder, objective))


def test_without_gradients_texts_are_encoded_once():
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    objective, spy = CachedMultipleNegativesRankingLoss(0.2, tokens=20), Spy(encoder)
    with torch.no_grad():
        assert not objective(spy, batch).requires_grad
    assert sum(map(len, spy.calls)) == sum(map(len, batch.tokens.values()))


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


def test_one_mini_batch_at_a_time_is_in_memory():
    """No activation outlives its mini-batch, going forward or backward."""
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    alive, calls = [], []

    def encode(texts):
        calls.append(torch.is_grad_enabled())
        hidden = []
        hook = encoder.transformer.register_forward_hook(
            lambda *given: hidden.append(given[2].last_hidden_state)
        )
        assert not any(state() is not None for state in alive)
        rows = encoding(encoder)(texts)
        hook.remove()
        alive.append(weakref.ref(hidden.pop()))
        return rows

    CachedMultipleNegativesRankingLoss(0.2, tokens=20)(encode, batch).backward()
    assert len(calls) > 6
    assert calls == sorted(calls), "first all without gradients, then all with"
    assert calls.count(True) == calls.count(False)
