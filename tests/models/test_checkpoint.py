"""The folder format: both spellings, both directions, and every kind of damage."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import WORDS, edit, tiny_encoder, tiny_parts, word_tokenizer

from sbert_lab import SentenceEncoder
from sbert_lab.models.checkpoint import CheckpointError, Dense, read

TEXTS = ["the cat sat on the mat", "a quick brown fox", "", "dog", "red bird flew " * 9]


def dense() -> Dense:
    generator = torch.Generator().manual_seed(1)
    weights = {
        "linear.weight": torch.randn(6, 32, generator=generator),
        "linear.bias": torch.randn(6, generator=generator),
    }
    return Dense(weights, "gelu")


LAYOUTS = {
    "mean": {"truncate_dim": 4},
    "normalize": {"head": ("normalize",), "max_seq_length": 20},
    "dense": {"pooling": ("cls", "mean"), "head": (dense(), "normalize")},
    "prompts": {
        "pooling": ("weightedmean",),
        "prompts": {"query": "query : "},
        "default_prompt": "query",
    },
}


def load(folder):
    return SentenceEncoder.from_pretrained(folder, device="cpu", allow_hub=False)


@pytest.mark.parametrize("name", LAYOUTS)
def test_folders_go_both_ways_in_both_spellings(tmp_path, name):
    """We write the older spelling, the installed sentence-transformers the new."""
    from sentence_transformers import SentenceTransformer

    ours = tiny_encoder(**LAYOUTS[name])
    ours.save(tmp_path / "ours")
    types = json.loads((tmp_path / "ours" / "modules.json").read_text())
    assert types[1]["type"] == "sentence_transformers.models.Pooling"
    wanted = ours.encode(TEXTS)
    again = load(tmp_path / "ours")
    np.testing.assert_array_equal(again.encode(TEXTS), wanted)
    assert again.fingerprint() == ours.fingerprint()
    assert again.prompts == ours.prompts
    theirs = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    np.testing.assert_allclose(theirs.encode(TEXTS), wanted, atol=1e-5)
    theirs.save(str(tmp_path / "theirs"))
    types = json.loads((tmp_path / "theirs" / "modules.json").read_text())
    assert ".base." in types[0]["type"]
    back = load(tmp_path / "theirs").encode(TEXTS)
    np.testing.assert_allclose(back, wanted, atol=1e-5)


def test_half_precision_loads_as_float32(tmp_path):
    encoder = tiny_encoder()
    encoder.transformer.half()
    encoder.save(tmp_path / "half")
    assert {p.dtype for p in load(tmp_path / "half").parameters()} == {torch.float32}


def test_lower_case_asked_for_by_the_folder(tmp_path):
    """Of a tokenizer that tells cases apart."""
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "m"
    tiny_encoder().save(folder)
    (folder / "sbert_lab.json").unlink()
    edit(folder / "tokenizer_config.json", do_lower_case=False)
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    theirs = SentenceTransformer(str(folder), device="cpu")
    upper = [text.upper() for text in TEXTS]
    found = load(folder)
    np.testing.assert_array_equal(found.encode(upper), found.encode(TEXTS))
    np.testing.assert_allclose(found.encode(upper), theirs.encode(upper), atol=1e-5)
    found.save(tmp_path / "again")
    again = load(tmp_path / "again")
    assert again.fingerprint() == found.fingerprint()
    np.testing.assert_array_equal(again.encode(upper), found.encode(TEXTS))


def test_plain_transformers_folder_is_mean_pooling(tmp_path, caplog):
    model, tokenizer = tiny_parts()
    model.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    plain = load(tmp_path / "bert")
    assert "mean pooling" in caplog.text
    np.testing.assert_array_equal(plain.encode(TEXTS), tiny_encoder().encode(TEXTS))


def test_masked_language_model_gives_an_encoder_without_random_pooler(tmp_path):
    from transformers import BertForMaskedLM

    model, tokenizer = tiny_parts()
    BertForMaskedLM(model.config).save_pretrained(tmp_path / "mlm")
    tokenizer.save_pretrained(tmp_path / "mlm")
    assert load(tmp_path / "mlm").transformer.pooler is None


def cut(path, keep=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def other_weights(folder):
    other, _ = tiny_parts(seed=5, hidden=8)
    other.save_pretrained(folder / "other")
    shutil.move(folder / "other" / "model.safetensors", folder / "model.safetensors")


def add_module(folder, kind, path="2_X"):
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 9, "name": "9", "path": path, "type": kind})
    (folder / "modules.json").write_text(json.dumps(modules))


DAMAGE = {
    "weights cut short": (lambda f: cut(f / "model.safetensors"), "copy it again"),
    "weights of another model": (other_weights, "copy it again"),
    "weights pickled": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "A pickle",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
    "config not JSON": (lambda f: cut(f / "config.json"), "copy it again.*JSON"),
    "two poolings": (
        lambda f: add_module(f, "sentence_transformers.models.Pooling"),
        "one Pooling",
    ),
    "module of elsewhere": (lambda f: add_module(f, "os.Dense"), "os.Dense.*no code"),
    "module outside": (
        lambda f: add_module(f, "sentence_transformers.models.Dense", "../other"),
        "nothing outside it is opened",
    ),
    "no module": (
        lambda f: (f / "modules.json").write_text("[]"),
        "start with a Transformer",
    ),
    "activation imported": (
        lambda f: edit(f / "2_Dense" / "config.json", activation_function="os.system"),
        r"os\.system.*no code",
    ),
    "Dense pickled": (
        lambda f: (f / "2_Dense/model.safetensors").rename(
            f / "2_Dense/pytorch_model.bin"
        ),
        "a pickle.*load and save the model",
    ),
    "Dense of another width": (
        lambda f: edit(f / "2_Dense" / "config.json", in_features=99),
        "unlike config.json; copy both",
    ),
    "checksums that are none": (
        lambda f: (f / "sbert_lab.json").write_text('{"sha256": "x"}'),
        "damaged; copy it again",
    ),
    "code of its own": (
        lambda f: edit(
            f / "config.json", model_type="mine", auto_map={"AutoConfig": "a.B"}
        ),
        "transformers itself lacks",
    ),
    "adapter": (
        lambda f: edit(f / "adapter_config.json", base_model_name_or_path="its-base"),
        r"adapter.*\(its-base\) with peft",
    ),
    "pictures too": (
        lambda f: (f / "config.json").write_text('{"model_type": "clip"}'),
        "not of texts alone",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_explained(tmp_path, name):
    folder = tmp_path / "model"
    tiny_encoder(**LAYOUTS["dense"]).save(folder)
    (folder / "sbert_lab.json").unlink()  # a folder from elsewhere has no checksums
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def family(folder, kind, **changes):
    """Save a random transformer of a family, and a tokenizer without a limit."""
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    words = word_tokenizer(WORDS, 32).backend_tokenizer
    fast = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]")
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": len(fast), "pad_token_id": 0, "eos_token_id": 3, "d_head": 8}
    # Each family has names of its own for these in the file.
    config = AutoConfig.for_model(kind, **shape | ids | changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    fast.save_pretrained(folder)
    model.save_pretrained(folder)


LIMITS = {"gpt2": 21, "xlm": 21, "roberta": 20, "mpnet": 19, "xlnet": 512, "t5": 512}


@pytest.mark.parametrize(("kind", "limit"), LIMITS.items())
def test_other_families_are_as_the_peer_reads_them(tmp_path, kind, limit):
    """Of 21 positions a RoBERTa's first rows are no place; an XLNet has no limit."""
    from sentence_transformers import SentenceTransformer

    positions = {"max_position_embeddings": 21} if limit < 512 else {}
    family(tmp_path / "m", kind, **positions)
    found = load(tmp_path / "m")
    assert (found.dimension, found.max_seq_length) == (16, limit)
    theirs = SentenceTransformer(str(tmp_path / "m"), device="cpu")
    theirs.max_seq_length = limit  # more, and the peer fails at a longer text
    vectors = found.encode(TEXTS)
    np.testing.assert_allclose(vectors, theirs.encode(TEXTS), atol=1e-5)
    found.save(tmp_path / "again")
    np.testing.assert_array_equal(load(tmp_path / "again").encode(TEXTS), vectors)


def test_what_reads_no_padded_texts_is_refused_or_told(tmp_path, caplog):
    family(tmp_path / "marian", "marian")
    with pytest.raises(CheckpointError, match="MarianModel, which cannot read padded"):
        load(tmp_path / "marian")
    family(tmp_path / "convbert", "convbert", embedding_size=16)
    found = load(tmp_path / "convbert")
    assert (
        "padding changes what a ConvBertModel computes: token_budget=1" in caplog.text
    )
    one = np.concatenate([found.encode([text]) for text in TEXTS])
    np.testing.assert_array_equal(found.encode(TEXTS, token_budget=1), one)


def test_a_limit_beyond_the_positions_is_cut_there(tmp_path, caplog):
    """As the peer's for texts that fit; with a longer one the peer fails."""
    encoder = tiny_encoder()
    encoder.save(tmp_path / "m")
    (tmp_path / "m" / "sbert_lab.json").unlink()
    edit(tmp_path / "m" / "sentence_bert_config.json", max_seq_length=999)
    found = load(tmp_path / "m")
    assert "999 is more than the 32 positions" in caplog.text
    texts = [*TEXTS, "red bird flew " * 50]
    np.testing.assert_array_equal(found.encode(texts), encoder.encode(texts))
    with pytest.raises(CheckpointError, match="32 positions"):
        found.max_seq_length = 33


def test_a_vocabulary_and_merges_are_a_tokenizer(tmp_path):
    from sentence_transformers import SentenceTransformer
    from tokenizers import ByteLevelBPETokenizer

    family(tmp_path, "roberta", vocab_size=300, pad_token_id=1)
    byte_pairs = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    byte_pairs.train_from_iterator(TEXTS, 300, 2, False, special)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    byte_pairs.save_model(str(tmp_path))  # vocab.json and merges.txt
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    found = load(tmp_path)
    found.max_seq_length = theirs.max_seq_length = 20
    np.testing.assert_allclose(found.encode(TEXTS), theirs.encode(TEXTS), atol=1e-5)


def test_a_token_beyond_the_table_is_told(tmp_path):
    encoder = tiny_encoder()
    encoder.tokenizer.add_tokens(["zebra"])
    encoder.max_seq_length = None  # copies the tokenizer
    assert encoder.encode("the cat").shape == (16,)
    with pytest.raises(CheckpointError, match="resize_token_embeddings"):
        encoder.encode("the zebra")
    encoder.transformer.resize_token_embeddings(len(encoder.tokenizer))
    assert encoder.encode("the zebra").shape == (16,)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.double])
@pytest.mark.parametrize("name", ["normalize", "dense"])
def test_weights_of_another_width(name, dtype):
    encoder = tiny_encoder(**LAYOUTS[name])
    wanted = encoder.encode(TEXTS)
    found = encoder.to(dtype).encode(TEXTS)
    assert found.dtype == np.float32
    close = {torch.half: 2e-3, torch.bfloat16: 2e-2, torch.double: 1e-5}[dtype]
    np.testing.assert_allclose(found, wanted, atol=close * np.abs(wanted).max())


def test_checksums_tell_a_flipped_bit_and_a_missing_file(tmp_path):
    folder = tmp_path / "model"
    tiny_encoder().save(folder)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="sha256 differs"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        load(folder)
    with pytest.raises(CheckpointError, match="not a folder"):
        read(tmp_path / "none")


def test_saving_keeps_what_an_earlier_save_did_not_write(tmp_path):
    clone, own = tmp_path / "clone", {".git/HEAD": "ref", "LICENSE": "", "thesis": "t"}
    tiny_encoder(**LAYOUTS["dense"]).save(clone)
    for name, text in own.items():
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text(text)
    tiny_encoder(seed=9).save(clone)
    assert load(clone).fingerprint() == tiny_encoder(seed=9).fingerprint()
    assert {name: (clone / name).read_text() for name in own} == own
    assert not (clone / "2_Dense").exists()
    (clone / "sbert_lab.json").unlink()  # as if another program had written the rest
    with pytest.raises(FileExistsError, match="is not of an earlier save"):
        tiny_encoder().save(clone)
    assert load(clone).fingerprint() == tiny_encoder(seed=9).fingerprint()
