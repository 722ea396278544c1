"""The shipped weights: small, whole, and better at guessing words than frequencies."""

from collections import Counter

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from sbert_lab import SentenceEncoder
from sbert_lab._utils import project_root, sha256_file
from sbert_lab.datasets import nli

FOLDER = project_root() / "data" / "models" / "bert-mini"
SHA256 = "45f667e831dcedc468b3da1d1033e1b2e78a75b749751855c3e93e2758ea21ad"


def test_the_weights_are_those_that_the_card_speaks_of():
    weights = FOLDER / "model.safetensors"
    assert sha256_file(weights) == SHA256
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 16_000_000
    encoder = SentenceEncoder.from_pretrained(FOLDER, device="cpu")
    assert encoder.encode(["a cat sat on the mat"]).shape == (1, 256)
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "version 0.1.0" in card


def test_reads_the_context():
    """The middle word piece of each authored premise, which no corpus can hold."""
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForMaskedLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    rows = []
    for premise in sorted({item.premise for item in nli.authored()})[::2]:
        ids = tokenizer(premise, return_tensors="pt")["input_ids"]
        place = ids.shape[1] // 2
        truth = int(ids[0, place])
        ids[0, place] = tokenizer.mask_token_id
        with torch.inference_mode():
            rows.append((truth, int(model(ids).logits[0, place].argmax())))
    right = sum(truth == guess for truth, guess in rows) / len(rows)
    commonest = Counter(truth for truth, _ in rows).most_common(1)[0][1]
    assert right > max(0.15, 1.5 * commonest / len(rows))
