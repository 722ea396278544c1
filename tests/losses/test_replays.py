"""Cached objectives on a real BERT with dropout have the gradient of one graph."""

import random

import numpy as np
import pytest
import torch
from batches import batch_of, numbers_of, sentences
from conftest import tiny_parts

from sbert_lab import SentenceEncoder
from sbert_lab.losses import (
    CachedLoss,
    CachedMultipleNegativesRankingLoss,
    CoSENTLoss,
    GISTEmbedLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
    TripletLoss,
    cached_loss,
)
from sbert_lab.models.batching import token_budget_batches
from sbert_lab.models.checkpoint import Layout
from sbert_lab.training import set_dropout
from sbert_lab.training.trainer import TrainedModule, encode_tokens

WIDTH = 32
GROUP = 24  # padded tokens in a pass: a mini-batch may need several


def new_encoder(seed=0, dropout=0.1):
    """Return a tiny BERT in training; a fresh one's vectors would all be alike."""
    model, tokenizer = tiny_parts(seed, hidden=WIDTH)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(4)
    encoder = SentenceEncoder(
        model, tokenizer, Layout(dimension=WIDTH, max_seq_length=24)
    )
    set_dropout(encoder, dropout)
    return encoder.train()


ROWS = {
    "anchor": sentences(0, 4),
    "positive": sentences(1, 4),
    "negative": [sentences(2, 2), [], sentences(3, 1), sentences(4, 1)],
}
PAIRS = {"first": sentences(5, 6), "second": sentences(6, 6)}


def objectives():
    guide = new_encoder(7)
    return {
        "ranking": (
            MultipleNegativesRankingLoss(0.2, known=[(ROWS["anchor"][0], "x")]),
            ROWS,
            None,
        ),
        "learned temperature": (
            MultipleNegativesRankingLoss(0.2, learned=True, symmetric=True),
            ROWS,
            None,
        ),
        "matryoshka": (
            MatryoshkaLoss(
                MultipleNegativesRankingLoss(0.2, learned=True), [32, 8, 3], [1, 2, 0.5]
            ),
            ROWS,
            None,
        ),
        "triplet": (TripletLoss(margin=5), ROWS, None),
        "gist": (GISTEmbedLoss(guide, 0.2), ROWS, None),
        "cosent": (CoSENTLoss(), PAIRS, [0.1, 0.9, 0.4, 0.4, 1, 0]),
        "softmax": (
            SoftmaxLoss(WIDTH, generator=torch.Generator().manual_seed(0)),
            PAIRS,
            [0, 1, 2, 0, 1, 2],
        ),
    }


def budgets(batch):
    """Return the smallest budget for each way in which the texts can be grouped."""
    lengths = np.array([len(ids) for c in batch.tokens.values() for ids in c])
    found = {}
    for budget in range(1, len(lengths) * lengths.max() + 1):
        groups = tuple(map(tuple, token_budget_batches(lengths, budget)))
        found.setdefault(groups, budget)
    first, last = list(found)[0], list(found)[-1]  # noqa: RUF015
    assert len(first) == len(lengths), "the smallest budget has a text a group"
    assert len(last) == 1, "the largest has everything at once"
    return list(found.values())


class Spy:
    """An `encode` that remembers what it was asked for."""

    def __init__(self, encoder):
        self.encoder, self.calls = encoder, []

    def __call__(self, texts):
        self.calls.append(list(texts))
        return encode_tokens(self.encoder, texts, GROUP)


def in_one_graph(encoder, calls, batch):
    """Encode the same mini-batches in the same order, and keep every activation."""
    rows = {}
    for texts in calls:
        for ids, row in zip(texts, encode_tokens(encoder, texts, GROUP), strict=True):
            rows[id(ids)] = row
    return {
        role: torch.stack([rows[id(ids)] for ids in column])
        for role, column in batch.tokens.items()
    }


def gradients(*modules):
    return {
        f"{number} {name}": p.grad.clone()
        for number, module in enumerate(modules)
        for name, p in module.named_parameters()
        if p.grad is not None
    }


def forget(*modules):
    for module in modules:
        module.zero_grad(set_to_none=True)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    largest = max(g.abs().max() for g in expected.values())
    assert largest > 0.1
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-4, atol=2e-6 * largest.item(), msg=name
        )


@pytest.mark.parametrize("name", objectives())
def test_cached_is_one_graph_whatever_the_budget(name):
    """Value, every gradient and the random state, dropout on.

    Plain training draws dropout's numbers once, going forward, and none going
    backward. The cached loss draws them twice, and the second time leaves no trace in
    the global random state: what follows in a run is the same.
    """
    objective, columns, label = objectives()[name]
    encoder = new_encoder()
    batch = batch_of(columns, label, encoder)
    objective.bind(encoder, numbers_of(batch))
    ways = budgets(batch)
    assert len(ways) > 8
    for budget in ways:
        spy = Spy(encoder)
        torch.manual_seed(budget)
        outcome = CachedLoss(objective, budget)(spy, batch)
        forward = len(spy.calls)
        assert sum(map(len, spy.calls)) == sum(map(len, batch.tokens.values()))
        torch.rand(3)  # something else is drawn in between
        outcome.loss.backward()
        assert spy.calls[:forward] == spy.calls[forward:]
        state, found = torch.get_rng_state(), gradients(encoder, objective)
        forget(encoder, objective)

        torch.manual_seed(budget)
        texts = in_one_graph(encoder, spy.calls[:forward], batch)
        expected = objective.outcome(texts, batch)
        torch.rand(3)
        expected.loss.backward()
        assert torch.equal(state, torch.get_rng_state())
        assert outcome.loss.item() == expected.loss.item()
        assert_same(found, gradients(encoder, objective))
        forget(encoder, objective)
        assert outcome.diagnostics.keys() == expected.diagnostics.keys()
        for key, value in expected.diagnostics.items():
            torch.testing.assert_close(outcome.diagnostics[key], value)
        for texts in spy.calls:
            longest = max(map(len, texts))
            assert len(texts) == 1 or len(texts) * longest <= budget


@pytest.mark.parametrize("name", objectives())
def test_cached_is_the_plain_objective_without_dropout(name):
    """Each with its own groups, as `SentenceTrainer` calls them."""
    objective, columns, label = objectives()[name]
    encoder = new_encoder(dropout=0.0)
    batch = batch_of(columns, label, encoder)
    objective.bind(encoder, numbers_of(batch))
    plain = TrainedModule(encoder, objective)(batch)["loss"]
    plain.backward()
    expected = gradients(encoder, objective)
    for budget in budgets(batch)[::3]:
        forget(encoder, objective)
        cached = TrainedModule(encoder, CachedLoss(objective, budget), GROUP)
        loss = cached(batch)["loss"]
        loss.backward()
        torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-6)
        assert_same(gradients(encoder, objective), expected)


def test_everything_at_once_is_the_plain_objective_with_dropout():
    """The very numbers of plain training, from the same random state."""
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    objective = MultipleNegativesRankingLoss(0.2)
    found = []
    for one in (objective, CachedLoss(objective, 10**6)):
        torch.manual_seed(3)
        loss = TrainedModule(encoder, one, GROUP)(batch)["loss"]
        loss.backward()
        found.append((loss.item(), torch.get_rng_state(), gradients(encoder)))
        forget(encoder)
    (value, state, wanted), (cached, after, gradient) = found
    assert cached == value
    assert torch.equal(after, state)
    assert_same(gradient, wanted)


def test_dropout_matters_to_these_tests():
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    objective = CachedMultipleNegativesRankingLoss(0.2, tokens=20)
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        loss = objective(Spy(encoder), batch).loss
        loss.backward()
        found.append((loss.item(), gradients(encoder)))
        forget(encoder)
    (one, g), (again, h), (other, k) = found
    assert one == again
    assert_same(g, h)
    assert abs(one - other) > 0.01
    with pytest.raises(AssertionError):
        assert_same(g, k)
    with torch.no_grad():
        assert abs(objective(Spy(encoder.eval()), batch).loss.item() - one) > 0.01


def test_replay_without_the_random_state_would_be_wrong(monkeypatch):
    from contextlib import nullcontext

    from sbert_lab.losses import gradient_cache

    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    found = []
    for broken in (False, True):
        if broken:
            again = lambda self: nullcontext()  # noqa: E731
            monkeypatch.setattr(gradient_cache.RandomState, "again", again)
        torch.manual_seed(0)
        objective = CachedMultipleNegativesRankingLoss(0.2, tokens=20)
        objective(Spy(encoder), batch).loss.backward()
        found.append(gradients(encoder))
        forget(encoder)
    with pytest.raises(AssertionError):
        assert_same(*found)


def test_scaled_and_accumulated_losses_add_up():
    """As a trainer does: each batch's loss divided, gradients added."""
    encoder = new_encoder()
    batches = [
        batch_of(columns, None, encoder)
        for columns in (ROWS, {"anchor": sentences(8, 5), "positive": sentences(9, 5)})
    ]
    objective = CachedMultipleNegativesRankingLoss(0.2, tokens=20, learned=True)
    alone = []
    for seed, batch in enumerate(batches):
        torch.manual_seed(seed)
        objective(Spy(encoder), batch).loss.backward()
        alone.append(gradients(encoder, objective))
        forget(encoder, objective)
    for seed, batch in enumerate(batches):
        torch.manual_seed(seed)
        (objective(Spy(encoder), batch).loss / 4).backward()
    expected = {key: (alone[0][key] + alone[1][key]) / 4 for key in alone[0]}
    assert_same(gradients(encoder, objective), expected)


def test_two_cached_losses_may_wait_for_one_backward():
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    objective = CachedMultipleNegativesRankingLoss(0.2, tokens=20)
    torch.manual_seed(0)
    losses = [objective(Spy(encoder), batch).loss for _ in range(2)]
    sum(losses).backward()
    together = gradients(encoder)
    forget(encoder)
    torch.manual_seed(0)
    for _ in range(2):
        objective(Spy(encoder), batch).loss.backward()
    assert losses[0] != losses[1]
    assert_same(together, gradients(encoder))


def test_other_generators_are_left_alone():
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    python, numpy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    objective = CachedMultipleNegativesRankingLoss(0.2, tokens=20)
    objective(Spy(encoder), batch).loss.backward()
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002


def test_cached_under_autocast_is_the_plain_objective_under_autocast():
    """Going backward, outside autocast, it encodes as narrow as before."""
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    objective = MultipleNegativesRankingLoss(0.2)
    found = []
    for one in (objective, CachedLoss(objective, 10**6)):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16):
            loss = TrainedModule(encoder, one, GROUP)(batch)["loss"]
        loss.backward()
        found.append((loss.item(), gradients(encoder)))
        forget(encoder)
    (value, wanted), (cached, gradient) = found
    assert cached == value
    assert_same(gradient, wanted)
    torch.manual_seed(3)
    wide = TrainedModule(encoder, objective, GROUP)(batch)["loss"]
    wide.backward()
    with pytest.raises(AssertionError):  # or autocast was off
        assert_same(gradients(encoder), wanted)


def test_without_gradients_nothing_is_kept_or_drawn_twice():
    encoder = new_encoder()
    batch = batch_of(ROWS, None, encoder)
    objective = CachedMultipleNegativesRankingLoss(0.2, tokens=20)
    spy = Spy(encoder)
    torch.manual_seed(0)
    with torch.no_grad():
        loss = objective(spy, batch).loss
        state = torch.get_rng_state()
    assert not loss.requires_grad
    torch.manual_seed(0)
    assert objective(Spy(encoder), batch).loss.item() == loss.item()
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(map(len, spy.calls)) == sum(map(len, batch.tokens.values()))


def test_cached_has_the_gradient_of_small_steps():
    """Through the replay, in float64, down to the weights."""
    torch.manual_seed(0)
    inputs = torch.randn(6, 3, dtype=torch.float64)
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    batch = batch_of({"anchor": list("abc"), "positive": list("def")})
    inner = MatryoshkaLoss(MultipleNegativesRankingLoss(0.5), [4, 2])

    def value(weight):
        """Return the loss; `backward` would not reach an argument of gradcheck."""

        def encode(texts):
            return inputs[[int(ids[0]) for ids in texts]] @ weight

        return CachedLoss(inner, 2)(encode, batch).loss

    value(weight).backward()
    step = 1e-6
    for place in np.ndindex(3, 4):
        there, back = weight.detach().clone(), weight.detach().clone()
        there[place] += step
        back[place] -= step
        with torch.no_grad():
            slope = (value(there) - value(back)) / (2 * step)
        assert weight.grad[place].item() == pytest.approx(slope.item(), abs=1e-8)
    assert weight.grad.abs().max() > 0.1


# The peer, on a model.


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    encoder = new_encoder(dropout=0.0)
    encoder.save(folder)
    return folder


@pytest.mark.parametrize("name", ["cached", "matryoshka", "softmax", "gist"])
def test_objectives_are_the_peers_down_to_the_weights(name, saved, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses as peer

    encoder = SentenceEncoder.from_pretrained(saved, device="cpu").train()
    model = SentenceTransformer(str(saved), device="cpu").train()
    columns = {"anchor": sentences(10, 9), "positive": sentences(11, 9)}
    label = None
    if name == "cached":
        columns["negative"] = [[text] for text in sentences(12, 9)]
        ours = CachedMultipleNegativesRankingLoss(tokens=30)
        theirs = peer.CachedMultipleNegativesRankingLoss(model, mini_batch_size=2)
    elif name == "matryoshka":
        ours = CachedLoss(MatryoshkaLoss(MultipleNegativesRankingLoss(), [8, 32]), 30)
        inner = peer.CachedMultipleNegativesRankingLoss(model, mini_batch_size=2)
        theirs = peer.MatryoshkaLoss(model, inner, [8, 32])
    elif name == "softmax":
        columns = {"first": columns["anchor"], "second": columns["positive"]}
        label = [0, 1, 2] * 3
        ours = SoftmaxLoss(WIDTH)
        theirs = peer.SoftmaxLoss(model, WIDTH, 3)
        with torch.no_grad():
            theirs.classifier.bias.zero_()
            theirs.classifier.weight.copy_(ours.weight)
    else:
        new_encoder(5, 0.0).save(tmp_path / "guide")
        guide = SentenceTransformer(str(tmp_path / "guide"), device="cpu").eval()
        ours = GISTEmbedLoss(SentenceEncoder.from_pretrained(tmp_path / "guide"), 0.1)
        theirs = peer.GISTEmbedLoss(model, guide, temperature=0.1)
    batch = batch_of(columns, label, encoder)
    loss = ours(lambda texts: encode_tokens(encoder, texts, 64), batch).loss
    loss.backward()
    features = [model.preprocess(column) for column in batch.texts.values()]
    expected = theirs(features, None if label is None else torch.tensor(label))
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-6)
    wanted = {n.split("model.", 1)[-1]: p.grad for n, p in model.named_parameters()}
    compared = 0
    for key, weight in encoder.transformer.named_parameters():
        if weight.grad is None:  # the pooler
            continue
        compared += 1
        torch.testing.assert_close(
            weight.grad, wanted[key], rtol=1e-4, atol=1e-6, msg=key
        )
    assert compared == 5 + 2 * 16
    if name == "softmax":
        torch.testing.assert_close(
            ours.weight.grad, theirs.classifier.weight.grad, rtol=1e-5, atol=1e-6
        )


def test_what_cached_loss_returns_may_go_backward_once():
    weight = torch.ones(2, 2, requires_grad=True)
    loss = cached_loss(
        lambda x: x @ weight, [[torch.eye(2)]], lambda x: x.square().sum()
    )
    loss.backward()
    assert weight.grad.tolist() == [[2, 2], [2, 2]]
    with pytest.raises(RuntimeError):
        loss.backward()
