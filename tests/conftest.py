"""Small real things to test on: a tiny BERT made here, and the packaged MiniLM."""

import gc
import json
import os
import random
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# One thread a process: tests run on all cores, as many processes as there are.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch
from hypothesis import settings

from sbert_lab import SentenceEncoder
from sbert_lab.models.checkpoint import Layout
from sbert_lab.models.registry import BY_NAME, data_home, locate

# A busy machine is slow, and no example is wrong for that.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


WORDS = (
    "a an the cat dog bird sat ran flew on over mat hill quick brown fox jumps lazy "
    "of and in to with is was not no red blue green one two three query passage :"
).split()


def word_tokenizer(words: Iterable[str], max_length: int):
    """Return a WordPiece tokenizer that knows these words, and letters for the rest."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"]
    vocab = {w: i for i, w in enumerate([*special, *dict.fromkeys(words), *letters])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return BertTokenizerFast(tokenizer_object=backend, model_max_length=max_length)


def random_bert(words: int, width: int, seed: int = 0, **changes):
    """Return a random two-layer BERT of two heads, without touching the global seed."""
    from transformers import BertConfig, BertModel

    pooler = changes.pop("add_pooling_layer", True)
    shape = {"intermediate_size": 64, "max_position_embeddings": 32} | changes
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        **shape,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertModel(config, add_pooling_layer=pooler)


def tiny_parts(seed: int = 0, hidden: int = 16, positions: int = 32):
    """Return a random two-layer BERT and a word-level tokenizer of 40 words."""
    tokenizer = word_tokenizer(WORDS, positions)
    shape = {"intermediate_size": 32, "max_position_embeddings": positions}
    model = random_bert(len(tokenizer), hidden, seed, **shape)
    return model.eval(), tokenizer


def edit(path: Path, **changes):
    """Change entries of a JSON file; None takes one out."""
    value = json.loads(path.read_text()) if path.is_file() else {}
    value |= changes
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))


def states():
    """Return the global random state of Python, NumPy and PyTorch."""
    numbers = np.random.get_state()  # noqa: NPY002  (what must not change)
    return (
        random.getstate(),
        numbers[1].tolist(),
        numbers[2],
        torch.get_rng_state().tolist(),
    )


def tiny_encoder(seed: int = 0, **layout) -> SentenceEncoder:
    model, tokenizer = tiny_parts(seed)
    return SentenceEncoder(model, tokenizer, Layout(dimension=16, **layout)).eval()


@pytest.fixture(scope="module", autouse=True)
def _little_garbage():
    """Every training ends in a collection; it need not look at whole libraries."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def one_thread():
    """Tiny products are quicker on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny() -> SentenceEncoder:
    return tiny_encoder(head=("normalize",), max_seq_length=24)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    folder = locate(BY_NAME["all-MiniLM-L6-v2"])
    assert folder is not None, "make setup installs all-MiniLM-L6-v2"
    return folder


@pytest.fixture(scope="session")
def minilm() -> SentenceEncoder:
    return SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", device="cpu")


@pytest.fixture(scope="session")
def peer(minilm_folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm_folder), device="cpu")


@pytest.fixture(scope="session")
def evaluation_data() -> Path:
    home = data_home()
    needed = ("stsb", "sick", "banking77")
    if home is None or not all((home / name).is_dir() for name in needed):
        pytest.skip(f"{', '.join(needed)} are not here: set SBERT_LAB_DATA_HOME")
    return home


def pytest_collection_modifyitems(items):
    """Fast tests first, executed notebooks last."""
    kinds = ("notebook", "slow")
    items.sort(key=lambda item: [item.get_closest_marker(k) is not None for k in kinds])
