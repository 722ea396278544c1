"""Queries of a tiny random T5, compared with a loop that samples word by word."""

import numpy as np
import pytest
import torch
from conftest import WORDS, states, tiny_encoder, word_tokenizer
from unlabelled_cases import domain

from sbert_lab.adaptation.generators import text_generator
from sbert_lab.adaptation.query_model import Seq2SeqGenerator, _Draw
from sbert_lab.models.checkpoint import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread")

END = 3  # [SEP]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a tiny T5 whose queries end by chance."""
    from transformers import T5Config, T5ForConditionalGeneration

    from sbert_lab._utils import quiet_transformers

    tokenizer = word_tokenizer(WORDS, 64)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=END,
        decoder_start_token_id=0,
        initializer_factor=2.0,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(config)
    # What a model's folder says of sampling must not matter here.
    model.generation_config.update(num_beams=3, do_sample=True, top_k=2, max_length=4)
    home = tmp_path_factory.mktemp("t5")
    with quiet_transformers():
        model.save_pretrained(home)
    tokenizer.save_pretrained(home)
    return home


def load(folder, **options):
    options = {"longest_query": 7, "device": "cpu"} | options
    return Seq2SeqGenerator.from_pretrained(folder, **options)


def naive(generator, text, number, seed, top_p, temperature):
    """Sample one query: no batch, no padding, no memory of earlier steps."""
    draws = text_generator(text, seed).random((number + 1, generator.longest_query))
    read = generator.tokenizer(generator.prompt + text, return_tensors="pt")
    written = [0]
    for draw in draws[number]:
        with torch.no_grad():
            logits = generator.model(
                input_ids=read["input_ids"], decoder_input_ids=torch.tensor([written])
            ).logits[0, -1]
        probability = (logits.double() / temperature).softmax(0).numpy()
        kept, mass = np.zeros_like(probability), 0.0
        for word in np.argsort(-probability, kind="stable"):
            if mass >= top_p:
                break
            kept[word] = probability[word]
            mass += probability[word]
        word, place = 0, 0.0
        for word, part in enumerate(kept / kept.sum()):  # noqa: B007
            place += part
            if place > draw:
                break
        written.append(word)
        if word == END:
            break
    return generator.tokenizer.decode(written, skip_special_tokens=True).strip()


@pytest.mark.parametrize(("top_p", "temperature"), [(0.95, 2), (0.6, 3), (1, 2.5)])
def test_queries_are_those_of_the_loop(folder, top_p, temperature):
    generator = load(folder, top_p=top_p, temperature=temperature, prompt="one two ")
    texts = domain(12)
    found = generator.generate(texts, 3, 4)
    wanted = [
        [naive(generator, text, n, 4, top_p, temperature) for n in range(3)]
        for text in texts
    ]
    assert found == wanted
    flat = [query for made in found for query in made]
    assert len(set(flat)) > 18
    sizes = {len(generator.tokenizer.tokenize(query)) for query in flat}
    assert min(sizes) < generator.longest_query, "some end by themselves"


def test_neither_batch_nor_place_matters(folder):
    texts = domain(9)
    before = states()
    found = load(folder).generate(texts, 2, 0)
    for size in (1, 5):
        generator = load(folder, batch_size=size)
        assert generator.generate(texts[::-1], 2, 0) == found[::-1]
    assert states() == before
    assert [load(folder).generate([text], 1, 0)[0][0] for text in texts] == [
        made[0] for made in found
    ]
    assert load(folder).generate(texts, 2, 1) != found


def test_almost_no_choice_is_the_greedy_peer(folder):
    generator, texts = load(folder, top_p=1e-6), domain(6)
    for text, (query,) in zip(texts, generator.generate(texts, 1, 0), strict=True):
        read = generator.tokenizer(text, return_tensors="pt")
        ids = generator.model.generate(
            input_ids=read["input_ids"],
            do_sample=False,
            num_beams=1,
            max_new_tokens=7,
        )
        wanted = generator.tokenizer.decode(ids[0], skip_special_tokens=True)
        assert query == wanted.strip()


def test_words_come_as_often_as_they_are_likely(folder):
    generator = load(folder, top_p=1, longest_query=1, batch_size=500)
    count = 4_000
    (found,) = generator.generate(["the cat"], count, 0)
    read = generator.tokenizer("the cat", return_tensors="pt")
    with torch.no_grad():
        logits = generator.model(
            input_ids=read["input_ids"], decoder_input_ids=torch.tensor([[0]])
        ).logits[0, -1]
    likely = logits.softmax(0)
    for token in likely.argsort(descending=True)[:6].tolist():
        word = generator.tokenizer.decode([token], skip_special_tokens=True).strip()
        p = float(likely[token])
        if word:
            assert found.count(word) / count == pytest.approx(
                p, abs=4 * (p * (1 - p) / count) ** 0.5
            )


def test_a_draw_never_falls_on_what_was_ruled_out():
    """At both ends of the interval: the first and the last word that is possible."""
    no = -torch.inf
    scores = torch.tensor([[no, 1.0, 2.0, no], [no, 1.0, 2.0, no]])
    ends = torch.tensor([[0.0], [1 - 2**-53]], dtype=torch.float64)
    assert _Draw(ends)(None, scores).argmax(1).tolist() == [1, 2]


def test_long_texts_are_cut_and_counted(folder, caplog):
    generator = load(folder, longest_text=6)
    long = "the cat sat on a mat and ran over the hill"
    (found,) = generator.generate([long], 2, 0)
    assert "1 of 1 texts are longer than 6 tokens" in caplog.text
    assert len(found) == 2


def test_the_model_stays_as_it_was(folder):
    generator = load(folder)
    generator.model.train()
    first = generator.generate(["the cat"], 3, 0)
    assert generator.model.training
    assert generator.generate(["the cat"], 3, 0) == first  # no dropout


def test_the_fingerprint_changes_with_what_matters(folder):
    generator = load(folder)
    names = {
        generator.fingerprint(),
        load(folder, prompt="q: ").fingerprint(),
        load(folder, top_p=0.9).fingerprint(),
        load(folder, temperature=0.9).fingerprint(),
        load(folder, longest_query=8).fingerprint(),
    }
    assert len(names) == 5
    assert load(folder, batch_size=3).fingerprint() == generator.fingerprint()
    with torch.no_grad():
        generator.model.lm_head.weight[0, 0] += 1
    assert generator.fingerprint() not in names


def test_folders_that_do_not_write(folder, tmp_path):
    tiny_encoder().save(tmp_path / "encoder")
    with pytest.raises(CheckpointError, match="cannot be loaded as an encoder–decoder"):
        load(tmp_path / "encoder")
    with pytest.raises(FileNotFoundError, match="no model or data set"):
        load(tmp_path / "nowhere", allow_hub=False)
    from safetensors.torch import load_file, save_file

    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in folder.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    gone = "decoder.block.0.layer.0.SelfAttention.k.weight"
    del tensors[gone]
    save_file(tensors, damaged / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"lacks weights, first {gone}"):
        load(damaged)
    encoder = tiny_encoder()
    with pytest.raises(CheckpointError, match="BertModel is no encoder–decoder"):
        Seq2SeqGenerator(encoder.transformer, encoder.tokenizer)


def test_bad_settings_are_refused(folder):
    for options, message in (
        ({"top_p": 0}, "top_p=0"),
        ({"top_p": 1.1}, "top_p=1.1"),
        ({"temperature": 0}, "temperature=0"),
        ({"longest_query": 0}, "longest_query=0"),
        ({"batch_size": 0}, "batch_size=0"),
    ):
        with pytest.raises(ValueError, match=message):
            load(folder, **options)
    with pytest.raises(ValueError, match="per_text=0"):
        load(folder).generate(["the cat"], 0, 0)
