"""TSDAE: which words go, what the decoder shares, and that a vector is worth having."""

import numpy as np
import pytest
import torch
from batches import batch_of, encoding, with_dropout
from conftest import tiny_encoder, tiny_parts
from objective_cases import dense

from sbert_lab import SentenceEncoder
from sbert_lab.losses import DenoisingAutoEncoderLoss
from sbert_lab.losses.denoising import deleted
from sbert_lab.models.checkpoint import Layout

TEXTS = [
    "the cat sat on a mat",
    "a quick brown fox jumps over the lazy dog",
    "no bird flew",
    "one two three",
    "red green and blue",
    "the dog ran to the hill",
]


@pytest.mark.parametrize("ratio", [0.0, 0.6])
def test_deletion_is_the_loop_over_words(ratio):
    """Specials stay, pieces go with their word, and one word stays in any case."""
    rng = np.random.default_rng(0)
    for _ in range(80):
        words = [["special"]]
        for size in rng.integers(0, 3, rng.integers(0, 6)):
            words.append(
                ["special"] if rng.random() < 0.15 else ["word", *["##"] * size]
            )
        kinds = np.array([kind for word in words for kind in word])
        tokens, draw = np.arange(len(kinds)), rng.random(len(kinds))
        luck = {i: draw[i] for i in tokens if kinds[i] == "word"}
        best = max(luck, key=luck.get, default=None)
        wanted, stays = [], True
        for i, kind in enumerate(kinds):
            if kind != "##":
                stays = kind == "special" or draw[i] >= ratio or i == best
            wanted += [i] if stays else []
        found = deleted(tokens, kinds != "special", kinds != "##", ratio, draw)
        assert found.tolist() == wanted


def encoder_of(hidden=16):
    model, tokenizer = tiny_parts(hidden=hidden)
    layout = Layout(dimension=hidden, max_seq_length=24)
    return with_dropout(SentenceEncoder(model, tokenizer, layout), 0.0)


def test_encoder_sees_the_damaged_text_and_decoder_the_whole_one():
    """An unknown word is a word like others, and may go; pieces go with their word."""
    encoder = encoder_of()
    batch = batch_of({"text": [*TEXTS, "the abc ??? cat"]}, None, encoder)
    objective = DenoisingAutoEncoderLoss(encoder, ratio=0.6)
    seen, lost = [], set()

    def encode(texts):
        seen.extend(texts)
        return encoding(encoder)(texts)

    whole = batch.tokens["text"]
    for _ in range(8):
        seen.clear()
        loss = objective(encode, batch)
        pieces = encoder.tokenizer.convert_ids_to_tokens(seen[-1])
        assert (pieces[0], pieces[-1]) == ("[CLS]", "[SEP]")
        assert ("a" in pieces) == ("##b" in pieces) == ("##c" in pieces)
        lost.add(pieces.count("[UNK]") < 3)
    assert True in lost
    assert all(set(part) <= set(text) for part, text in zip(seen, whole, strict=True))
    assert sum(map(len, seen)) < 0.8 * sum(map(len, whole))
    expected = objective.reconstruction(encoding(encoder)(seen), whole)
    assert loss.item() == expected.item()


def test_decoder_shares_the_encoder_and_has_little_of_its_own():
    encoder = encoder_of()
    objective = DenoisingAutoEncoderLoss(encoder)
    assert not encoder.transformer.config.is_decoder
    decoder = dict(objective.decoder.named_parameters())
    for name, weight in encoder.transformer.named_parameters():
        if not name.startswith("pooler."):
            assert decoder[f"bert.{name}"] is weight
    shared = {id(weight) for weight in encoder.parameters()}
    own = [name for name, weight in decoder.items() if id(weight) not in shared]
    assert all("crossattention" in name or "cls." in name for name in own)
    assert len(own) == 2 * 10 + 5


def test_refuses_what_it_cannot_decode():
    from transformers import DistilBertConfig, DistilBertModel

    encoder = encoder_of()
    with pytest.raises(ValueError, match="made for another encoder"):
        DenoisingAutoEncoderLoss(encoder).bind(encoder_of(), {})
    with pytest.raises(ValueError, match="8 dimensions and its transformer 16"):
        DenoisingAutoEncoderLoss(tiny_encoder(max_seq_length=24, head=(dense(8),)))
    shape = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    encoder.transformer = DistilBertModel(DistilBertConfig(vocab_size=99, **shape))
    with pytest.raises(ValueError, match="DistilBert"):
        DenoisingAutoEncoderLoss(encoder)


def test_denoising_is_the_peers(tmp_path):
    """Value and gradients, the same decoder weights, nothing deleted."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import (
        DenoisingAutoEncoderLoss as Peer,
    )

    first = encoder_of(32)
    with torch.no_grad():
        for weight in first.transformer.parameters():
            if weight.ndim > 1:
                weight.mul_(5)
    first.save(tmp_path / "tiny")
    encoder = SentenceEncoder.from_pretrained(tmp_path / "tiny", device="cpu").train()
    model = SentenceTransformer(str(tmp_path / "tiny"), device="cpu")
    theirs = Peer(model).train()
    ours = DenoisingAutoEncoderLoss(encoder, ratio=0).train()
    weights = theirs.decoder.state_dict()
    assert weights.keys() == ours.decoder.state_dict().keys()
    ours.decoder.load_state_dict(weights)
    batch = batch_of({"text": TEXTS}, None, encoder)
    loss = ours(encoding(encoder), batch)
    loss.backward()
    features = [model.preprocess(TEXTS), model.preprocess(TEXTS)]
    expected = theirs(features, None)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-6)
    wanted = dict(theirs.decoder.named_parameters())
    compared = 0
    for name, weight in ours.decoder.named_parameters():
        if weight.grad is None:
            assert wanted[name].grad is None
            continue
        compared += 1
        torch.testing.assert_close(
            weight.grad, wanted[name].grad, rtol=1e-4, atol=1e-6, msg=name
        )
    assert compared == 5 + 2 * 16 + 25
    shared = encoder.transformer.encoder.layer[0].attention.self.query.weight
    assert shared.grad.abs().max() > 1e-4
