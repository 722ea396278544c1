"""The shipped weights: small, whole, and better at guessing words than frequencies."""

from collections import Counter

import pytest
import torch

from sbert_lab import SentenceEncoder
from sbert_lab._utils import project_root
from sbert_lab.datasets import nli

FOLDER = project_root() / "data" / "models" / "bert-mini"


def test_fits_the_repository():
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 16_000_000


def test_loads_as_an_encoder_in_float32():
    encoder = SentenceEncoder.from_pretrained(FOLDER, device="cpu")
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert (
        encoder.encode(["a cat sat on the mat", "on the mat sat a cat"]).shape[1] == 256
    )


def test_card_says_what_was_measured():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for word in ("tokens", "held-out", "unigram", "licence"):
        assert word in card.lower(), word


@pytest.fixture(scope="module")
def guesses():
    """Mask the middle word piece of each authored premise: truth, guess, by model."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForMaskedLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    rows = []
    for premise in sorted({item.premise for item in nli.authored()}):
        ids = tokenizer(premise, return_tensors="pt")["input_ids"]
        place = ids.shape[1] // 2
        truth = int(ids[0, place])
        ids[0, place] = tokenizer.mask_token_id
        with torch.inference_mode():
            rows.append((truth, int(model(ids).logits[0, place].argmax())))
    return rows


def test_reads_the_context(guesses):
    """Sentences written for this project, which the corpus cannot hold."""
    right = sum(truth == guess for truth, guess in guesses) / len(guesses)
    commonest = Counter(truth for truth, _ in guesses).most_common(1)[0][1]
    assert right > 0.15
    assert right > 1.5 * commonest / len(guesses)
